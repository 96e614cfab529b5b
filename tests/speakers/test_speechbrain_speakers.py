"""ECAPA and x-vectors against SpeechBrain's own inference, with tiny models; settings that try to run code."""

import pytest
import torch

from hfprobe.encoders.speechbrain import forget_lazy_modules
from hfprobe.errors import EncoderError, HubError
from hfprobe.hub.download import Snapshot
from hfprobe.speakers import fetch, load_speaker_encoder
from hfprobe.speakers.speechbrain import PUBLISHED, SOURCES
from hfprobe.speakers.speechbrain_settings import Tagged, arguments, read_settings

FEATURES = """
n_mels: 16
compute_features: !new:speechbrain.lobes.features.Fbank
    n_mels: !ref <n_mels>
    left_frames: 0
    right_frames: 0
    deltas: False
mean_var_norm: !new:speechbrain.processing.features.InputNormalization
    norm_type: sentence
    std_norm: False
"""
ECAPA = """
embedding_model: !new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN
    input_size: !ref <n_mels>
    channels: [16, 16, 16, 16, 48]
    kernel_sizes: [5, 3, 3, 3, 1]
    dilations: [1, 2, 3, 4, 1]
    groups: [1, 1, 1, 1, 1]
    attention_channels: 8
    res2net_scale: 4
    se_channels: 8
    lin_neurons: 12
"""
XVECTOR = """
embedding_model: !new:speechbrain.lobes.models.Xvector.Xvector
    in_channels: !ref <n_mels>
    activation: !name:torch.nn.LeakyReLU
    tdnn_blocks: 5
    tdnn_channels: [16, 16, 16, 16, 32]
    tdnn_kernel_sizes: [5, 3, 3, 1, 1]
    tdnn_dilations: [1, 2, 3, 1, 1]
    lin_neurons: 10
"""
# As the published folders end: the loader there fetches what the modules need.
TAIL = """
mean_var_norm_emb: !new:speechbrain.processing.features.InputNormalization
    norm_type: global
    std_norm: False
classifier: !new:torch.nn.Linear
    in_features: 2
    out_features: 2
modules:
    compute_features: !ref <compute_features>
    mean_var_norm: !ref <mean_var_norm>
    embedding_model: !ref <embedding_model>
    classifier: !ref <classifier>
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        embedding_model: !ref <embedding_model>
    paths:
        embedding_model: FOLDER/embedding_model.ckpt
"""


def network(kind, seed=0):
    torch.manual_seed(seed)
    if kind == "ecapa":
        from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN

        model = ECAPA_TDNN(16, channels=[16, 16, 16, 16, 48], attention_channels=8, res2net_scale=4, se_channels=8, lin_neurons=12)  # fmt: skip
    else:
        from speechbrain.lobes.models.Xvector import Xvector

        model = Xvector(in_channels=16, tdnn_channels=[16] * 4 + [32], lin_neurons=10)
    forget_lazy_modules()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    return model.eval()


def folder_of(kind, path, text=None):
    path.mkdir(parents=True, exist_ok=True)
    torch.save(network(kind).state_dict(), path / "embedding_model.ckpt")
    settings = FEATURES + (ECAPA if kind == "ecapa" else XVECTOR) + TAIL.replace("FOLDER", str(path))
    (path / "hyperparams.yaml").write_text(settings if text is None else text)
    return path


@pytest.fixture(scope="module", params=["ecapa", "xvector"])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def folder(kind, tmp_path_factory):
    return folder_of(kind, tmp_path_factory.mktemp(kind) / "model")


def clips(seed=0):
    torch.manual_seed(seed)
    return 0.1 * torch.randn(4, 9000), torch.tensor([9000, 4000, 6500, 4000])


def test_equals_speechbrains_own_inference(kind, folder, tmp_path):
    from speechbrain.inference.classifiers import EncoderClassifier
    from speechbrain.utils.fetching import FetchConfig, LocalStrategy

    theirs = EncoderClassifier.from_hparams(
        source=str(folder), savedir=str(tmp_path), local_strategy=LocalStrategy.NO_LINK,
        fetch_config=FetchConfig(allow_network=False),
    )  # fmt: skip
    forget_lazy_modules()
    encoder = load_speaker_encoder(f"{kind}:{folder}")
    waveforms, _ = clips()
    with torch.no_grad():
        expected = torch.nn.functional.normalize(theirs.encode_batch(waveforms).squeeze(1))
    # SpeechBrain's x-vectors carry noise of up to 9e-5 in every mean over time.
    torch.testing.assert_close(encoder.embed(waveforms), expected, atol=1e-6 if kind == "ecapa" else 5e-4, rtol=0)
    assert encoder.name == f"{kind}:model" and encoder.dim == expected.shape[1]


def test_padding_and_company_change_nothing(kind, folder):
    encoder = load_speaker_encoder(f"{kind}:{folder}")
    waveforms, lengths = clips()
    together = encoder.embed(waveforms, lengths)
    alone = torch.cat([encoder.embed(waveforms[i : i + 1, :n]) for i, n in enumerate(lengths)])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)
    waveforms[1, 4000:] = 3.0
    torch.testing.assert_close(encoder.embed(waveforms, lengths), together, atol=1e-6, rtol=0)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(encoder.embed(waveforms, lengths), together, atol=1e-6, rtol=0)  # no noise left


def test_failures_are_counted(kind, folder):
    encoder = load_speaker_encoder(f"{kind}:{folder}")
    waveforms, _ = clips()
    waveforms[0] = 0
    waveforms[1, 3] = torch.nan
    found = encoder.embed(waveforms, torch.tensor([9000, 9000, 0, encoder.min_samples - 1]))
    assert encoder.last_failures == {0: "silent", 1: "not finite", 2: "empty", 3: "too short"}
    assert torch.isnan(found).all()
    assert torch.isfinite(encoder.embed(waveforms[3:, : encoder.min_samples])).all()


def test_settings_run_no_code(kind, tmp_path):
    mark = tmp_path / "ran"
    nasty = f'\nx: !apply:os.system ["touch {mark}"]\ny: !new:subprocess.Popen [["touch", "{mark}"]]\n'
    nasty += f'z: !!python/object/apply:os.system ["touch {mark}"]\n'
    settings = FEATURES + (ECAPA if kind == "ecapa" else XVECTOR)
    path = folder_of(kind, tmp_path / "a", settings + nasty.replace("z: !!python", "z: !python"))
    assert load_speaker_encoder(f"{kind}:{path}").dim in (10, 12)
    path = folder_of(kind, tmp_path / "b", settings + nasty)  # PyYAML's own tag for code
    with pytest.raises(EncoderError, match="could not read"):
        load_speaker_encoder(f"{kind}:{path}")
    called = settings.replace("16, 16, 16, 16", f'!apply:os.system ["touch {mark}"], 16, 16, 16')
    path = folder_of(kind, tmp_path / "c", called)
    with pytest.raises(EncoderError, match="plain value"):
        load_speaker_encoder(f"{kind}:{path}")
    assert not mark.exists()


@pytest.mark.parametrize(
    "old,new,match",
    [
        ("ECAPA_TDNN.ECAPA_TDNN", "ECAPA_TDNN.Classifier", "Classifier"),
        ("norm_type: sentence", "norm_type: global", "sentence"),
        ("se_channels: 8", "se_channels: 16", "differ"),
        ("se_channels: 8", "unknown: 8", "cannot build"),
        ("se_channels: 8", "activation: !name:os.system", "activation"),
        ("se_channels: 8", "se_channels: !ref <nothing>", "plain value"),
        ("n_mels: 16", "n_mels: !ref <n_mels>", "plain value"),
        ("n_mels: 16", "sample_rate: 8000\nn_mels: 16", "8000"),
        ("channels: [16, 16, 16, 16, 48]", "channels: [16]", "cannot build"),
        ("n_mels: 16", "n_mels: [", "could not read"),
    ],
)
def test_settings_that_do_not_fit_are_refused(old, new, match, tmp_path):
    path = folder_of("ecapa", tmp_path / "m", (FEATURES + ECAPA).replace(old, new, 1))
    with pytest.raises(EncoderError, match=match) as error:
        load_speaker_encoder(f"ecapa:{path}")
    assert "\n" not in str(error.value)


def test_weights_that_do_not_fit_are_refused(tmp_path):
    path = folder_of("ecapa", tmp_path / "m")
    state = torch.load(path / "embedding_model.ckpt", weights_only=True)
    state.pop("fc.conv.bias")
    torch.save(state, path / "embedding_model.ckpt")
    with pytest.raises(EncoderError, match="fc.conv.bias"):
        load_speaker_encoder(f"ecapa:{path}")
    torch.save({"model": Exception("a pickled object")}, path / "embedding_model.ckpt")
    with pytest.raises(EncoderError, match="plain weights"):
        load_speaker_encoder(f"ecapa:{path}")
    (path / "embedding_model.ckpt").unlink()
    with pytest.raises(EncoderError, match="embedding_model.ckpt"):
        load_speaker_encoder(f"ecapa:{path}")
    with pytest.raises(EncoderError, match="neither is there"):
        load_speaker_encoder(f"ecapa:{tmp_path / 'none'}")


def test_published_settings_build_without_a_yaml(tmp_path):
    """ECAPA with 20.8 million and x-vectors with 4.2 million parameters, as on the model cards."""
    from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
    from speechbrain.lobes.models.Xvector import Xvector

    forget_lazy_modules()
    models = {
        "ecapa": ECAPA_TDNN(**PUBLISHED["ecapa"]),
        "xvector": Xvector(**{key: value for key, value in PUBLISHED["xvector"].items() if key != "activation"}),
    }
    assert set(models) == set(SOURCES)
    for kind, dim, millions in (("ecapa", 192, 20.8), ("xvector", 512, 4.2)):
        path = tmp_path / kind
        path.mkdir()
        torch.save(models[kind].state_dict(), path / "embedding_model.ckpt")
        encoder = load_speaker_encoder(f"{kind}:{path}")
        assert sum(p.numel() for p in encoder.model.parameters()) / 1e6 == pytest.approx(millions, abs=0.06)
        assert encoder.embed(0.1 * torch.randn(1, 8000)).shape == (1, dim)


def test_the_hub_is_asked_for_two_files_only(tmp_path, monkeypatch):
    path, asked = folder_of("ecapa", tmp_path / "m"), []

    def fetched(*arguments):
        asked.append(arguments)
        return Snapshot(path, None)

    monkeypatch.setattr(fetch, "fetch", fetched)
    assert load_speaker_encoder("ecapa").name == "ecapa"
    assert load_speaker_encoder("ecapa:some/one@v2").name == "ecapa:some/one@v2"
    assert [arguments[:2] for arguments in asked] == [(SOURCES["ecapa"], None), ("some/one", "v2")]
    assert all(list(arguments[2]) == ["hyperparams.yaml", "embedding_model.ckpt"] for arguments in asked)

    def offline(*arguments):
        raise HubError("no network at all")

    monkeypatch.setattr(fetch, "fetch", offline)
    with pytest.raises(EncoderError, match="no network at all"):
        load_speaker_encoder("ecapa")


def test_aliases_cannot_blow_up(tmp_path):
    lines = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}, *a{i - 1}, *a{i - 1}]" for i in range(1, 40)]
    (tmp_path / "hyperparams.yaml").write_text("\n".join(lines) + "\nm: !new:a.B\n    size: *a39\n")
    with pytest.raises(EncoderError, match="more than 1,000,000 values"):
        arguments(read_settings(tmp_path), "m", "a.B")


def test_plain_values():
    settings = {"n": Tagged("ref", "<k>"), "k": 4, "m": Tagged("new:a.B", {"x": [1, Tagged("ref", "<n>")], "y": None})}
    assert arguments(settings, "m", "a.B") == {"x": [1, 4], "y": None}
    assert arguments({"m": Tagged("new:a.B", "")}, "m", "a.B") == {} == arguments({}, "m", "a.B")
