"""How little layers change when noise is added to what they hear.

For the same utterance clean and noisy, with x a layer's frame of the clean sound, y the frame at the same time of the
noisy one, and x' a clean frame of another speaker (of another utterance where speakers are not known):

- ``distance``: root of E|x - y|² / E|x|², and ``distance_other``, the same with x' for y;
- ``cosine``: E cos(x, y), and ``cosine_other``: E cos(x, x');
- ``invariance``: 1 - E|x - y|² / E|x - x'|². It is 1 if the noise changes nothing, 0 if a noisy frame is as far from
  its clean one as another speaker's; a layer that says the same of everything has none, and is counted as failed;
- ``linear_cka`` of x and y (`hfprobe.analysis.compare`);
- where there are probes, the signal-to-distortion ratio of the mel rebuilt from the noisy input against the clean mel
  (``si_sdr_clean``) and against the noisy mel (``si_sdr_noisy``), as amplitudes over all bands and frames. Mel-domain,
  because two sounds of one vocoder differ in phase, which would be all that such a ratio of waveforms would see. Where
  the first is the greater, the layer has dropped more noise than speech.

E over x' is exact over all pairs of frames of different speakers, from sums alone: E|x - x'|² needs only the counts,
sums and squared norms of each speaker. Intervals by bootstrap over speakers, of all parts of a ratio together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hfprobe.analysis.conditions import Condition, apply_condition
from hfprobe.analysis.test_set import TestSet, length_batches
from hfprobe.audio import MelConfig, mel_spectrogram
from hfprobe.data import NoiseCorpus, pad_waveforms
from hfprobe.errors import ConfigError, DatasetError, MeasureError
from hfprobe.metrics import bootstrap_mean, si_sdr
from hfprobe.results import ResultRow

ANY, INPUT = "-", "input"
BATCH_SAMPLES = 16000 * 40
REPLICATES = 1000
COLLAPSED = 1e-10  # of the squared norm: distances below it are rounding
MEASURES = ("invariance", "cosine", "cosine_other", "distance", "distance_other")


class GroupSums:
    """What the measures need of the frames of each group (speaker), from a stream.

    Args:
        groups: Number of groups.
        dim: Width of a frame.

    Example:
        >>> sums = GroupSums(2, 3)
        >>> clean = torch.eye(3)
        >>> sums.add(0, clean, clean)
        >>> sums.add(1, -clean, -clean)
        >>> sums.measures(np.ones((1, 2)))["invariance"].tolist()
        [1.0]
    """

    def __init__(self, groups: int, dim: int):
        self.scalars = np.zeros((4, groups))  # frames, E|x|^2, |x - y|^2, cos(x, y), summed
        self.totals = np.zeros((2, groups, dim))  # x, and x / |x|, summed
        self.utterances = 0

    def add(self, group: int, clean: Tensor, noisy: Tensor) -> None:
        """Add an utterance's frames ``(frames, dim)``, clean and noisy."""
        x, y = clean.double(), noisy.double()
        unit = torch.nn.functional.normalize(x, dim=1)
        cosine = (unit * torch.nn.functional.normalize(y, dim=1)).sum()
        sums = [float(len(x)), x.square().sum().item(), (x - y).square().sum().item(), cosine.item()]
        self.scalars[:, group] += sums
        self.totals[0, group] += x.sum(dim=0).cpu().numpy()
        self.totals[1, group] += unit.sum(dim=0).cpu().numpy()
        self.utterances += 1

    def measures(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Each measure for each draw of groups.

        Args:
            weights: How often each group is drawn ``(draws, groups)``.

        Returns:
            Measure to values ``(draws,)``, NaN where there is none.
        """
        frames, norms, moved, cosines = self.scalars
        n, size, gap, cosine = (weights @ values for values in self.scalars)
        pairs = n**2 - weights**2 @ frames**2  # ordered pairs of frames of different groups

        def between(kind: int) -> np.ndarray:
            gram = self.totals[kind] @ self.totals[kind].T
            return ((weights @ gram) * weights).sum(axis=1) - weights**2 @ np.diag(gram)

        with np.errstate(divide="ignore", invalid="ignore"):
            apart = 2 * (n * size - weights**2 @ (frames * norms) - between(0)) / pairs
            scale = size / n
            # Differences of large sums: what is left of a constant layer is rounding.
            apart = np.where(apart > COLLAPSED * scale, apart, np.where(np.isfinite(apart), 0.0, np.nan))
            found = {
                "invariance": np.where(apart > 0, 1 - gap / n / apart, np.nan),
                "cosine": cosine / n,
                "cosine_other": between(1) / pairs,
                "distance": np.sqrt(gap / n / scale),
                "distance_other": np.sqrt(apart / scale),
            }
        return {name: np.where(np.isfinite(values), values, np.nan) for name, values in found.items()}

    def rows(self, encoder: str, layer: str, condition: str, seed: int) -> list[ResultRow]:
        """One row per measure, with intervals over groups."""
        groups = self.scalars.shape[1]
        whole = self.measures(np.ones((1, groups)))
        filled = np.flatnonzero(self.scalars[0])
        weights = np.zeros((REPLICATES, groups))
        chances = np.full(len(filled), 1 / len(filled))
        weights[:, filled] = np.random.default_rng(seed).multinomial(len(filled), chances, REPLICATES)
        drawn = self.measures(weights)
        result = []
        for name in MEASURES:
            value = float(whole[name][0])
            if not np.isfinite(value):
                result.append(ResultRow(encoder, layer, condition, name, None, n=0, n_failed=self.utterances))
                continue
            known = drawn[name][np.isfinite(drawn[name])]
            bounds: tuple[float | None, float | None] = (None, None)
            if len(filled) > 1 and 2 * len(known) >= REPLICATES:
                low, high = np.quantile(known, [0.025, 0.975])
                bounds = float(low), float(high)
            result.append(ResultRow(encoder, layer, condition, name, value, *bounds, n=self.utterances))
        return result


@torch.no_grad()
def measure_invariance(
    encoders: Sequence[tuple[Any, Any | None]], test: TestSet, conditions: Sequence[Condition], noise: NoiseCorpus,
    layers: Sequence[str] | None = None, seed: int = 0, device: str = "cpu", progress: Callable[[Any], Any] = iter,
) -> list[ResultRow]:  # fmt: skip
    """Compare clean and noisy in every layer of every encoder, and in the mel-spectrogram (layer ``input``).

    Args:
        encoders: Pairs of an encoder and its probe bank, or None for no reconstruction.
        test: Utterances.
        conditions: Noisy conditions.
        noise: Where the noise comes from.
        layers: Names of layers; all where None.
        seed: Of noise and bootstrap.
        device: Where encoders and probes run.
        progress: Wraps the list of batches.

    Returns:
        Rows as at the top of this module, without ``linear_cka``; ``n`` counts utterances.

    Raises:
        ConfigError: A condition is clean, or no encoder has one of the layers.
        DatasetError: No utterance is long enough, or all are of one speaker.
    """
    if not conditions or any(condition.snr_db is None for condition in conditions):
        raise ConfigError("invariance compares clean with noisy: give SNRs in dB such as 20 10 0, without 'clean'")
    mel_config = next((bank.mel_config for _, bank in encoders if bank is not None), MelConfig())
    shortest = max([mel_config.win_length, *(encoder.min_samples for encoder, _ in encoders)])
    usable = [i for i, w in enumerate(test.waveforms) if len(w) >= shortest]
    names = {speaker: code for code, speaker in enumerate(dict.fromkeys(test.speakers[i] for i in usable))}
    if len(names) < 2:
        raise DatasetError(
            f"{len(usable)} of {len(test)} utterances have the {shortest} samples needed, of {len(names)} speaker(s); "
            "two speakers are needed, since different voices are what a change is measured by"
        )
    taps = {(ANY, INPUT): mel_config.n_mels}
    chosen = {}
    for encoder, _ in encoders:
        encoder.to(device).eval()
        specs = [spec for spec in encoder.layers if layers is None or spec.name in layers]
        chosen[encoder.name] = [spec.name for spec in specs]
        taps |= {(encoder.name, spec.name): spec.dim for spec in specs}
    sums = {(*tap, condition.name): GroupSums(len(names), dim) for tap, dim in taps.items() for condition in conditions}
    ratios: dict[tuple[str, str, str, str], dict[int, float | None]] = defaultdict(dict)
    for batch in progress(length_batches([len(test.waveforms[i]) for i in usable], BATCH_SAMPLES)):
        indices = [usable[place] for place in batch]
        clean = _heard(test, indices, Condition(), noise, seed, device)
        states = _states(encoders, chosen, *clean, mel_config)
        for condition in conditions:
            noisy = _heard(test, indices, condition, noise, seed, device)
            for tap, parts in _states(encoders, chosen, *noisy, mel_config).items():
                for i, x, y in zip(indices, states[tap], parts, strict=True):
                    sums[(*tap, condition.name)].add(names[test.speakers[i]], x, y)
            for (name, layer, metric), values in _rebuilt(encoders, chosen, clean, noisy, mel_config).items():
                ratios[(name, layer, condition.name, metric)].update(zip(indices, values, strict=True))
    rows: list[ResultRow] = []
    for (name, layer, heard), found in sums.items():
        rows += found.rows(name, layer, heard, seed)
    for (name, layer, heard, metric), by_index in ratios.items():
        there = {i: value for i, value in by_index.items() if value is not None}
        interval: tuple[float | None, float | None, float | None] = (None, None, None)
        if there:
            interval = bootstrap_mean(list(there.values()), [test.speakers[i] for i in there], seed=seed)
        rows.append(ResultRow(name, layer, heard, metric, *interval, len(there), len(by_index) - len(there)))
    return rows


def _heard(test: TestSet, indices, condition: Condition, noise, seed: int, device: str) -> tuple[Tensor, Tensor]:
    sounds = [apply_condition(test.waveforms[i], test.ids[i], condition, noise, seed) for i in indices]
    waveforms, lengths = pad_waveforms(sounds)
    return waveforms.to(device), lengths.to(device)


def _states(encoders, chosen, waveforms, lengths, mel_config) -> dict[tuple[str, str], list[Tensor]]:
    """Valid frames of each utterance, by encoder and layer."""
    mel = mel_spectrogram(waveforms, mel_config, lengths=lengths)
    counts = mel_config.frames(lengths).tolist()
    found = {(ANY, INPUT): [frames[:n] for frames, n in zip(mel, counts, strict=True)]}
    for encoder, _ in encoders:
        if not chosen[encoder.name]:
            continue
        output = encoder(waveforms, lengths, layers=chosen[encoder.name])
        for name, states, sizes in zip(chosen[encoder.name], output.hidden_states, output.hidden_lengths, strict=True):
            found[(encoder.name, name)] = [frames[:n] for frames, n in zip(states, sizes.tolist(), strict=True)]
    return found


def _rebuilt(encoders, chosen, clean, noisy, mel_config) -> dict[tuple[str, str, str], list[float | None]]:
    """Ratios of rebuilt mels to the clean and the noisy mel, of each utterance, by encoder, layer and metric."""
    if all(bank is None for _, bank in encoders):
        return {}
    targets = {
        "si_sdr_clean": mel_spectrogram(clean[0], mel_config, lengths=clean[1]),
        "si_sdr_noisy": mel_spectrogram(noisy[0], mel_config, lengths=noisy[1]),
    }
    counts = mel_config.frames(noisy[1]).tolist()
    found = {(ANY, INPUT, "si_sdr_clean"): _ratios(targets["si_sdr_clean"], targets["si_sdr_noisy"], counts)}
    for encoder, bank in encoders:
        names = [name for name in chosen[encoder.name] if bank is not None and name in bank]
        if names:
            for layer, mel in bank.to(noisy[0].device).mels(encoder, *noisy, layers=names).items():
                for metric, target in targets.items():
                    found[(encoder.name, layer, metric)] = _ratios(target, mel, counts)
    return found


def _ratios(reference: Tensor, rebuilt: Tensor, counts: Sequence[int]) -> list[float | None]:
    values: list[float | None] = []
    for one, other, n in zip(reference, rebuilt, counts, strict=True):
        try:
            # Half of a log power is a log amplitude.
            pair = ((mel[:n] / 2).exp().flatten().double().cpu().numpy() for mel in (one, other))
            values.append(si_sdr(*pair))
        except MeasureError:
            values.append(None)
    return values
