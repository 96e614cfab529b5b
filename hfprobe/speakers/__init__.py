"""Speaker encoders: from a waveform to one vector per clip that says who speaks."""

from hfprobe.speakers.base import (
    SpeakerEncoder,
    load_speaker_encoder,
    register_speaker_encoder,
    speaker_encoders,
)

__all__ = ["SpeakerEncoder", "load_speaker_encoder", "register_speaker_encoder", "speaker_encoders"]
