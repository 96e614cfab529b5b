"""What all probes share: strict loading, and the loss around single frames.

Shape letters: B clips, T hidden frames, D hidden width, U mel frames per hidden frame, M mel frames, C mel
bands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from hfprobe.errors import BankError, ConfigError
from hfprobe.probes.losses import frame_mask, masked_l1


@dataclass
class HighwayProbeOutput(ModelOutput):
    """What a probe returns.

    Attributes:
        loss: Masked mean absolute error in natural-log mel units, a scalar; None without labels.
        mel: Natural-log mel `(B, M, C)`, M = T * U, or the labels' frames where those are fewer.
    """

    loss: torch.Tensor | None = None
    mel: torch.Tensor | None = None


class MelProbe(PreTrainedModel):
    """Base of all probes: loading that refuses incomplete files, and the loss around `frames_to_mel`."""

    base_model_prefix = "probe"
    main_input_name = "hidden_states"

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args: Any, **kwargs: Any):
        """Load a probe; like transformers' own, but float32 unless told otherwise and strict about weights.

        Args:
            pretrained_model_name_or_path: Folder or repository; `subfolder="blstm3"` picks a layer out of a
                bank.
            *args: Passed on.
            **kwargs: Passed on (`revision`, `subfolder`, `dtype`, `output_loading_info`, ...).

        Returns:
            The probe in eval mode, or `(probe, loading_info)` if `output_loading_info` is true.

        Raises:
            BankError: If files are missing or broken, or weights are missing, unexpected or of another shape.
        """
        # Weights may be stored in float16; a silent half-precision probe would be slow and inexact on a CPU.
        if "torch_dtype" not in kwargs:
            kwargs.setdefault("dtype", torch.float32)
        want_info = kwargs.pop("output_loading_info", False)
        # Let wrong shapes through to the check below: it names them, transformers' own error does not.
        kwargs["ignore_mismatched_sizes"] = True
        try:
            probe, info = super().from_pretrained(
                pretrained_model_name_or_path, *args, output_loading_info=True, **kwargs
            )
        except (OSError, SafetensorError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise BankError(_load_message(pretrained_model_name_or_path, kwargs, reason)) from error
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            if info.get(kind):
                # transformers would fill the gap with random numbers and go on.
                names = sorted(key if isinstance(key, str) else str(key[0]) for key in info[kind])
                found = f"{kind.replace('_', ' ')} {', '.join(names)}"
                raise BankError(_load_message(pretrained_model_name_or_path, kwargs, found))
        return (probe, info) if want_info else probe

    def frames_to_mel(self, frames: torch.Tensor) -> torch.Tensor:
        """Mel frames of single hidden frames: `(..., D) -> (..., U, C)`; each row on its own."""
        raise NotImplementedError(f"{type(self).__name__} does not define frames_to_mel")

    def forward(
        self,
        hidden_states: torch.Tensor,
        lengths: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        label_lengths: torch.Tensor | None = None,
        return_dict: bool | None = None,
    ) -> HighwayProbeOutput | tuple:
        """Rebuild the mel-spectrogram from a layer's frames.

        Args:
            hidden_states: Frames of the layer, float `(B, T, D)`.
            lengths: Valid hidden frames `(B,)`; all of them if None. They matter for the loss only.
            labels: True natural-log mel `(B, M, C)`.
            label_lengths: Valid mel frames of the labels `(B,)`; all of them if None.
            return_dict: Return a plain tuple if False.

        Returns:
            `HighwayProbeOutput(loss, mel)`.

        Raises:
            ConfigError: If the widths do not fit this probe.
        """
        dim = getattr(self.config, "input_dim", hidden_states.shape[-1])
        if hidden_states.dim() != 3 or hidden_states.shape[-1] != dim:
            raise ConfigError(
                f"expected hidden_states of shape (batch, frames, {dim}) for layer {self.config.layer!r}, "
                f"got {tuple(hidden_states.shape)}; pass the states of the layer that the probe was made for"
            )
        mel = self.frames_to_mel(hidden_states).flatten(1, 2)
        loss = None
        if labels is not None:
            if labels.dim() != 3 or labels.shape[0] != mel.shape[0] or labels.shape[2] != mel.shape[2]:
                raise ConfigError(
                    f"expected labels of shape ({mel.shape[0]}, mel frames, {mel.shape[2]}), got "
                    f"{tuple(labels.shape)}; compute them with the probe's own mel settings "
                    "(config.mel_config)"
                )
            n_frames = min(mel.shape[1], labels.shape[1])
            mel, labels = mel[:, :n_frames], labels[:, :n_frames]
            mask = frame_mask(lengths, mel, scale=self.config.upsampling) & frame_mask(label_lengths, mel)
            loss = masked_l1(mel, labels, mask)
        output = HighwayProbeOutput(loss=loss, mel=mel)
        return output.to_tuple() if return_dict is False else output


def _load_message(source: Any, kwargs: dict, found: str) -> str:
    place = f"{source}/{kwargs['subfolder']}" if kwargs.get("subfolder") else str(source)
    wanted = f"expected the complete weights of a probe in {place}"
    return f"{wanted}, found {found}; save or download the probe again"
