"""Checks of reduced precision and of a GPU, where there are any."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from hfprobe.encoders import SpeechEncoder
from hfprobe.testing.contract import CheckSkipped, Settings, expect, leaves_no_trace, states_of
from hfprobe.testing.signals import batch_of, device_of, peak_error, sounds

# A GPU adds up in another order than a CPU, and in an order that depends on the batch.
CUDA_TO_CPU, CUDA_BATCH = 1e-3, 1e-4
# bfloat16 keeps 8 bits: deep layers turn by a few degrees, broken ones by ninety.
LEAST_COSINE = 0.95
_UNSUPPORTED = ("not implemented for", "not supported", "could not create a primitive", "not available")


@leaves_no_trace
@torch.no_grad()
def check_bfloat16(encoder: SpeechEncoder, settings: Settings) -> None:
    """Under bfloat16 autocast every layer has the same shape and nearly the same direction (cosine 0.95).

    Args:
        encoder: The encoder to try.
        settings: What it is tried with, see `Settings`.

    Raises:
        ContractError: The promise is broken; the message says where, and by how much.
        CheckSkipped: It cannot be tried here; the message says why.

    Example:
        >>> from hfprobe.encoders import AutoSpeechEncoder
        >>> net = torch.nn.Sequential(torch.nn.Unflatten(1, (1, -1)), torch.nn.Conv1d(1, 8, 400, 160))
        >>> encoder = AutoSpeechEncoder.from_module(net, {"conv": "1"}, stride=160, offset=200, layout="bct")
        >>> check_bfloat16(encoder, Settings())
    """
    device = device_of(encoder)
    [waveform] = sounds(encoder, [8000], settings.seed)
    full = states_of(encoder, waveform[None])
    try:
        with torch.autocast(device.type, dtype=torch.bfloat16), _own_kernels(device):
            low = states_of(encoder, waveform[None])
    except (RuntimeError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        if any(words in reason for words in _UNSUPPORTED):
            raise CheckSkipped(f"PyTorch cannot do it in bfloat16 on {device.type}: {reason}") from error
        expect(False, f"fails under bfloat16 autocast: {reason}")
    for spec, one, other in zip(encoder.layers, full, low, strict=True):
        expect(one.shape == other.shape, f"layer {spec.name}: another shape in bfloat16")
        expect(bool(torch.isfinite(other).all()), f"layer {spec.name}: NaN or infinity in bfloat16")
        cosine = _cosine(one, other)
        expect(cosine >= LEAST_COSINE, f"layer {spec.name}: cosine {cosine:.3f} between float32 and bfloat16")


@contextmanager
def _own_kernels(device: torch.device) -> Iterator[None]:
    """On a CPU, PyTorch's own kernels: the encoder is under test, and not oneDNN.

    On CPUs with AMX, oneDNN as it comes with PyTorch 2.11 gets convolutions in groups (four or more) wrong in bfloat16:
    ``conv1d`` of 32 channels in 4 groups has cosine 0.6 with the true values there, and 0.999997 without oneDNN.
    """
    if device.type != "cpu":
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about TF32, which these flags could set on other devices
        with torch.backends.mkldnn.flags(enabled=False):
            yield


@leaves_no_trace
@torch.no_grad()
def check_cuda(encoder: SpeechEncoder, settings: Settings) -> None:
    """On a GPU every layer is that of the CPU to 1e-3 of its peak, and alone = batch to 1e-4.

    Args:
        encoder: The encoder to try.
        settings: What it is tried with, see `Settings`.

    Raises:
        ContractError: The promise is broken; the message says where, and by how much.
        CheckSkipped: It cannot be tried here; the message says why.

    Example:
        >>> from hfprobe.encoders import AutoSpeechEncoder
        >>> net = torch.nn.Sequential(torch.nn.Unflatten(1, (1, -1)), torch.nn.Conv1d(1, 8, 400, 160))
        >>> encoder = AutoSpeechEncoder.from_module(net, {"conv": "1"}, stride=160, offset=200, layout="bct")
        >>> try:
        ...     check_cuda(encoder, Settings())
        ... except CheckSkipped as reason:
        ...     assert "no CUDA device" in str(reason)
    """
    if not torch.cuda.is_available():
        raise CheckSkipped("no CUDA device on this machine")
    waveforms = [waveform.cpu() for waveform in sounds(encoder, settings.lengths, settings.seed)]
    batch, lengths = batch_of(waveforms)
    here, there = copy.deepcopy(encoder).to("cpu"), copy.deepcopy(encoder).to("cuda")
    cudnn = torch.backends.cudnn
    with cudnn.flags(cudnn.enabled, cudnn.benchmark, deterministic=cudnn.deterministic, allow_tf32=False):
        on_cpu, on_gpu = here(batch, lengths), there(batch.to("cuda"), lengths)
        alone = states_of(there, waveforms[1][None].to("cuda"))
    for layer, spec in enumerate(encoder.layers):
        gpu, frames = on_gpu.hidden_states[layer], on_gpu.hidden_lengths[layer]
        expect(gpu.is_cuda and frames.is_cuda, f"layer {spec.name}: states or lengths are not on the GPU")
        error = peak_error(gpu.cpu(), on_cpu.hidden_states[layer])
        expect(error <= CUDA_TO_CPU, f"layer {spec.name}: CPU and GPU differ by {error:.1e} of the peak")
        error = peak_error(gpu[1, : int(frames[1])], alone[layer][0])
        expect(error <= CUDA_BATCH, f"layer {spec.name}: alone and in a batch differ by {error:.1e} on the GPU")


def _cosine(one: Tensor, other: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(one.flatten().double(), other.flatten().double(), dim=0))
