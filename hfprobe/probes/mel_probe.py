"""What the probes of mel frames share: the loss around single frames.

Shape letters: B clips, T hidden frames, D hidden width, U mel frames per hidden frame, M mel frames, C mel
bands.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers.utils import ModelOutput

from hfprobe.errors import ConfigError
from hfprobe.probes.losses import frame_mask, masked_l1
from hfprobe.probes.strict_probe import StrictProbe


@dataclass
class HighwayProbeOutput(ModelOutput):
    """What a probe returns.

    Attributes:
        loss: Masked mean absolute error in natural-log mel units, a scalar; None without labels.
        mel: Natural-log mel `(B, M, C)`, M = T * U, or the labels' frames where those are fewer.
    """

    loss: torch.Tensor | None = None
    mel: torch.Tensor | None = None


class MelProbe(StrictProbe):
    """Base of the probes that rebuild mel frames: the loss around `frames_to_mel`."""

    base_model_prefix = "probe"
    main_input_name = "hidden_states"

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
