"""The Hub's client with time-outs and without its own noise, and what is tried again."""

from __future__ import annotations

import logging
import re
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from hfprobe.errors import HfprobeError, HubError
from hfprobe.hub.messages import chain, explain, kinds, scrub, status
from hfprobe.network import Retry, passes

T = TypeVar("T")
RETRY = Retry(tries=4, first=1.0, longest=8.0)
LONGEST_RETRY_AFTER = 60.0  # seconds; a server that wants more is told of instead
UPLOAD_SECONDS = 60.0  # without a byte in either direction
_REVISION = re.compile(r"(?!.*(\.\.|//|@\{|\.lock$))[A-Za-z0-9_][\w./+-]{0,199}(?<![./])", re.ASCII)
_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)


def check_repo_id(repo_id: object) -> str:
    """Refuse what cannot be the name of a repository.

    Example:
        >>> check_repo_id("user/bank")
        'user/bank'
        >>> check_repo_id("bank")
        Traceback (most recent call last):
        ...
        hfprobe.errors.HubError: expected a repository user/name of letters, digits, '-', '_' and '.', got 'bank'; ...
    """
    text = str(repo_id)
    if not _REPO_ID.fullmatch(text) or ".." in text or "--" in text:
        raise HubError(
            f"expected a repository user/name of letters, digits, '-', '_' and '.', got {scrub(text)!r}; correct it"
        )
    return text


def check_revision(revision: str | None) -> None:
    """Refuse what cannot be a branch, tag or commit; the cache makes a path of it.

    Example:
        >>> check_revision("refs/pr/1")
        >>> check_revision("../main")
        Traceback (most recent call last):
        ...
        hfprobe.errors.HubError: expected a branch, tag or commit, got '../main'; correct the revision
    """
    if revision is not None and not _REVISION.fullmatch(revision):
        raise HubError(f"expected a branch, tag or commit, got {scrub(str(revision))[:80]!r}; correct the revision")


def check_token(token: object) -> None:
    """Refuse a token that cannot be sent: the client's own message would show it.

    Example:
        >>> check_token("hf_two\\nlines")
        Traceback (most recent call last):
        ...
        hfprobe.errors.HubError: expected an access token of printable letters without spaces, got something else; ...
    """
    if isinstance(token, str) and not (token.isascii() and token.isprintable() and " " not in token and token):
        raise HubError(
            "expected an access token of printable letters without spaces, got something else; copy it again from the "
            "Hub's settings (`hf auth login` or HF_TOKEN)"
        )


_patience: float | None = None  # seconds; what the hook below gives to requests, None for as they are


def _be_patient(request: Any) -> None:
    """Give a request our time-out where it has none or a longer one: most of the client's calls wait for ever."""
    if _patience is not None:
        given = request.extensions.get("timeout") or {}
        limits = {part: min(given.get(part) or _patience, _patience) for part in ("connect", "read", "write", "pool")}
        request.extensions = {**request.extensions, "timeout": limits}


def _hooked(client: Any) -> Any:
    hooks = client.event_hooks
    if _be_patient not in hooks.get("request", []):
        client.event_hooks = {**hooks, "request": [*hooks.get("request", []), _be_patient]}
    return client


def _hook_clients() -> None:
    """Hook the client's connection, and those that it opens after an error."""
    from huggingface_hub import get_session, set_client_factory
    from huggingface_hub.utils import _http

    make: Any = getattr(_http, "_GLOBAL_CLIENT_FACTORY", None)
    default: Any = getattr(_http, "default_client_factory", None)
    if make is not None and make is default:
        set_client_factory(lambda: _hooked(make()))
    _hooked(get_session())


@contextmanager
def quiet_client(seconds: float | None = None) -> Iterator[None]:
    """Keep the client from waiting for ever, and from logging what `explain` says in one line.

    Args:
        seconds: Longest wait for the next bytes; HF_HUB_DOWNLOAD_TIMEOUT (10 s) where None.
    """
    global _patience
    from huggingface_hub import constants

    _hook_clients()
    logger, before = logging.getLogger("huggingface_hub"), _patience
    level = logger.level
    _patience = seconds if seconds is not None else float(constants.HF_HUB_DOWNLOAD_TIMEOUT)
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        _patience = before
        logger.setLevel(level)


def _wait(error: BaseException, planned: float) -> float:
    """Seconds to wait after an error: as planned, or as long as the server asks for."""
    for inner in chain(error):
        headers = getattr(getattr(inner, "response", None), "headers", None) or {}
        try:
            planned = max(planned, float(headers.get("Retry-After", 0)))
        except ValueError:
            pass  # a date; the plan stands
    return planned


def may_pass(error: BaseException) -> bool:
    """Whether it is worth asking again: not where the client itself asked several times, or waited its time."""
    names = kinds(error)
    if names & {"TimeoutException", "TimeoutError"}:
        return False
    if "LocalEntryNotFoundError" in names and status(error) is not None:
        return False  # a file's headers, which the client asks for six times
    cut = any("Consistency check failed" in str(inner) for inner in chain(error))
    return passes(error) or cut or "JSONDecodeError" in names


def call(action: Callable[[], T], retry: Retry | None = None) -> T:
    """Call, and again after a pause where the network or the server failed in a way that may pass.

    What the client has itself asked for several times in vain, because nothing came, is not asked for again.

    Args:
        action: What to do; repeatable.
        retry: How often, and how long to wait, `RETRY` where None; longer where the server's ``Retry-After`` says so,
            up to `LONGEST_RETRY_AFTER`.

    Returns:
        What ``action`` returns.
    """
    for planned in (retry or RETRY).waits():
        try:
            return action()
        except Exception as error:
            wait = _wait(error, planned)
            if not may_pass(error) or wait > LONGEST_RETRY_AFTER:
                raise
        time.sleep(wait)
    return action()


@contextmanager
def explained(
    repo_id: str, revision: str | None = None, token: Any = None, error: type[Exception] = HubError
) -> Iterator[None]:
    """Turn whatever the client raises into one sentence without tokens.

    The client's own error stays attached (``--debug`` shows it) unless it, or one that it came from, holds a secret.

    Raises:
        HubError: As said; hfprobe's own errors from inside pass as they are.
    """
    try:
        yield
    except HfprobeError:
        raise
    except Exception as problem:
        told = error(explain(problem, repo_id, revision, token))
        # Messages with several lines are the client's; a secret in any of them would be in the traceback.
        shown = [str(inner) for inner in chain(problem)] + [repr(inner) for inner in chain(problem)]
        safe = all(scrub(text, token) == text for text in shown)
        raise told from (problem if safe else None)
