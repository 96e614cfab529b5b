"""Files of a repository on this machine, checked against what the Hub says of them."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable, Sequence
from glob import escape
from pathlib import Path
from typing import Any

from hfprobe.errors import HubError
from hfprobe.hub.client import call, check_repo_id, check_revision, check_token, explained, quiet_client
from hfprobe.hub.messages import explain, offline, status

Check = Callable[[dict[str, int]], None]
_HASH = re.compile(r"[0-9a-f]{40}")


class Snapshot:
    """Files of one commit of a repository in the local cache.

    Attributes:
        folder: Where they are.
        commit: Id of the commit; None where it is not known (offline).
    """

    def __init__(self, folder: Path, commit: str | None):
        self.folder, self.commit = folder, commit


def exactly(paths: Sequence[str]) -> list[str]:
    """Patterns that match these paths and nothing else."""
    return [escape(path) for path in paths]


def fetch(
    repo_id: str,
    revision: str | None = None,
    allow: Sequence[str] = (),
    ignore: Sequence[str] = (),
    *,
    check: Check | None = None,
    token: Any = None,
    cache_dir: str | Path | None = None,
    force: bool = False,
    local_files_only: bool = False,
) -> Snapshot:
    """Fetch files of a model repository, or find them in the cache.

    Answers that may pass (503, broken connections, truncated files) are asked for again; a file whose bytes are not
    those of which the Hub gives the checksum is fetched once more and then refused.

    Args:
        repo_id: ``"user/name"``.
        revision: Branch, tag or commit.
        allow: Patterns of the files that are wanted.
        ignore: Patterns of those that are not.
        check: Called with path and size of all files of the commit before any is fetched; raises to refuse.
        token: Access token; the stored one where None.
        cache_dir: Folder of the cache; the Hub's own where None.
        force: Fetch again what is there.
        local_files_only: Do not ask the Hub.

    Returns:
        The files.

    Raises:
        HubError: One sentence: no such repository or revision, no access, no connection, truncated, offline.
    """
    from huggingface_hub import HfApi, snapshot_download

    repo_id = check_repo_id(repo_id)
    check_revision(revision)
    check_token(token)
    common: dict[str, Any] = {
        "repo_id": repo_id,
        "allow_patterns": list(allow) or None,
        "ignore_patterns": list(ignore) or None,
    }
    common |= {"token": token, "cache_dir": cache_dir, "tqdm_class": _patient_bars()}
    with explained(repo_id, revision, token), quiet_client():
        if local_files_only or offline():
            return Snapshot(Path(snapshot_download(**common, revision=revision, local_files_only=True)), revision)
        api = HfApi(token=token)
        try:
            known_commit = revision if revision and _HASH.fullmatch(revision) else None
            commit: str = known_commit or call(lambda: _commit(api, repo_id, revision))
            entries = _listed(api, repo_id, commit)
        except Exception as error:
            if (status(error) or 500) < 500:
                raise
            return _cached(common, revision, error)
        for path in entries:
            parts = path.split("/")
            if ".." in parts or "" in parts or "\\" in path or any(ord(letter) < 32 for letter in path):
                raise HubError(f"repository {repo_id!r} lists a file {path!r}, which leads elsewhere; do not use it")
        if check is not None:
            check({path: item.size for path, item in entries.items()})
        known = {path for path in entries if not force and _in_cache(repo_id, path, commit, cache_dir)}
        # By the name that was asked for, so that the cache knows it when there is no network.
        folder = Path(call(lambda: snapshot_download(**common, revision=revision, force_download=force)))
        if _HASH.fullmatch(folder.name) and folder.name != commit:
            # The branch moved on between two requests: once more, and of one commit.
            return fetch(
                repo_id, folder.name, allow, ignore, check=check, token=token, cache_dir=cache_dir, force=force
            )
        wrong = [path for path in entries.keys() - known if not _as_listed(folder / path, entries[path])]
        if wrong:
            again = {**common, "allow_patterns": exactly(wrong), "ignore_patterns": None}
            folder = Path(call(lambda: snapshot_download(**again, revision=commit, force_download=True)))
            wrong = [path for path in wrong if not _as_listed(folder / path, entries[path])]
        for path in wrong:
            # The link and what it points to, or the cache would hand it out next time.
            (folder / path).resolve().unlink(missing_ok=True)
            (folder / path).unlink(missing_ok=True)
        if wrong:
            raise HubError(
                f"{', '.join(sorted(wrong)[:3])} of repository {repo_id!r} did not come as the Hub's checksum says, "
                "twice; truncated or changed on the way, try again later"
            )
        return Snapshot(folder, commit)


def _patient_bars() -> type:
    """The client's progress bar, not drawn within the first two seconds: most fetches are done by then."""
    from huggingface_hub.utils import tqdm

    class Bar(tqdm):
        def __init__(self, *arguments: Any, **options: Any):
            super().__init__(*arguments, **{**options, "delay": 2.0, "leave": False})

    return Bar


def _commit(api: Any, repo_id: str, revision: str | None) -> str:
    from huggingface_hub import constants

    return api.repo_info(repo_id, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT).sha


def _cached(common: dict, revision: str | None, error: Exception) -> Snapshot:
    """What the cache has of a repository that cannot be reached, with a warning; the error where it has nothing."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(**common, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        raise error from None
    reason = explain(error, common["repo_id"], revision, common["token"])
    warnings.showwarning(f"{reason}; using the copy in the cache", RuntimeWarning, __file__, 0)
    return Snapshot(folder, revision)


def _listed(api: Any, repo_id: str, commit: str) -> dict[str, Any]:
    """Path to what the Hub says of each file."""
    tree = api.list_repo_tree(repo_id, recursive=True, revision=commit)
    return {item.path: item for item in tree if hasattr(item, "size") and hasattr(item, "blob_id")}


def _in_cache(repo_id: str, path: str, commit: str, cache_dir: Any) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(repo_id, path, cache_dir=cache_dir, revision=commit), str)


def _as_listed(path: Path, entry: Any) -> bool:
    """Whether a fetched file has the size, and for large files the checksum, that the Hub lists."""
    if not path.is_file():
        return True  # not wanted
    lfs = getattr(entry, "lfs", None)
    size = lfs.size if lfs is not None else entry.size
    if size is not None and path.stat().st_size != size:
        return False
    if lfs is None or len(str(lfs.sha256)) != 64:
        return True
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == lfs.sha256
