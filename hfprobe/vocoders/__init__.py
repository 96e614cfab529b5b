"""From a layer's mel-spectrogram to sound: Griffin-Lim and its kin, or a neural vocoder."""

from hfprobe.vocoders.base import GriffinLim, Vocoder, load_vocoder

__all__ = ["GriffinLim", "Vocoder", "load_vocoder"]
