"""Encoders, banks, checkpoints, speaker encoders, vocoders, accumulated moments."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from types import SimpleNamespace

import espnet_stock
import hf_models
import numpy as np
import torch
import yaml
from kinds import Kind
from probe_fakes import ToyEncoder
from safetensors.torch import load_file, save_file

from hfprobe import AutoSpeechEncoder, ProbeBank
from hfprobe.asr import beam
from hfprobe.probes import HighwayProbe, HighwayProbeConfig, MeanProbe, MeanProbeConfig, checkpoints
from hfprobe.probes.classifier import ClassifierProbe
from hfprobe.probes.classifier_bank import ClassifierBank
from hfprobe.probes.classifier_config import ClassifierProbeConfig
from hfprobe.similarity.accumulator import PairAccumulator
from hfprobe.speakers import load_speaker_encoder


def espnet(name: str, packed: bool = False):
    def make(folder: Path) -> Path:
        experiment = folder / "exp"
        experiment.mkdir()
        espnet_stock.build_stock(experiment, "rnn-plain", 0)
        weights = next(experiment.glob("*.pth"))
        if name == "tokens.txt":
            config = yaml.safe_load((experiment / "config.yaml").read_text())
            (experiment / name).write_text("\n".join(config["token_list"]) + "\n")
            (experiment / "config.yaml").write_text(yaml.safe_dump(config | {"token_list": name}))
        if name == "meta.yaml" or packed:
            files = {"files": {"asr_model_file": weights.name}, "yaml_files": {"asr_train_config": "config.yaml"}}
            (experiment / "meta.yaml").write_text(yaml.safe_dump(files))
        if packed:
            with zipfile.ZipFile(folder / "model.zip", "w") as archive:
                for file in experiment.iterdir():
                    archive.write(file, file.name)
            return folder / "model.zip"
        if name == "model.safetensors":
            state = torch.load(weights, weights_only=True)
            save_file({key: value.contiguous() for key, value in state.items()}, experiment / name)
            weights.unlink()
        return weights if name == "*.pth" else experiment / name

    return make


def huggingface(name: str, variant: str = "wav2vec2-large-ctc"):
    def make(folder: Path) -> Path:
        hf_models.build_stock(folder, variant, 0)
        hf_models.write_vocabulary(folder)
        state = load_file(folder / "model.safetensors")
        if name.startswith("pytorch_model"):
            (folder / "model.safetensors").unlink()
            torch.save(state, folder / "pytorch_model.bin")
        if name == "model.safetensors.index.json":
            (folder / "model.safetensors").rename(folder / "part.safetensors")
            (folder / name).write_text(json.dumps({"weight_map": dict.fromkeys(state, "part.safetensors")}))
        return folder / name

    return make


def encoder(path: Path):
    return AutoSpeechEncoder.from_pretrained(path if path.suffix == ".zip" else path.parent)


def bank(name: str):
    def make(folder: Path) -> Path:
        toy, probes = ToyEncoder(), {}
        torch.manual_seed(0)
        for spec in toy.layers:
            settings = HighwayProbeConfig(input_dim=spec.dim, layer=spec.name, stride=spec.stride, hidden_dim=8)
            probes[spec.name] = HighwayProbe(settings)
        ProbeBank(probes, MeanProbe(MeanProbeConfig()), "toy", toy.fingerprint).save_pretrained(folder)
        return folder / name

    return make


def classifiers(name: str):
    def make(folder: Path) -> Path:
        settings = ClassifierProbeConfig(input_dim=6, labels=["f", "m"], layer="l1", target="gender")
        ClassifierBank({"l1": ClassifierProbe(settings)}, "toy").save_pretrained(folder)
        return folder / name

    return make


def renew(path: Path) -> None:
    """The checksum of a spoiled file, so that what it guards is read."""
    if path.name != "bank.json" and path.is_file() and not path.is_symlink():
        index = path.parents[1] / "bank.json"
        content = json.loads(index.read_text())
        content["sha256"][f"{path.parent.name}/{path.name}"] = hashlib.sha256(path.read_bytes()).hexdigest()
        index.write_text(json.dumps(content))


def _folder(path: Path) -> Path:
    return path.parent if path.name == "bank.json" else path.parents[1]


def checkpoint(name: str):
    def make(folder: Path) -> Path:
        accelerator = SimpleNamespace(is_main_process=True, process_index=0, wait_for_everyone=lambda: None)
        weight = torch.nn.Parameter(torch.ones(3))
        optimizer = torch.optim.AdamW([weight])
        local = {"random": checkpoints.random_state(), "stream": {"position": 3}}
        trainer = {"step": 5, "minutes": 0.5, "identity": {"seed": 0}}
        checkpoints.write(folder, accelerator, trainer, {"w": weight}, optimizer.state_dict(), local)
        return folder / "step-00000005" / name

    return make


def xvector(name: str):
    def make(folder: Path) -> Path:
        import test_xvector

        test_xvector.make("wavlm", folder)
        return folder / name

    return make


def speechbrain(name: str):
    def make(folder: Path) -> Path:
        import test_speechbrain_speakers

        test_speechbrain_speakers.folder_of("ecapa", folder)
        return folder / name

    return make


def ge2e(folder: Path) -> Path:
    from hfprobe.speakers.ge2e import packaged_weights

    (folder / "pretrained.pt").write_bytes(Path(packaged_weights()).read_bytes())
    return folder / "pretrained.pt"


def thinresnet(name: str):
    def make(folder: Path) -> Path:
        import test_thinresnet_files as files

        from hfprobe.speakers.weights import save_thinresnet

        network = files.random_network()
        if name.endswith("h5"):
            return files.write_keras(folder / name, files.keras_arrays(network))
        return save_thinresnet(network, folder / name)

    return make


def moments(folder: Path) -> Path:
    accumulator = PairAccumulator({"a": 3, "b": 2}, [("a", "b")], groups=2)
    accumulator.update({"a": torch.randn(8, 3), "b": torch.randn(8, 2)}, torch.arange(8) % 2)
    return accumulator.save(folder / "moments.safetensors")


def states(name: str):
    """As `write_states` writes them: two utterances of three and two frames."""

    def make(folder: Path) -> Path:
        from hfprobe.asr.states import INDEX, STATES

        heard = [{"id": "u1", "speaker": "ann", "text": "HELLO", "start": 0, "frames": 3},
                 {"id": "u2", "speaker": "bob", "text": "YES", "start": 3, "frames": 2}]  # fmt: skip
        index = {"encoder": "toy", "fingerprint": "f", "layer": "l1", "width": 4, "origin": {}, "utterances": heard}
        (folder / STATES).write_bytes(np.arange(20, dtype=np.float16).tobytes())
        (folder / INDEX).write_text(json.dumps(index))
        return folder / {"index": INDEX, "frames": STATES}[name]

    return make


def read_states(path: Path):
    from hfprobe.asr.states import load_states

    stored = load_states(path.parent)
    assert sum(len(stored.states(utterance)) for utterance in stored.utterances) == len(stored.values)


def generator(name: str):
    def make(folder: Path) -> Path:
        from speechbrain.lobes.models.HifiGAN import HifiganGenerator

        from hfprobe.vocoders.neural import GENERATOR

        network = HifiganGenerator(**{**GENERATOR, "upsample_initial_channel": 32})
        torch.save(network.state_dict(), folder / "generator.ckpt")
        (folder / "hyperparams.yaml").write_text("upsample_initial_channel: 32\n")
        return folder / name

    return make


def vocoder(path: Path):
    from hfprobe.vocoders.neural import SpeechBrainHifiGan

    SpeechBrainHifiGan(str(path.parent))


def language_model(name: str):
    def make(folder: Path) -> Path:
        from espnet2.lm.seq_rnn_lm import SequentialRNNLM

        tokens = ["<blank>", "<unk>", "<space>", "A", "B", "<sos/eos>"]
        sizes = {"rnn_type": "lstm", "nlayers": 1, "unit": 4}
        torch.manual_seed(0)
        weights = SequentialRNNLM(len(tokens), **sizes).state_dict()
        torch.save({f"lm.{key}": value.half() for key, value in weights.items()}, folder / beam.WEIGHTS)
        config = {"token_list": tokens, "lm": "seq_rnn", "lm_conf": sizes}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        return folder / name

    return make


def _verifier(name: str):
    return lambda path: load_speaker_encoder(f"{name}:{path.parent}")


ESPNET = ("encoders/espnet/experiment.py", "encoders/espnet/loading.py")
HUGGINGFACE = ("encoders/huggingface/loading.py", "encoders/huggingface/families.py")
WEIGHTS = ("encoders/huggingface/checkpoint.py", "hub/safety.py")
BANK = ("probes/bank_index.py", "probes/bank_files.py", "hub/safety.py")
KINDS = [
    *(Kind(f"ESPnet's {name}", ESPNET, form, espnet(name), encoder, slow=True) for name, form in (
        ("config.yaml", "yaml"), ("meta.yaml", "yaml"), ("tokens.txt", "lines"), ("*.pth", "binary"),
        ("model.safetensors", "binary"))),
    Kind("ESPnet's zip", ("encoders/espnet/archive.py",), "binary", espnet("", packed=True), encoder, slow=True),
    *(Kind(f"transformers' {name}", HUGGINGFACE if form == "json" else WEIGHTS, form, huggingface(name), encoder,
           slow=True) for name, form in (
        ("config.json", "json"), ("preprocessor_config.json", "json"), ("vocab.json", "json"),
        ("model.safetensors", "binary"), ("pytorch_model.bin", "binary"), ("model.safetensors.index.json", "json"))),
    *(Kind(f"bank's {name}", BANK, form, bank(name), lambda path: ProbeBank.from_pretrained(_folder(path)),
           after=renew) for name, form in (("bank.json", "json"), ("l1/config.json", "json"),
                                           ("l1/model.safetensors", "binary"), ("floor/config.json", "json"))),
    *(Kind(f"classifiers' {name}", ("probes/classifier_bank.py",), form, classifiers(name),
           lambda path: ClassifierBank.from_pretrained(_folder(path)), after=renew)
      for name, form in (("bank.json", "json"), ("l1/config.json", "json"), ("l1/model.safetensors", "binary"))),
    *(Kind(f"checkpoint's {name}", ("probes/checkpoints.py",), "json" if name.endswith("json") else "binary",
           checkpoint(name), lambda path: checkpoints.read(path.parent, 0))
      for name in ("trainer.json", "probes.safetensors", "optimizer.pt", "rank-0.pt")),
    *(Kind(f"x-vector's {name}", ("speakers/xvector.py",), form, xvector(name), _verifier("hf"), slow=True)
      for name, form in (("config.json", "json"), ("preprocessor_config.json", "json"), ("model.safetensors", "binary"))),
    *(Kind(f"ECAPA's {name}", ("speakers/speechbrain.py", "speakers/speechbrain_settings.py"), form, speechbrain(name),
           _verifier("ecapa"), slow=True)
      for name, form in (("hyperparams.yaml", "lines"), ("embedding_model.ckpt", "binary"))),
    Kind("GE2E's weights", ("speakers/ge2e.py",), "binary", ge2e, lambda path: load_speaker_encoder(f"ge2e:{path}"),
         slow=True),
    *(Kind(f"ThinResNet's {name}", ("speakers/weights.py", "speakers/keras_weights.py", "speakers/hdf5_child.py"), "binary", thinresnet(name),
           lambda path: load_speaker_encoder(f"thinresnet:{path}"), slow=True)
      for name in ("weights.h5", "weights.safetensors")),
    *(Kind(f"{name} of stored states", ("asr/states.py",), form, states(name), read_states)
      for name, form in (("index", "json"), ("frames", "binary"))),
    *(Kind(f"HiFi-GAN's {name}", ("vocoders/neural.py",), form, generator(name), vocoder, slow=True)
      for name, form in (("hyperparams.yaml", "lines"), ("generator.ckpt", "binary"))),
    *(Kind(f"language model's {name}", ("asr/beam.py",), form, language_model(name),
           lambda path: beam.load_language_model(path.parent), slow=True)
      for name, form in (("config.yaml", "yaml"), (beam.WEIGHTS, "binary"))),
    Kind("moments", ("similarity/accumulator.py",), "binary", moments, PairAccumulator.load),
]  # fmt: skip
