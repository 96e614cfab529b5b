"""Encoders from the Hub, over HTTP: ESPnet's repository layout and transformers models, by revision."""

import json
import shutil

import espnet_stock
import hf_models
import pytest
import torch
import yaml

SAME = """
hub, disk = AutoSpeechEncoder.from_pretrained(repo, revision=revision), AutoSpeechEncoder.from_pretrained(folder)
sound = torch.sin(torch.arange(6400) / 20)[None]
states = [[x.tolist() for x in encoder(sound, output_hidden_states=True).hidden_states] for encoder in (hub, disk)]
result = [hub.name, hub.fingerprint == disk.fingerprint, states[0] == states[1], [l.name for l in hub.layers]]
"""


@pytest.fixture(scope="module")
def espnet_folder(tmp_path_factory):
    """An experiment as `espnet2.bin.pack` and ESPnet's upload lay it out, with meta.yaml."""
    folder = tmp_path_factory.mktemp("espnet")
    inner = folder / "exp" / "asr_tiny"
    inner.mkdir(parents=True)
    espnet_stock.build_stock(inner, "rnn-plain")
    meta = {
        "espnet": "202511",
        "files": {"asr_model_file": "exp/asr_tiny/valid.loss.best.pth"},
        "yaml_files": {"asr_train_config": "exp/asr_tiny/config.yaml"},
    }
    (folder / "meta.yaml").write_text(yaml.safe_dump(meta))
    return folder


def test_espnet_with_meta_yaml(hub, worker, espnet_folder, tmp_path):
    hub.put_folder("model", "someone/espnet", espnet_folder)
    repo = hub.repos["models", "someone/espnet"]
    repo.tags["v1"] = repo.refs["main"]
    other = shutil.copytree(espnet_folder, tmp_path / "other")
    (other / "run.sh").write_text("exit 1")
    weights = other / "exp" / "asr_tiny" / "valid.loss.best.pth"
    torch.save(
        {name: value * 0.5 if value.is_floating_point() else value for name, value in torch.load(weights).items()},
        weights,
    )
    hub.put_folder("model", "someone/espnet", other)
    first = worker.run(SAME, repo="someone/espnet", revision="v1", folder=espnet_folder)
    now = worker.run(SAME, repo="someone/espnet", revision=None, folder=other)
    assert first[:3] == now[:3] == ["someone/espnet", True, True] and len(first[3]) == 3
    assert not hub.asked("GET .*run.sh")
    assert worker.run(SAME.replace("result =", "result = states[0][0][0][0][:2] +"), repo="someone/espnet", revision="v1", folder=other)[3:5] == [False, False]  # fmt: skip


def test_a_transformers_model_through_a_bad_network(hub, worker, tmp_path):
    hf_models.build_stock(tmp_path, "wav2vec2-base")
    hub.put_folder("model", "someone/w2v", tmp_path)
    hub.put_repo("model", "someone/w2v", {"README.md": "nothing yet"}, revision="empty")
    hub.plant("GET /api/models/someone/w2v", times=2)
    hub.plant("GET /someone/w2v/resolve/.*/model.safetensors", "cut", after=5000)
    result = worker.run(SAME, repo="someone/w2v", revision=None, folder=tmp_path)
    assert result[:3] == ["someone/w2v", True, True] and not hub.faults
    name, message = worker.run("result = refused(AutoSpeechEncoder.from_pretrained, 'someone/w2v', revision='none')")
    assert name == "EncoderError" and "no revision 'none'" in message
    name, message = worker.run("result = refused(AutoSpeechEncoder.from_pretrained, 'someone/w2v', revision='empty')")
    assert name == "EncoderError" and "no known kind" in message
    name, message = worker.run("result = refused(AutoSpeechEncoder.from_pretrained, 'someone/none')")
    assert name == "EncoderError" and "'someone/none'" in message and "\n" not in message


def test_weights_that_lie_are_refused(hub, worker, tmp_path):
    hf_models.build_stock(tmp_path, "wav2vec2-base")
    hub.put_folder("model", "someone/lies", tmp_path)
    hub.plant("GET /someone/lies/resolve/.*/model.safetensors", "corrupt", after=60_000, times=100)
    name, message = worker.run("result = refused(AutoSpeechEncoder.from_pretrained, 'someone/lies')")
    assert name == "EncoderError" and "checksum" in message and "model.safetensors" in message
    settings = json.loads((tmp_path / "config.json").read_text())
    hub.put_repo("model", "someone/mapped", {"config.json": json.dumps({**settings, "auto_map": {"AutoModel": "m.M"}})})
    name, message = worker.run("result = refused(AutoSpeechEncoder.from_pretrained, 'someone/mapped')")
    assert name == "EncoderError" and "names code to run ('auto_map')" in message


def test_listening_in_one_line_with_probes_from_the_hub(hub, worker, tmp_path):
    result = worker.run(
        """
        import numpy
        ProbeBank.from_pretrained("blstm-robust").push_to_hub("user/robust", private=True)
        t = numpy.arange(16000) / 16000
        sound = (0.1 * numpy.sin(2 * numpy.pi * (200 + 100 * t) * t) * (1 + numpy.sin(30 * t))).astype("float32")
        options = {"layers": ["blstm1", "blstm5"], "n_iter": 2}
        here, there = hfprobe.listen(sound, **options), hfprobe.listen(sound, probes="user/robust", **options)
        same = [(here[n].waveform == there[n].waveform).all().item() for n in here]
        saved = [path.name for path in there.save(folder)]
        result = [list(there), same, str(here) == str(there), str(there), there["blstm5"].stoi, saved,
                  refused(hfprobe.listen, sound, encoder=AutoSpeechEncoder.from_pretrained("random:blstm-robust"))[1],
                  refused(lambda: there["blstm2"])[1], refused(hfprobe.listen, sound[:10])[0]]
        """,
        folder=tmp_path / "sounds",
    )
    names = ["input", "ceiling", "blstm1", "blstm5"]
    assert result[0] == names and result[1] == [True] * 4 and result[2]
    lines = result[3].splitlines()
    assert lines[0] == "samples (1.0 s) through blstm-robust" and lines[1].startswith("layer")
    assert [line.split()[0] for line in lines[2:]] == names and f"{result[4]:4.2f}" in lines[-1]
    assert (
        result[5] == [f"{name}.flac" for name in names] and (tmp_path / "sounds" / "blstm5.flac").stat().st_size > 1000
    )
    assert "random:blstm-robust" in result[6] and "blstm5" in result[7] and result[8] == "AudioError"
