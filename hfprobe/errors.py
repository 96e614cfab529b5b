"""Errors that hfprobe raises for bad input.

Every message is one line: what was expected, what came, what to do. The command line prints it and exits with status 1;
only a genuine bug shows a traceback.
"""

from __future__ import annotations

MOST = 2000  # characters of a message


class HfprobeError(ValueError):
    """Base of all errors that a user can cause and repair.

    Args:
        message: What was expected, what came, what to do. Texts of files and of other libraries' errors end up in it,
            so it is put on one line, control characters are written as escapes (a terminal would obey them), and a
            very long one loses its middle.

    Example:
        >>> str(HfprobeError("unknown layer '\\x1b[2J'\\nuse blstm1"))
        "unknown layer '\\\\x1b[2J' use blstm1"
    """

    def __init__(self, message: str = ""):
        super().__init__(_printable(message))


def _printable(message: str) -> str:
    """A message on one line, without control characters, of at most `MOST` characters."""
    if len(message) > MOST:
        # What came may be long; what was expected stands before it and what to do behind.
        message = f"{message[: MOST // 2 - 2]}...{message[-(MOST // 2 - 2) :]}"
    if not message.isprintable():
        message = " ".join(message.split())
        # Lone surrogates too: they cannot be encoded, and so not be printed.
        message = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in message)
    return message


class AudioError(HfprobeError):
    """An audio file or waveform cannot be used (missing, empty, silent, too short, not audio, NaN).

    Attributes:
        reason: Short category under which such files are counted: ``"missing"``, ``"empty"``, ``"cut off"``,
            ``"nan"``, ``"too short"``, ``"silent"``, or ``"unreadable"`` for all else.
    """

    def __init__(self, message: str, reason: str = "unreadable"):
        super().__init__(message)
        self.reason = reason

    def __reduce__(self):
        return type(self), (str(self), self.reason)


class MeasureError(HfprobeError):
    """A measure cannot be computed on this input; counted as a failure, never scored 0.

    Attributes:
        reason: Short category under which failures are counted, e.g. ``"silent"``.
    """

    def __init__(self, message: str, reason: str = "failed"):
        super().__init__(message)
        self.reason = reason

    def __reduce__(self):
        # The default would drop `reason` when the error crosses a process boundary.
        return type(self), (str(self), self.reason)


class EncoderError(HfprobeError):
    """An encoder is unknown or its files do not match its configuration."""


class LayerError(HfprobeError):
    """A layer name does not exist in this encoder or bank."""


class BankError(HfprobeError):
    """A probe bank is broken or belongs to another encoder."""


class HubError(HfprobeError):
    """A repository cannot be read or written: not there, not allowed, not reachable, or not safe to use."""


class DatasetError(HfprobeError):
    """A dataset name or folder cannot be read."""


class ConfigError(HfprobeError):
    """Options contradict one another or are out of range."""
