"""Probes load where nothing is installed that only training or encoders need."""

import subprocess
import sys

CODE = """
import importlib.abc, sys

ABSENT = {"accelerate", "datasets", "espnet", "espnet2", "evaluate", "speechbrain", "matplotlib", "jinja2", "sklearn"}

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name.split(".")[0] in ABSENT else find(name, package)

import torch
import hfprobe.probes
from hfprobe import HighwayProbe, ProbeBank
from transformers import AutoConfig, AutoModel

folder, classes = sys.argv[1:]
bank = ProbeBank.from_pretrained(folder)
probe = HighwayProbe.from_pretrained(folder, subfolder="l1")
again = AutoModel.from_pretrained(f"{folder}/l1")
assert type(again) is HighwayProbe and AutoConfig.from_pretrained(f"{folder}/l3").model_type == "hfprobe-linear"
states = torch.randn(1, 5, 6)
assert torch.equal(probe(states).mel, bank["l1"](states).mel) and torch.equal(again(states).mel, probe(states).mel)
assert AutoModel.from_pretrained(f"{classes}/l1")(states).logits.shape == (1, 2)
assert len(hfprobe.probes.ClassifierBank.from_pretrained(classes)) == 2
bank.save_pretrained(f"{folder}-again")
assert not ABSENT & {name.split(".")[0] for name in sys.modules}
print("all of it")
"""


def test_loading_needs_nothing_that_trains(bank_folder, classifier_folder):
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(bank_folder), str(classifier_folder)],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "all of it"
