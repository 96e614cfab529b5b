"""What every encoder promises, for ESPnet's two architectures with small random weights.

The reference is ESPnet's own forward on one utterance without padding, read with hooks.
"""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from espnet_stock import Stock, pad, peak_error, speechlike
from hypothesis import HealthCheck, given, settings

from hfprobe.encoders import AutoSpeechEncoder, LayerSpec, SpeechEncoderOutput
from hfprobe.errors import EncoderError, LayerError

TOLERANCE = 1e-5
LENGTHS = (16000, 800, 30001, 5123, 12345)


@pytest.fixture(scope="module")
def encoder(stock: Stock):
    return AutoSpeechEncoder.from_pretrained(stock.folder)


@torch.no_grad()
def test_hidden_states_are_those_of_espnet(stock, encoder):
    for waveform in speechlike(*LENGTHS):
        output = encoder(waveform[None])
        states, logits = stock.run(waveform)
        assert len(states) == len(output.hidden_states) == len(encoder.layers)
        for spec, value, reference in zip(encoder.layers, output.hidden_states, states, strict=True):
            assert value.shape[2] == spec.dim
            assert peak_error(value[0], reference) < TOLERANCE, spec
        assert peak_error(output.logits[0], logits) < TOLERANCE
        assert torch.equal(output.last_hidden_state, output.hidden_states[-1])


@torch.no_grad()
@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (2, 0, 4, 3, 1), (1, 3, 4, 0, 2)])
def test_alone_and_in_a_batch_are_equal(encoder, order):
    waveforms = [speechlike(*LENGTHS)[i] for i in order]
    batch, lengths = pad(waveforms)
    output = encoder(batch, lengths)
    for row, waveform in enumerate(waveforms):
        alone = encoder(waveform[None])
        for layer, spec in enumerate(encoder.layers):
            valid = int(output.hidden_lengths[layer][row])
            assert valid == alone.hidden_states[layer].shape[1] == int(alone.hidden_lengths[layer][0])
            error = peak_error(output.hidden_states[layer][row, :valid], alone.hidden_states[layer][0])
            assert error < TOLERANCE, (spec, row)
            assert not output.hidden_states[layer][row, valid:].any()


@torch.no_grad()
def test_padding_may_hold_anything_and_the_input_stays(encoder):
    waveforms = speechlike(8000, 4000)
    clean, lengths = pad(waveforms)
    dirty, _ = pad(waveforms, value=float("nan"))
    kept = dirty.clone()
    first, second = encoder(clean, lengths), encoder(dirty, lengths)
    for one, other in zip(first.hidden_states, second.hidden_states, strict=True):
        assert torch.equal(one, other)
    assert torch.equal(dirty.nan_to_num(7.0), kept.nan_to_num(7.0))


@torch.no_grad()
def test_eval_is_deterministic_and_layers_never_change(encoder):
    waveforms = speechlike(6000)[0][None]
    first, second = encoder(waveforms), encoder(waveforms)
    assert all(torch.equal(a, b) for a, b in zip(first.hidden_states, second.hidden_states, strict=True))
    encoder.train()
    try:
        trained = encoder(waveforms)
    finally:
        encoder.eval()
    assert [x.shape for x in trained.hidden_states] == [x.shape for x in first.hidden_states]


@torch.no_grad()
def test_dropout_acts_in_training_only(encoder):
    waveforms = speechlike(6000)[0][None]
    encoder.train()
    try:
        assert not torch.equal(encoder(waveforms).last_hidden_state, encoder(waveforms).last_hidden_state)
    finally:
        encoder.eval()


@torch.no_grad()
@pytest.mark.parametrize("samples", [800, 480000])
def test_from_fifty_milliseconds_to_thirty_seconds(encoder, samples):
    output = encoder(speechlike(samples)[0][None])
    expected = encoder.hidden_lengths_for(samples)
    for state, frames, lengths in zip(output.hidden_states, expected, output.hidden_lengths, strict=True):
        assert state.shape[1] == frames == int(lengths[0]) >= 1
        assert bool(torch.isfinite(state).all())


def test_lengths_formula(encoder):
    @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.integers(257, 9000))
    def check(samples):
        with torch.no_grad():
            output = encoder(torch.full((1, samples), 0.01))
        assert tuple(state.shape[1] for state in output.hidden_states) == encoder.hidden_lengths_for(samples)

    check()


def test_backward_reaches_input_and_weights(encoder):
    batch, lengths = pad(speechlike(4000, 2400))
    batch.requires_grad_()
    encoder.zero_grad()
    output = encoder(batch, lengths)
    sum(state.square().mean() for state in output.hidden_states).backward()
    assert bool(torch.isfinite(batch.grad).all()) and bool(batch.grad[0].any())
    assert not batch.grad[1, 2400:].any()
    weights = dict(encoder.encoder.named_parameters())
    assert all(weight.grad is not None and bool(torch.isfinite(weight.grad).all()) for weight in weights.values())
    encoder.zero_grad()


@torch.no_grad()
def test_no_hook_is_left_and_the_output_is_a_model_output(encoder):
    output = encoder(speechlike(3000)[0][None], output_hidden_states=False)
    assert isinstance(output, SpeechEncoderOutput) and output.hidden_states is None
    assert "last_hidden_state" in output and len(output.hidden_lengths) == len(encoder.layers)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in encoder.modules())


def test_layer_lookup(encoder):
    assert isinstance(encoder.layers, tuple)
    assert all(isinstance(spec, LayerSpec) and encoder.layer(spec.name) is spec for spec in encoder.layers)
    with pytest.raises(LayerError, match=f"choose one of .*{encoder.layers[-1].name}"):
        encoder.layer("conv99")


@torch.no_grad()
def test_transcribe_follows_the_logits(stock, encoder):
    waveforms = speechlike(*LENGTHS)
    batch, lengths = pad(waveforms)
    texts = encoder.transcribe(batch, lengths)
    tokens = stock.config["token_list"]
    for waveform, text in zip(waveforms, texts, strict=True):
        best = stock.run(waveform)[1].argmax(dim=-1).tolist()
        merged = [index for i, index in enumerate(best) if i == 0 or index != best[i - 1]]
        kept = [tokens[index] for index in merged if tokens[index] not in ("<blank>", "<sos/eos>")]
        assert text == "".join(kept).replace("<space>", " ").strip()


@torch.no_grad()
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_gives_the_same(stock):
    encoder = AutoSpeechEncoder.from_pretrained(stock.folder)
    batch, lengths = pad(speechlike(*LENGTHS))
    here = encoder(batch, lengths)
    there = encoder.to("cuda")(batch.to("cuda"), lengths)
    for one, other in zip(here.hidden_states, there.hidden_states, strict=True):
        assert peak_error(other.cpu(), one) < 1e-4
    alone = encoder(batch[1:2, :800].to("cuda"))
    for one, other in zip(alone.hidden_states, there.hidden_states, strict=True):
        assert peak_error(other[1:2, : one.shape[1]], one) < TOLERANCE
    with pytest.raises(EncoderError, match=r"on cuda:0, got cpu"):
        encoder(batch, lengths)
