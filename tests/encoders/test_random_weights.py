"""The random floor: same shape, other weights, drawn by the architecture's own rules from a seed."""

import shutil

import pytest
import torch
from torch import nn

from hfprobe.encoders import AutoSpeechEncoder, auto
from hfprobe.encoders.random_weights import randomised, split_random
from hfprobe.errors import EncoderError


@pytest.fixture
def shelf(experiment, tmp_path_factory, monkeypatch):
    """A package folder with one shipped encoder, ``tiny``."""
    root = tmp_path_factory.mktemp("encoders")
    shutil.copytree(experiment.folder, root / "tiny")
    monkeypatch.setattr(auto, "shipped_folder", lambda: root)
    return root


def test_names_and_seeds(shelf):
    trained = AutoSpeechEncoder.from_pretrained("tiny")
    twin, same, other = (AutoSpeechEncoder.from_pretrained(f"random:tiny{end}") for end in ("", "@0", "@3"))
    assert (twin.name, same.name, other.name) == ("random:tiny", "random:tiny", "random:tiny@3")
    assert twin.layers == trained.layers and twin.fingerprint == same.fingerprint
    assert len({trained.fingerprint, twin.fingerprint, other.fingerprint}) == 3
    spoken = AutoSpeechEncoder.from_pretrained("tiny", random_weights=3)
    assert (spoken.name, spoken.fingerprint) == (other.name, other.fingerprint)
    path = AutoSpeechEncoder.from_pretrained(f"random:{shelf / 'tiny'}@3")
    assert (path.name, path.fingerprint) == (other.name, other.fingerprint)
    # What goes in is the trained encoder's own: features and their normalisation.
    waveforms, lengths = 0.1 * torch.randn(1, 4000), torch.tensor([4000])
    assert torch.equal(twin.features(waveforms, lengths)[0], trained.features(waveforms, lengths)[0])
    assert split_random(other.name) == ("tiny", 3)


@pytest.mark.parametrize(("name", "options", "word"), [
    ("random:tiny", {"random_weights": 3}, "twice"), ("random:tiny", {"random_init": True}, "twice"),
    ("tiny", {"random_weights": -1}, "seed"), ("tiny", {"random_weights": True}, "seed"),
    ("random:nobody", {}, "'nobody' is neither"),
])  # fmt: skip
def test_contradictions_are_refused(shelf, name, options, word):
    with pytest.raises(EncoderError, match=word):
        AutoSpeechEncoder.from_pretrained(name, **options)


class Net(nn.Module):
    def __init__(self, extra=None):
        super().__init__()
        self.conv = nn.Conv1d(1, 16, 400, 160)
        self.norm = nn.BatchNorm1d(16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.extra = extra

    def forward(self, waveforms):
        x = self.norm(self.conv(waveforms[:, None])).transpose(1, 2)
        x = self.attention(x, x, x)[0]
        return x if self.extra is None else x * self.extra


def encoder_of(net):
    torch.manual_seed(1)
    for value in net.parameters():
        nn.init.normal_(value)
    net.norm.running_mean.fill_(3.0)
    layers = {"conv": "norm", "attention": "attention"}
    options = {"offset": 200, "layout": {"conv": "bct", "attention": "btd"}, "name": "net"}
    return AutoSpeechEncoder.from_module(net.eval(), layers, 160, **options)


def test_any_module_is_drawn_anew_by_its_own_rules():
    trained = encoder_of(Net())
    before = trained.fingerprint
    torch.manual_seed(7)
    state = torch.get_rng_state()
    twin, again, other = randomised(trained, 2), randomised(trained, 2), randomised(trained, 3)
    assert torch.equal(torch.get_rng_state(), state) and trained.fingerprint == before
    assert (twin.name, twin.layers) == ("random:net@2", trained.layers) and not twin.training
    assert twin.fingerprint == again.fingerprint != other.fingerprint
    conv = twin.module.conv.weight.detach()
    bound = (1 / 400) ** 0.5  # PyTorch's rule for a convolution of fan-in 400
    assert conv.abs().max() <= bound and conv.std() == pytest.approx(bound / 3**0.5, rel=0.05)
    assert twin.module.norm.running_mean.abs().max() == 0 and twin.module.norm.weight.eq(1).all()
    waveforms = 0.1 * torch.randn(1, 4000)
    states = [each(waveforms).last_hidden_state for each in (twin, again, trained)]
    assert torch.equal(states[0], states[1]) and not torch.allclose(states[0], states[2])


def test_parameters_that_nothing_draws_are_named():
    with pytest.raises(EncoderError, match=r"reset_parameters.*module\.extra"):
        randomised(encoder_of(Net(nn.Parameter(torch.randn(16)))))
