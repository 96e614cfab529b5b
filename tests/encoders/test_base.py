"""The base class: input checks and fingerprints, on the smallest encoder that there is."""

from __future__ import annotations

import pytest
import torch

from hfprobe.encoders import LayerSpec, SpeechEncoder, SpeechEncoderOutput
from hfprobe.errors import EncoderError, LayerError


class Sums(SpeechEncoder):
    """One frame per 320 samples: their sum times a weight."""

    min_samples = 257

    def __init__(self, name: str = "sums"):
        super().__init__(name, [LayerSpec("sum", 1, 320, 160, "sum of 320 samples")])
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.ctc = torch.nn.Linear(1, 2)

    def hidden_lengths_for(self, samples):
        return (samples // 320,)

    def _encode(self, waveforms, lengths, keep):
        frames = waveforms[:, : waveforms.shape[1] // 320 * 320].unflatten(1, (-1, 320)).sum(-1, keepdim=True)
        state = frames * self.weight
        return SpeechEncoderOutput(state, (state,))


@pytest.mark.parametrize(
    ("waveforms", "lengths", "message"),
    [
        ([[0.0] * 800], None, "torch tensor, got list"),
        (torch.zeros(800), None, r"\(batch, samples\), got \(800,\)"),
        (torch.zeros(1, 2, 800), None, r"got \(1, 2, 800\)"),
        (torch.zeros(0, 800), None, "drop empty clips"),
        (torch.zeros(1, 800, dtype=torch.int16), None, "float32 waveforms .* got torch.int16"),
        (torch.zeros(1, 800, dtype=torch.float64), None, "got torch.float64"),
        (torch.full((2, 800), float("nan")), None, r"NaN or infinity in utterance\(s\) \[0, 1\]"),
        (torch.zeros(1, 200), None, r"at least 257 samples .*\(16.1 ms\), got 200"),
        (torch.zeros(2, 800), [800], "2 lengths"),
        (torch.zeros(2, 800), [1.0, 0.5], "whole numbers"),
        (torch.zeros(2, 800), [800, 801], "between 1 and 800 samples, got 800 to 801"),
        (torch.zeros(2, 800), [800, 0], "got 0 to 800"),
    ],
)
def test_bad_input_is_refused_with_one_line(waveforms, lengths, message):
    encoder = Sums()
    with pytest.raises(EncoderError, match=message) as caught:
        encoder(waveforms, lengths)
    assert "\n" not in str(caught.value)


def test_lengths_may_be_a_list_and_padding_is_zeroed_and_trimmed():
    encoder = Sums()
    output = encoder(torch.ones(2, 960), [640, 320])
    assert output.last_hidden_state[..., 0].tolist() == [[320.0, 320.0], [320.0, 0.0]]
    assert output.hidden_lengths[0].tolist() == [2, 1]
    assert encoder(torch.ones(2, 960)).hidden_lengths[0].tolist() == [3, 3]


def test_without_a_head_there_is_no_text():
    with pytest.raises(EncoderError, match="sums has no recognition head"):
        Sums().transcribe(torch.ones(1, 640))
    with pytest.raises(LayerError, match="has no layer 'mean': choose one of sum"):
        Sums().layer("mean")


def test_fingerprint_sees_weights_and_layers_but_neither_name_nor_head():
    encoder = Sums()
    first = encoder.fingerprint
    assert len(first) == 16 and int(first, 16) >= 0
    assert Sums("another name").fingerprint == first
    with torch.no_grad():
        encoder.ctc.weight.add_(1.0)
        assert encoder.fingerprint == first
        encoder.weight.add_(1e-3)
        assert encoder.fingerprint != first
    other = Sums()
    other.layers = (LayerSpec("sum", 1, 320, 0, "sum of 320 samples"),)
    assert other.fingerprint != first


def test_audio_at_another_rate_is_refused_where_the_rate_is_known():
    encoder = Sums()
    waveforms = torch.zeros(1, 800)
    assert encoder(waveforms, sampling_rate=16000).last_hidden_state.shape == encoder(waveforms).last_hidden_state.shape
    with pytest.raises(EncoderError, match=r"expected audio at 16000 Hz, got 8000 Hz: resample it"):
        encoder(waveforms, sampling_rate=8000)
