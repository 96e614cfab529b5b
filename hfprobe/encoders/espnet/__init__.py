"""Encoders of ESPnet experiments. Only this folder (and ``hfprobe.asr``) imports espnet2."""

import contextlib
import io

# Importing ESPnet's attention prints to standard output where flash-attn is missing (it is not used here).
with contextlib.redirect_stdout(io.StringIO()):
    import espnet.nets.pytorch_backend.transformer.attention  # noqa: F401
