"""Layers, models and checkpoints compared: CCA, SVCCA, PWCCA, CKA and RSA.

On features in memory, ``(n, d)`` arrays or tensors of paired samples: `mean_cca`, `svcca`, `pwcca`, `linear_cka`,
`rbf_cka`, `minibatch_cka`, `rsa`. From a stream, in one pass and with memory that does not grow: `PairAccumulator` for
CCA and linear CKA, `MinibatchAccumulator`, and `FrameSample` with `sampled_scores` for RBF CKA and RSA.
Every value is a `Similarity`: a float that carries its null, its samples per dimension and, from a stream, an interval.

| measure | invariant to | null for independent data | source |
|---|---|---|---|
| `mean_cca` | any invertible map of either side, offsets | simulated | Hotelling 1936 |
| `svcca` | rotation, scale, offsets | simulated, kept directions | Raghu et al. 2017 |
| `pwcca` | any invertible map of the other side; rotation of variates; offsets | simulated | Morcos et al. 2018 |
| `linear_cka` | rotation, scale, offsets | exact | Kornblith et al. 2019 |
| `rbf_cka` | rotation, scale, offsets | exact | Kornblith et al. 2019 |
| `minibatch_cka` | rotation, scale, offsets | 0 | Nguyen et al. 2021 |
| `rsa` | scale; with euclidean distances also rotation and offsets | 0 | Kriegeskorte et al. 2008 |

Example:
    >>> import numpy as np
    >>> features = np.random.default_rng(0).standard_normal((500, 8))
    >>> score = linear_cka(features, features @ np.diag(np.arange(1.0, 9.0)))
    >>> round(score, 2), score.n, score.null < 0.05
    (0.8, 500, True)
"""

from __future__ import annotations

from hfprobe.similarity.accumulator import PairAccumulator
from hfprobe.similarity.cca import mean_cca, pwcca, svcca
from hfprobe.similarity.cka import linear_cka
from hfprobe.similarity.grid import TimeGrid, common_grid, draw_frames, on_grid, speech_frames
from hfprobe.similarity.kernels import minibatch_cka, rbf_cka
from hfprobe.similarity.minibatches import MinibatchAccumulator
from hfprobe.similarity.null import cca_null
from hfprobe.similarity.plan import plan_passes
from hfprobe.similarity.rsa import rsa
from hfprobe.similarity.sample import FrameSample, frame_keys
from hfprobe.similarity.sampled import sampled_scores
from hfprobe.similarity.score import Similarity, SimilarityWarning

__all__ = [
    "FrameSample",
    "MinibatchAccumulator",
    "PairAccumulator",
    "Similarity",
    "SimilarityWarning",
    "TimeGrid",
    "cca_null",
    "common_grid",
    "draw_frames",
    "frame_keys",
    "linear_cka",
    "mean_cca",
    "minibatch_cka",
    "on_grid",
    "plan_passes",
    "pwcca",
    "rbf_cka",
    "rsa",
    "sampled_scores",
    "speech_frames",
    "svcca",
]
