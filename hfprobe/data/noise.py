"""Additive noise as in the x-vector recipe: draw first, then apply.

Source: Snyder et al., "X-Vectors: Robust DNN Embeddings for Speaker Recognition" (ICASSP 2018) and its Kaldi recipe
(steps/data/augment_data_dir.py): noise at 0 to 15 dB, music at 5 to 15 dB, babble of 3 to 7 voices at 13 to 20 dB.
The folder layout is MUSAN's, ``<category>/<source>/<category>-<source>-NNNN.<ext>``, so MUSAN itself (musan.tar.gz
from openslr.org/17, unpacked) and any folder of that shape are read by the same code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr
import torch

from hfprobe.audio.mixing import mix_at_snr
from hfprobe.data.generated_noise import GENERATED, generate
from hfprobe.data.left_out import LeftOut, by_reason
from hfprobe.data.locations import data_folder, local_noise
from hfprobe.errors import DatasetError

SAMPLING_RATE = 16000
LOWEST_RATE, HIGHEST_RATE = 1000, 768_000  # what else a header says is broken
MUSAN = "hub:corypaik/musan"
CATEGORIES = ("noise", "music", "speech")
SUFFIXES = (".flac", ".wav", ".ogg", ".opus", ".mp3")
FALLBACKS = tuple(i / 8 for i in range(8))  # where else in a file to look for sound
DRAWS = 20  # how often noise is drawn for an utterance before broken noise files stop the work
SILENT_POWER = 1e-8  # -80 dBFS: a stretch below this has no noise to scale up


class NoiseError(DatasetError):
    """A noise file cannot be used.

    Attributes:
        name: The file.
        reason: ``"unreadable"``, ``"empty"``, ``"silent"`` or ``"missing"``.
    """

    def __init__(self, message: str, name: str = "", reason: str = "unreadable"):
        super().__init__(message)
        self.name, self.reason = name, reason

    def __reduce__(self):
        return type(self), (str(self), self.name, self.reason)


@dataclass(frozen=True)
class NoiseDraw:
    """What is added to one utterance; enough to add it again.

    Attributes:
        category: ``"noise"``, ``"music"`` or ``"speech"`` (babble).
        parts: ``(file name, start as a fraction of the file)``; several for babble.
        snr_db: Speech power over noise power in dB, over the whole utterance.
    """

    category: str
    parts: tuple[tuple[str, float], ...]
    snr_db: float

    @property
    def condition(self) -> str:
        """Name such as ``"music@7.3dB"``."""
        return f"{self.category}@{self.snr_db:.4g}dB"


@dataclass(frozen=True)
class NoiseCorpus:
    """Noise files by category; ``root`` is ``None`` for noise that is generated from its name.

    Build one with :func:`load_noise`. ``refused`` has the files that could not be used so far, with the reason.
    """

    files: dict[str, tuple[str, ...]]
    root: Path | None
    refused: dict[str, str] = field(default_factory=dict, compare=False)

    @property
    def left_out(self) -> LeftOut:
        """Files that could not be used so far, counted by reason."""
        return by_reason(self.refused)

    def path_of(self, name: str) -> Path:
        """Where a file lies; a corpus of the Hub fetches it.

        Args:
            name: Name of the file, as in ``files``.

        Returns:
            Its path.
        """
        assert self.root is not None, "generated noise has no files"
        return self.root / name

    def read(self, name: str, start: float, samples: int) -> np.ndarray:
        """A stretch of one file, looped where the file ends too soon.

        Args:
            name: Name of the file, as in ``files``.
            start: Where to begin, as a fraction of the file.
            samples: Length wanted, at 16 kHz.

        Returns:
            float32 ``(samples,)``.

        Raises:
            NoiseError: The file is missing or cannot be read.
        """
        if self.root is None:
            return generate(name, start, samples)
        path = self.path_of(name)
        try:
            if path.exists() and not path.is_file():  # a named pipe would wait
                raise NoiseError(f"noise file {name!r} is no regular file; remove or replace it", name, "unreadable")
            return self._read_file(name, path, start, samples)
        except (sf.LibsndfileError, OSError) as error:
            there = path.is_file()
            state = "is not readable as audio" if there else "is not there any more"
            reason = "unreadable" if there else "missing"
            raise NoiseError(f"noise file {name!r} {state}; remove or replace it", name, reason) from error

    def _read_file(self, name: str, path: Path, start: float, samples: int) -> np.ndarray:
        with sf.SoundFile(str(path)) as file:
            total = file.frames
            if not LOWEST_RATE <= file.samplerate <= HIGHEST_RATE:
                found = f"says that it has {file.samplerate} samples per second"
                raise NoiseError(f"noise file {name!r} {found}; remove or replace it", name, "unreadable")
            wanted = -(-samples * file.samplerate // SAMPLING_RATE) + 1
            first = int(start * max(total - wanted, 0)) if total > wanted else int(start * total)
            file.seek(first)
            piece = file.read(min(wanted, total - first), dtype="float32", always_2d=True).mean(axis=1)
            if len(piece) < wanted and first:
                file.seek(0)
                piece = np.concatenate([piece, file.read(first, dtype="float32", always_2d=True).mean(axis=1)])
            rate = file.samplerate
        if rate != SAMPLING_RATE:
            piece = soxr.resample(piece, rate, SAMPLING_RATE)
        if len(piece) == 0:
            raise NoiseError(f"noise file {name!r} holds no samples; remove it from the noise folder", name, "empty")
        if not np.isfinite(piece).all():
            raise NoiseError(f"noise file {name!r} holds NaN or infinite samples; remove or replace it", name, "nan")
        return np.resize(piece, samples)  # np.resize repeats the piece

    def noise(self, draw: NoiseDraw, samples: int) -> np.ndarray:
        """The noise of a draw, before scaling: babble voices have equal power.

        Args:
            draw: Which files, and from where.
            samples: Length wanted, at 16 kHz.

        Returns:
            float32 ``(samples,)``.

        Raises:
            NoiseError: A file is missing, cannot be read, is silent or holds NaN.
        """
        total = np.zeros(samples, dtype=np.float32)
        for name, start in draw.parts:
            piece = self.read(name, start, samples)
            power = float(np.mean(piece**2))
            for other in FALLBACKS:  # a pause in the recording: another place is as good
                if power >= SILENT_POWER:
                    break
                piece = self.read(name, other, samples)
                power = float(np.mean(piece**2))
            if not np.isfinite(power) or power < SILENT_POWER:
                message = f"noise file {name!r} is silent or holds NaN; remove it from the noise folder"
                raise NoiseError(message, name, "silent")
            total += piece / np.sqrt(power)
        return total

    def apply(self, waveform: np.ndarray, draw: NoiseDraw | None) -> np.ndarray:
        """Add the noise of a draw to a waveform.

        Args:
            waveform: float32 ``(samples,)`` at 16 kHz; not changed.
            draw: The noise and its SNR; nothing is added where None.

        Returns:
            float32 ``(samples,)``.
        """
        if draw is None:
            return waveform
        noise = torch.from_numpy(self.noise(draw, len(waveform)))
        return mix_at_snr(torch.from_numpy(np.ascontiguousarray(waveform)), noise, draw.snr_db).numpy()

    def mix(self, waveform: np.ndarray, draw: Callable[[], NoiseDraw | None]) -> tuple[np.ndarray, NoiseDraw | None]:
        """Add the noise that ``draw`` draws; for noise that cannot be used, it draws again.

        Args:
            waveform: float32 ``(samples,)``, not changed.
            draw: Draws noise, or None for none; other noise at each call.

        Returns:
            float32 ``(samples,)``, and what was added. Files that cannot be used are noted in ``refused``.

        Raises:
            NoiseError: ``DRAWS`` draws had a file that cannot be used.
        """
        tries = 1
        while True:
            chosen = draw()
            try:
                return self.apply(waveform, chosen), chosen
            except NoiseError as error:
                self.refused[error.name] = error.reason
                if tries == DRAWS:
                    raise
            tries += 1


@dataclass(frozen=True)
class NoiseRecipe:
    """From which ranges noise is drawn. The defaults are those of the x-vector recipe.

    Attributes:
        snr_ranges: Lowest and highest SNR in dB for each category.
        voices: Smallest and largest number of voices in babble.
        clean_share: Share of utterances that get no noise.
    """

    snr_ranges: tuple[tuple[str, float, float], ...] = (("noise", 0, 15), ("music", 5, 15), ("speech", 13, 20))
    voices: tuple[int, int] = (3, 7)
    clean_share: float = 0.25

    def draw(self, corpus: NoiseCorpus, rng: np.random.Generator) -> NoiseDraw | None:
        """Draw category, files and SNR.

        Args:
            corpus: Noise corpus.
            rng: Source of all that is drawn.

        Returns:
            The draw; None means clean.

        Raises:
            DatasetError: The corpus has no file of any category of the recipe.

        Example:
            >>> corpus = load_noise("generated", part="train")
            >>> NoiseRecipe(clean_share=0).draw(corpus, np.random.default_rng(1)) is None
            False
        """
        if rng.random() < self.clean_share:
            return None
        usable = [entry for entry in self.snr_ranges if corpus.files.get(entry[0])]
        if not usable:
            raise DatasetError(
                f"the noise corpus has no files of {', '.join(n for n, _, _ in self.snr_ranges)}; add some"
            )
        category, low, high = usable[rng.integers(len(usable))]
        return self._draw_parts(corpus, rng, category, float(rng.uniform(low, high)))

    def draw_at(
        self, corpus: NoiseCorpus, rng: np.random.Generator, snr_db: float, category: str = "noise"
    ) -> NoiseDraw:
        """Draw files at a fixed SNR, for test conditions.

        Args:
            corpus: Noise corpus.
            rng: Source of all that is drawn.
            snr_db: SNR in dB.
            category: ``"noise"``, ``"music"``, ``"speech"``, or ``"any"``.

        Returns:
            The draw.

        Raises:
            DatasetError: The corpus has no file of this category.
        """
        usable = [name for name, _, _ in self.snr_ranges if corpus.files.get(name)]
        if category == "any":
            category = usable[rng.integers(len(usable))]
        elif category not in usable:
            raise DatasetError(f"noise category {category!r} has no files; choose from: any, {', '.join(usable)}")
        return self._draw_parts(corpus, rng, category, float(snr_db))

    def _draw_parts(self, corpus: NoiseCorpus, rng: np.random.Generator, category: str, snr_db: float) -> NoiseDraw:
        names = corpus.files[category]
        count = int(rng.integers(self.voices[0], self.voices[1] + 1)) if category == "speech" else 1
        chosen = rng.choice(len(names), size=min(count, len(names)), replace=False)
        return NoiseDraw(category, tuple((names[i], float(rng.random())) for i in chosen), snr_db)


def part_of(names: Sequence[str], part: str) -> tuple[str, ...]:
    """Every third file in name order is for testing: a fixed rule that needs no list and holds on any machine."""
    ordered = sorted(names)
    if part == "all":
        return tuple(ordered)
    return tuple(name for index, name in enumerate(ordered) if (index % 3 == 2) == (part == "test"))


def load_noise(source: str | Path | None = None, part: str = "train") -> NoiseCorpus:
    """Open a noise corpus.

    Args:
        source: A folder in MUSAN's layout; ``"hub:user/name"`` for a copy of it on the Hub, such as
            ``"hub:corypaik/musan"`` (see `hfprobe.data.hub_noise`); ``"musan"`` for ``musan/`` in the data folder, or
            that one on the Hub; ``"generated"`` for noise that is computed (needs no files); or ``None`` for the noise
            of the data folder, and generated noise where there is none.
        part: ``"train"``, ``"test"`` (every third file of each category in name order; disjoint) or ``"all"``.

    Returns:
        The corpus; its files are read when they are used.

    Raises:
        DatasetError: The folder is missing or has no audio in MUSAN's layout, ``part`` is unknown, or the Hub cannot be
            reached.

    Example:
        >>> train, test = load_noise("generated", "train"), load_noise("generated", "test")
        >>> set(train.files["noise"]) & set(test.files["noise"])
        set()
    """
    if part not in ("train", "test", "all"):
        raise DatasetError(f"noise part must be train, test or all, not {part!r}")
    if source is None:
        source = local_noise() or "generated"
    if str(source) == "musan" and not Path(source).is_dir():
        beside = data_folder()
        source = beside / "musan" if beside is not None and (beside / "musan").is_dir() else MUSAN
    if str(source).startswith("hub:"):
        from hfprobe.data.hub_noise import load_hub_noise

        return load_hub_noise(str(source).removeprefix("hub:"), part)
    if str(source) == "generated":
        return NoiseCorpus({category: part_of(names, part) for category, names in GENERATED.items()}, None)
    root = Path(source)
    if not root.is_dir():
        hint = f", hub:{source} for a repository of the Hub" if re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)) else ""
        raise DatasetError(
            f"noise folder {str(source)!r} does not exist; give a folder in MUSAN's layout{hint} or 'generated'"
        )
    files = {
        category: part_of(
            [
                p.relative_to(root).as_posix()
                for p in (root / category).rglob("*")
                if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")
            ],
            part,
        )
        for category in CATEGORIES
    }
    if not any(files.values()):
        raise DatasetError(
            f"no audio {'' if part == 'all' else f'for part {part!r} '}under {str(source)!r} in MUSAN's layout "
            "<category>/<source>/*.wav with categories "
            f"{', '.join(CATEGORIES)}; check the folder (the test part needs three files of a category)"
        )
    return NoiseCorpus(files, root)
