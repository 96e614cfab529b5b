"""What is classified, and which utterances are for learning and for testing.

========  =========  ==============================================================  =====================
target    per        classes                                                         disjoint by
========  =========  ==============================================================  =====================
phone     frame      phones without stress                                           utterance
speaker   utterance  speakers                                                        session, else utterance
gender    utterance  genders                                                         speaker
noise     utterance  clean, and the categories of the noise corpus, at 0 to 15 dB    utterance (noise files too)
snr       utterance  clean, 20 dB, 10 dB, 0 dB of any noise                          utterance (noise files too)
========  =========  ==============================================================  =====================

SNR is a class and not a regression, so that it has the same unit, chance level and controls as all other targets.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hfprobe.data import NoiseCorpus, NoiseRecipe
from hfprobe.data.corpora import load_corpus, row_samples
from hfprobe.data.left_out import LeftOut
from hfprobe.data.stream import utterance_seed
from hfprobe.errors import ConfigError, DatasetError
from hfprobe.probes.classifier_items import stable_hash

TARGETS = {"phone": "frame", "speaker": "utterance", "gender": "utterance", "noise": "utterance", "snr": "utterance"}
NOISY = ("noise", "snr")
SNR_LEVELS = ("clean", "20dB", "10dB", "0dB")
NOISE_SNR = (0.0, 15.0)
RATE = 16000
# LibriSpeech: speaker-chapter-number; a chapter is read in one session.
_LIBRISPEECH = re.compile(r"(\d+-\d+)-\d+")
_NOISE_DRAWS = 0x6E  # keeps the choice of class apart from the draw of the noise


def check_target(target: str) -> str:
    """The target itself.

    Raises:
        ConfigError: It is unknown.
    """
    if target not in TARGETS:
        raise ConfigError(f"unknown target {target!r}; choose from {', '.join(TARGETS)}")
    return target


def session_of(utterance: str) -> str:
    """The recording session that an utterance's id tells, or the id itself.

    Example:
        >>> session_of("1272-128104-0003"), session_of("030200037")
        ('1272-128104', '030200037')
    """
    match = _LIBRISPEECH.fullmatch(utterance)
    return match[1] if match else utterance


@dataclass
class Plan:
    """Which utterance is for what.

    Attributes:
        target: One of `TARGETS`.
        labels: Class of each utterance; empty for phones, which are found frame by frame.
        units: What is split, of each utterance.
        speakers: Speaker of each utterance (its id where unknown).
        test: Utterances for testing; all others of ``units`` are for training.
        left_out: Utterances and classes that are not used, by reason.
        seed: Of the split and of all draws.
    """

    target: str
    labels: dict[str, str] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    speakers: dict[str, str] = field(default_factory=dict)
    test: frozenset[str] = frozenset()
    left_out: LeftOut = field(default_factory=LeftOut)
    seed: int = 0


def make_plan(
    corpus: str, target: str, test_share: float = 0.25, seed: int = 0, max_seconds: float = 20.0,
    limit: int | None = None, noise: NoiseCorpus | None = None,
) -> Plan:  # fmt: skip
    """Read the corpus's rows (not its sound) and split them; the split depends on names and seed alone.

    Args:
        corpus: Name as `load_corpus` takes it.
        target: One of `TARGETS`.
        test_share: Part of the units for testing (of each speaker's sessions, of each gender's speakers).
        seed: Seed.
        max_seconds: Longer utterances are left out and counted.
        limit: Only the first ``limit`` rows.
        noise: For the target ``noise``: its categories are classes.

    Raises:
        ConfigError: The target is unknown, or the share not between 0 and 1.
        DatasetError: The corpus does not say what is asked for, or there are no two classes with two units each.
    """
    check_target(target)
    if not 0 < test_share < 1:
        raise ConfigError(f"expected a test share between 0 and 1, got {test_share}")
    plan = Plan(target, seed=seed)
    dataset = load_corpus(corpus)
    for row in dataset if limit is None else dataset.take(limit):
        name, speaker = row["id"], row.get("speaker") or ""
        label = {"speaker": speaker, "gender": row.get("gender") or ""}.get(target, "-")
        if row_samples(row) > max_seconds * RATE:
            plan.left_out.add("too long", name)
        elif not label:
            plan.left_out.add(f"no {target} in the corpus", name)
        else:
            plan.speakers[name] = speaker or name
            plan.units[name] = {"speaker": session_of(name), "gender": speaker or name}.get(target, name)
            plan.labels[name] = label
    if target in NOISY:
        classes: Sequence[str] = SNR_LEVELS
        if target == "noise":
            if noise is None:
                raise ConfigError("target noise needs noise; give a noise corpus")
            classes = ("clean", *(c for c in noise.files if noise.files[c]))
        plan.labels = {name: classes[int(_draw(name, seed).integers(len(classes)))] for name in plan.labels}
    _split(plan, test_share, corpus)
    if target == "phone":
        plan.labels = {}
    return plan


def _split(plan: Plan, test_share: float, corpus: str) -> None:
    units: dict[str, dict[str, list[str]]] = {}
    for name, label in plan.labels.items():
        # Only for speakers and genders are the units divided class by class.
        group = label if plan.target in ("speaker", "gender") else ""
        units.setdefault(group, {}).setdefault(plan.units[name], []).append(name)
    alone = sorted(group for group, members in units.items() if len(members) < 2)
    kept = [group for group in units if group not in alone]
    what = {"speaker": "session or utterance", "gender": "speaker"}.get(plan.target, "utterance")
    if plan.target in ("speaker", "gender") and len(kept) < 2 or not kept:
        named = f" ({', '.join(alone[:3])}{', ...' if len(alone) > 3 else ''})" if alone and alone != [""] else ""
        reasons = f"; left out: {dict(plan.left_out)}" if plan.left_out else ""
        raise DatasetError(
            f"cannot classify {plan.target} on {corpus!r}: each class needs one {what} to learn from and another to be "
            f"tested on; {len(kept)} have them, {len(alone)} have only one{named}{reasons}; use more data (--limit) or "
            "another target"
        )
    if alone:
        plan.left_out[f"class with one {what}"] += len(alone)
    test: set[str] = set()
    for group in kept:
        members = units[group]
        order = sorted(members, key=lambda unit: stable_hash(f"{plan.seed}/{unit}"))
        count = min(len(order) - 1, max(1, round(test_share * len(order))))
        test.update(name for unit in order[:count] for name in members[unit])
    for group in alone:
        for name in [name for names in units[group].values() for name in names]:
            del plan.labels[name], plan.units[name], plan.speakers[name]
    plan.test = frozenset(test)


def _draw(utterance: str, seed: int) -> np.random.Generator:
    return utterance_seed(seed, _NOISE_DRAWS, utterance)


def heard(plan: Plan, utterance: str, waveform: np.ndarray, noise: dict[bool, NoiseCorpus]) -> np.ndarray:
    """What the encoders hear of an utterance: itself, or with the noise that its class says.

    Args:
        plan: The plan; only for the targets ``noise`` and ``snr`` is anything added.
        utterance: Its id.
        waveform: float32 ``(samples,)``.
        noise: Noise by whether it is for testing; no file is in both.

    Returns:
        float32 ``(samples,)``.
    """
    label = plan.labels.get(utterance, "clean")
    if plan.target not in NOISY or label == "clean":
        return waveform
    rng = _draw(utterance, plan.seed)
    rng.random()  # the class has used the first
    corpus = noise[utterance in plan.test]
    if plan.target == "snr":
        snr_db = float(label.removesuffix("dB"))
        return corpus.mix(waveform, lambda: NoiseRecipe().draw_at(corpus, rng, snr_db, "any"))[0]
    return corpus.mix(waveform, lambda: NoiseRecipe().draw_at(corpus, rng, rng.uniform(*NOISE_SNR), label))[0]
