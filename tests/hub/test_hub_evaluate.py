"""The modules for the ``evaluate`` library, loaded by Hub id from Spaces that hold their folders."""

from pathlib import Path

import pytest

from hfprobe.evaluate_modules import path
from hfprobe.metrics import eer, her, min_dcf

SCORES, LABELS = [0.9, 0.8, 0.3, 0.1, 0.7], [1, 0, 1, 0, 1]


def test_modules_by_hub_id(hub, worker):
    names = ("eer", "min_dcf", "her", "stoi", "estoi", "pesq")
    for name in names:
        hub.put_folder("space", f"user/{name}", Path(path(name)))
    found = worker.run(
        """
import evaluate
loaded = {name: evaluate.load(f"user/{name}") for name in names}
result = {
    "described": [name for name, module in loaded.items() if module.citation and module.inputs_description],
    "eer": loaded["eer"].compute(predictions=scores, references=labels)["eer"],
    "min_dcf": loaded["min_dcf"].compute(predictions=scores, references=labels)["min_dcf"],
    "her": loaded["her"].compute(predictions=[0, 1, 1], references=[0, 0, 1])["her"],
}
""",
        names=list(names), scores=SCORES, labels=LABELS,
    )  # fmt: skip
    assert found["described"] == list(names)
    assert found["eer"] == pytest.approx(eer(SCORES, LABELS))
    assert found["min_dcf"] == pytest.approx(min_dcf(SCORES, LABELS))
    assert found["her"] == pytest.approx(1 / 3) == pytest.approx(her([0, 1, 1], [0, 0, 1]).value)
