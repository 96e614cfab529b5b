"""The classifiers of all layers of one encoder for one target, saved and loaded together.

The folder has the shape of a probe bank: ``bank.json`` with checksums, and one transformers model per layer, which
`ClassifierProbe.from_pretrained(folder, subfolder="blstm3")` loads alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hfprobe.errors import BankError, LayerError
from hfprobe.probes.bank_card import classifier_card
from hfprobe.probes.bank_files import INDEX, check_files, check_layer_name, quiet_transformers, write_bank
from hfprobe.probes.bank_index import CLASSIFIERS, files_of, read_index
from hfprobe.probes.bank_push import push_bank
from hfprobe.probes.bank_source import bank_place, describe_environment, read_checked
from hfprobe.probes.classifier import ClassifierProbe


class ClassifierBank(Mapping[str, ClassifierProbe]):
    """A mapping from layer name to classifier; ``"input"`` may be among the layers.

    Args:
        probes: Layer name to classifier, all with the same target, labels and pooling.
        encoder: Name of the encoder.
        fingerprint: Its fingerprint.
        training: Settings of the training, for the record.

    Raises:
        BankError: There is none, or they do not belong together.

    Example:
        >>> from hfprobe.probes.classifier_config import ClassifierProbeConfig
        >>> config = ClassifierProbeConfig(input_dim=8, labels=["f", "m"], layer="blstm1", target="gender")
        >>> bank = ClassifierBank({"blstm1": ClassifierProbe(config)}, "toy")
        >>> list(bank), bank.labels, bank.target
        (['blstm1'], ('f', 'm'), 'gender')
    """

    def __init__(
        self,
        probes: Mapping[str, ClassifierProbe],
        encoder: str = "",
        fingerprint: str = "",
        training: dict | None = None,
        environment: dict | None = None,
    ):
        if not probes:
            raise BankError("expected at least one classifier, got none")
        # Labels as texts: a file of somebody else may hold anything there.
        kinds = {
            (p.config.target, p.config.pooling, tuple((key, str(label)) for key, label in p.config.id2label.items()))
            for p in probes.values()
        }
        if len(kinds) > 1:
            raise BankError(
                "expected classifiers of one target with the same labels; put those of one training together"
            )
        self._probes = {check_layer_name(name, "a bank"): probe.eval() for name, probe in probes.items()}
        self.encoder, self.fingerprint = encoder, fingerprint
        self.training, self.environment = dict(training or {}), dict(environment or describe_environment())
        target, pooling, labels = kinds.pop()
        self.target, self.pooling, self.labels = target, pooling, tuple(name for _, name in labels)

    def __getitem__(self, layer: str) -> ClassifierProbe:
        if layer not in self._probes:
            raise LayerError(f"no classifier for layer {layer!r} in this bank; it has {', '.join(self)}")
        return self._probes[layer]

    def __contains__(self, layer: object) -> bool:
        return layer in self._probes  # Mapping's own version relies on KeyError; ours is a LayerError

    def get(self, layer: str, default: Any = None) -> Any:
        """The classifier of a layer, or ``default``.

        Args:
            layer: Name of the layer.
            default: What to give where it has no classifier.

        Returns:
            The classifier, or ``default``.
        """
        return self._probes.get(layer, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._probes)

    def __len__(self) -> int:
        return len(self._probes)

    def __repr__(self) -> str:
        return f"ClassifierBank(target={self.target!r}, encoder={self.encoder!r}, layers=[{', '.join(self)}])"

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write the bank so that a reader sees the old one, the new one or an error, never a mixture.

        Args:
            folder: Folder to write; it is made if needed.

        Returns:
            The folder.
        """
        index = {
            "format_version": 1, "kind": CLASSIFIERS, "target": self.target, "pooling": self.pooling,
            "labels": list(self.labels), "encoder": {"name": self.encoder, "fingerprint": self.fingerprint},
            "layers": list(self), "training": self.training, "environment": self.environment,
        }  # fmt: skip
        write_bank(Path(folder), self._probes, index, "float32")
        return Path(folder)

    @classmethod
    def from_pretrained(
        cls, source: str | Path, revision: str | None = None, subfolder: str | None = None, **options: Any
    ) -> ClassifierBank:
        """Load a bank from a folder or a Hub repository.

        Args:
            source: Folder that holds ``bank.json``, or repository id ``"user/name"``.
            revision: Branch, tag or commit of the repository.
            subfolder: Folder of the bank inside it.
            **options: ``token``, ``cache_dir`` and ``local_files_only``, of the Hub.

        Returns:
            The bank, on the CPU.

        Raises:
            BankError: It is missing, incomplete, damaged, not safe, or of another kind, or the Hub does not give it.
        """
        place = bank_place(source, revision, subfolder, "a bank of classifiers", **options)
        index = read_checked(place, [INDEX], lambda folder: read_index(folder, CLASSIFIERS))
        files = files_of(index)
        read_checked(place, files, lambda folder: check_files(folder, index, files))
        with quiet_transformers():
            probes = {name: ClassifierProbe.from_pretrained(place.folder / name) for name in index["layers"]}
        made_by = index["encoder"]
        return cls(
            probes, str(made_by.get("name", "")), str(made_by.get("fingerprint", "")), index["training"],
            index["environment"],
        )  # fmt: skip

    def push_to_hub(
        self,
        repo_id: str,
        card: str | None = None,
        private: bool | None = None,
        revision: str | None = None,
        token: str | None = None,
        commit_message: str = "Upload classifying probes",
    ) -> str:
        """Upload the bank, with its card, in one commit; called again after a failure, it goes on where it stopped.

        Args:
            repo_id: ``"user/name"``; created if it does not exist.
            card: Text of the model card (README.md); a short one is made from the bank's facts if None.
            private: Whether a new repository is private; True is refused for a public one that is there.
            revision: Branch to push to; made if it does not exist.
            token: Access token; the stored one if None.
            commit_message: Message of the commit.

        Returns:
            Address of the commit.

        Raises:
            HubError: No token, no access, no connection, no such name or branch.
            ConfigError: Message or card cannot be used.
        """
        with tempfile.TemporaryDirectory() as place:
            folder = self.save_pretrained(Path(place) / "bank")
            return push_bank(
                folder, repo_id, card or classifier_card(self, repo_id), commit_message,
                private=private, revision=revision, token=token,
            ).url  # fmt: skip
