"""The classifiers of all layers of one encoder for one target, saved and loaded together.

The folder has the shape of a probe bank: ``bank.json`` with checksums, and one transformers model per layer, which
`ClassifierProbe.from_pretrained(folder, subfolder="blstm3")` loads alone.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from hfprobe.errors import BankError, LayerError
from hfprobe.probes.bank_files import INDEX, LAYER_FILES, check_files, check_layer_name, quiet_transformers, write_bank
from hfprobe.probes.bank_source import describe_environment, local_folder
from hfprobe.probes.classifier import ClassifierProbe

KIND = "classifiers"


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
        kinds = {(p.config.target, p.config.pooling, tuple(p.config.id2label.items())) for p in probes.values()}
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

    def get(self, layer: str, default=None):
        """The classifier of a layer, or ``default``."""
        return self._probes.get(layer, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._probes)

    def __len__(self) -> int:
        return len(self._probes)

    def __repr__(self) -> str:
        return f"ClassifierBank(target={self.target!r}, encoder={self.encoder!r}, layers=[{', '.join(self)}])"

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write the bank so that a reader sees the old one, the new one or an error, never a mixture."""
        index = {
            "format_version": 1, "kind": KIND, "target": self.target, "pooling": self.pooling,
            "labels": list(self.labels), "encoder": {"name": self.encoder, "fingerprint": self.fingerprint},
            "layers": list(self), "training": self.training, "environment": self.environment,
        }  # fmt: skip
        write_bank(Path(folder), self._probes, index, "float32")
        return Path(folder)

    @classmethod
    def from_pretrained(cls, source: str | Path, revision: str | None = None, subfolder: str | None = None):
        """Load a bank from a folder or a Hub repository.

        Raises:
            BankError: It is missing, incomplete, damaged, or of another kind.
        """
        folder = local_folder(str(source), revision, subfolder)
        index = _read_index(folder)
        check_files(folder, index, index["layers"])
        with quiet_transformers():
            probes = {name: ClassifierProbe.from_pretrained(folder, subfolder=name) for name in index["layers"]}
        made_by = index["encoder"]
        return cls(
            probes, made_by.get("name", ""), made_by.get("fingerprint", ""), index["training"], index["environment"]
        )

    def push_to_hub(self, repo_id: str, private: bool | None = None, token: str | None = None) -> str:
        """Upload the bank to the Hugging Face Hub; returns the address of the commit."""
        from huggingface_hub import HfApi

        api = HfApi(token=token)
        api.create_repo(repo_id, private=private, exist_ok=True)
        with tempfile.TemporaryDirectory() as place:
            folder = self.save_pretrained(Path(place) / "bank")
            commit = api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="Classifying probes")
        return str(commit.commit_url)


def _read_index(folder: Path) -> dict:
    path = folder / INDEX
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BankError(f"expected a bank of classifiers in {folder}, could not read {INDEX}: {error}") from error
    kinds = {"encoder": dict, "layers": list, "training": dict, "environment": dict, "sha256": dict}
    if not isinstance(index, dict) or index.get("kind") != KIND or index.get("format_version") != 1:
        raise BankError(f"expected a bank of classifiers in {folder}, found another kind; use ProbeBank for mel probes")
    for key, kind in kinds.items():
        if not isinstance(index.get(key), kind) or not index[key] and key in ("layers", "sha256"):
            raise BankError(f"expected {key!r} to be a filled {kind.__name__} in {path}; save the bank again")
    for name in index["layers"]:
        for file in LAYER_FILES:
            if not isinstance(index["sha256"].get(f"{check_layer_name(name, path)}/{file}"), str):
                raise BankError(f"expected a checksum of {name}/{file} in {path}, found none; save the bank again")
    return index
