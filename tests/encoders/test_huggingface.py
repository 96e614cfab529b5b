"""What every encoder promises, for each family of transformers with small random weights.

The reference is the stock model's own forward on one utterance, its `output_hidden_states`, and hooks.
"""

from __future__ import annotations

import pytest
import torch
from hf_models import VARIANTS, Stock, build_stock, pad, peak_error, speechlike

from hfprobe.encoders.base import SpeechEncoderOutput
from hfprobe.encoders.huggingface import load_huggingface

TOLERANCE = 1e-5
LENGTHS = (16000, 800, 9173, 9180, 1200)
SENSITIVE = {
    "wav2vec2-base": True,
    "wav2vec2-large-ctc": False,
    "wav2vec2-adapter": True,
    "hubert-base": True,
    "hubert-large-ctc": True,
    "wavlm-base": True,
    "wavlm-large": False,
    "data2vec-ctc": True,
    "unispeech": False,
    "unispeech-sat": True,
    "conformer": True,
    "speecht5": True,
    "w2v-bert": False,
    "w2v-bert-ctc": True,
    "whisper": False,
    "parakeet-ctc": False,
}


@pytest.fixture(scope="module", params=VARIANTS)
def hf_stock(request, tmp_path_factory) -> Stock:
    """Each kind of model in turn."""
    return build_stock(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def hf_encoder(hf_stock):
    return load_huggingface(hf_stock.folder)


@torch.no_grad()
def test_hidden_states_are_those_of_transformers(hf_stock, hf_encoder):
    for waveform in speechlike(16000, 9173, 1200):
        output = hf_encoder(waveform[None])
        states, logits = hf_stock.run(waveform)
        assert {spec.name for spec in hf_encoder.layers} <= states.keys()
        for spec, value in zip(hf_encoder.layers, output.hidden_states, strict=True):
            reference = states[spec.name]
            assert value.shape[2] == spec.dim
            # Extractors may add a frame that their own mask calls invalid; Whisper adds half a minute.
            surplus = len(reference) - value.shape[1]
            assert surplus in (0, 1) or hf_stock.variant == "whisper", spec
            assert peak_error(value[0], reference[: value.shape[1]]) < TOLERANCE, spec
        assert torch.equal(output.last_hidden_state, output.hidden_states[-1])
        assert (output.logits is None) == (logits is None)
        if logits is not None:
            assert peak_error(output.logits[0], logits[: output.logits.shape[1]]) < TOLERANCE


@torch.no_grad()
def test_alone_in_a_batch_and_in_another_order_are_equal(hf_encoder):
    waveforms = speechlike(*LENGTHS)
    alone = [hf_encoder(waveform[None]) for waveform in waveforms]
    for order in ((0, 1, 2, 3, 4), (2, 0, 4, 3, 1)):
        batch, lengths = pad([waveforms[i] for i in order], value=float("nan"))
        kept = batch.clone()
        output = hf_encoder(batch, lengths)
        assert torch.equal(batch.nan_to_num(7.0), kept.nan_to_num(7.0))
        for layer, spec in enumerate(hf_encoder.layers):
            state, counts = output.hidden_states[layer], output.hidden_lengths[layer].tolist()
            assert state.shape[1] == max(counts)
            for row, i in enumerate(order):
                reference = alone[i].hidden_states[layer][0]
                assert counts[row] == len(reference) == hf_encoder.hidden_lengths_for(LENGTHS[i])[layer]
                assert peak_error(state[row, : counts[row]], reference) < TOLERANCE, (spec, row)
                assert not state[row, counts[row] :].any()


def test_padding_sensitive_says_what_the_library_does(hf_stock, hf_encoder):
    assert hf_encoder.padding_sensitive == SENSITIVE[hf_stock.variant]


@torch.no_grad()
def test_layers_choice_keeps_the_values_and_the_order(hf_encoder):
    waveforms = speechlike(6000)[0][None]
    everything = hf_encoder(waveforms)
    names = [spec.name for spec in hf_encoder.layers]
    chosen = [names[-1], names[0], names[len(names) // 2]]
    some = hf_encoder(waveforms, layers=chosen)
    for name, state, counts in zip(chosen, some.hidden_states, some.hidden_lengths, strict=True):
        assert torch.equal(state, everything.hidden_states[names.index(name)])
        assert torch.equal(counts, everything.hidden_lengths[names.index(name)])
    nothing = hf_encoder(waveforms, output_hidden_states=False)
    assert isinstance(nothing, SpeechEncoderOutput) and nothing.hidden_states is None
    assert torch.equal(nothing.last_hidden_state, everything.last_hidden_state)


@torch.no_grad()
def test_eval_is_deterministic_and_training_drops_no_layer(hf_encoder):
    waveforms, lengths = pad(speechlike(8000, 5000))
    first, second = hf_encoder(waveforms, lengths), hf_encoder(waveforms, lengths)
    assert all(torch.equal(a, b) for a, b in zip(first.hidden_states, second.hidden_states, strict=True))
    buffers = {name: value.clone() for name, value in hf_encoder.named_buffers()}
    torch.manual_seed(0)
    hf_encoder.train()
    try:
        for _ in range(5):
            trained = hf_encoder(waveforms, lengths)
            assert [x.shape for x in trained.hidden_states] == [x.shape for x in first.hidden_states]
            values = trained.hidden_states
            # A dropped layer would repeat the state before it.
            assert not any(a.shape == b.shape and torch.equal(a, b) for a, b in zip(values, values[1:], strict=False))
    finally:
        hf_encoder.eval()
        for name, value in hf_encoder.named_buffers():
            value.copy_(buffers[name])
