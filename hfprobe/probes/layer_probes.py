"""The probes of all layers of one encoder in memory: a mapping, and what it makes of an encoder's layers."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from hfprobe.audio import MelConfig, vocode
from hfprobe.errors import BankError, ConfigError, LayerError
from hfprobe.hub.place import Place
from hfprobe.plain import short
from hfprobe.probes import bank_files
from hfprobe.probes.bank_check import check_encoder
from hfprobe.probes.bank_files import FLOOR
from hfprobe.probes.bank_source import describe_environment
from hfprobe.probes.losses import complete_frames
from hfprobe.probes.modeling import LayerProbe, MeanProbe


class LayerProbes(Mapping[str, LayerProbe]):
    """What a `hfprobe.probes.ProbeBank` is in memory; see there for the arguments."""

    def __init__(
        self,
        probes: Mapping[str, LayerProbe],
        floor: MeanProbe,
        encoder: str = "",
        fingerprint: str = "",
        training: dict | None = None,
        environment: dict | None = None,
    ):
        if not probes or FLOOR in probes:
            raise BankError(f"expected at least one layer, none of them named {FLOOR!r}, got {list(probes)}")
        for name in probes:
            bank_files.check_layer_name(name, "a bank")
        self._probes = {name: probe.eval() for name, probe in probes.items()}
        self.floor = floor.eval()
        self.encoder, self.fingerprint = encoder, fingerprint
        self.training, self.environment = dict(training or {}), dict(environment or describe_environment())
        self.mel_config: MelConfig = floor.config.mel_config
        for name, probe in self._probes.items():
            if probe.config.mel_config != self.mel_config:
                raise BankError(
                    f"expected the mel settings {self.mel_config} in every probe, layer {short(name)} has "
                    f"{probe.config.mel_config}; put probes of one training into one bank"
                )
        self.folder: Path | None = None  # where it was loaded from
        self._place: Place | None = None
        self._checked: tuple[weakref.ref, int] | None = None

    # -- mapping

    def __getitem__(self, layer: str) -> LayerProbe | MeanProbe:
        if layer == FLOOR:
            return self.floor
        if layer not in self._probes:
            raise LayerError(f"no probe for layer {short(layer)} in this bank; it has {', '.join(self)} and {FLOOR}")
        return self._probes[layer]

    def __contains__(self, layer: object) -> bool:
        # Mapping's own version relies on KeyError; ours is a LayerError.
        return layer == FLOOR or layer in self._probes

    def get(self, layer: str, default: Any = None) -> Any:
        """The probe of a layer, or `default` if there is none.

        Args:
            layer: Name of the layer.
            default: What to give where it has no probe.

        Returns:
            The probe, or `default`.
        """
        return self[layer] if layer in self else default

    def __iter__(self) -> Iterator[str]:
        return iter(self._probes)

    def __len__(self) -> int:
        return len(self._probes)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(encoder={self.encoder!r}, layers=[{', '.join(self)}])"

    @property
    def capacity(self) -> str:
        """``highway``, ``linear``, or both where they were mixed by hand."""
        kinds = {probe.config.model_type.removeprefix("hfprobe-") for probe in self._probes.values()}
        return "+".join(sorted(kinds))

    def to(self, device: str | torch.device) -> Self:
        """Move all probes to a device, in place; returns the bank.

        Args:
            device: Where the probes shall lie.

        Returns:
            The bank itself.
        """
        for probe in [*self._probes.values(), self.floor]:
            probe.to(device)
        return self

    # -- use

    def check(self, encoder: Any) -> None:
        """Make sure that an encoder is the one the bank was trained for.

        Args:
            encoder: A `SpeechEncoder`.

        Raises:
            BankError: If a layer is missing, has another width or stride, the sampling rate differs, or the
                fingerprint does.
        """
        check_encoder(self, encoder)

    def mels(
        self,
        encoder: Any,
        waveforms: torch.Tensor,
        lengths: torch.Tensor | None = None,
        layers: Iterable[str] | None = None,
    ) -> dict[str, torch.Tensor]:
        """Mel-spectrograms that the layers still hold, from one pass of the encoder.

        Args:
            encoder: The encoder of this bank.
            waveforms: Clips, float32 `(B, S)` in [-1, 1] at the encoder's rate.
            lengths: Valid samples `(B,)`; all if None.
            layers: Which layers (and ``"floor"``); all of the bank's layers if None.

        Returns:
            Layer name to natural-log mel `(B, M, C)`, `M = 1 + S // hop`. Frames behind a clip's end hold
            log(log_floor), silence. Where a layer ends up to some frames early, its last frame is repeated.

        Raises:
            LayerError: If a layer has no probe.
            BankError: If the encoder is another one.
        """
        names = self._names(layers)
        self._check_once(encoder)
        device = next((parameter.device for parameter in encoder.parameters()), waveforms.device)
        waveforms = waveforms.to(device)
        if lengths is None:
            lengths = torch.full((len(waveforms),), waveforms.shape[1])
        lengths = torch.as_tensor(lengths, dtype=torch.int64, device=device)
        was_training = encoder.training
        encoder.eval()
        try:
            with torch.inference_mode():
                read = [name for name in names if name != FLOOR] or [encoder.layers[-1].name]
                output = encoder(waveforms, lengths, layers=read)
                place = {name: index for index, name in enumerate(read)}
                return {name: self._mel(name, output, place, waveforms.shape[1], lengths) for name in names}
        finally:
            encoder.train(was_training)

    def reconstruct(
        self,
        encoder: Any,
        waveform: torch.Tensor | np.ndarray,
        layers: Iterable[str] | None = None,
        n_iter: int = 32,
    ) -> dict[str, torch.Tensor]:
        """Make every layer audible: probe, mel inversion, Griffin-Lim.

        Args:
            encoder: The encoder of this bank.
            waveform: One clip `(S,)`, or clips of one length `(B, S)`.
            layers: Which layers (and ``"floor"``); all of the bank's layers if None.
            n_iter: Griffin-Lim iterations.

        Returns:
            Layer name to sound, float32, of the shape of `waveform`.

        Raises:
            ConfigError: If the waveform has another number of dimensions.
            LayerError: If a layer has no probe.
            BankError: If the encoder is another one.
        """
        clips = torch.as_tensor(waveform, dtype=torch.float32)
        if clips.dim() not in (1, 2) or clips.numel() == 0:
            raise ConfigError(f"expected a waveform of shape (samples,) or (batch, samples), got {tuple(clips.shape)}")
        batch = clips.reshape(-1, clips.shape[-1])
        lengths = torch.full((len(batch),), batch.shape[1])
        # One layer at a time, so that a layer sounds the same whichever others are asked for.
        return {
            name: vocode(mel, self.mel_config, n_iter=n_iter, lengths=lengths.to(mel.device)).reshape(clips.shape)
            for name, mel in self.mels(encoder, batch, layers=layers).items()
        }

    def _mel(self, name: str, output: Any, place: dict, n_samples: int, lengths: torch.Tensor) -> torch.Tensor:
        config = self.mel_config
        n_frames, valid = config.frames(n_samples), config.frames(lengths)
        if name == FLOOR:
            mel, known = (
                self.floor.to(lengths.device)(lengths.new_zeros(len(lengths), n_frames, 1)).mel,
                valid,
            )
        else:
            probe = self._probes[name].to(lengths.device)
            mel = probe(output.hidden_states[place[name]]).mel
            known = output.hidden_lengths[place[name]].to(lengths.device) * probe.config.upsampling
        return complete_frames(mel, known, valid, n_frames, float(np.log(config.log_floor)))

    def _names(self, layers: Iterable[str] | None) -> list[str]:
        names = list(self) if layers is None else [layers] if isinstance(layers, str) else list(layers)
        for name in names:
            self[name]  # raises LayerError with the list of names
        return names

    def _check_once(self, encoder: Any) -> None:
        # The fingerprint hashes all weights; in a loop over batches, only when they were touched since.
        versions = sum(value._version for value in encoder.state_dict(keep_vars=True).values())
        if self._checked is None or self._checked[0]() is not encoder or self._checked[1] != versions:
            self.check(encoder)
            self._checked = weakref.ref(encoder), versions
