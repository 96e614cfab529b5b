"""Speech encoders under one contract: named layers, exact lengths, the same numbers alone and in a batch.

``base`` holds the contract, ``capture`` the hooks, ``espnet`` the adapters for ESPnet experiments and
``auto`` the door to all of them.
"""

from hfprobe.encoders.auto import AutoSpeechEncoder
from hfprobe.encoders.base import LayerSpec, SpeechEncoder, SpeechEncoderOutput

__all__ = ["AutoSpeechEncoder", "LayerSpec", "SpeechEncoder", "SpeechEncoderOutput"]
