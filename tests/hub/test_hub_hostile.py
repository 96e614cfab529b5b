"""Repositories and folders that mean harm are refused in one clear sentence, and nothing of them is run."""

import io
import json
import os
import shutil

import pytest
import torch
from hub_hostile import Payload, hostile_banks, safetensors

from hfprobe.errors import BankError, ConfigError, HubError
from hfprobe.hub.safety import check_subfolder, read_header, refuse_code
from hfprobe.probes import HighwayProbe, ProbeBank
from hfprobe.probes.bank_push import linked_files, open_bank_folder


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write(folder, files):
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def test_hostile_banks_are_refused_from_the_hub_and_from_disk(hub, worker, bank_folder, tmp_path):
    mark = tmp_path / "run"
    cases = hostile_banks(contents(bank_folder), mark)
    for name, (files, _) in cases.items():
        hub.put_repo("model", f"evil/{name}", files)
    told = worker.run("result = {n: refused(ProbeBank.from_pretrained, f'evil/{n}') for n in names}", names=list(cases))
    for name, (files, expected) in cases.items():
        kind, message = told[name]
        assert kind == "BankError" and expected in message and "\n" not in message and len(message) < 600, (
            name,
            message,
        )
        folder = write(tmp_path / name, files)
        with pytest.raises(BankError) as error:
            ProbeBank.from_pretrained(folder)
        assert expected in str(error.value) and "\n" not in str(error.value), name
    assert not mark.exists()
    # What is too large is refused by what the Hub lists, before it is fetched.
    assert not hub.asked("(GET|HEAD) /evil/settings-too-large/resolve/.*/l1/config.json")
    assert not hub.asked("(GET|HEAD) /evil/index-too-large/resolve/.*/bank.json")
    assert not hub.asked(r"GET .*\.bin")


def test_hostile_probes_are_refused(hub, worker, bank_folder, tmp_path):
    cases = hostile_banks(contents(bank_folder), tmp_path / "run")
    names = ["pickle", "zip-named-safetensors", "header-of-megabytes", "offsets-strange", "truncated", "huge-width"]
    names += ["many-highways", "other-type", "auto-map", "attention-kernel", "quantised"]
    for name in [*names, "no-mel"]:
        hub.put_repo("model", f"evil/{name}", cases[name][0])
    result = worker.run(
        """
        result = {}
        for name in names:
            result[name] = [refused(HighwayProbe.from_pretrained, f"evil/{name}", subfolder="l1"),
                            refused(AutoModel.from_pretrained, f"evil/{name}", subfolder="l1")]
        result["code"] = [refused(HighwayProbe.from_pretrained, "evil/no-mel", subfolder="l1", trust_remote_code=True),
                          refused(AutoConfig.from_pretrained, "evil/auto-map", subfolder="l1")]
        result["up"] = [refused(HighwayProbe.from_pretrained, "evil/no-mel", subfolder=s) for s in ("../l1", "/etc", "l1/../..")]
        """,
        names=names,
    )
    for name in names:
        (kind, message), (automatic, _) = result[name]
        assert kind == "BankError" and cases[name][1] in message and "\n" not in message, (name, message)
        # AutoModel has its own code for other types; for ours it comes to the same checks.
        assert automatic != "nothing" or name == "other-type", name
    assert result["code"][0][0] == "ConfigError" and "trust_remote_code" in result["code"][0][1]
    assert "auto_map" in result["code"][1][1]
    assert all(kind == "BankError" and "subfolder" in message for kind, message in result["up"])
    assert not (tmp_path / "run").exists()


def test_hostile_encoders_are_refused(hub, worker, tmp_path):
    mark = tmp_path / "run"
    settings = {"model_type": "wav2vec2", "architectures": ["Wav2Vec2Model"]}
    pickled = io.BytesIO()
    torch.save({"encoder.x": Payload(mark)}, pickled)
    yaml = "encoder: rnn\ntoken_list: [a, b]\n"
    hub.put_repo("model", "evil/mapped", {"config.json": json.dumps({**settings, "auto_map": {"AutoModel": "m.Evil"}}), "model.safetensors": safetensors({}), "m.py": "raise SystemExit"})  # fmt: skip
    hub.put_repo("model", "evil/kernel", {"config.json": json.dumps({**settings, "attn_implementation": "evil/kernel"}), "model.safetensors": safetensors({})})  # fmt: skip
    hub.put_repo("model", "evil/extractor", {"config.json": json.dumps(settings), "preprocessor_config.json": json.dumps({"auto_map": {"AutoFeatureExtractor": "m.Evil"}}), "model.safetensors": safetensors({})})  # fmt: skip
    hub.put_repo(
        "model", "evil/pickled", {"config.json": json.dumps(settings), "pytorch_model.bin": pickled.getvalue()}
    )
    hub.put_repo("model", "evil/espnet", {"config.yaml": yaml, "valid.loss.best.pth": pickled.getvalue()})
    hub.put_repo("model", "evil/meta", {"meta.yaml": "files: {asr_model_file: ../../x.pth}\n", "config.yaml": yaml})
    hub.put_repo("model", "evil/yaml", {"config.yaml": "a: !!python/object/apply:os.system ['true']\n", "valid.loss.best.pth": b"x"})  # fmt: skip
    hub.put_repo("model", "evil/large", {"config.json": b" " * 50_000_001})
    hub.put_repo(
        "model",
        "evil/header",
        {"config.json": json.dumps(settings), "model.safetensors": safetensors({}, length=10**15)},
    )
    hub.put_repo("model", "evil/zipped", {"config.json": json.dumps(settings), "model.safetensors": pickled.getvalue()})
    hub.put_repo("model", "evil/espnet-zipped", {"config.yaml": yaml, "model.safetensors": pickled.getvalue()})
    hub.put_repo("model", "evil/path", {"config.json": json.dumps(settings), "../../../up.json": "{}"})
    names = [
        "path",
        "mapped",
        "kernel",
        "extractor",
        "pickled",
        "espnet",
        "meta",
        "yaml",
        "large",
        "header",
        "zipped",
        "espnet-zipped",
    ]
    told = worker.run(
        "result = {n: refused(AutoSpeechEncoder.from_pretrained, f'evil/{n}') for n in names}", names=names
    )
    expected = {"path": "leads elsewhere", "mapped": "auto_map", "kernel": "attn_implementation", "extractor": "auto_map", "pickled": "plain weights",
                "espnet": "", "meta": "../../x.pth", "yaml": "YAML", "large": "50,000,000", "header": "header",
                "zipped": "pickle", "espnet-zipped": ""}  # fmt: skip
    for name, (kind, message) in told.items():
        assert kind == "EncoderError" and expected[name] in message and "\n" not in message, (name, message)
    assert not mark.exists() and not hub.asked(r"GET .*\.py")


def test_links_that_lead_elsewhere(bank_folder, tmp_path):
    copy = shutil.copytree(bank_folder, tmp_path / "bank")
    secret = tmp_path / "secret.txt"
    secret.write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    shutil.move(copy / "l2", tmp_path / "elsewhere" / "l2")
    os.symlink(tmp_path / "elsewhere" / "l2", copy / "l2")
    for open_it in (ProbeBank.from_pretrained, open_bank_folder):
        with pytest.raises(BankError, match="link to elsewhere"):
            open_it(copy)
    with pytest.raises(BankError, match="link to elsewhere"):
        HighwayProbe.from_pretrained(copy, subfolder="l2")
    (copy / "l2").unlink()
    shutil.move(tmp_path / "elsewhere" / "l2", copy / "l2")
    os.symlink(copy, tmp_path / "name")  # a folder under another name is fine
    assert len(ProbeBank.from_pretrained(tmp_path / "name")) == 3
    os.symlink(secret, copy / "README.md")
    with pytest.raises(BankError, match="link to elsewhere"):
        open_bank_folder(copy)
    (copy / "README.md").unlink()
    os.symlink(secret, copy / "sound.txt")
    (copy / "README.md").write_text("# Probes\n[sound](sound.txt)\n")
    with pytest.raises(BankError, match="link to elsewhere"):
        open_bank_folder(copy)


def test_only_what_the_card_links_to_leaves_the_machine(bank_folder, tmp_path):
    copy = shutil.copytree(bank_folder, tmp_path / "bank")
    for path in ("a b.flac", "fig/one.png", "train_log.jsonl", "checkpoints/1.pt", ".env", "other.csv"):
        (copy / path).parent.mkdir(exist_ok=True)
        (copy / path).write_text("x")
    card = '# P\n![f](fig/one.png) <audio src="a%20b.flac"> [x](../secret.csv) [e](.env) [c](checkpoints/1.pt) [w](https://x.org/a.png)\n'
    (copy / "README.md").write_text(card)
    assert linked_files(card, copy) == ["fig/one.png", "a b.flac"]
    found = open_bank_folder(copy)
    assert set(found.files) == {"README.md", "fig/one.png", "a b.flac", *contents(bank_folder)}
    assert found.left == (".env", "checkpoints/", "other.csv", "train_log.jsonl")


def test_rules_by_themselves(tmp_path):
    for bad in ("..", "a/../../b", "/etc", "C:/x", "a\\b", "a\nb"):
        with pytest.raises(HubError, match="subfolder"):
            check_subfolder(bad)
    assert check_subfolder(None) == () and check_subfolder("a/b.c") == ("a", "b.c")
    refuse_code({"a": [{"attn_implementation": "sdpa", "auto_map": None, "quantization_config": {}}]}, "x")
    for bad in ({"a": [{"auto_map": {"x": "y"}}]}, {"text_config": {"_attn_implementation": "a/b"}}):
        with pytest.raises(ConfigError, match="names code to run"):
            refuse_code(bad, "x", ConfigError)
    # 640 bytes of header begin as a pickle of protocol 2 does.
    entry = {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    text = json.dumps(entry).encode().ljust(640)
    (tmp_path / "x.safetensors").write_bytes(safetensors(text, b"1234"))
    assert read_header(tmp_path / "x.safetensors") == {"a": ("F32", (1,))}
