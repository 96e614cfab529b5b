"""One stand-in for the Hub, one process that talks to it, and one small bank for all tests in this folder."""

import pytest
from hub_banks import make_bank, make_classifiers
from hub_server import Hub
from hub_worker import Worker

# Waits are written down and not waited for.
SETUP = """
import json, time
waits = []
time.sleep = waits.append
import torch
from huggingface_hub import constants
from transformers import AutoConfig, AutoModel
import hfprobe
from hfprobe.probes import ClassifierBank, ClassifierProbe, HighwayProbe, LinearProbe, MeanProbe, ProbeBank
from hfprobe import AutoSpeechEncoder

def weights(probe):
    return {name: value.numpy().tobytes().hex() for name, value in probe.state_dict().items()}

def refused(function, *arguments, **options):
    'Class and message of the error that a call raises.'
    try:
        function(*arguments, **options)
    except Exception as error:
        return [type(error).__name__, str(error)]
    return ['nothing', 'it was not refused']
"""


@pytest.fixture(scope="session")
def running_hub():
    with Hub() as hub:
        yield hub


@pytest.fixture
def hub(running_hub):
    """The server, with an empty log and no faults; repositories of other tests are still there."""
    running_hub.clear()
    yield running_hub
    running_hub.clear()


@pytest.fixture(scope="session")
def worker(running_hub, tmp_path_factory):
    worker = Worker(running_hub.environment(tmp_path_factory.mktemp("hf")), SETUP)
    yield worker
    worker.close()


@pytest.fixture(scope="session")
def bank_folder(tmp_path_factory):
    """A bank of three layers, two highway probes and a linear one, in float32."""
    folder = tmp_path_factory.mktemp("banks") / "bank"
    make_bank().save_pretrained(folder, dtype="float32")
    return folder


@pytest.fixture(scope="session")
def classifier_folder(tmp_path_factory):
    """A bank of two classifiers."""
    return make_classifiers().save_pretrained(tmp_path_factory.mktemp("banks") / "classifiers")
