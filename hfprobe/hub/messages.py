"""What an error of the Hub's client means, in one sentence that never holds a token."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from hfprobe.network import short

_TOKEN = re.compile(r"(?:hf|api_org)_[A-Za-z0-9_]{4,}|(?i:(?<=bearer )|(?<=bearer%20))[^\s'\"]+")
# Addresses of uploads are signed: whoever reads one may write.
_SIGNED = re.compile(r"(https?://[^\s?'\"]+)\?[^\s'\"]+")


def scrub(text: str, token: object = None) -> str:
    """Text without access tokens and without the signatures of addresses.

    Args:
        text: Any text.
        token: A token that may be in it, besides those that look like one and that of the environment.

    Example:
        >>> scrub("Illegal header value b'Bearer abc' at https://x.org/put?signature=1")
        "Illegal header value b'Bearer ***' at https://x.org/put?***"
    """
    for secret in (token, os.environ.get("HF_TOKEN"), os.environ.get("HUGGING_FACE_HUB_TOKEN")):
        for part in str(secret).split() if isinstance(secret, str) else ():
            if len(part) > 3:
                text = text.replace(part, "***")
    return _SIGNED.sub(r"\1?***", _TOKEN.sub("***", text))


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it was raised from."""
    seen: list[BaseException] = []
    inner: BaseException | None = error
    while inner is not None and inner not in seen:
        seen.append(inner)
        yield inner
        inner = inner.__cause__ or (None if inner.__suppress_context__ else inner.__context__)


def kinds(error: BaseException) -> set[str]:
    """Names of the classes of an error and of those that it was raised from."""
    return {kind.__name__ for inner in chain(error) for kind in type(inner).__mro__}


def status(error: BaseException) -> int | None:
    """Status of the answer that an error tells of, if the server did answer."""
    for inner in chain(error):
        code = getattr(getattr(inner, "response", None), "status_code", None)
        if isinstance(code, int):
            return code
    return None


def offline() -> bool:
    """Whether the Hub's client was told to stay offline."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def explain(error: BaseException, repo_id: str, revision: str | None = None, token: object = None) -> str:
    """What went wrong with a repository and what to do, as one sentence.

    Args:
        error: What the client raised.
        repo_id: The repository.
        revision: Branch, tag or commit that was asked for.
        token: Token that was used, to keep it out of the text.

    Returns:
        One line without tokens.
    """
    from huggingface_hub import constants

    names, code = kinds(error), status(error)
    server = scrub(constants.ENDPOINT, token)
    what = f"repository {repo_id!r}"
    if "OfflineModeIsEnabled" in names or (offline() and "LocalEntryNotFoundError" in names):
        text = f"{what} is not, or not wholly, in the cache and HF_HUB_OFFLINE is set; unset it or fetch it once online"
        missing = re.search(r"\d+ file\(s\) are missing \([^)]*\)", str(error))
        return f"{text} ({missing[0]})" if missing else text
    if "GatedRepoError" in names:
        return f"{what} is gated; ask for access on its page and log in (`hf auth login` or HF_TOKEN)"
    if "RevisionNotFoundError" in names:
        return f"{what} has no revision {revision!r}; check the branch, tag or commit"
    if "RepositoryNotFoundError" in names:
        return (
            f"there is no {what} at {server}, or it is private; check the name or log in with a token that may see it"
        )
    if "RemoteEntryNotFoundError" in names:
        return f"{what} lacks a file that is needed; check that it holds what you are looking for"
    if code == 401:
        return f"{server} did not accept the access token for {what}; log in again (`hf auth login` or HF_TOKEN)"
    if code == 403:
        return f"the access token does not allow this with {what}; use one with write access to that name"
    if code == 412:
        return f"somebody else changed {what} meanwhile; look at it and push again"
    if code == 413 or code == 507:
        return f"{server} has no room for this in {what} (status {code}); push less, or make room"
    if code is not None and code >= 400:
        said = scrub(str(getattr(error, "server_message", None) or ""), token)
        said = f" ({short(ValueError(said))})" if said else ""
        later = "; try again later" if code in (408, 429) or code >= 500 else ""
        return f"{server} answered with status {code}{said} for {what}{later}"
    if names & {"TimeoutException", "TimeoutError"}:
        seconds = constants.HF_HUB_DOWNLOAD_TIMEOUT
        return (
            f"{server} did not answer within {seconds} s for {what} (a time-out; HF_HUB_DOWNLOAD_TIMEOUT sets the "
            "seconds); try again later"
        )
    if names & {"ConnectError", "ProxyError"}:
        return f"cannot connect to {server} for {what}; check the network and HF_ENDPOINT, or give a folder"
    if names & {"TransportError", "ConnectionError"}:
        return f"the connection to {server} broke off for {what}; try again, what came is kept"
    if "JSONDecodeError" in names:
        return f"{server} gave an answer that is not the Hub's for {what}; check HF_ENDPOINT, or try again later"
    if any("Consistency check failed" in str(inner) for inner in chain(error)):
        return f"a file of {what} came truncated from {server}; try again later"
    reason = next((short(inner) for inner in chain(error) if str(inner).strip()), type(error).__name__)
    return f"cannot use {what} at {server}: {scrub(reason, token)}"
