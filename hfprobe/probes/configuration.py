"""Configurations of the probes: everything that is needed to rebuild one, and to turn its mel frames into
sound.

The mel settings travel inside the configuration (design: "Mel"), so that a probe that is loaded alone still
says what its output means. `stride` is the encoder layer's, in samples; the probe upsamples by `stride /
hop`.
"""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig

from hfprobe.audio import MelConfig
from hfprobe.errors import ConfigError
from hfprobe.hub.safety import refuse_code
from hfprobe.plain import short

MOST = 1_000_000  # no width or stride is larger; a file of somebody else must not make us build such a thing
MOST_HIGHWAYS = 256
MOST_BINS = 65536


def _require_positive_integer(name: str, value: Any, most: int = MOST) -> int:
    # bool is an int in Python; `hidden_dim: true` in a YAML file is a mistake, not a width of one.
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise ConfigError(f"expected {name} to be a whole number from 1 to {most}, got {short(value)}; correct {name}")
    return value


def upsampling_factor(stride: int, mel: MelConfig) -> int:
    """Number of mel frames that one hidden frame stands for.

    Args:
        stride: Distance between hidden frames in samples.
        mel: Mel settings; its hop length is in samples at the same rate.

    Returns:
        `stride / hop`, a whole number of at least 1.

    Raises:
        ConfigError: If the stride is not a whole multiple of the hop.

    Example:
        >>> upsampling_factor(640, MelConfig())
        4
    """
    _require_positive_integer("stride", stride)
    if stride % mel.hop_length:
        raise ConfigError(
            f"expected a stride that is a whole multiple of the mel hop of {mel.hop_length} samples, "
            f"got {stride}; choose a MelConfig whose hop_length divides the stride"
        )
    return stride // mel.hop_length


class _MelFrameConfig(PreTrainedConfig):
    """What both kinds of probe share: mel settings, stride, and where the hidden frames come from."""

    def __init__(
        self,
        layer: str = "",
        stride: int = 640,
        mel: dict | None = None,
        encoder: str = "",
        encoder_fingerprint: str = "",
        **kwargs: Any,
    ):
        refuse_code(kwargs, "the configuration of a probe", ConfigError)
        # A dictionary, not a MelConfig, because the configuration has to be plain JSON.
        if not isinstance(mel, MelConfig | dict | None):
            raise ConfigError(f"expected mel as a dictionary of settings, got {short(mel)}; correct mel")
        settings = mel if isinstance(mel, MelConfig) else MelConfig.from_dict(dict(mel or {}))
        if max(settings.n_fft, settings.n_mels, settings.sampling_rate // 16) > MOST_BINS:
            raise ConfigError(f"expected at most {MOST_BINS} samples, bins or bands, got {settings}; correct mel")
        self.layer = layer
        self.stride = stride
        self.mel = settings.to_dict()
        self.encoder = encoder
        self.encoder_fingerprint = encoder_fingerprint
        upsampling_factor(stride, settings)
        super().__init__(**kwargs)

    @property
    def mel_config(self) -> MelConfig:
        """The mel settings as a `MelConfig`."""
        return MelConfig.from_dict(dict(self.mel))

    @property
    def n_mels(self) -> int:
        """Number of mel bands that the probe writes."""
        return self.mel_config.n_mels

    @property
    def upsampling(self) -> int:
        """Mel frames per hidden frame."""
        return upsampling_factor(self.stride, self.mel_config)


class HighwayProbeConfig(_MelFrameConfig):
    """Configuration of a `HighwayProbe`.

    Args:
        input_dim: Width of the hidden frames of the layer under study.
        layer: Name of that layer, e.g. ``"blstm3"``.
        stride: Distance between its frames in samples; a whole multiple of the mel hop.
        mel: `MelConfig` or its dictionary; the default settings if None.
        hidden_dim: Width of the Highway layers.
        num_layers: Number of Highway layers (the paper: 4).
        gate_bias: First value of the gates' bias; negative, so that a fresh layer mostly passes its input on.
        encoder: Name of the encoder that the probe was trained for.
        encoder_fingerprint: Fingerprint of that encoder's layers and weights.

    Raises:
        ConfigError: If a number is out of range or the stride is not a whole multiple of the mel hop.

    Example:
        >>> HighwayProbeConfig(input_dim=128, layer="blstm1", stride=640).upsampling
        4
    """

    model_type = "hfprobe-highway"

    def __init__(
        self,
        input_dim: int = 128,
        layer: str = "",
        stride: int = 640,
        mel: dict | None = None,
        hidden_dim: int = 192,
        num_layers: int = 4,
        gate_bias: float = -1.0,
        encoder: str = "",
        encoder_fingerprint: str = "",
        **kwargs: Any,
    ):
        self.input_dim = _require_positive_integer("input_dim", input_dim)
        self.hidden_dim = _require_positive_integer("hidden_dim", hidden_dim)
        self.num_layers = _require_positive_integer("num_layers", num_layers, MOST_HIGHWAYS)
        self.gate_bias = float(gate_bias)
        super().__init__(
            layer=layer,
            stride=stride,
            mel=mel,
            encoder=encoder,
            encoder_fingerprint=encoder_fingerprint,
            **kwargs,
        )


class LinearProbeConfig(_MelFrameConfig):
    """Configuration of a `LinearProbe`: no hidden width, no depth.

    Args:
        input_dim: Width of the hidden frames of the layer under study.
        layer: Name of that layer.
        stride: Distance between its frames in samples; a whole multiple of the mel hop.
        mel: `MelConfig` or its dictionary; the default settings if None.
        encoder: Name of the encoder that the probe was trained for.
        encoder_fingerprint: Fingerprint of that encoder's layers and weights.

    Raises:
        ConfigError: If a number is out of range or the stride is not a whole multiple of the mel hop.

    Example:
        >>> LinearProbeConfig(input_dim=128, layer="blstm1", stride=320).upsampling
        2
    """

    model_type = "hfprobe-linear"

    def __init__(
        self,
        input_dim: int = 128,
        layer: str = "",
        stride: int = 640,
        mel: dict | None = None,
        encoder: str = "",
        encoder_fingerprint: str = "",
        **kwargs: Any,
    ):
        self.input_dim = _require_positive_integer("input_dim", input_dim)
        super().__init__(
            layer=layer,
            stride=stride,
            mel=mel,
            encoder=encoder,
            encoder_fingerprint=encoder_fingerprint,
            **kwargs,
        )


class MeanProbeConfig(_MelFrameConfig):
    """Configuration of a `MeanProbe`, the floor that knows nothing but the mean mel frame.

    Example:
        >>> MeanProbeConfig(stride=160).upsampling
        1
    """

    model_type = "hfprobe-mean"

    # Written out, because transformers makes a dataclass of a configuration class without an __init__ of its
    # own.
    def __init__(self, layer: str = "floor", stride: int = 160, mel: dict | None = None, **kwargs: Any):
        super().__init__(layer=layer, stride=stride, mel=mel, **kwargs)
