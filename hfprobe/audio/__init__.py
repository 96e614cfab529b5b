"""Sound: reading and writing it, mel-spectrograms and the way back, noise. Pure functions on tensors."""

from hfprobe.audio.griffin_lim import griffin_lim, vocode
from hfprobe.audio.inversion import invert_mel
from hfprobe.audio.io import LoadedAudio, load_audio, save_audio
from hfprobe.audio.mel import MelConfig, mel_filters, mel_spectrogram
from hfprobe.audio.mixing import mix_at_snr

__all__ = [
    "LoadedAudio",
    "MelConfig",
    "griffin_lim",
    "invert_mel",
    "load_audio",
    "mel_filters",
    "mel_spectrogram",
    "mix_at_snr",
    "save_audio",
    "vocode",
]
