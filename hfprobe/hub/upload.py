"""Files to a repository, all in one commit: readers see the old state or the new one.

Large files go up first, each by itself, and are seen by nobody until the commit names them. If the network fails
between them, the next try uploads only what the Hub does not have yet.
"""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hfprobe.errors import ConfigError, HubError
from hfprobe.hub.client import (
    RETRY,
    UPLOAD_SECONDS,
    call,
    check_repo_id,
    check_revision,
    check_token,
    explained,
    may_pass,
    quiet_client,
)
from hfprobe.hub.messages import offline, status
from hfprobe.progress import progress_bar


@dataclass(frozen=True)
class Pushed:
    """What a push did.

    Attributes:
        url: Address of the commit.
        commit: Its id.
        repo_id: The repository.
    """

    url: str
    commit: str
    repo_id: str


def check_metadata(card: str) -> None:
    """Make sure that the Hub's client can read a card's metadata, if it has any, without asking the Hub.

    Raises:
        ConfigError: The block between the first two lines of dashes is broken.
    """
    from huggingface_hub import ModelCard

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if card.startswith("---") and not ModelCard(card).data.to_dict():
                raise ValueError("nothing between two lines of dashes")
    except Exception as error:  # YAML's errors, or a model-index that is none
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"expected readable metadata in the card (README.md), got: {reason}; correct it") from error


def push(
    repo_id: str,
    files: dict[str, Path | bytes],
    commit_message: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    token: Any = None,
    replaces: Callable[[Collection[str]], Iterable[str]] = lambda there: (),
) -> Pushed:
    """Make one commit of some files; repository and branch are made where they are missing.

    Args:
        repo_id: ``"user/name"``.
        files: Path in the repository to a file or its content.
        commit_message: First line of the commit.
        private: Whether a new repository is private; True is refused for one that is there and public.
        revision: Branch; ``main`` where None.
        token: Access token; the stored one where None.
        replaces: Called with the paths that are there; those that it returns are deleted in the same commit.

    Returns:
        Where the commit is.

    Raises:
        HubError: One sentence: no token, no access, no connection, refused.
        ConfigError: Message or card cannot be used, or a private push would become public.
    """
    from huggingface_hub import HfApi, get_token

    repo_id = check_repo_id(repo_id)
    check_revision(revision)
    check_token(token)
    if not commit_message.strip():
        raise ConfigError("expected a commit message, got an empty one; say what is pushed")
    card = files.get("README.md")
    if card is not None:
        check_metadata(card.decode("utf-8") if isinstance(card, bytes) else card.read_text(encoding="utf-8"))
    if offline():
        raise HubError(f"cannot push to {repo_id!r}: HF_HUB_OFFLINE is set; unset it")
    if not token and not get_token():
        raise HubError(
            f"cannot push to {repo_id!r} without an access token; log in with `hf auth login` or set HF_TOKEN"
        )
    api, branch = HfApi(token=token), revision or "main"
    with explained(repo_id, revision, token), quiet_client(UPLOAD_SECONDS):
        call(lambda: api.create_repo(repo_id, private=private, exist_ok=True))
        if private and call(lambda: api.repo_info(repo_id, timeout=UPLOAD_SECONDS)).private is False:
            raise ConfigError(
                f"repository {repo_id!r} is there already and public; make it private on its page, or leave out private"
            )
        if branch != "main":
            call(lambda: api.create_branch(repo_id, branch=branch, exist_ok=True))
        commit = _commit(api, repo_id, branch, files, replaces, commit_message)
    return Pushed(str(commit.commit_url), commit.oid, repo_id)


def _commit(
    api: Any, repo_id: str, branch: str, files: dict[str, Path | bytes], replaces: Callable, message: str
) -> Any:
    """Upload and commit, on top of what is there now; again if that failed in a way that may pass.

    Begun again, it finds what it did already: the client leaves out what is there, even if the answer was lost.
    """
    from huggingface_hub import CommitOperationDelete

    waits = [*RETRY.waits(), None]
    for wait in waits:
        head, there = call(lambda: _head(api, repo_id, branch))
        operations = _uploaded(api, repo_id, branch, files)
        stale = [CommitOperationDelete(path) for path in replaces(there) if path in there and path not in files]
        try:
            return api.create_commit(
                repo_id, [*operations, *stale], commit_message=message, revision=branch, parent_commit=head
            )
        except Exception as error:
            # 412: somebody else's commit came in between, and files that were left out may be others now.
            if wait is None or not (status(error) == 412 or may_pass(error)):
                raise
        time.sleep(wait)
    raise AssertionError("unreachable")


def _head(api: Any, repo_id: str, branch: str) -> tuple[str | None, list[str]]:
    """Commit at the head of a branch, and the paths in it."""
    from huggingface_hub.errors import RevisionNotFoundError

    try:
        info = api.repo_info(repo_id, revision=branch, timeout=UPLOAD_SECONDS)
    except RevisionNotFoundError:
        return None, []  # nothing was ever committed
    commit = info.sha if re.fullmatch(r"[0-9a-f]{40}", str(info.sha)) else None
    return commit, [item.rfilename for item in info.siblings or []]


def _uploaded(api: Any, repo_id: str, branch: str, files: dict[str, Path | bytes]) -> list:
    """Operations for a commit whose large files are on the Hub already."""
    from huggingface_hub import CommitOperationAdd
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    noisy = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        operations = []
        for path, content in progress_bar(files.items(), "uploading", "file"):
            operation = CommitOperationAdd(path, content if isinstance(content, bytes) else str(content))
            # The client asks again by itself, up to half a minute.
            api.preupload_lfs_files(repo_id, [operation], revision=branch, free_memory=False)
            operations.append(operation)
        return operations
    finally:
        if noisy:
            enable_progress_bars()
