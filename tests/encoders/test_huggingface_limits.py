"""What transformers encoders do at the edges: short and long input, gradients, errors half way, other types."""

from __future__ import annotations

import pytest
import torch
from hf_models import VARIANTS, Stock, build_stock, pad, peak_error, speechlike

from hfprobe.encoders.huggingface import load_huggingface
from hfprobe.errors import EncoderError

TOLERANCE = 1e-5
LENGTHS = (16000, 800, 9173, 9180, 1200)


@pytest.fixture(scope="module", params=VARIANTS)
def hf_stock(request, tmp_path_factory) -> Stock:
    """Each kind of model in turn."""
    return build_stock(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def hf_encoder(hf_stock):
    return load_huggingface(hf_stock.folder)


@torch.no_grad()
@pytest.mark.parametrize("samples", [800, 480000])
def test_from_fifty_milliseconds_to_thirty_seconds(hf_encoder, samples):
    output = hf_encoder(speechlike(samples)[0][None])
    expected = hf_encoder.hidden_lengths_for(samples)
    for state, frames, counts in zip(output.hidden_states, expected, output.hidden_lengths, strict=True):
        assert state.shape[1] == frames == int(counts[0]) >= 1
        assert bool(torch.isfinite(state).all())


@torch.no_grad()
def test_the_shortest_input_works_and_one_sample_less_is_refused(hf_encoder):
    shortest = hf_encoder.min_samples
    output = hf_encoder(speechlike(max(shortest, 1))[0][None])
    assert all(bool(torch.isfinite(state).all()) and state.shape[1] >= 1 for state in output.hidden_states)
    if shortest > 1:
        with pytest.raises(EncoderError, match=f"at least {shortest} samples"):
            hf_encoder(torch.zeros(1, shortest - 1))


def test_backward_reaches_input_and_weights(hf_encoder):
    batch, lengths = pad(speechlike(4000, 2400))
    batch.requires_grad_()
    hf_encoder.zero_grad()
    output = hf_encoder(batch, lengths)
    total = sum(state.square().mean() for state in output.hidden_states)
    (total if output.logits is None else total + output.logits.square().mean()).backward()
    assert bool(torch.isfinite(batch.grad).all()) and bool(batch.grad[0].any()) and bool(batch.grad[1].any())
    assert not batch.grad[1, 2400:].any()
    for name, weight in hf_encoder.named_parameters():
        # The Conformer of transformers owns a positional convolution that it never calls.
        if weight.requires_grad and not ("conformer" in hf_encoder.model.config.model_type and "pos_conv" in name):
            assert weight.grad is not None and bool(torch.isfinite(weight.grad).all()), name
    hf_encoder.zero_grad()


@torch.no_grad()
def test_no_hook_is_left(hf_encoder):
    hf_encoder(speechlike(3000)[0][None])
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in hf_encoder.modules())


@torch.no_grad()
def test_no_hook_is_left_after_an_error(hf_encoder, monkeypatch):
    block = next(m for m in hf_encoder.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == 3)[-1]
    monkeypatch.setattr(block, "forward", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        hf_encoder(speechlike(3000)[0][None])
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in hf_encoder.modules())


@torch.no_grad()
def test_half_precision_weights(hf_stock):
    encoder = load_huggingface(hf_stock.folder).to(torch.bfloat16)
    waveforms = speechlike(6000)[0][None]
    output = encoder(waveforms)
    reference = load_huggingface(hf_stock.folder)(waveforms)
    first, exact = output.hidden_states[0], reference.hidden_states[0]
    assert first.dtype == torch.bfloat16 and output.last_hidden_state.dtype == torch.bfloat16
    assert peak_error(first.float(), exact) < 0.1
    assert all(bool(torch.isfinite(state.float()).all()) for state in output.hidden_states)


@torch.no_grad()
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_gives_the_same(hf_stock):
    encoder = load_huggingface(hf_stock.folder)
    batch, lengths = pad(speechlike(*LENGTHS))
    here = encoder(batch, lengths)
    there = encoder.to("cuda")(batch.to("cuda"), lengths)
    for one, other in zip(here.hidden_states, there.hidden_states, strict=True):
        assert peak_error(other.cpu(), one) < 1e-3
    alone = encoder(batch[1:2, :800].to("cuda"))
    for one, other in zip(alone.hidden_states, there.hidden_states, strict=True):
        assert peak_error(other[1:2, : one.shape[1]], one) < TOLERANCE
