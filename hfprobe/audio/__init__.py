"""Sound: reading and writing it, mel-spectrograms and the way back, noise. Pure functions on tensors."""

from hfprobe.audio.io import LoadedAudio, load_audio, save_audio
from hfprobe.audio.mel import MelConfig, mel_filters, mel_spectrogram
from hfprobe.audio.mixing import mix_at_snr

__all__ = [
    "LoadedAudio", "MelConfig", "load_audio", "mel_filters", "mel_spectrogram", "mix_at_snr", "save_audio",
]
