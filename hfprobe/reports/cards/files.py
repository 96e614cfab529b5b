"""Result files for cards, and the card's figure."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from hfprobe.errors import HfprobeError
from hfprobe.plain import read_json
from hfprobe.reports.cards.measured import gather
from hfprobe.reports.model import ReportError
from hfprobe.results import Results

_KEYS = {"rows", "environment", "config"}


def load_results(paths: Iterable[str | Path]) -> list[Results]:
    """Read result files.

    Args:
        paths: Files, or folders in which all result files are read, at any depth, in the order of their names; JSON
            files of another kind in a folder are passed over.

    Returns:
        The results in order.

    Raises:
        ReportError: A path is missing, or a folder holds no result file.
        ResultsError: A file is broken.
    """
    found = []
    for path in map(Path, paths):
        if path.is_dir():
            here = [Results.from_json(file) for file in sorted(path.rglob("*.json")) if _is_results(file)]
            if not here:
                raise ReportError(f"no result file below {str(path)!r}; give the results.json of `hfprobe evaluate`")
            found += here
        elif path.is_file():
            found.append(Results.from_json(path))
        else:
            raise ReportError(f"{str(path)!r} does not exist; give a results.json of `hfprobe evaluate`, or its folder")
    return found


def _is_results(path: Path) -> bool:
    try:
        content = read_json(path)
    except HfprobeError:
        return False
    return isinstance(content, dict) and _KEYS <= set(content)


def check_encoder(results: Sequence[Results], encoder: str) -> None:
    """Make sure that result files say something of an encoder.

    Raises:
        ReportError: They do not; the message names the encoders they hold.
    """
    measured = gather(results, encoder)
    if results and not (measured.sounds or measured.twins or measured.recognition or measured.others):
        names = dict.fromkeys(row.encoder for run in results for row in run.rows if row.encoder not in ("", "-"))
        raise ReportError(
            f"the results hold nothing of encoder {encoder!r} but of {', '.join(names) or 'none'}; give its own run's"
        )


def card_picture(results: Sequence[Results], encoder: str) -> bytes | None:
    """The figure of a card: one measure by layer under all conditions, with intervals, ceiling and floors.

    Args:
        results: Result files.
        encoder: Name of the encoder in their rows.

    Returns:
        A PNG file; None where no layer was measured.
    """
    from hfprobe.reports.cards.render import picture_metric
    from hfprobe.reports.figures import layer_curves
    from hfprobe.reports.panels import drawing

    measured = gather(results, encoder)
    metric = picture_metric(measured)
    rows = [row for row in (*measured.sounds, *measured.twins) if row.metric == metric]
    if not measured.sounds:
        return None
    figure, buffer = layer_curves(rows, metric), io.BytesIO()
    with drawing():
        figure.savefig(buffer, format="png", dpi=100, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()
