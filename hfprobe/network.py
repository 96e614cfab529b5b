"""Asking again when the network fails: which errors pass, how long to wait, and when to give up.

`huggingface_hub` and `datasets` ask again by themselves while they read a file (about half a minute). What stands here
is for what is left: opening a dataset or a model, and outages that last longer.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from hfprobe.plain import line

logger = logging.getLogger(__name__)
T = TypeVar("T")

PASSING_STATUS = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Retry:
    """How often to ask, and how long to wait in between; each wait is twice the last one.

    Attributes:
        tries: Calls in all, the first included.
        first: Seconds before the second call.
        longest: No wait is longer than so many seconds.

    Example:
        >>> list(Retry(tries=5, first=1.0, longest=5.0).waits())
        [1.0, 2.0, 4.0, 5.0]
    """

    tries: int = 3
    first: float = 1.0
    longest: float = 30.0

    def waits(self) -> Iterator[float]:
        """Seconds to wait after each failed call but the last."""
        return (min(self.longest, self.first * 2**n) for n in range(self.tries - 1))


OPENING = Retry()  # whoever mistyped a name or has no network should not wait for long
READING = Retry(tries=6, first=2.0, longest=60.0)  # a training that runs for hours can wait two minutes


def passes(error: BaseException) -> bool:
    """Whether an error is one of the network that may pass: no answer, a broken connection, an overloaded server.

    An error that was raised from such an error counts, except where the server did answer (no such file, no access) or
    the libraries were told to stay offline.

    Example:
        >>> passes(ConnectionResetError()), passes(TimeoutError()), passes(FileNotFoundError("a.wav"))
        (True, True, False)
    """
    if any(type(one).__name__ == "OfflineModeIsEnabled" for one in _causes(error)):
        return False
    status = status_of(error)
    if status is not None:
        return status in PASSING_STATUS
    return any(_is_of_the_network(one) for one in _causes(error))


def status_of(error: BaseException) -> int | None:
    """What the server answered, where an error comes from its answer."""
    for one in _causes(error):
        status = getattr(getattr(one, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
    return None


def _causes(error: BaseException) -> list[BaseException]:
    """An error, the one that it was raised from, and so on."""
    found: list[BaseException] = []
    inner: BaseException | None = error
    while inner is not None and not any(inner is one for one in found):
        found.append(inner)
        inner = inner.__cause__ or (None if inner.__suppress_context__ else inner.__context__)
    return found


def _is_of_the_network(error: BaseException) -> bool:
    # By name: the clients (httpx, httpx2, aiohttp, requests) need not be installed, let alone imported.
    kinds = {f"{kind.__module__.split('.')[0]}.{kind.__name__}" for kind in type(error).__mro__}
    return isinstance(error, (ConnectionError, TimeoutError)) or bool(kinds & _CLIENT_ERRORS)


_CLIENT_ERRORS = {
    "httpx.TransportError", "httpx2.TransportError", "aiohttp.ClientError", "requests.ConnectionError",
    "requests.Timeout", "urllib3.HTTPError",
}  # fmt: skip


def short(error: BaseException) -> str:
    """The first line of an error, printable, for a message of one line.

    Example:
        >>> short(OSError("no route\\nto host")), short(TimeoutError())
        ('no route', 'TimeoutError')
    """
    lines = str(error).strip().splitlines()
    return line(lines[0]) if lines else type(error).__name__


def call(
    action: Callable[[], T], what: str, retry: Retry = OPENING, sleep: Callable[[float], object] = time.sleep
) -> T:
    """Call ``action``, and again after a pause where the network failed.

    Args:
        action: What to do; has to be repeatable.
        what: What it is, for the log, e.g. ``"opening user/name"``.
        retry: How often, and how long to wait.
        sleep: Waits so many seconds.

    Returns:
        What ``action`` returns.

    Raises:
        BaseException: Whatever ``action`` raises that does not `passes`, or raises at the last try.

    Example:
        >>> answers = iter([ConnectionError("gone"), "here"])
        >>> def ask():
        ...     answer = next(answers)
        ...     if isinstance(answer, Exception):
        ...         raise answer
        ...     return answer
        >>> call(ask, "asking", sleep=lambda seconds: None)
        'here'
    """
    for wait in retry.waits():
        try:
            return action()
        except Exception as error:
            if not passes(error):
                raise
            logger.warning("%s failed (%s); trying again in %g s", what, short(error), wait)
        sleep(wait)
    return action()
