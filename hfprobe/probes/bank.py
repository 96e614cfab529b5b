"""The probes of all layers of one encoder, saved, loaded and used together."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hfprobe.errors import ConfigError, LayerError
from hfprobe.hub.place import Place
from hfprobe.plain import short
from hfprobe.probes import bank_files
from hfprobe.probes.bank_card import default_card
from hfprobe.probes.bank_files import FLOOR, FORMAT_VERSION
from hfprobe.probes.bank_index import files_of, read_index
from hfprobe.probes.bank_push import push_bank
from hfprobe.probes.bank_source import bank_place, read_checked
from hfprobe.probes.layer_probes import LayerProbes
from hfprobe.probes.modeling import MeanProbe, load_layer_probe


class ProbeBank(LayerProbes):
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
        >>> from hfprobe.probes import HighwayProbe, HighwayProbeConfig, MeanProbeConfig
        >>> probe = HighwayProbe(HighwayProbeConfig(input_dim=8, layer="blstm1", stride=320, hidden_dim=4))
        >>> bank = ProbeBank({"blstm1": probe}, MeanProbe(MeanProbeConfig()), encoder="toy")
        >>> list(bank), bank["blstm1"].config.upsampling
        (['blstm1'], 2)
    """

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
