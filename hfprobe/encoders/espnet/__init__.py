"""Encoders of ESPnet experiments. Only this folder (and ``hfprobe.asr``) imports espnet2."""
