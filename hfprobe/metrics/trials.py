"""Which clips are compared with which: drawn once per seed, the same for every layer and encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hfprobe.errors import MeasureError

BLOCK_CELLS = 4_000_000  # numbers held at once while trials are scored, 32 MB


@dataclass(frozen=True)
class Trials:
    """Pairs of clips, by their position in a list.

    Attributes:
        left: Position of the first clip ``(trials,)``.
        right: Position of the second clip ``(trials,)``.
        labels: True where both are by the same speaker ``(trials,)``.
        left_speakers: Speaker of the first clip as a number ``(trials,)``.
        right_speakers: Speaker of the second clip as a number ``(trials,)``.
    """

    left: np.ndarray
    right: np.ndarray
    labels: np.ndarray
    left_speakers: np.ndarray
    right_speakers: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def scores(self, left_embeddings: ArrayLike, right_embeddings: ArrayLike | None = None) -> np.ndarray:
        """Cosine similarity of every trial.

        Args:
            left_embeddings: One row per clip ``(clips, dim)``, in the order the trials were drawn for.
            right_embeddings: The same for the second side, e.g. of natural speech; the left ones when None.

        Returns:
            Scores ``(trials,)``, NaN where an embedding is NaN or zero.

        Example:
            >>> all_trials(["a", "a", "b"]).scores(np.eye(3)).tolist()
            [0.0, 0.0, 0.0]
        """
        left = _unit(left_embeddings)
        right = left if right_embeddings is None else _unit(right_embeddings)
        scores = np.empty(len(self))
        # In blocks: the rows of all trials at once would be (trials, dim), gigabytes for all pairs.
        size = max(1, BLOCK_CELLS // max(left.shape[1], 1))
        for start in range(0, len(self), size):
            block = slice(start, start + size)
            first, second = self.left[block], self.right[block]
            low, high = int(first.min()), int(first.max()) + 1
            # All pairs come sorted: the product of a few rows with all others holds them, and is much faster.
            if (high - low) * len(right) <= BLOCK_CELLS:
                scores[block] = (left[low:high] @ right.T)[first - low, second]
            else:
                scores[block] = np.einsum("td,td->t", left[first], right[second])
        return scores

    def keep(self, mask: np.ndarray) -> Trials:
        """Some of the trials, e.g. those with finite scores.

        Args:
            mask: Which to keep, boolean ``(trials,)``.

        Returns:
            The trials where the mask is true, in their order.
        """
        mask = np.asarray(mask, dtype=bool)
        return Trials(
            self.left[mask], self.right[mask], self.labels[mask], self.left_speakers[mask], self.right_speakers[mask]
        )


def _unit(embeddings) -> np.ndarray:
    embeddings = np.asarray(embeddings, dtype=np.float64)
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return embeddings / np.where(norms > 0, norms, np.nan)


def _codes(speakers: Sequence[str]) -> np.ndarray:
    codes = np.unique(np.asarray(speakers, dtype=str), return_inverse=True)[1].reshape(-1)
    if len(codes) < 3 or codes.max() == 0 or np.bincount(codes).max() < 2:
        raise MeasureError(
            f"trials need two speakers, one of them with two clips, got {len(codes)} clips of "
            f"{len(set(speakers))} speakers; add clips",
            "one class",
        )
    return codes


def _make(codes: np.ndarray, left: np.ndarray, right: np.ndarray) -> Trials:
    # 17 bytes a trial: all pairs of 5,000 clips are 12 million.
    left, right, codes = (array.astype(np.int32, copy=False) for array in (left, right, codes))
    left_speakers, right_speakers = codes[left], codes[right]
    return Trials(left, right, left_speakers == right_speakers, left_speakers, right_speakers)


def all_trials(speakers: Sequence[str]) -> Trials:
    """Every pair of two different clips, once.

    Args:
        speakers: Speaker of every clip.

    Returns:
        ``n (n - 1) / 2`` trials, ordered by the first clip; 17 bytes each.

    Raises:
        MeasureError: There is no pair of the same speaker, or none of different ones.

    Example:
        >>> all_trials(["a", "b", "a"]).labels.tolist()
        [False, True, False]
    """
    codes = _codes(speakers)
    count = len(codes)
    follow = np.arange(count - 1, -1, -1)  # how many clips come after each
    left = np.repeat(np.arange(count, dtype=np.int32), follow)
    # Counting up within each clip's run, from the clip after it.
    right = np.arange(len(left), dtype=np.int64)
    right -= np.repeat(np.cumsum(follow) - follow - np.arange(1, count + 1), follow)
    return _make(codes, left, right.astype(np.int32))


def draw_trials(speakers: Sequence[str], n_per_class: int | None = None, seed: int = 0) -> Trials:
    """As many pairs of the same speaker as of different ones, without repetition.

    Args:
        speakers: Speaker of every clip; trials depend on this list and the seed alone.
        n_per_class: Pairs of each class; all of the rarer class when None. Cut to what there is.
        seed: Seed of the draw.

    Returns:
        The trials, those of the same speaker first.

    Raises:
        MeasureError: A class has no pairs, or fewer than one pair is asked for.

    Example:
        >>> trials = draw_trials(["a", "a", "b", "b", "c"])
        >>> trials.labels.tolist()
        [True, True, False, False]
    """
    codes = _codes(speakers)
    if n_per_class is not None and n_per_class < 1:
        raise MeasureError(f"at least 1 trial of each class is needed, got {n_per_class}", "one class")
    generator = np.random.default_rng(seed)
    groups = [np.flatnonzero(codes == code) for code in range(codes.max() + 1)]
    corners = [np.triu_indices(len(group), k=1) for group in groups]
    left = np.concatenate([group[rows] for group, (rows, _) in zip(groups, corners, strict=True)])
    right = np.concatenate([group[columns] for group, (_, columns) in zip(groups, corners, strict=True)])
    n_clips = len(codes)
    n_negative = n_clips * (n_clips - 1) // 2 - len(left)
    count = min(len(left), n_negative, n_per_class or len(left))
    chosen = np.sort(generator.choice(len(left), count, replace=False))
    left, right = left[chosen], right[chosen]
    other_left, other_right = _draw_negative(codes, count, n_negative, generator)
    return _make(codes, np.concatenate([left, other_left]), np.concatenate([right, other_right]))


def _draw_negative(codes, count, n_negative, generator) -> tuple[np.ndarray, np.ndarray]:
    if 2 * count > n_negative:  # rejection would have to hit nearly all of them: list them instead
        rows, columns = np.triu_indices(len(codes), k=1)
        different = np.flatnonzero(codes[rows] != codes[columns])
        chosen = np.sort(generator.choice(different, count, replace=False))
        return rows[chosen], columns[chosen]
    seen = np.empty(0, dtype=np.int64)
    while len(seen) < count:  # uniform draws with repeats dropped are a draw without repetition
        pairs = np.sort(generator.integers(0, len(codes), (4 * count, 2)), axis=1)
        pairs = pairs[codes[pairs[:, 0]] != codes[pairs[:, 1]]]
        seen = np.concatenate([seen, pairs[:, 0] * len(codes) + pairs[:, 1]])
        seen = seen[np.sort(np.unique(seen, return_index=True)[1])]
    seen = seen[:count]
    return seen // len(codes), seen % len(codes)
