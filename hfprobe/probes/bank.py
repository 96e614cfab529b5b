"""The probes of all layers of one encoder, saved, loaded and used together."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hfprobe.audio import MelConfig, vocode
from hfprobe.errors import BankError, ConfigError, LayerError
from hfprobe.hub.place import Place
from hfprobe.plain import short
from hfprobe.probes import bank_files
from hfprobe.probes.bank_card import default_card
from hfprobe.probes.bank_check import check_encoder
from hfprobe.probes.bank_files import FLOOR, FORMAT_VERSION
from hfprobe.probes.bank_index import files_of, read_index
from hfprobe.probes.bank_push import push_bank
from hfprobe.probes.bank_source import bank_place, describe_environment, read_checked
from hfprobe.probes.losses import complete_frames
from hfprobe.probes.modeling import HighwayProbe, LinearProbe, MeanProbe, load_layer_probe


class ProbeBank(Mapping[str, HighwayProbe | LinearProbe]):
    """A mapping from layer name to probe, in the order of the encoder's layers.

    `bank["floor"]` (or `bank.floor`) is the `MeanProbe`; it is not among the layers that iteration gives.

    Args:
        probes: Layer name to probe.
        floor: Probe that knows the mean mel frame only.
        encoder: Name of the encoder the probes were trained for.
        fingerprint: That encoder's fingerprint; empty if unknown, and then not checked.
        training: Settings of the training, for the record.
        environment: Versions and date, for the record; made now if None.

    Raises:
        BankError: If there is no probe, a name is unsuitable, or mel settings differ between probes.

    Example:
        >>> from hfprobe.probes import HighwayProbeConfig, MeanProbeConfig
        >>> probe = HighwayProbe(HighwayProbeConfig(input_dim=8, layer="blstm1", stride=320, hidden_dim=4))
        >>> bank = ProbeBank({"blstm1": probe}, MeanProbe(MeanProbeConfig()), encoder="toy")
        >>> list(bank), bank["blstm1"].config.upsampling
        (['blstm1'], 2)
    """

    def __init__(
        self,
        probes: Mapping[str, HighwayProbe | LinearProbe],
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

    def __getitem__(self, layer: str) -> HighwayProbe | LinearProbe | MeanProbe:
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
        return f"ProbeBank(encoder={self.encoder!r}, layers=[{', '.join(self)}])"

    @property
    def capacity(self) -> str:
        """``highway``, ``linear``, or both where they were mixed by hand."""
        kinds = {probe.config.model_type.removeprefix("hfprobe-") for probe in self._probes.values()}
        return "+".join(sorted(kinds))

    def to(self, device: str | torch.device) -> ProbeBank:
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

    # -- files

    @classmethod
    def from_pretrained(
        cls,
        folder_or_repo: str | Path,
        revision: str | None = None,
        subfolder: str | None = None,
        layers: Sequence[str] | None = None,
        **options: Any,
    ) -> ProbeBank:
        """Load a bank from a folder or from the Hugging Face Hub.

        Args:
            folder_or_repo: Folder that holds `bank.json`, or repository id ``"user/name"``, or name of a shipped bank.
            revision: Branch, tag or commit of the repository.
            subfolder: Folder of the bank inside it.
            layers: Load (and download) these layers only.
            **options: ``token``, ``cache_dir`` and ``local_files_only``, of the Hub.

        Returns:
            The bank, float32, on the CPU.

        Raises:
            BankError: If files are missing, truncated, of another format or not safe, or the Hub does not give them.
            LayerError: If a layer in `layers` has no probe.
        """
        wanted = None if layers is None else [layers] if isinstance(layers, str) else list(layers)
        return cls._from_place(bank_place(folder_or_repo, revision, subfolder, **options), wanted)

    @classmethod
    def _from_place(cls, place: Place, wanted: list[str] | None = None) -> ProbeBank:
        index = read_checked(place, [bank_files.INDEX], read_index)
        for name in wanted or []:
            if name not in index["layers"]:
                raise LayerError(f"no probe for layer {short(name)} in {place}; it has {', '.join(index['layers'])}")
        names = [name for name in index["layers"] if wanted is None or name in wanted]
        files = files_of(index, names)
        read_checked(place, files, lambda folder: bank_files.check_files(folder, index, files))
        folder = place.folder
        with bank_files.quiet_transformers():
            probes = {name: load_layer_probe(folder / name) for name in names}
            floor = MeanProbe.from_pretrained(folder / FLOOR)
        encoder = index["encoder"]
        bank = cls(
            probes,
            floor,
            encoder=str(encoder.get("name", "")),
            fingerprint=str(encoder.get("fingerprint", "")),
            training=index["training"],
            environment=index["environment"],
        )
        bank.folder, bank._place = folder, place
        return bank

    def random_twin(self) -> ProbeBank | None:
        """The bank of the encoder's twin with random weights that lies beside this one, on disk or on the Hub.

        Returns:
            That bank; None if there is none, or this bank was not loaded from files.

        Raises:
            BankError: It is broken.
        """
        if self._place is None or not self._place.has(f"{bank_files.RANDOM}/{bank_files.INDEX}"):
            return None
        return type(self)._from_place(self._place.below(bank_files.RANDOM))

    def save_pretrained(self, folder: str | Path, dtype: str = "float16") -> None:
        """Write the bank; see `bank_files` for the layout and what a reader may see meanwhile.

        Args:
            folder: Where to; other files there are left alone, an older bank is replaced.
            dtype: ``"float16"`` (half the size) or ``"float32"`` (exact). Loading gives float32 either way.

        Raises:
            BankError: If a weight cannot be stored.
            ConfigError: If `dtype` is neither.
        """
        if dtype not in bank_files.DTYPES:
            raise ConfigError(f"expected dtype to be one of {', '.join(bank_files.DTYPES)}, got {dtype!r}")
        index = {
            "format_version": FORMAT_VERSION,
            "encoder": {"name": self.encoder, "fingerprint": self.fingerprint},
            "layers": list(self),
            "mel": self.mel_config.to_dict(),
            "training": self.training,
            "environment": self.environment,
        }
        bank_files.write_bank(Path(folder), {**self._probes, FLOOR: self.floor}, index, dtype)

    def push_to_hub(
        self,
        repo_id: str,
        card: str | None = None,
        dtype: str | None = None,
        private: bool | None = None,
        revision: str | None = None,
        token: str | None = None,
        commit_message: str = "Upload probe bank",
    ) -> str:
        """Upload the bank, with its card, in one commit; called again after a failure, it goes on where it stopped.

        Args:
            repo_id: ``"user/name"``; created if it does not exist.
            card: Text of the model card (README.md); a short one is made from the bank's facts if None.
            dtype: As for `save_pretrained`; where None, float16 if no weight changes by it, and float32 otherwise, so
                that what is loaded is what was pushed, bit by bit.
            private: Whether a new repository is private; True is refused for a public one that is there.
            revision: Branch to push to; made if it does not exist.
            token: Access token; the stored one if None.
            commit_message: Message of the commit.

        Returns:
            Address of the commit.

        Raises:
            HubError: No token, no access, no connection: one sentence, which never holds the token.
            ConfigError: Message, card or dtype cannot be used.
        """
        with tempfile.TemporaryDirectory() as scratch:
            exact = "float16" if bank_files.fits_float16([*self._probes.values(), self.floor]) else "float32"
            self.save_pretrained(Path(scratch) / "bank", dtype=dtype or exact)
            return push_bank(
                Path(scratch) / "bank", repo_id, card or default_card(self, repo_id), commit_message,
                private=private, revision=revision, token=token,
            ).url  # fmt: skip
