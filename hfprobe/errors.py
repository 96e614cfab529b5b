"""Errors that hfprobe raises for bad input.

Every message is one line: what was expected, what came, what to do. The command line prints it and exits with status 1;
only a genuine bug shows a traceback.
"""

from __future__ import annotations


class HfprobeError(ValueError):
    """Base of all errors that a user can cause and repair."""


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
