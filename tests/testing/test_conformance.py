"""The conformance suite: it passes on encoders that keep the contract and catches one planted fault per check."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hfprobe import testing
from hfprobe.encoders import AutoSpeechEncoder, LayerSpec, SpeechEncoder, SpeechEncoderOutput
from hfprobe.testing import CheckSkipped, ContractError, EncoderContract, Settings, check_encoder
from hfprobe.testing.memory import LiveBytes
from hfprobe.testing.time_axis import reactions

SPECS = (
    LayerSpec("conv1", 8, 160, 200, "gelu(conv1)"),
    LayerSpec("conv2", 12, 320, 360, "gelu(conv2)"),
    LayerSpec("attention1", 12, 320, 360, "output of block 1"),
    LayerSpec("attention2", 12, 320, 360, "output of block 2"),
    LayerSpec("attention3", 12, 320, 360, "output of block 3"),
    LayerSpec("recurrent", 10, 320, 360, "output of the GRU"),
)


class Toy(SpeechEncoder):
    """Two convolutions, masked attention, a recurrent layer; faults are planted in subclasses."""

    min_samples = 720
    specs = SPECS
    dropout = 0.1

    def __init__(self):
        super().__init__("toy", self.specs)
        torch.manual_seed(0)
        self.conv1 = nn.Conv1d(1, 8, 400, 160)
        self.conv2 = nn.Conv1d(8, 12, 3, 2)
        self.blocks = nn.ModuleList([nn.Linear(12, 12) for _ in range(3)])
        self.recurrent = nn.GRU(12, 10, batch_first=True)
        self.register_buffer("calls", torch.zeros(()))
        self.eval()

    def hidden_lengths_for(self, samples):
        first = (samples - 400) // 160 + 1
        return (first,) + ((first - 3) // 2 + 1,) * 5

    def score(self, x, valid):
        """Attention weights, none on padding."""
        scores = x @ x.transpose(1, 2)
        return scores.masked_fill(~valid.transpose(1, 2), float("-inf")).softmax(-1)

    def steps(self, x, lengths):
        """One layer after the other, unmasked, with its valid frames."""
        counts = self.hidden_lengths_for(lengths)
        x = torch.nn.functional.gelu(self.conv1(10 * x[:, None])).transpose(1, 2)
        yield x, mask(counts[0], x)
        x = torch.nn.functional.gelu(self.conv2(x.transpose(1, 2))).transpose(1, 2)
        valid = mask(counts[1], x)
        yield x, valid
        x = torch.nn.functional.dropout(x, self.dropout, self.training)
        for block in self.blocks:
            x = x * valid
            x = x + torch.tanh(block(self.score(x, valid) @ x)) * 0.5
            yield x, valid
        yield self.recurrent(x)[0], valid

    def _encode(self, waveforms, lengths, keep):
        states = []
        for spec, (x, valid) in zip(self.layers, self.steps(waveforms, lengths), strict=True):
            last = x * valid
            states.append(last if spec.name in keep else None)
        return SpeechEncoderOutput(last, tuple(states))


def mask(frames, x):
    return (torch.arange(x.shape[1], device=x.device) < frames[:, None])[..., None]


def toy_reference(waveform):
    """The same network once more, without masks."""
    toy = Toy()
    with torch.no_grad():
        x = torch.nn.functional.gelu(toy.conv1(10 * waveform[None, None]))
        states = [x[0].T]
        x = torch.nn.functional.gelu(toy.conv2(x))[0].T
        states.append(x)
        for block in toy.blocks:
            x = x + 0.5 * torch.tanh(block((x @ x.T).softmax(-1) @ x))
            states.append(x)
        return [*states, toy.recurrent(x[None])[0][0]]


class TestToy(EncoderContract):
    """The pytest form, as a third party would use it."""

    longest = 5.0

    @pytest.fixture(scope="class")
    def encoder(self):
        return Toy()

    @pytest.fixture(scope="class")
    def reference(self):
        return toy_reference


def respecified(**changes):
    """The layers with other numbers for the second one."""
    values = {"name": "conv2", "dim": 12, "stride": 320, "offset": 360, "tap": "gelu(conv2)", **changes}
    return (SPECS[0], LayerSpec(**values), *SPECS[2:])


class SameNames(Toy):
    specs = respecified(name="conv1")


class WrongWidth(Toy):
    specs = respecified(dim=11)


class NotZeroPastTheEnd(Toy):
    def _encode(self, waveforms, lengths, keep):
        output = super()._encode(waveforms, lengths, keep)
        output.hidden_states = tuple(None if s is None else s + 1e-6 for s in output.hidden_states)
        return output


class OtherNumbers(Toy):
    def __init__(self):
        super().__init__()
        with torch.no_grad():
            self.blocks[1].bias += 1e-3


class PaddingLeak(Toy):
    def score(self, x, valid):
        return (x @ x.transpose(1, 2)).softmax(-1)


class OrderMatters(Toy):
    def steps(self, x, lengths):
        return super().steps(x * (1 + 1e-3 * torch.arange(len(x))[:, None]), lengths)


class ReadsPadding(Toy):
    def check_input(self, waveforms, lengths=None):
        _, lengths = super().check_input(waveforms, lengths)
        return waveforms, lengths


class Random(Toy):
    def steps(self, x, lengths):
        return super().steps(x + 1e-4 * torch.randn_like(x), lengths)


class LayerDrop(Toy):
    def _encode(self, waveforms, lengths, keep):
        output = super()._encode(waveforms, lengths, keep)
        if self.training and torch.rand(()) < 0.5:
            output.hidden_states = (*output.hidden_states[:3], *output.hidden_states[3:5], None)
        return output


class WrongLengths(Toy):
    def hidden_lengths_for(self, samples):
        if isinstance(samples, int) and samples > 20000:
            return tuple(frames + 1 for frames in super().hidden_lengths_for(samples))
        return super().hidden_lengths_for(samples)


class TooShortFails(Toy):
    min_samples = 500


class AcceptsAnything(Toy):
    def check_input(self, waveforms, lengths=None):
        waveforms = torch.atleast_2d(waveforms).float()
        return waveforms, torch.full((len(waveforms),), waveforms.shape[1])


class WrongOffset(Toy):
    specs = respecified(offset=200)


class WrongStride(Toy):
    specs = respecified(stride=160)


class WrongOffsetOfAttention(Toy):
    specs = (*SPECS[:2], LayerSpec("attention1", 12, 320, 0, "output of block 1"), *SPECS[3:])


class CutFromTheGraph(Toy):
    def steps(self, x, lengths):
        return ((x.detach() if i == 2 else x, valid) for i, (x, valid) in enumerate(super().steps(x, lengths)))


class GradientInThePadding(ReadsPadding):
    def steps(self, x, lengths):
        yield from ((y + 1e-3 * x.sum(1)[:, None, None], valid) for y, valid in super().steps(x, lengths))


class HookLeft(Toy):
    def steps(self, x, lengths):
        self.conv2.register_forward_hook(lambda *_: None)
        return super().steps(x, lengths)


class HookLeftAfterAFailure(Toy):
    def _encode(self, waveforms, lengths, keep):
        handle = self.conv2.register_forward_hook(lambda *_: None)
        output = super()._encode(waveforms, lengths, keep)
        handle.remove()
        return output


class EditsInput(Toy):
    def _encode(self, waveforms, lengths, keep):
        return super()._encode(waveforms.mul_(0.5), lengths, keep)


class EditsWeights(Toy):
    def _encode(self, waveforms, lengths, keep):
        with torch.no_grad():
            self.blocks[0].bias += 1e-6
        return super()._encode(waveforms, lengths, keep)


class SharesMemory(Toy):
    def _encode(self, waveforms, lengths, keep):
        output = super()._encode(waveforms, lengths, keep)
        if not hasattr(self, "cache") or self.cache.shape != output.hidden_states[0].shape:
            self.cache = output.hidden_states[0]
        output.hidden_states = (self.cache, *output.hidden_states[1:])
        return output


class WrongOrder(Toy):
    def _positions(self, layers):
        return sorted(super()._positions(layers))


class AcceptsUnknownNames(Toy):
    def _positions(self, layers):
        known = [spec.name for spec in self.layers]
        return super()._positions(layers and [name for name in layers if name in known])


class KeepsEverything(Toy):
    def _encode(self, waveforms, lengths, keep):
        states = [x * valid for x, valid in self.steps(waveforms, lengths)]
        for _ in range(20):  # what else a forward does after its layers
            last = states[-1] + 0
        return SpeechEncoderOutput(last, tuple(states))


class MixesTypes(Toy):
    def steps(self, x, lengths):
        return ((torch.lerp(y, torch.zeros_like(y, dtype=torch.float32), 0.1), v) for y, v in super().steps(x, lengths))


FAULTS = [
    (SameNames, "declaration", "unique layer names"),
    (WrongWidth, "shapes", r"layer conv2: expected shape \(5, \d+, 11\)"),
    (NotZeroPastTheEnd, "shapes", "not zero past frame"),
    (OtherNumbers, "reference", "layer attention2, .* off by"),
    (PaddingLeak, "batch", "layer attention1, .* differ by"),
    (OrderMatters, "batch", "layer conv1, .* shuffled|in a batch"),
    (ReadsPadding, "batch", "layer attention1|layer conv|NaN"),
    (Random, "determinism", "layer conv1: differs by .* on a second run"),
    (LayerDrop, "train_mode", "layer recurrent: another shape"),
    (WrongLengths, "lengths", "hidden_lengths_for says"),
    (TooShortFails, "lengths", "one frame|[Kk]ernel size"),
    (AcceptsAnything, "refusals", "float64 waveforms: expected an EncoderError"),
    (WrongOffset, "time_axis", r"layer conv2: stride 320 and offset 200 .* -1\d\d samples away"),
    (WrongStride, "time_axis", "layer conv2: stride 160"),
    (WrongOffsetOfAttention, "time_axis", "layer attention1: stride 320 and offset 0"),
    (CutFromTheGraph, "backward", "layer attention1: .*graph|not reach"),
    (GradientInThePadding, "backward", "layer conv1: the padding of utterance 0 has a gradient"),
    (HookLeft, "hooks", "left after a forward: conv2._forward_hooks"),
    (HookLeftAfterAFailure, "hooks", "left after a forward that failed: conv2"),
    (EditsInput, "nothing_edited", "waveforms were edited"),
    (EditsWeights, "nothing_edited", "blocks.0.bias was edited"),
    (SharesMemory, "nothing_edited", "layer conv1: editing the output"),
    (WrongOrder, "layer_choice", "recurrent differs from a full forward|conv1 differs|conv2 differs"),
    (AcceptsUnknownNames, "layer_choice", "unknown name in layers=: expected a LayerError"),
    (KeepsEverything, "memory", "saves .* free each one"),
    (MixesTypes, "bfloat16", "fails under bfloat16 autocast"),
]


@pytest.mark.parametrize(("fault", "check", "message"), FAULTS, ids=lambda value: getattr(value, "__name__", None))
def test_planted_faults_are_caught(fault, check, message):
    settings = Settings(reference=toy_reference, longest=3.0)
    with pytest.raises((ContractError, RuntimeError), match=message):
        getattr(testing, f"check_{check}")(fault(), settings)


def test_every_check_has_a_planted_fault():
    planted = {f"check_{check}" for _, check, _ in FAULTS}
    # A fault on a GPU cannot be planted on a machine without one.
    assert planted == {check.__name__ for check in testing.CHECKS} - {"check_cuda"}


def test_the_shipped_encoder_passes_and_the_report_says_so():
    encoder = AutoSpeechEncoder.from_pretrained("blstm-robust")
    report = check_encoder(encoder, lengths=(8000, 800, 5123), longest=10.0)
    statuses = {result.name: result.status for result in report.results}
    assert report.passed and statuses["check_reference"] == "skipped" and statuses["check_time_axis"] == "passed"
    text = str(report)
    assert text.startswith("encoder blstm-robust\n") and "no reference given" in text
    assert len(text.splitlines()) == 1 + len(testing.CHECKS)


def test_all_failures_are_collected():
    report = check_encoder(HookLeft(), longest=1.0, raise_on_failure=False)
    assert [result.name for result in report.failures] == ["check_hooks"]
    with pytest.raises(ContractError, match=r"toy breaks 1 of its promises:\n  check_hooks: hooks are left"):
        report.raise_for_failures()

    class Broken(Toy):
        def steps(self, x, lengths):
            raise KeyError("lost")

    with pytest.raises(ContractError, match="check_shapes: KeyError: 'lost'"):
        check_encoder(Broken(), longest=1.0)


def test_the_encoder_is_left_as_it_came():
    class Counts(Toy):
        def _encode(self, waveforms, lengths, keep):
            if self.training:
                self.calls += 1
            return super()._encode(waveforms, lengths, keep)

    encoder = Counts().train()
    encoder.conv2.eval()
    encoder.conv1.weight.requires_grad_(False)
    encoder.conv1.bias.grad = torch.ones(8)
    before = torch.random.get_rng_state()
    check_encoder(encoder, longest=1.0)
    assert encoder.training and not encoder.conv2.training and encoder.calls == 0
    assert not encoder.conv1.weight.requires_grad and torch.equal(encoder.conv1.bias.grad, torch.ones(8))
    assert encoder.conv2.weight.grad is None
    assert torch.equal(torch.random.get_rng_state(), before)


def test_reactions_are_told_apart():
    with torch.no_grad():
        found = dict(zip([spec.name for spec in SPECS], reactions(Toy()), strict=True))
    assert found["conv1"].local and found["conv2"].local
    # The middles of kernels of 400 and 400 + 2 * 160 samples lie half a sample before the offsets.
    assert abs(float(found["conv1"].drift.mean())) < 8 and abs(float(found["conv2"].drift.mean())) < 16
    assert not found["attention3"].local and not found["recurrent"].local


def test_layers_that_react_alike_everywhere_are_skipped():
    class Average(Toy):
        def steps(self, x, lengths):
            counts = self.hidden_lengths_for(lengths)
            for spec, frames in zip(self.layers, counts, strict=True):
                y = x.square().mean(1)[:, None, None].expand(len(x), int(frames.max()), spec.dim).contiguous()
                yield y, mask(frames, y)

    with pytest.raises(CheckSkipped, match="no layer reacts more strongly"):
        testing.check_time_axis(Average())


class FreesAtTheVeryEnd(KeepsEverything):
    def _encode(self, waveforms, lengths, keep):
        output = super()._encode(waveforms, lengths, keep)
        kept = [
            state if spec.name in keep else None for spec, state in zip(self.layers, output.hidden_states, strict=True)
        ]
        output.hidden_states = None
        for _ in range(3):
            last = kept[-1] + 0
        return SpeechEncoderOutput(last, tuple(kept))


def test_freeing_after_the_last_layer_is_too_late():
    with pytest.raises(ContractError, match="saves 0 kB"):
        testing.check_memory(FreesAtTheVeryEnd())


def test_live_bytes_follow_views_and_returned_arguments():
    with LiveBytes() as live:
        a = torch.zeros(1000)
        b = a.view(10, 100)[3]
        a.add_(1)
        assert live.history[-1] == 4000
        del a
        c = b + 1
        assert live.history[-1] == 4400
        del b
        c = c * 2
    assert live.peak == 4400 and live.history[-1] <= 800 and c.numel() == 100
