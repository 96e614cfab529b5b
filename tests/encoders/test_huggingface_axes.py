"""Features, time axis, windows and memory of transformers encoders."""

from __future__ import annotations

import pytest
import torch
import transformers
from hf_models import VARIANTS, build_stock, pad, peak_error, speechlike
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hfprobe.encoders.huggingface import load_huggingface
from hfprobe.encoders.huggingface.features import kaldi_fbank, parakeet_log_mel, stack_frames, whisper_log_mel

# One of each kind of time axis.
AXES = ["wav2vec2-large-ctc", "wav2vec2-adapter", "speecht5", "w2v-bert", "whisper", "parakeet-ctc"]


@pytest.mark.parametrize("samples", [800, 9173, 16000, 160321])
def test_kaldi_features_are_those_of_the_extractor(samples):
    extractor = transformers.SeamlessM4TFeatureExtractor()
    waveform = speechlike(samples)[0]
    expected = extractor(waveform.numpy(), sampling_rate=16000, return_tensors="pt")
    batch, lengths = pad([waveform, speechlike(samples + 3000)[0]])
    features = stack_frames(kaldi_fbank(batch, lengths, extractor), 2)
    valid = int(expected["attention_mask"].sum())
    assert peak_error(features[0, :valid], expected["input_features"][0, :valid]) < 1e-6


@pytest.mark.parametrize("samples", [800, 9173, 16000, 160321])
def test_parakeet_features_are_those_of_the_extractor(samples):
    extractor = transformers.ParakeetFeatureExtractor()
    waveform = speechlike(samples)[0]
    expected = extractor(waveform.numpy(), sampling_rate=16000, return_tensors="pt")
    batch, lengths = pad([waveform, speechlike(samples + 3000)[0]])
    features = parakeet_log_mel(batch, lengths, extractor)
    valid = int(expected["attention_mask"].sum())
    assert peak_error(features[0, :valid], expected["input_features"][0, :valid]) < 1e-5
    assert not features[0, valid:].any()


def test_whisper_features_are_those_of_the_extractor():
    extractor = transformers.WhisperFeatureExtractor()
    waveform = speechlike(20001)[0]
    expected = extractor(waveform.numpy(), sampling_rate=16000, return_tensors="pt")["input_features"]
    window = torch.nn.functional.pad(waveform[None], (0, 480000 - 20001))
    assert peak_error(whisper_log_mel(window, extractor), expected) < 1e-6


@torch.no_grad()
@pytest.mark.parametrize("name", ["cnn1", "cnn4", "cnn7"])
def test_convolutions_react_exactly_where_stride_and_offset_say(name, tmp_path):
    build_stock(tmp_path, "wav2vec2-large-ctc")
    encoder = load_huggingface(tmp_path, do_normalize=False)
    spec = encoder.layer(name)
    number = int(name[3:])
    stride, field = 1, 1
    for kernel, step in list(zip((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2), strict=True))[:number]:
        field, stride = field + (kernel - 1) * stride, stride * step
    quiet = speechlike(6000)[0][None]
    assert spec.stride == stride
    for place in (2500, 3217):
        loud = quiet.clone()
        loud[0, place] += 0.5
        change = (encoder(loud, layers=[name]).hidden_states[0] - encoder(quiet, layers=[name]).hidden_states[0])[0]
        reacting = change.abs().amax(dim=1).gt(1e-6).nonzero().flatten().tolist()
        centres = [spec.offset + i * spec.stride for i in range(len(change))]
        # The offset is half a field of even width, rounded up.
        seen = [i for i, centre in enumerate(centres) if centre - field / 2 <= place < centre + field / 2]
        assert set(reacting) <= set(seen) and len(seen) - len(reacting) <= 1, (place, reacting, seen)


@torch.no_grad()
@pytest.mark.parametrize("variant", AXES)
def test_a_burst_shows_in_the_frame_that_is_centred_on_it(variant, tmp_path, monkeypatch):
    if variant == "whisper":
        # Windows of 2 s are enough, and quick.
        options = {**VARIANTS[variant][1], "max_source_positions": 100}
        monkeypatch.setitem(
            VARIANTS, variant, ("WhisperModel", options, "WhisperFeatureExtractor", {"chunk_length": 2})
        )
    build_stock(tmp_path, variant)
    lively = load_huggingface(tmp_path)
    # The library's own initialisation lets the residual path lead through the blocks.
    plain = load_huggingface(tmp_path, random_init=True, seed=1)
    quiet = speechlike(32000)[0][None]
    burst = torch.randn(161, generator=torch.Generator().manual_seed(3)) * torch.hann_window(161, periodic=False)
    names = [spec.name for spec in lively.layers]
    pairs = {name: [] for name in names}
    for target in (5000, 9100, 14500, 19000, 26000):
        for spec in lively.layers:
            # The layers of one stride and offset share a pass.
            if spec.stride in [lively.layer(name).stride for name in names[: names.index(spec.name)]]:
                continue
            frame = round((target - spec.offset) / spec.stride)
            place = spec.offset + frame * spec.stride
            loud = quiet.clone()
            loud[0, place - 80 : place + 81] += burst
            for name in names:
                if lively.layer(name).stride != spec.stride:
                    continue
                assert lively.layer(name).offset == spec.offset
                encoder = lively if name.startswith("cnn") else plain
                before, after = (encoder(x, layers=[name]).hidden_states[0][0] for x in (quiet, loud))
                change = (after - before).square().sum(dim=1)
                # Normalisation over the utterance moves every frame a little.
                change = (change - change.median()).clamp(min=0.0)
                pairs[name].append(int(change.argmax()) - frame)
    for name, errors in pairs.items():
        # The burst is 10 ms long: half of it, in frames.
        slack = -(-80 // lively.layer(name).stride)
        # The convolutions inside w2v-BERT's blocks are causal, 7 wide: they answer late, never early.
        late = 6 * int(name[-1]) if variant == "w2v-bert" and name.startswith("conformer") else 0
        near = [-slack <= error <= slack + late for error in errors]
        # Attention may answer elsewhere too; the front ends never do.
        assert all(near) if name.startswith(("cnn", "embed")) else sum(near) >= 2, (name, errors)


@torch.no_grad()
def test_long_audio_goes_through_whisper_in_windows(tmp_path):
    stock = build_stock(tmp_path, "whisper")
    encoder = load_huggingface(tmp_path)
    assert encoder.window_samples == 480000
    waveforms = speechlike(480000 + 5000, 3000)
    batch, lengths = pad(waveforms)
    names = ["cnn1", "transformer3", "final"]
    output = encoder(batch, lengths, layers=names)
    assert output.windows.tolist() == [2, 1]
    parts = [stock.run(part)[0] for part in (waveforms[0][:480000], waveforms[0][480000:], waveforms[1])]
    for name, state, counts in zip(names, output.hidden_states, output.hidden_lengths, strict=True):
        full, rest, short = (3000, 32, 19) if name == "cnn1" else (1500, 16, 10)
        assert counts.tolist() == [full + rest, short] and state.shape[1] == full + rest
        assert peak_error(state[0, :full], parts[0][name][:full]) < 1e-5
        assert peak_error(state[0, full:], parts[1][name][:rest]) < 1e-5
        assert peak_error(state[1, :short], parts[2][name][:short]) < 1e-5
        assert not state[1, short:].any()


@torch.no_grad()
def test_short_windows_of_a_small_whisper(tmp_path, monkeypatch):
    options = {**VARIANTS["whisper"][1], "max_source_positions": 50}
    monkeypatch.setitem(VARIANTS, "whisper", ("WhisperModel", options, "WhisperFeatureExtractor", {"chunk_length": 1}))
    stock = build_stock(tmp_path, "whisper")
    encoder = load_huggingface(tmp_path)
    assert encoder.window_samples == 16000 and "windows of 1 s" in encoder.layer("cnn1").tap
    waveform = speechlike(40001)[0]
    output = encoder(waveform[None])
    assert output.windows.tolist() == [3] and output.last_hidden_state.shape[1] == 126
    inputs = transformers.WhisperFeatureExtractor(chunk_length=1)(
        waveform[32000:].numpy(), sampling_rate=16000, return_tensors="pt"
    )
    expected = stock.model.encoder(inputs["input_features"]).last_hidden_state
    assert peak_error(output.last_hidden_state[:, 100:], expected[:, :26]) < 1e-5


class PeakBytes(TorchDispatchMode):
    """Watches how many bytes of tensors are alive at once."""

    def __init__(self):
        super().__init__()
        self.storages: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0

    def alive(self) -> int:
        """Bytes of this moment."""
        self.storages = {key: entry for key, entry in self.storages.items() if not entry[0].expired()}
        return sum(size for _, size in self.storages.values())

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        for value in tree_leaves(output):
            if isinstance(value, torch.Tensor):
                storage = value.untyped_storage()
                self.storages[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self.peak = max(self.peak, self.alive())
        return output


def deep(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a variant of many blocks and a slim front end, so that the states of blocks weigh most."""
    architecture, options, extractor, settings = VARIANTS[variant]
    slim = {"num_hidden_layers": 16, "encoder_layers": 16, "conv_dim": (1,) * 7, "intermediate_size": 8}
    options = {**options, **{key: value for key, value in slim.items() if key in options}}
    if "encoder_config" in options:
        options["encoder_config"] = {**options["encoder_config"], "num_hidden_layers": 16}
    monkeypatch.setitem(VARIANTS, variant, (architecture, options, extractor, settings))


@torch.no_grad()
@pytest.mark.parametrize("variant", ["wav2vec2-base", "w2v-bert-ctc", "whisper", "parakeet-ctc"])
def test_memory_follows_the_choice_of_layers(variant, tmp_path, monkeypatch):
    deep(variant, monkeypatch)
    build_stock(tmp_path, variant)
    encoder = load_huggingface(tmp_path)
    # Two lengths, so that padding is laid as well.
    batch, lengths = pad(speechlike(24000, 18000))
    last = encoder.layers[-1].name
    block = next(m for m in encoder.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == 16)[-1]
    alive, outputs, peaks = {}, {}, {}
    for choice in (None, (last,)):
        with PeakBytes() as memory:
            handle = block.register_forward_pre_hook(lambda *_: alive.__setitem__(choice, memory.alive()))  # noqa: B023
            outputs[choice] = encoder(batch, lengths, layers=choice)
            handle.remove()
        peaks[choice] = memory.peak
    first = [spec.name for spec in encoder.layers].index("embed")
    states = outputs[None].hidden_states[first : first + 15]
    others = sum(state.numel() * state.element_size() for state in states)
    assert alive[None] - alive[(last,)] > 0.7 * others > 0
    if variant == "wav2vec2-base":
        assert peaks[None] - peaks[(last,)] > 0.6 * others


@torch.no_grad()
def test_one_pass_for_each_length_gives_what_one_for_all_gives(tmp_path, monkeypatch):
    """Large networks on a CPU take a batch of several lengths apart; values and places stay."""
    from hfprobe.encoders.huggingface import adapter

    build_stock(tmp_path, "wav2vec2-base")
    batch, lengths = pad(speechlike(24000, 9000, 24000, 16000))
    small = load_huggingface(tmp_path)
    monkeypatch.setattr(adapter, "SMALL_NETWORK", 1)
    large = load_huggingface(tmp_path)
    passes = []
    run = large._run
    monkeypatch.setattr(large, "_run", lambda waveforms, *rest: (passes.append(len(waveforms)), run(waveforms, *rest)))
    together, apart = small(batch, lengths), large(batch, lengths)
    assert passes == [1, 1, 2]
    for a, b in zip(together.hidden_states, apart.hidden_states, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
