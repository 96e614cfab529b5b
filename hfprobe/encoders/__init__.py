"""Speech encoders under one contract: named layers, exact lengths, the same numbers alone and in a batch.

``base`` holds the contract, ``auto`` the door to all encoders, ``espnet``, ``huggingface`` and ``speechbrain`` the
adapters for these toolkits, ``module`` the one for any other network (with ``frames`` and ``measure``),
``random_weights`` the floor, ``capture`` the hooks, and ``reach`` measures what a layer sees. `hfprobe.testing` checks
the contract.
"""

from hfprobe.encoders.auto import AutoSpeechEncoder
from hfprobe.encoders.base import LayerSpec, SpeechEncoder, SpeechEncoderOutput

__all__ = ["AutoSpeechEncoder", "LayerSpec", "SpeechEncoder", "SpeechEncoderOutput"]
