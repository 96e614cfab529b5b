"""Where the sounds of a listening test come from: encoders with their probes, or files; and how loud they are.

All sounds of a test are brought to one loudness (ITU-R BS.1770-4, as `torchaudio.functional.loudness` has it; -23 LUFS,
the level of EBU R 128), so that no layer is recognised by its level. If one would clip then, all are lowered together.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hfprobe.analysis.conditions import Condition, apply_condition
from hfprobe.analysis.pairs import check_pairs
from hfprobe.analysis.test_set import TestSet
from hfprobe.audio import load_audio, mel_spectrogram
from hfprobe.data import NoiseCorpus
from hfprobe.errors import AudioError, ConfigError, HfprobeError
from hfprobe.listening.design import ANY, NATURAL, Cell, Sound
from hfprobe.plain import read_text, reason, short
from hfprobe.results import CONDITION
from hfprobe.vocoders import Vocoder

SAMPLING_RATE = 16000
TARGET_LUFS = -23.0
SILENT_LUFS = -60.0
HIGHEST_PEAK = 0.98
COLUMNS = ("path", "speaker", "layer", "condition", "utterance")
CEILING = Cell(ANY, "ceiling", "clean")
Made = Mapping[Sound, "np.ndarray | str"]  # a waveform, or why there is none


def loudness(waveform: np.ndarray, sampling_rate: int = SAMPLING_RATE) -> float:
    """Integrated loudness of a mono sound.

    Args:
        waveform: ``(samples,)``, at least 0.4 s.
        sampling_rate: In Hz.

    Returns:
        Loudness in LUFS; minus infinity for silence.

    Raises:
        AudioError: The sound is shorter than one block of the measure, or not finite.

    Example:
        >>> tone = np.sin(2 * np.pi * 997 / 48000 * np.arange(96000))
        >>> round(loudness(tone, 48000), 1)  # BS.1770-4 says -3.01 for this
        -3.1
    """
    from torchaudio.functional import loudness as integrated

    samples = np.asarray(waveform, dtype=np.float32)
    if len(samples) < 0.4 * sampling_rate:
        seconds = len(samples) / sampling_rate
        raise AudioError(f"a sound of {seconds:.2f} s is too short; 0.4 s are needed for its loudness")
    if not np.isfinite(samples).all():
        raise AudioError("a sound holds NaN or infinite samples; leave it out")
    peak = float(np.abs(samples).max())
    if peak == 0:
        return -float("inf")
    # Its filters clip at full scale, so that loud sounds would be measured too low: look at a quarter of it.
    gain = 0.25 / peak
    value = float(integrated(torch.from_numpy(samples * gain)[None], sampling_rate)) - 20 * np.log10(gain)
    return float(value) if np.isfinite(value) else -float("inf")  # all blocks below the gate


def equalise(sounds: Mapping[Any, np.ndarray]) -> tuple[dict[Any, np.ndarray], float]:
    """All sounds at one loudness.

    Args:
        sounds: Waveforms ``(samples,)`` at 16 kHz by any name; none silent.

    Returns:
        The waveforms, and their common loudness in LUFS: -23, or less where a peak would have clipped.
    """
    level = {name: waveform * 10 ** ((TARGET_LUFS - loudness(waveform)) / 20) for name, waveform in sounds.items()}
    peak = max((float(np.abs(waveform).max()) for waveform in level.values()), default=0.0)
    gain = min(1.0, HIGHEST_PEAK / peak) if peak else 1.0
    target = TARGET_LUFS + 20 * float(np.log10(gain))
    return {name: (waveform * gain).astype(np.float32) for name, waveform in level.items()}, target


def unusable(waveform: np.ndarray) -> str | None:
    """Why a sound cannot be in a test (``silent``, ``too short``, ``not finite``), or None."""
    if not np.isfinite(waveform).all():
        return "not finite"
    if len(waveform) < 0.4 * SAMPLING_RATE:
        return "too short"
    return "silent" if loudness(waveform) < SILENT_LUFS else None


class EncoderSounds:
    """Sounds rebuilt from the layers of encoders.

    Args:
        pairs: Encoders and their probe banks.
        test: Utterances.
        conditions: What is done to the input.
        noise: Noise for the noisy conditions.
        layers: Layer names, and ``ceiling`` and ``floor``; all layers of each bank where None.
        vocoder: What makes sound of the mel-spectrograms.
        seed: Of noise and phases.
        device: Where to run.

    Attributes:
        cells: What can be tested, in order: conditions, encoders, layers.
    """

    def __init__(
        self, pairs: Sequence[tuple[Any, Any]], test: TestSet, conditions: Sequence[Condition],
        noise: NoiseCorpus | None, layers: Sequence[str] | None, vocoder: Vocoder, seed: int = 0, device: str = "cpu",
    ):  # fmt: skip
        self.mel_config = check_pairs(pairs)
        self.test, self.noise, self.vocoder, self.seed, self.device = test, noise, vocoder, seed, device
        self.pairs = {encoder.name: (encoder.to(device).eval(), bank.to(device)) for encoder, bank in pairs}
        self.conditions = {condition.name: condition for condition in conditions}
        self.cells = tuple(
            Cell(encoder, name, condition.name)
            for condition in conditions
            for encoder, names in [*self._references(layers), *((e.name, bank) for e, bank in pairs)]
            for name in (layers or names)
            if name in names
        )
        self.places = {pair: place for place, pair in enumerate(zip(test.speakers, test.ids, strict=True))}
        self._by_speaker: dict[str, list[str]] = {}
        for speaker, utterance in self.places:
            self._by_speaker.setdefault(speaker, []).append(utterance)

    @staticmethod
    def _references(layers: Sequence[str] | None) -> list[tuple[str, tuple[str, ...]]]:
        """The ceiling is tested where it is asked for, and belongs to no encoder."""
        return [(ANY, ("ceiling",))] if "ceiling" in (layers or ()) else []

    def utterances(self, cell: Cell) -> Mapping[str, Sequence[str]]:
        """Utterances by speaker: every one can be heard every way."""
        return self._by_speaker

    @torch.no_grad()
    def make(self, wanted: Iterable[Sound], progress: Callable[[Any], Any] = iter) -> Made:
        """The sounds; an utterance passes through an encoder once per condition, whatever the number of layers."""
        groups: dict[tuple[str, str, str], list[Sound]] = {}
        for sound in dict.fromkeys(wanted):
            groups.setdefault((sound.speaker, sound.utterance, sound.cell.condition), []).append(sound)
        made: dict[Sound, np.ndarray | str] = {}
        for (speaker, utterance, condition), group in progress(sorted(groups.items())):
            clean = self.test.waveforms[self.places[speaker, utterance]]
            try:
                heard = apply_condition(clean, utterance, self._condition(condition), self.noise, self.seed)
                made.update(self._hear(heard, group))
            except HfprobeError as error:
                made.update(dict.fromkeys(group, type(error).__name__))
        return made

    def _condition(self, name: str) -> Condition:
        return self.conditions.get(name) or Condition()  # references are clean, whatever is tested

    def _hear(self, heard: np.ndarray, group: list[Sound]) -> Made:
        waveform = torch.from_numpy(np.ascontiguousarray(heard))[None].to(self.device)
        lengths = torch.tensor([len(heard)], device=self.device)
        made: dict[Sound, np.ndarray | str] = {sound: heard for sound in group if sound.cell.layer == "input"}
        mels = {}
        for sound in group:
            if sound.cell.layer == "ceiling":
                mels[sound] = mel_spectrogram(waveform, self.mel_config)
        for name, (encoder, bank) in self.pairs.items():
            own = {sound.cell.layer: sound for sound in group if sound.cell.encoder == name}
            if own:
                rebuilt = bank.mels(encoder, waveform, lengths, layers=list(own))
                mels.update({own[layer]: mel for layer, mel in rebuilt.items()})
        if mels:
            sounds = self.vocoder(torch.cat(list(mels.values())), self.mel_config, lengths.repeat(len(mels)), self.seed)
            made.update({sound: each[: len(heard)].cpu().numpy() for sound, each in zip(mels, sounds, strict=True)})
        return made


class FileSounds:
    """Sounds that are there as files, listed in a CSV file.

    Args:
        manifest: CSV with the columns path, speaker, layer, condition, utterance, and encoder where there are several;
            paths from the folder of the manifest. Natural speech has the layer ``input`` (condition ``clean``), vocoded
            natural speech ``ceiling``.
        layers: Layer names; all where None.
        conditions: Condition names; all where None.

    Raises:
        ConfigError: The file cannot be read, a column or a cell is missing, a path leaves the folder, or a sound is
            listed twice.

    Attributes:
        cells: What can be tested, in order of appearance.
    """

    def __init__(self, manifest: Path, layers: Sequence[str] | None = None, conditions: Sequence[str] | None = None):
        self.folder = manifest.parent.resolve()
        self.files: dict[Sound, Path] = {}
        for number, row in enumerate(self._rows(manifest), start=2):
            where = f"{manifest.name} line {number}"
            if empty := next((name for name in COLUMNS if not (row.get(name) or "").strip()), None):
                raise ConfigError(f"{where}: the column {empty!r} is empty; fill it in")
            path, speaker, layer, condition, utterance = (row[name].strip() for name in COLUMNS)
            if not CONDITION.fullmatch(condition):
                raise ConfigError(f"{where}: condition must be like clean or noise@10dB, got {short(condition)}")
            encoder = ANY if layer in ("input", "ceiling") else (row.get("encoder") or "").strip() or "sounds"
            sound = Sound(Cell(encoder, layer, condition), speaker, utterance)
            if "\0" in path:
                raise ConfigError(f"{where}: {short(path)} is no name of a file; write the path of a sound")
            place = (self.folder / path).resolve()
            if not place.is_relative_to(self.folder):
                raise ConfigError(f"{where}: {short(path)} is outside the manifest's folder; move it there")
            if sound in self.files:
                raise ConfigError(f"{where}: {short(speaker)} / {short(utterance)} is there twice; list it once")
            self.files[sound] = place
        self._by_cell: dict[Cell, dict[str, list[str]]] = {}
        for sound in self.files:
            self._by_cell.setdefault(sound.cell, {}).setdefault(sound.speaker, []).append(sound.utterance)
        known = list(dict.fromkeys(cell.layer for cell in self._by_cell))
        for name in layers or ():
            if name not in known:
                raise ConfigError(f"{manifest.name} has no layer {name!r}; it has {', '.join(known)}")
        every = [cell for cell in self._by_cell if cell not in (NATURAL, CEILING)]
        self.cells = tuple(
            cell
            for cell in every
            if (layers is None or cell.layer in layers) and (conditions is None or cell.condition in conditions)
        )
        if not self.cells:
            raise ConfigError(
                f"{manifest.name} has no sound of the layers and conditions asked for; it has {', '.join(known)}"
            )

    @staticmethod
    def _rows(manifest: Path) -> list[dict[str, str]]:
        text = read_text(manifest, "a CSV file", encoding="utf-8-sig")
        reader = csv.DictReader(text.splitlines())
        try:
            found, rows = reader.fieldnames or (), list(reader)
        except csv.Error as error:
            raise ConfigError(f"{manifest.name} is no CSV file ({reason(error)}); save it as CSV") from error
        missing = [name for name in COLUMNS if name not in found]
        if missing:
            raise ConfigError(f"{manifest.name} lacks the columns {', '.join(missing)}; it needs {', '.join(COLUMNS)}")
        return rows

    def utterances(self, cell: Cell) -> Mapping[str, Sequence[str]]:
        """Utterances by speaker that are there as files."""
        return self._by_cell.get(cell, {})

    def make(self, wanted: Iterable[Sound], progress: Callable[[Any], Any] = iter) -> Made:
        """The sounds, at 16 kHz; a file that cannot be read gives the reason instead."""
        made: dict[Sound, np.ndarray | str] = {}
        for sound in progress(list(dict.fromkeys(wanted))):
            try:
                made[sound] = load_audio(self.files[sound]).waveform
            except AudioError as error:
                made[sound] = "silent" if "silent" in str(error) else "unreadable"
        return made
