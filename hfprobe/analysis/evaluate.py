"""What is left of speaker and words in each layer: the paper's Table 2 and Figure 4, with ceiling, floor and intervals.

Source: Li, Yuan, Lee, "What does a network layer hear?" (arXiv 1911.01102), sections 2.3, 3.2 and 3.3. Every sound,
whether natural, vocoded or rebuilt from a layer, goes through the same measures on the same trials. Sounds are made,
measured and dropped batch by batch, so memory does not grow with the test set.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from hfprobe.analysis.conditions import Condition, apply_condition
from hfprobe.analysis.pairs import check_pairs
from hfprobe.analysis.test_set import TestSet, length_batches
from hfprobe.audio import mel_spectrogram, vocode
from hfprobe.data import NoiseCorpus, pad_waveforms
from hfprobe.metrics import Trials, bootstrap_eer, bootstrap_mean, draw_trials, min_dcf, score_pairs
from hfprobe.results import ResultRow

ANY = "-"  # the encoder of rows that no encoder enters: input and ceiling
BATCH_SAMPLES = 16000 * 40
VOCODE_SAMPLES = 16000 * 160


@dataclass
class _System:
    """What was measured so far on one way of hearing the test set, e.g. (vgg-blstm-robust, cnn1) at 10 dB."""

    embeddings: dict[int, np.ndarray] = field(default_factory=dict)
    quality: dict[str, dict[int, float | None]] = field(default_factory=lambda: defaultdict(dict))


def evaluate(
    encoders: Sequence[tuple[Any, Any]],
    test: TestSet,
    conditions: Sequence[Condition],
    verifier: Any,
    noise: NoiseCorpus | None = None,
    quality: Sequence[str] = ("stoi",),
    layers: Sequence[str] | None = None,
    n_iter: int = 32,
    seed: int = 0,
    device: str = "cpu",
    progress: Callable[[Any], Any] = iter,
) -> list[ResultRow]:
    """Measure every layer of every encoder under every condition.

    Args:
        encoders: Pairs of an encoder and its probe bank.
        test: Utterances; several per speaker, for verification.
        conditions: Conditions.
        verifier: A speaker encoder of :func:`hfprobe.speakers.load_speaker_encoder`.
        noise: Noise for the noisy conditions; a part that nothing was trained on.
        quality: Measures against the clean original, of ``stoi``, ``estoi``, ``pesq``, ``si_sdr``.
        layers: Layer names (``None``: all; a name that one encoder lacks is left out for that one).
        n_iter: Griffin-Lim iterations.
        seed: Seed of noise draws, trials, phases and bootstrap.
        device: Where encoders, probes and vocoder run.
        progress: Wraps the iterable of batches, e.g. ``tqdm``.

    Returns:
        Rows as ``design.md`` describes them: per condition the natural ``input``, the ``ceiling`` (vocoded true mel),
        then per encoder its layers and the ``floor`` (a probe that only knows the mean mel). EER and minDCF come from
        the same trials throughout; EER has a 95 % interval by bootstrap over speakers on both sides of a trial, quality
        measures one by bootstrap over speakers.
    """
    trials = draw_trials(test.speakers, seed=seed)
    mel_config = check_pairs(encoders)
    for encoder, bank in encoders:
        encoder.to(device).eval()
        bank.to(device)
    work = []
    for condition in conditions:
        heard = [apply_condition(w, i, condition, noise, seed) for w, i in zip(test.waveforms, test.ids, strict=True)]
        batches = length_batches([len(w) for w in heard], BATCH_SAMPLES)
        work += [(condition, [(i, heard[i]) for i in batch]) for batch in batches]
    systems: dict[tuple[str, str, str], _System] = defaultdict(_System)
    for condition, items in progress(work):
        indices = [i for i, _ in items]
        clean = [test.waveforms[i] for i in indices]
        names, sounds = [], []
        for encoder_name, layer, waveforms in _sounds(encoders, items, mel_config, layers, n_iter, seed, device):
            names.append((condition.name, encoder_name, layer))
            sounds += waveforms
            embeddings = np.asarray(verifier.embed(*pad_waveforms(waveforms)))
            systems[names[-1]].embeddings.update(zip(indices, embeddings, strict=True))
        scores = score_pairs(clean * len(names), sounds, tuple(quality))  # one call, so that all cores have work
        for measure, values in scores.items():
            for number, name in enumerate(names):
                part = values[number * len(items) : (number + 1) * len(items)]
                systems[name].quality[measure].update(zip(indices, part, strict=True))
    rows: list[ResultRow] = []
    for (condition, encoder_name, layer), system in systems.items():
        rows += _rows(encoder_name, layer, condition, system, test, trials, seed)
    return rows


@torch.no_grad()
def _sounds(encoders, items, mel_config, layers, n_iter, seed, device) -> Iterator[tuple[str, str, list[np.ndarray]]]:
    """All ways of hearing one batch: ``(encoder, layer, waveforms)``."""
    waveforms, lengths = pad_waveforms([w for _, w in items])
    yield ANY, "input", [w for _, w in items]
    waveforms, lengths = waveforms.to(device), lengths.to(device)
    mels = [(ANY, "ceiling", mel_spectrogram(waveforms, mel_config, lengths=lengths))]
    for encoder, bank in encoders:
        names = [n for n in (*(spec.name for spec in encoder.layers), "floor") if n in bank]
        names = [n for n in names if layers is None or n in layers or n == "floor"]
        mels += [(encoder.name, n, mel) for n, mel in bank.mels(encoder, waveforms, lengths, layers=names).items()]
    group = max(1, VOCODE_SAMPLES // waveforms.numel())  # several layers go through one Griffin-Lim call
    for start in range(0, len(mels), group):
        part = mels[start : start + group]
        stacked = torch.cat([mel for _, _, mel in part])
        sounds = vocode(stacked, mel_config, n_iter=n_iter, lengths=lengths.repeat(len(part)), seed=seed)
        for (encoder_name, layer, _), sound in zip(part, sounds.split(len(items)), strict=True):
            yield encoder_name, layer, [s[:n].cpu().numpy() for s, n in zip(sound, lengths.tolist(), strict=True)]


def _rows(
    encoder: str, layer: str, condition: str, system: _System, test: TestSet, trials: Trials, seed: int
) -> list[ResultRow]:
    rows = []
    embeddings = np.stack([system.embeddings[i] for i in range(len(test))])
    scores = trials.scores(embeddings)
    usable = np.isfinite(scores)
    used, left_out = int(usable.sum()), int((~usable).sum())
    kept, scores = trials.keep(usable), scores[usable]
    if 0 < kept.labels.sum() < len(kept):
        interval = bootstrap_eer(scores, kept.labels, kept.left_speakers, kept.right_speakers, seed=seed)
        rows.append(ResultRow(encoder, layer, condition, "eer", *interval, used, left_out))
        rows.append(
            ResultRow(encoder, layer, condition, "mindcf", min_dcf(scores, kept.labels), n=used, n_failed=left_out)
        )
    else:
        rows += [ResultRow(encoder, layer, condition, m, None, n=used, n_failed=left_out) for m in ("eer", "mindcf")]
    for name, values in system.quality.items():
        ordered = [values[i] for i in range(len(test))]
        there = [i for i, value in enumerate(ordered) if value is not None]
        interval = (None, None, None)
        if there:
            interval = bootstrap_mean([ordered[i] for i in there], [test.speakers[i] for i in there], seed=seed)
        rows.append(ResultRow(encoder, layer, condition, name, *interval, len(there), len(ordered) - len(there)))
    return rows
