"""The probe: a Highway network that rebuilds mel frames from one hidden frame at a time.

Source: Li, Yuan, Lee, "What does a network layer hear?" (arXiv 1911.01102): a linear
projection that upsamples a layer which was downsampled, four Highway layers, a linear output, L1 loss against
the mel-spectrogram that went in. Highway layers: Srivastava, Greff, Schmidhuber (arXiv 1505.00387),
``y = g * relu(H x) + (1 - g) * x`` with ``g = sigmoid(T x)``. There is no context: what the probe brings back
is in that very frame.

Shape letters: B clips, T hidden frames, D hidden width, U mel frames per hidden frame, M mel frames, C mel
bands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from hfprobe.errors import BankError, ConfigError
from hfprobe.probes.configuration import HighwayProbeConfig, MeanProbeConfig
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


class HighwayLinear(nn.Linear):
    """Transform and gate of one Highway layer in one matrix: rows 0..d-1 transform, rows d..2d-1 gate.

    One product of twice the size is faster than two. It is a class of its own so that `_init_weights`, which
    transformers calls on leaf modules only, can recognise it and set the gate's bias.
    """

    def __init__(self, dim: int):
        super().__init__(dim, 2 * dim)


class Highway(nn.Module):
    """One Highway layer, ``(..., d) -> (..., d)``."""

    def __init__(self, dim: int):
        super().__init__()
        self.linear = HighwayLinear(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        transform, gate = self.linear(x).chunk(2, dim=-1)
        # x + g * (relu(h) - x) is the Highway equation in one kernel.
        return torch.lerp(x, torch.relu(transform), torch.sigmoid(gate))


class _MelProbe(PreTrainedModel):
    """What both probes share: loading that refuses incomplete files, and the loss around `frames_to_mel`."""

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


class HighwayProbe(_MelProbe):
    """Highway probe of one layer; see the module's text.

    The buffers `input_mean`, `input_std` `(D,)` and `output_mean`, `output_std` `(C,)` are estimated by
    training and saved with the weights, so that the network itself works on values of mean 0 and standard
    deviation 1.

    Example:
        >>> probe = HighwayProbe(HighwayProbeConfig(input_dim=8, layer="blstm1", stride=320, hidden_dim=4))
        >>> tuple(probe(torch.zeros(2, 5, 8)).mel.shape)
        (2, 10, 80)
    """

    config_class = HighwayProbeConfig
    config: HighwayProbeConfig

    def __init__(self, config: HighwayProbeConfig):
        super().__init__(config)
        upsampling, n_mels = config.upsampling, config.n_mels
        # Persistent: transformers builds models on the meta device, where a buffer that is not saved becomes
        # garbage.
        self.register_buffer("input_mean", torch.zeros(config.input_dim))
        self.register_buffer("input_std", torch.ones(config.input_dim))
        self.register_buffer("output_mean", torch.zeros(n_mels))
        self.register_buffer("output_std", torch.ones(n_mels))
        self.projection = nn.Linear(config.input_dim, upsampling * config.hidden_dim)
        self.highways = nn.ModuleList(Highway(config.hidden_dim) for _ in range(config.num_layers))
        self.output = nn.Linear(config.hidden_dim, n_mels)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        # transformers.initialization skips tensors that came from a checkpoint; plain torch functions would
        # not.
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            init.zeros_(module.bias)
        if isinstance(module, HighwayLinear):
            bias = torch.zeros(module.out_features)
            bias[module.in_features :] = self.config.gate_bias
            init.copy_(module.bias, bias)
        if module is self:
            init.zeros_(self.input_mean)
            init.ones_(self.input_std)
            init.zeros_(self.output_mean)
            init.ones_(self.output_std)

    def frames_to_mel(self, frames: torch.Tensor) -> torch.Tensor:
        """Mel frames of single hidden frames.

        Args:
            frames: Hidden frames `(..., D)`, in any order and from any clips.

        Returns:
            Natural-log mel `(..., U, C)`.
        """
        x = self._project(frames).unflatten(-1, (self.config.upsampling, self.config.hidden_dim))
        for highway in self.highways:
            x = highway(x)
        return torch.addcmul(self.output_mean, self.output(x), self.output_std)

    def _project(self, frames: torch.Tensor) -> torch.Tensor:
        weight, bias = self.projection.weight, self.projection.bias
        if frames.dtype != torch.float32 or torch.is_autocast_enabled(frames.device.type):
            # Half precision cannot hold a large mean beside small deviations: normalise first, in float32.
            return self.projection(((frames.float() - self.input_mean) / self.input_std).to(weight.dtype))
        # W((x - m) / s) + b = (W / s) x + (b - (W / s) m): normalising the matrix, not the (many more)
        # frames.
        folded = weight / self.input_std
        return nn.functional.linear(frames, folded, bias - folded @ self.input_mean)


class MeanProbe(_MelProbe):
    """Floor of every curve: answers each frame with the mean mel frame of the training data.

    It has the interface of a `HighwayProbe` and looks at the number of hidden frames only, of whatever width.

    Example:
        >>> probe = MeanProbe(MeanProbeConfig(stride=160))
        >>> tuple(probe(torch.zeros(2, 5, 1)).mel.shape)
        (2, 5, 80)
    """

    config_class = MeanProbeConfig
    config: MeanProbeConfig

    def __init__(self, config: MeanProbeConfig):
        super().__init__(config)
        # A parameter that is not trained: transformers cannot save a model without parameters.
        self.output_mean = nn.Parameter(torch.zeros(config.n_mels), requires_grad=False)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if module is self:
            init.zeros_(self.output_mean)

    def frames_to_mel(self, frames: torch.Tensor) -> torch.Tensor:
        """The mean frame, repeated: `(..., D) -> (..., U, C)`."""
        return self.output_mean.expand(*frames.shape[:-1], self.config.upsampling, -1)


def _load_message(source: Any, kwargs: dict, found: str) -> str:
    place = f"{source}/{kwargs['subfolder']}" if kwargs.get("subfolder") else str(source)
    wanted = f"expected the complete weights of a probe in {place}"
    return f"{wanted}, found {found}; save or download the probe again"


AutoConfig.register(HighwayProbeConfig.model_type, HighwayProbeConfig)
AutoConfig.register(MeanProbeConfig.model_type, MeanProbeConfig)
AutoModel.register(HighwayProbeConfig, HighwayProbe)
AutoModel.register(MeanProbeConfig, MeanProbe)
