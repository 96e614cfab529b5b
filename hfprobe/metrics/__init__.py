"""Measures: speaker verification, sound quality, recognition, and their confidence intervals."""

from hfprobe.metrics.bootstrap import bootstrap_eer, bootstrap_mean
from hfprobe.metrics.quality import PairScores, estoi, pesq, score_pairs, si_sdr, stoi
from hfprobe.metrics.recognition import cer, wer
from hfprobe.metrics.trials import Trials, all_trials, draw_trials
from hfprobe.metrics.verification import eer, min_dcf

__all__ = [
    "PairScores",
    "Trials",
    "all_trials",
    "bootstrap_eer",
    "bootstrap_mean",
    "cer",
    "draw_trials",
    "eer",
    "estoi",
    "min_dcf",
    "pesq",
    "score_pairs",
    "si_sdr",
    "stoi",
    "wer",
]
