"""The detector of pauses: one for each thread, as new for every clip."""

import threading

import _webrtcvad
import numpy as np

from hfprobe.speakers import vad


def bursts(seed: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    loud = np.repeat(draw.uniform(size=40) < 0.4, 1600)
    return (draw.normal(size=len(loud)) * np.where(loud, 0.2, 1e-4)).astype(np.float32)


def test_a_used_detector_decides_as_a_new_one(monkeypatch):
    clips = [bursts(seed) for seed in range(4)]
    used = [vad.shorten_pauses(clip) for clip in clips]
    fresh = []
    for clip in clips:  # a thread has a detector of its own
        thread = threading.Thread(target=lambda clip=clip: fresh.append(vad.shorten_pauses(clip)))
        thread.start()
        thread.join()
    for clip, one, two in zip(clips, used, fresh, strict=True):
        assert 0 < len(one) < len(clip)
        assert np.array_equal(one, two)


def test_no_detector_for_every_clip(monkeypatch):
    made = []
    create = _webrtcvad.create
    monkeypatch.setattr(_webrtcvad, "create", lambda: made.append(True) or create())
    thread = threading.Thread(target=lambda: [vad.shorten_pauses(bursts(seed)) for seed in range(5)])
    thread.start()
    thread.join()
    assert len(made) == 1
