"""What all probes share with the Hub: loading that trusts nothing, and pushing in one commit."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel

from hfprobe.errors import BankError, ConfigError, HfprobeError
from hfprobe.hub.safety import read_header, read_json, refuse_code
from hfprobe.plain import line
from hfprobe.probes.bank_card import probe_card
from hfprobe.probes.bank_files import LAYER_FILES, quiet_transformers, write_probe
from hfprobe.probes.bank_source import bank_place, read_checked

# What `from_pretrained` of transformers says of the place; handled here.
_PLACE = {"revision": None, "subfolder": "", "token": None, "cache_dir": None, "local_files_only": False}


class StrictProbe(PreTrainedModel):
    """Base of all probes: a file that is not exactly what the configuration says is refused before it is opened."""

    _noun = "a probe"

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args: Any, **kwargs: Any):
        """Load a probe; like transformers' own, but float32 unless told otherwise, and strict.

        Only ``model.safetensors`` is read. Names and shapes of the weights have to be those of the configuration,
        which is compared before anything of their size is allocated.

        Args:
            pretrained_model_name_or_path: Folder, repository ``"user/name"`` or shipped bank;
                ``subfolder="blstm3"`` picks a layer out of a bank.
            *args: Passed on.
            **kwargs: ``revision``, ``subfolder``, ``token``, ``cache_dir``, ``local_files_only``, ``force_download``;
                others (``dtype``, ``output_loading_info``, ...) are passed on.

        Returns:
            The probe in eval mode, or ``(probe, loading_info)`` if ``output_loading_info`` is true.

        Raises:
            BankError: If files are missing or broken, name code, or weights are missing, unexpected or of another
                shape.
            ConfigError: If ``trust_remote_code`` is asked for.
        """
        if kwargs.pop("trust_remote_code", None):
            raise ConfigError("probes never need trust_remote_code; leave it out")
        if pretrained_model_name_or_path is None:
            return super().from_pretrained(None, *args, **kwargs)
        where = {name: kwargs.pop(name, default) for name, default in _PLACE.items()}
        where["force"] = bool(kwargs.pop("force_download", False))
        if "torch_dtype" not in kwargs:
            # Weights may be stored in float16; a silent half-precision probe would be slow and inexact on a CPU.
            kwargs.setdefault("dtype", torch.float32)
        config = kwargs.pop("config", None)
        place = bank_place(pretrained_model_name_or_path, what=cls._noun, **where)
        config = read_checked(place, list(LAYER_FILES), lambda folder: cls._checked(folder, config, str(place)))
        want_info = kwargs.pop("output_loading_info", False)
        kwargs["use_safetensors"] = True
        try:
            probe, info = super().from_pretrained(
                place.folder, *args, config=config, output_loading_info=True, **kwargs
            )
        except (OSError, SafetensorError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise cls._refused(place, reason) from error
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            if info.get(kind):
                # transformers would fill the gap with random numbers and go on.
                names = sorted(key if isinstance(key, str) else str(key[0]) for key in info[kind])
                raise cls._refused(place, f"{kind.replace('_', ' ')} {', '.join(names)}")
        return (probe, info) if want_info else probe

    @classmethod
    def _refused(cls, place: object, found: str) -> BankError:
        return BankError(
            f"expected the complete weights of {cls._noun} in {place}, found {found}; save or download it again"
        )

    @classmethod
    def _checked(cls, folder: Path, config: Any, place: str) -> Any:
        """The configuration of a folder whose weights fit it."""
        file, kind = folder / "config.json", cls.config_class.model_type
        settings = read_json(file, BankError)
        refuse_code(settings, f"config.json of {place}", BankError)
        if settings.get("model_type") != kind:
            raise BankError(
                f"expected model_type {kind!r} in config.json of {place}, got "
                f"{str(settings.get('model_type'))[:40]!r}; load it with AutoModel, or with the class of that type"
            )
        try:
            config = config if isinstance(config, cls.config_class) else cls.config_class.from_dict(settings)
            with torch.device("meta"):
                model = cls(config)
        except (HfprobeError, TypeError, ValueError, AttributeError, LookupError, RuntimeError) as error:
            raise BankError(
                f"expected the settings of {cls._noun} in {file}, got: {line(str(error))}; do not use it"
            ) from error
        header = read_header(folder / "model.safetensors", BankError)
        expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        wrong = {
            "missing keys": expected.keys() - header.keys(),
            "unexpected keys": header.keys() - expected.keys(),
            "mismatched keys": {name for name in expected.keys() & header.keys() if header[name][1] != expected[name]},
            "keys that are no floating-point numbers": {
                n for n, (t, _) in header.items() if not t.startswith(("F", "BF"))
            },
        }
        for what, names in wrong.items():
            if names:
                more = f" and {len(names) - 8} more" if len(names) > 8 else ""
                raise cls._refused(place, f"{what} {', '.join(name[:80] for name in sorted(names)[:8])}{more}")
        return config

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str = "Upload probe",
        private: bool | None = None,
        revision: str | None = None,
        token: str | None = None,
        card: str | None = None,
    ) -> str:
        """Upload the probe, float32, with its card, in one commit.

        Args:
            repo_id: ``"user/name"``; created if it does not exist.
            commit_message: Message of the commit.
            private: Whether a new repository is private; True is refused for a public one that is there.
            revision: Branch; made if it does not exist.
            token: Access token; the stored one where None.
            card: Text of the model card (README.md); a short one is made from the configuration where None.

        Returns:
            Address of the commit.

        Raises:
            HubError: No token, no access, no connection, no such name or branch.
            ConfigError: Message or card cannot be used.
        """
        from hfprobe.hub.upload import push

        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "probe"
            with quiet_transformers():
                write_probe(self, folder, "float32")
            files: dict[str, Path | bytes] = {name: folder / name for name in LAYER_FILES}
            files["README.md"] = (card or probe_card(self, repo_id)).encode("utf-8")
            return push(repo_id, files, commit_message, private=private, revision=revision, token=token).url
