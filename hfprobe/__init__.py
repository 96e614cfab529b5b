"""hfprobe: hear, and measure, what every layer of a speech recogniser still carries.

Contents, from the bottom up (each package imports only from those above it):

- :mod:`hfprobe.errors`: errors that a user can cause and repair; all are ``ValueError`` s.
- :mod:`hfprobe.files`: files that are whole or not there.
- :mod:`hfprobe.hub`: fetching from the Hugging Face Hub with checks, pushing in one commit.
- :mod:`hfprobe.audio`: reading, mixing, log-mel spectrograms and the way back to sound.
- :mod:`hfprobe.metrics`: verification, recognition and quality measures with bootstrap intervals.
- :mod:`hfprobe.similarity`: CCA, SVCCA, PWCCA, CKA and RSA, in memory or from a stream in one pass.
- :mod:`hfprobe.results`: one row per measured number, with what it was made with.
- :mod:`hfprobe.encoders`: speech encoders with named layers; :class:`AutoSpeechEncoder` opens them.
- :mod:`hfprobe.testing`: the contract of an encoder as checks that anyone can run on their own.
- :mod:`hfprobe.speakers`: speaker encoders, for speaker verification.
- :mod:`hfprobe.data`: corpora, noise and resumable batches of speech.
- :mod:`hfprobe.probes`: one probe per layer; :class:`HighwayProbe`, :class:`HighwayProbeConfig`, :class:`ProbeBank`.
- :mod:`hfprobe.asr`: training of recognisers with ESPnet's trainer.
- :mod:`hfprobe.analysis`: what is left of speaker and words in each layer; :func:`listen` in one line.
- :mod:`hfprobe.reports`: tables, figures and the page with sound.
- :mod:`hfprobe.cli`: the ``hfprobe`` command.

``import hfprobe`` itself loads none of them: the names below are fetched when they are first used.

Example:
    >>> import hfprobe
    >>> hfprobe.ProbeBank.__module__
    'hfprobe.probes.bank'
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hfprobe.analysis.listen import listen
    from hfprobe.encoders import AutoSpeechEncoder
    from hfprobe.probes import HighwayProbe, HighwayProbeConfig, ProbeBank

__version__ = "0.1.0"

__all__ = ["AutoSpeechEncoder", "HighwayProbe", "HighwayProbeConfig", "ProbeBank", "__version__", "listen"]

_LAZY = {
    "AutoSpeechEncoder": "hfprobe.encoders",
    "HighwayProbe": "hfprobe.probes",
    "HighwayProbeConfig": "hfprobe.probes",
    "ProbeBank": "hfprobe.probes",
    "listen": "hfprobe.analysis.listen",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name == "similarity":
        return importlib.import_module("hfprobe.similarity")
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
