"""A small encoder and stream for the tests of probes."""

from dataclasses import dataclass
from types import SimpleNamespace

import torch
from torch import nn

from hfprobe.audio import mel_spectrogram


@dataclass(frozen=True)
class Spec:
    name: str
    dim: int
    stride: int
    offset: int = 0
    tap: str = ""


class ToyEncoder(nn.Module):
    """Two random projections of the log-mel, at strides of one and of two mel frames."""

    name = "toy"
    sampling_rate = 16000

    def __init__(self, seed=0, strides=(160, 320)):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.layers = tuple(Spec(f"l{i}", 24 + 8 * i, stride) for i, stride in enumerate(strides, 1))
        for spec in self.layers:
            shape = (80 * spec.stride // 160, spec.dim)
            self.register_parameter(spec.name, nn.Parameter(0.03 * torch.randn(shape, generator=generator)))
        self.calls = 0

    @property
    def fingerprint(self):
        return f"{sum(value.double().sum().item() for value in self.state_dict().values()):.12f}"

    def forward(self, waveforms, lengths=None, output_hidden_states=True, layers=None):
        self.calls += 1
        if lengths is None:
            lengths = torch.full((len(waveforms),), waveforms.shape[1])
        mel = mel_spectrogram(waveforms, lengths=lengths)
        states, counts = [], []
        for spec in self.layers:
            n_mel = spec.stride // 160
            n_frames = mel.shape[1] // n_mel
            grouped = mel[:, : n_frames * n_mel].unflatten(1, (n_frames, n_mel)).flatten(2)
            states.append(torch.tanh((0.1 * grouped + 0.5) @ getattr(self, spec.name)) + 3.0)
            counts.append((1 + lengths // 160) // n_mel)
        names = [spec.name for spec in self.layers]
        chosen = [names.index(name) for name in layers or names]
        return SimpleNamespace(
            hidden_states=tuple(states[i] for i in chosen), hidden_lengths=tuple(counts[i] for i in chosen)
        )


class ToyStream:
    """Endless batches that depend on their number alone; can be told to break off, like a killed process."""

    def __init__(self, size=3, break_at=None, part=slice(None), equal=False):
        self.size, self.break_at, self.part, self.position = size, break_at, part, 0
        self.lengths = torch.tensor([8000, 8000 if equal else 6500, 8000 if equal else 4810, 8000][:size])

    def state_dict(self):
        return {"position": self.position}

    def load_state_dict(self, state):
        self.position = state["position"]

    def batch(self, number):
        generator = torch.Generator().manual_seed(number)
        # Noise whose level jumps every 100 ms over 60 dB: something that a probe can learn.
        level = 10 ** (-3 * torch.rand(self.size, 5, 1, generator=generator)).expand(-1, -1, 1600).flatten(1)
        waveforms = 0.1 * level * torch.randn(self.size, 8000, generator=generator)
        waveforms = waveforms * (torch.arange(8000) < self.lengths[:, None])
        return SimpleNamespace(waveforms=waveforms[self.part], lengths=self.lengths[self.part])

    def __iter__(self):
        while True:
            if self.position == self.break_at:
                raise InterruptedError("killed")
            self.position += 1
            yield self.batch(self.position)
