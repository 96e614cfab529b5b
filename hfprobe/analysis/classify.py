"""What the layers know: every layer's classifiers with their controls, from one pass over the data.

What the layers say at the points under study comes as a bounded sample (`hfprobe.analysis.classify_points`), and from
it the classifiers of all layers and controls learn together.

Controls: the majority class of the training part (``floor``); the mel-spectrogram itself (``input``); a control task
with random labels of the same distribution (Hewitt and Liang, "Designing and interpreting probes with control tasks",
EMNLP 2019), for phones one label for each place in each word, which a probe that is too strong could learn by heart,
for utterances a shuffled label each; selectivity is accuracy less that of the control task.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from hfprobe.analysis.classify_data import NOISY, TARGETS
from hfprobe.analysis.classify_points import ANY, GIBIBYTE, Found
from hfprobe.errors import ConfigError
from hfprobe.metrics import bootstrap_mean
from hfprobe.probes.classifier_config import ClassifierTrainingConfig
from hfprobe.probes.classifier_items import control_labels
from hfprobe.probes.classifier_training import (
    Head,
    Trained,
    check_memory,
    gather,
    log_probabilities,
    online_code,
    order_of_all,
    train_classifiers,
)
from hfprobe.results import ResultRow

FLOOR = "floor"


@dataclass
class Answers:
    """What `classify` found: result rows, the classifiers by key, and the heads that name them."""

    rows: list[ResultRow]
    trained: Trained
    found: Found
    facts: dict[str, Any] = field(default_factory=dict)


def classify(
    found: Found, target: str, config: ClassifierTrainingConfig, mdl: bool = False, memory: float = 2 * GIBIBYTE,
    progress: Callable[[Any], Any] = iter, accelerator: Any = None,
) -> Answers:  # fmt: skip
    """Train all classifiers and test them.

    Args:
        found: Of `Collector.finish`.
        target: One of `TARGETS`.
        config: Training settings.
        mdl: Whether to measure description lengths, too.
        memory: Bytes that the classifiers may take.
        progress: Wraps steps and blocks.
        accelerator: Accelerate's.

    Returns:
        Rows per head: ``accuracy``, ``control_accuracy`` and ``selectivity``, with ``mdl`` (bits per label) and
        ``compression`` (uniform code by online code) where asked for, and the majority class as ``floor``. ``n`` counts
        points (frames or utterances), ``n_failed`` utterances that could not be used. Intervals by bootstrap over
        speakers.

    Raises:
        ConfigError: More classes than memory allows, or description lengths in several processes.
    """
    check_memory(found.heads, len(found.labels), config, memory)
    if mdl and len(gather(0)) > 1:
        raise ConfigError("description lengths are measured in one process; start without accelerate launch")
    pooling, classes = TARGETS[target], len(found.labels)
    counts = sum(gather(torch.bincount(found.train.labels, minlength=classes)))
    controls = {
        side: control_labels(items.types, counts, config.seed)
        for side, items in (("train", found.train), ("test", found.test))
    }
    trained = train_classifiers(
        found.train, controls["train"], found.heads, found.labels, target, pooling, config, progress, accelerator
    )
    order = order_of_all(found.test.batches).argsort().tolist()
    groups = _everywhere([found.speakers[i] for i in found.test.speakers.tolist()], order)
    left_out = sum(gather(found.left_out), Counter(found.common))
    failed = sum(count for reason, count in left_out.items() if not reason.startswith("class "))
    condition = "mixed" if target in NOISY else "clean"

    def row(head: Head, metric: str, values: Sequence[float] | np.ndarray, of: Sequence[str]) -> ResultRow:
        interval = bootstrap_mean(values, of, seed=config.seed)
        return ResultRow(head.encoder or ANY, head.layer, condition, metric, *interval, len(values), failed)

    rows = []
    for head in found.heads:
        features = found.test.features[head.key]
        answered, _ = log_probabilities(trained.probes[head.key], features, found.test.labels)
        misled, _ = log_probabilities(trained.controls[head.key], features, controls["test"])
        right, fooled = (np.array(_everywhere(values.double().tolist(), order)) for values in (answered, misled))
        rows += [
            row(head, "accuracy", right, groups),
            row(head, "control_accuracy", fooled, groups),
            row(head, "selectivity", right - fooled, groups),
        ]
    floor = _everywhere((found.test.labels == int(counts.argmax())).double().tolist(), order)
    rows.append(row(Head("", 1, FLOOR), "accuracy", floor, groups))
    if mdl:
        bits, sent = online_code(found.train, found.heads, found.labels, target, pooling, config, progress)
        of = [found.speakers[i] for i in found.train.speakers[sent].tolist()]
        for head in found.heads:
            values = bits[head.key].numpy()
            code = row(head, "mdl", values, of)
            uniform = float(np.log2(classes))
            # The fewer bits, the greater the compression: the ends of the interval change places.
            value, low, high = (
                None if each is None else uniform / each for each in (code.value, code.ci_high, code.ci_low)
            )
            place = code.encoder, code.layer, condition
            rows += [code, ResultRow(*place, "compression", value, low, high, code.n, code.n_failed)]
    counted = np.sum(gather((len(found.train), found.seen[0], len(found.test), found.seen[1])), axis=0).tolist()
    names = ("train_points", "train_points_seen", "test_points", "test_points_seen")
    facts = {
        "classes": list(found.labels),
        **dict(zip(names, counted, strict=True)),
        "left_out": dict(left_out),
        "majority": found.labels[int(counts.argmax())],
    }
    return Answers(rows, trained, found, facts)


def _everywhere(values: list, order: list[int]) -> list:
    """The values of all processes in the order that one process has them in."""
    joined = [value for part in gather(values) for value in part]
    return [joined[place] for place in order]
