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

    def __init__(self, source: str | Path, revision: str | None = None, subfolder: str | None = None, **options: Any):
        parts = check_subfolder(subfolder)
        self.source, self.prefix = str(source), "".join(f"{part}/" for part in parts)
        self.remote = not Path(source).expanduser().is_dir()
        self.folder = Path(source).expanduser().joinpath(*parts)
        self._root, self._revision, self._options = Path(source).expanduser(), revision, options
        self._fetched: set[str] = set()

    def __str__(self) -> str:
        return f"{self.source}/{self.prefix}".rstrip("/")

    def get(self, *names: str, force: bool = False) -> Path:
        """Make sure that files are here.

        Args:
            *names: Paths below ``folder``.
            force: Fetch them again; nothing to do for a folder.

        Returns:
            Path of the first; a file that a folder lacks is not an error yet.

        Raises:
            HubError: A file is not in the repository, is too large, is a link to somewhere else, or cannot be fetched.
        """
        if not self.remote:
            for name in names:
                check_inside(self.folder / name, self._root)
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

    def _check(self, wanted: Iterable[str], files: dict[str, int]) -> None:
        for path in wanted:
            if path not in files:
                raise HubError(_missing(path, files, self.source))
            limit = LIMITS.get(PurePosixPath(path).suffix, JSON_LIMIT)
            if (files[path] or 0) > limit:
                raise HubError(
                    f"expected at most {limit:,} bytes in {path} of repository {self.source!r}, got {files[path]:,}; "
                    "do not use this repository"
                )


def _missing(path: str, files: dict[str, int], source: str) -> str:
    folder, _, name = path.rpartition("/")
    beside = sorted(file for file in files if file.rpartition("/")[0] == folder)
    pickles = [file for file in beside if file.endswith(PICKLES)]
    if name.endswith(".safetensors") and pickles:
        return (
            f"expected {path} in repository {source!r}, found the pickle {pickles[0]} instead, which could run code; "
            "hfprobe reads safetensors only: ask its owner for them"
        )
    found = ", ".join(beside[:8]) or "nothing" if folder else ", ".join(sorted(files)[:8]) or "nothing"
    return f"expected {path} in repository {source!r}, found there: {found}; check name, revision and subfolder"
