"""The probes: networks that rebuild mel frames from one hidden frame at a time, in two capacities.

Source: Li, Yuan, Lee, "What does a network layer hear?" (arXiv 1911.01102): a linear
projection that upsamples a layer which was downsampled, four Highway layers, a linear output, L1 loss against
the mel-spectrogram that went in. Highway layers: Srivastava, Greff, Schmidhuber (arXiv 1505.00387),
``y = g * relu(H x) + (1 - g) * x`` with ``g = sigmoid(T x)``. There is no context: what the probe brings back
is in that very frame. The `LinearProbe` is one affine map instead: what it brings back lies open in the frame, what
only the Highway probe does is there but folded up, so the two together tell "lost" from "hard to read".

Shape letters: B clips, T hidden frames, D hidden width, U mel frames per hidden frame, M mel frames, C mel
bands.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from transformers import AutoConfig, AutoModel
from transformers import initialization as init

from hfprobe.errors import BankError
from hfprobe.hub.safety import read_json
from hfprobe.plain import short
from hfprobe.probes.configuration import HighwayProbeConfig, LinearProbeConfig, MeanProbeConfig
from hfprobe.probes.mel_probe import HighwayProbeOutput, MelProbe

__all__ = ["HighwayProbe", "HighwayProbeOutput", "LayerProbe", "LinearProbe", "MeanProbe", "load_layer_probe"]


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
        """``(..., width)`` to ``(..., width)``."""
        transform, gate = self.linear(x).chunk(2, dim=-1)
        # x + g * (relu(h) - x) is the Highway equation in one kernel.
        return torch.lerp(x, torch.relu(transform), torch.sigmoid(gate))


class _LayerProbe(MelProbe):
    """A probe that is trained for one layer.

    The buffers `input_mean`, `input_std` `(D,)` and `output_mean`, `output_std` `(C,)` are estimated by
    training and saved with the weights, so that the network itself works on values of mean 0 and standard
    deviation 1.
    """

    def __init__(self, config: HighwayProbeConfig | LinearProbeConfig):
        super().__init__(config)
        # Persistent: transformers builds models on the meta device, where a buffer that is not saved becomes
        # garbage.
        self.register_buffer("input_mean", torch.zeros(config.input_dim))
        self.register_buffer("input_std", torch.ones(config.input_dim))
        self.register_buffer("output_mean", torch.zeros(config.n_mels))
        self.register_buffer("output_std", torch.ones(config.n_mels))

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

    def _project(self, frames: torch.Tensor) -> torch.Tensor:
        weight, bias = self.projection.weight, self.projection.bias
        if frames.dtype != torch.float32 or torch.is_autocast_enabled(frames.device.type):
            # Half precision cannot hold a large mean beside small deviations: normalise first, in float32.
            return self.projection(((frames.float() - self.input_mean) / self.input_std).to(weight.dtype))
        # W((x - m) / s) + b = (W / s) x + (b - (W / s) m): normalising the matrix, not the (many more)
        # frames.
        folded = weight / self.input_std
        return nn.functional.linear(frames, folded, bias - folded @ self.input_mean)


class HighwayProbe(_LayerProbe):
    """Highway probe of one layer; see the module's text.

    Example:
        >>> probe = HighwayProbe(HighwayProbeConfig(input_dim=8, layer="blstm1", stride=320, hidden_dim=4))
        >>> tuple(probe(torch.zeros(2, 5, 8)).mel.shape)
        (2, 10, 80)
    """

    config_class = HighwayProbeConfig
    config: HighwayProbeConfig

    def __init__(self, config: HighwayProbeConfig):
        super().__init__(config)
        self.projection = nn.Linear(config.input_dim, config.upsampling * config.hidden_dim)
        self.highways = nn.ModuleList(Highway(config.hidden_dim) for _ in range(config.num_layers))
        self.output = nn.Linear(config.hidden_dim, config.n_mels)
        self.post_init()

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


class LinearProbe(_LayerProbe):
    """Probe of the smallest capacity: one affine map from a hidden frame to its mel frames.

    Example:
        >>> probe = LinearProbe(LinearProbeConfig(input_dim=8, layer="blstm1", stride=320))
        >>> tuple(probe(torch.zeros(2, 5, 8)).mel.shape)
        (2, 10, 80)
    """

    config_class = LinearProbeConfig
    config: LinearProbeConfig

    def __init__(self, config: LinearProbeConfig):
        super().__init__(config)
        self.projection = nn.Linear(config.input_dim, config.upsampling * config.n_mels)
        self.post_init()

    def frames_to_mel(self, frames: torch.Tensor) -> torch.Tensor:
        """Mel frames of single hidden frames.

        Args:
            frames: Hidden frames ``(..., D)``, in any order and from any clips.

        Returns:
            Natural-log mel ``(..., U, C)``.
        """
        values = self._project(frames).unflatten(-1, (self.config.upsampling, self.config.n_mels))
        return torch.addcmul(self.output_mean, values, self.output_std)


class MeanProbe(MelProbe):
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
        """The mean mel frame, whatever the hidden frames.

        Args:
            frames: Hidden frames ``(..., D)``, in any order and from any clips.

        Returns:
            Natural-log mel ``(..., U, C)``.
        """
        return self.output_mean.expand(*frames.shape[:-1], self.config.upsampling, -1)


LayerProbe = HighwayProbe | LinearProbe  # a probe that is trained for one layer, of either capacity

# What a bank's layers may be, by the `model_type` in their config.json.
LAYER_PROBES = {kind.config_class.model_type: kind for kind in (HighwayProbe, LinearProbe)}
for _kind in (*LAYER_PROBES.values(), MeanProbe):
    AutoConfig.register(_kind.config_class.model_type, _kind.config_class)
    AutoModel.register(_kind.config_class, _kind)


def load_layer_probe(folder: Path) -> LayerProbe:
    """Load a probe of whatever capacity its folder says.

    Args:
        folder: Folder with ``config.json`` and ``model.safetensors``.

    Returns:
        The probe, float32, in eval mode.

    Raises:
        BankError: If it is of no known kind, or files are missing or broken.
    """
    try:
        kind = read_json(folder / "config.json", BankError).get("model_type")
    except BankError as error:
        raise BankError(f"expected the configuration of a probe in {folder}, got: {error}") from error
    if not isinstance(kind, str) or kind not in LAYER_PROBES:
        known, found = ", ".join(LAYER_PROBES), str(kind)[:40]
        raise BankError(f"expected a probe ({known}) in {folder}, got {short(found)}; use a newer hfprobe")
    return LAYER_PROBES[kind].from_pretrained(folder)
