"""Files of somebody's model, whether they lie in a folder or in a repository on the Hub."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from hfprobe.errors import HubError
from hfprobe.hub.download import exactly, fetch
from hfprobe.hub.safety import JSON_LIMIT, PICKLES, WEIGHTS_LIMIT, check_inside, check_subfolder

# Of these a repository may hold much else; only what is asked for by name is fetched.
LIMITS = {".json": JSON_LIMIT, ".safetensors": WEIGHTS_LIMIT}


class Place:
    """A folder, or a folder in a repository whose files are fetched when they are asked for.

    Args:
        source: Folder, or repository ``"user/name"`` where there is no such folder.
        revision: Branch, tag or commit of the repository.
        subfolder: Folder inside it.
        what: What is expected there, for messages.
        **options: Of `hfprobe.hub.download.fetch`: ``token``, ``cache_dir``, ``force``, ``local_files_only``.

    Attributes:
        folder: Where the files are, ``subfolder`` included; of a repository known after the first `get`.
        remote: Whether it is a repository.

    Raises:
        HubError: The subfolder leads out of it, or the name can be neither a folder's nor a repository's.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "config.json").write_text("{}")
        >>> Place(folder).get("config.json").name
        'config.json'
    """

    def __init__(
        self,
        source: str | Path,
        revision: str | None = None,
        subfolder: str | None = None,
        what: str = "a model",
        **options: Any,
    ):
        parts = check_subfolder(subfolder)
        self.source, self.prefix = str(source), "".join(f"{part}/" for part in parts)
        self.remote = not Path(source).expanduser().is_dir()
        self.folder = Path(source).expanduser().joinpath(*parts)
        self._root, self._revision, self._options = Path(source).expanduser(), revision, options
        self._what = what
        self._fetched: set[str] = set()
        self._listed: set[str] = set()

    def __str__(self) -> str:
        return f"{self.source}/{self.prefix}".rstrip("/")

    def get(self, *names: str, force: bool = False) -> Path:
        """Make sure that files are here.

        Args:
            *names: Paths below ``folder``.
            force: Fetch them again; nothing to do for a folder.

        Returns:
            Path of the first.

        Raises:
            HubError: A file is not there, is too large, is a link to somewhere else, or cannot be fetched.
        """
        if not self.remote:
            for name in names:
                if not check_inside(self.folder / name, self._root).is_file():
                    folder = (self.folder / name).parent
                    beside = [item.name for item in folder.iterdir()] if folder.is_dir() else []
                    raise HubError(_missing(name, beside, f"{self._what} in folder {self}", "check the path"))
            return self.folder / names[0]
        wanted = [self.prefix + name for name in names]
        if force or not self._fetched.issuperset(wanted):
            options = {**self._options, "force": force or self._options.get("force", False)}
            snapshot = fetch(
                self.source, self._revision, exactly(wanted), check=lambda files: self._check(wanted, files), **options
            )
            # All further files come from the same commit, even if the branch moves on meanwhile.
            self._revision = snapshot.commit or self._revision
            self._root, self.folder = snapshot.folder, snapshot.folder / PurePosixPath(self.prefix)
            self._fetched.update(wanted)
        return self.folder / names[0]

    def has(self, name: str) -> bool:
        """Whether there is such a file; of a repository known after the first `get`."""
        return self.prefix + name in self._listed or (self.folder / name).is_file()

    def below(self, subfolder: str) -> Place:
        """A folder below this one, of the same commit."""
        return Place(self.source, self._revision, self.prefix + subfolder, self._what, **self._options)

    def _check(self, wanted: Iterable[str], files: dict[str, int]) -> None:
        self._listed = set(files)
        place = f"repository {self.source!r}"
        for path in wanted:
            if path not in files:
                folder = path.rpartition("/")[0]
                beside = [file.rpartition("/")[2] for file in files if file.rpartition("/")[0] == folder]
                raise HubError(_missing(path, beside, f"{self._what} in {place}", "check name, revision and subfolder"))
            limit = LIMITS.get(PurePosixPath(path).suffix, JSON_LIMIT)
            if (files[path] or 0) > limit:
                raise HubError(
                    f"expected at most {limit:,} bytes in {path} of {place}, got {files[path]:,}; do not use it"
                )


def _missing(path: str, beside: list[str], place: str, advice: str) -> str:
    """Message for a file that is not there, with what lies where it should be."""
    pickles = [file for file in sorted(beside) if file.endswith(PICKLES)]
    if path.endswith(".safetensors") and pickles:
        return (
            f"expected {path} of {place}, found no such file but the pickle {pickles[0]}, which could run code; "
            "hfprobe reads safetensors only: ask its owner for them"
        )
    found = ", ".join(sorted(beside)[:8])
    return f"expected {path} of {place}, found no such file{f' beside {found}' if found else ''}; {advice}"
