"""Measures: speaker verification, sound quality, recognition, and their confidence intervals."""

from hfprobe.metrics.agreement import krippendorff_alpha
from hfprobe.metrics.bootstrap import bootstrap_eer, bootstrap_mean, bootstrap_min_dcf
from hfprobe.metrics.human import HumanErrorRate, her, her_by_layer, items_needed, rate_difference
from hfprobe.metrics.paired import paired_eer_difference, paired_mean_difference, paired_min_dcf_difference
from hfprobe.metrics.quality import PairScores, estoi, pesq, pesq_nb, score_pairs, si_sdr, stoi
from hfprobe.metrics.recognition import cer, wer
from hfprobe.metrics.spectral import log_mel
from hfprobe.metrics.trials import Trials, all_trials, draw_trials
from hfprobe.metrics.verification import eer, min_dcf

__all__ = [
    "HumanErrorRate",
    "PairScores",
    "Trials",
    "all_trials",
    "bootstrap_eer",
    "bootstrap_mean",
    "bootstrap_min_dcf",
    "cer",
    "draw_trials",
    "eer",
    "estoi",
    "her",
    "her_by_layer",
    "items_needed",
    "krippendorff_alpha",
    "log_mel",
    "min_dcf",
    "paired_eer_difference",
    "paired_mean_difference",
    "paired_min_dcf_difference",
    "pesq",
    "pesq_nb",
    "rate_difference",
    "score_pairs",
    "si_sdr",
    "stoi",
    "wer",
]
