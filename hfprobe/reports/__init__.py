"""Reports: the page one can listen to, the figures and the tables. They read result objects, never a model.

`model` says what a page shows, `kept` holds the sounds of a run on disk, `runs` reads runs, `page` writes the one page
of ``hfprobe report``, ``listen`` and ``demo``; `figures` and `tables` draw the numbers, `encode` turns sound and
mel-spectrograms into files. Plotting and templating are imported when a page is written, not by this package.
"""

from hfprobe.reports.model import Clip, ConditionView, Measurement, ReportError, UtteranceView, measurements

__all__ = [
    "Clip",
    "ConditionView",
    "Measurement",
    "ReportError",
    "UtteranceView",
    "measurements",
    "run_of",
    "write_page",
]


def __getattr__(name: str):
    """Import `write_page` and `run_of` on first use, so that importing this package stays light."""
    if name == "write_page":
        from hfprobe.reports.page import write_page

        return write_page
    if name == "run_of":
        from hfprobe.reports.runs import run_of

        return run_of
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
