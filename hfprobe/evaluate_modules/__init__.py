"""hfprobe's measures for the ``evaluate`` library: a folder per measure, loaded by path, or by Hub id once pushed.

``evaluate`` copies a module's script to its cache and imports it there, so the scripts import nothing beside themselves
but installed packages; what they share is in this package.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hfprobe.errors import ConfigError

NAMES = ("eer", "min_dcf", "stoi", "estoi", "pesq", "her")


def path(name: str) -> str:
    """The folder of a module, for ``evaluate.load``.

    Args:
        name: One of `NAMES`.

    Returns:
        Its path.

    Raises:
        ConfigError: There is no such module.

    Example:
        >>> Path(path("eer"), "README.md").is_file()
        True
    """
    if name not in NAMES:
        raise ConfigError(f"no evaluate module {name!r}; choose from {', '.join(NAMES)}")
    return str(Path(__file__).resolve().parent / name)


def score_clips(
    measure: str,
    predictions: Sequence,
    references: Sequence,
    sampling_rate: int = 16000,
    speakers: Sequence[str] | None = None,
    seed: int = 0,
    n_jobs: int | None = None,
) -> dict:
    """Mean of a quality measure over clips, with its interval and its failures.

    Args:
        measure: One of `hfprobe.metrics.quality.MEASURES`.
        predictions: Degraded clips, each ``(samples,)``.
        references: Clean clips, aligned and equally long.
        sampling_rate: In Hz.
        speakers: Speaker of each clip, for the interval; single clips are drawn when None.
        seed: Seed of the bootstrap.
        n_jobs: Processes; all cores when None.

    Returns:
        ``{measure: mean, "ci_low", "ci_high", "n", "n_failed", "failures"}``; the mean is None where every clip failed.

    Example:
        >>> import numpy as np
        >>> noise = np.random.default_rng(0).standard_normal((2, 16000))
        >>> scores = score_clips("stoi", [noise[0], 0 * noise[1]], noise, n_jobs=1)
        >>> round(scores["stoi"], 3), scores["n"], scores["failures"]
        (1.0, 1, {'silent': 1})
    """
    import numpy as np

    from hfprobe.metrics import bootstrap_mean, score_pairs

    scores = score_pairs(
        [np.asarray(clip, dtype=np.float32) for clip in references],
        [np.asarray(clip, dtype=np.float32) for clip in predictions],
        (measure,), sampling_rate, n_jobs,
    )  # fmt: skip
    values = scores[measure]
    there = [index for index, value in enumerate(values) if value is not None]
    mean, low, high = (None, None, None)
    if there:
        groups = None if speakers is None else [speakers[index] for index in there]
        mean, low, high = bootstrap_mean([values[index] for index in there], groups, seed=seed)
    return {
        measure: mean,
        "ci_low": low,
        "ci_high": high,
        "n": len(there),
        "n_failed": len(values) - len(there),
        "failures": scores.failures[measure],
    }
