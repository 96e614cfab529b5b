"""Corpora, noise and batches of speech."""

from hfprobe.data.batch import SpeechBatch, pad_waveforms
from hfprobe.data.corpora import decode_row, load_corpus
from hfprobe.data.mixture import weighted_corpora
from hfprobe.data.noise import NoiseCorpus, NoiseDraw, NoiseRecipe, load_noise
from hfprobe.data.stream import SpeechStream

__all__ = [
    "NoiseCorpus",
    "NoiseDraw",
    "NoiseRecipe",
    "SpeechBatch",
    "SpeechStream",
    "decode_row",
    "load_corpus",
    "load_noise",
    "pad_waveforms",
    "weighted_corpora",
]
