"""What is left of speaker and words in each layer: the paper's Table 2 and Figure 4, with ceiling, floor and intervals.

Source: Li, Yuan, Lee, "What does a network layer hear?" (arXiv 1911.01102), sections 2.3, 3.2 and 3.3. Every sound,
whether natural, vocoded or rebuilt from a layer, goes through the same measures on the same trials, and where asked
back through recognisers. Sounds are made, measured and dropped batch by batch, so memory does not grow with the test
set. What was measured on a batch can be kept on disk (`hfprobe.analysis.pieces`), so that a run that was stopped goes
on, and batches can be shared out among processes: a batch comes out the same wherever and whenever it is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hfprobe.analysis.conditions import Condition, apply_condition
from hfprobe.analysis.pairs import check_pairs
from hfprobe.analysis.pieces import HeardPiece, Piece, Pieces, piece_name
from hfprobe.analysis.session import Session, readers_of
from hfprobe.analysis.systems import AGAINST_INPUT, ANY, Measured
from hfprobe.analysis.test_set import TestSet, length_batches
from hfprobe.data import NoiseCorpus, pad_waveforms
from hfprobe.data.halves import attempt
from hfprobe.errors import ConfigError
from hfprobe.memory import moved
from hfprobe.metrics import Trials, all_trials, draw_trials, score_pairs
from hfprobe.metrics.verification import CONVENTIONS
from hfprobe.probes.classifier_training import gather
from hfprobe.results import ResultRow
from hfprobe.vocoders import GriffinLim, Vocoder

BATCH_SAMPLES = 16000 * 40
# What draws trials: called with speakers, and the seed as ``seed``.
TRIALS: dict[str, Callable[..., Trials]] = {
    "balanced": draw_trials,
    "all": lambda speakers, seed: all_trials(speakers),
}
REFERENCES = ("clean", "input")


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
    **options: Any,
) -> list[ResultRow]:
    """Measure every layer of every encoder under every condition.

    Args:
        encoders: Pairs of an encoder and its probe bank. An encoder with random weights (``random:NAME``) beside NAME
            is its floor.
        test: Utterances; several per speaker, for verification.
        conditions: Conditions.
        verifier: A speaker encoder of :func:`hfprobe.speakers.load_speaker_encoder`.
        noise: Noise for the noisy conditions; a part that nothing was trained on.
        quality: Measures against the clean original, of ``hfprobe.metrics.quality.MEASURES``.
        layers: Layer names (``None``: all; a name that one encoder lacks is left out for that one).
        n_iter: Griffin-Lim iterations.
        seed: Seed of noise draws, trials, phases and bootstrap.
        device: Where encoders, probes and vocoder run.
        progress: Wraps the iterable of batches, e.g. ``tqdm``.
        **options: See `measure_systems`.

    Returns:
        Rows as ``design.md`` describes them: per condition the natural ``input``, the ``ceiling`` (vocoded true mel),
        then per encoder its layers and the ``floor`` (a probe that only knows the mean mel). EER and minDCF come from
        the same trials throughout; they have a 95 % interval by bootstrap over speakers on both sides of a trial,
        quality measures and error rates one by bootstrap over speakers.
    """
    measured = measure_systems(
        encoders, test, conditions, verifier, noise, quality, layers, n_iter, seed, device, progress, **options
    )
    return measured.rows()


def measure_systems(
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
    *,
    words: bool = False,
    recognisers: Sequence[Any] = (),
    against: Sequence[str] = ("clean",),
    trials: str = "balanced",
    convention: str = "roc",
    vocoder: Vocoder | None = None,
    keep: Callable[..., Any] | None = None,
    pieces: Pieces | None = None,
    share: tuple[int, int] = (0, 1),
) -> Measured:
    """One pass over all sounds; like `evaluate`, and keeps the values that paired differences need.

    Args:
        encoders: As for `evaluate`, and so the arguments up to ``progress``.
        test: Utterances.
        conditions: Conditions.
        verifier: Speaker encoder.
        noise: Noise.
        quality: Measures.
        layers: Layer names.
        n_iter: Griffin-Lim iterations.
        seed: Seed.
        device: Device.
        progress: Wraps the batches.
        words: Every sound goes back through the recogniser of its own encoder: WER and CER by layer, of input,
            ceiling and floor. A random twin's sounds are read by the trained encoder; encoders that cannot transcribe
            are left out.
        recognisers: Further recognisers that read every sound; their rows are called ``"NAME > RECOGNISER"``
            (`hfprobe.analysis.words.reading_name`).
        against: What quality is measured against: ``clean`` (the clean original), ``input`` (what the encoder heard),
            or both. Measures against the input are called ``stoi_input`` and so on, and are there for noisy conditions
            only: without noise the input is the clean original.
        trials: ``balanced``: as many pairs of one speaker as of two, drawn once; ``all``: every pair.
        convention: Of the EER, see `hfprobe.metrics.eer`.
        vocoder: What makes sound of every mel-spectrogram, also the ceiling's; `GriffinLim` with ``n_iter`` if None.
        keep: Called with everything that is heard: condition, encoder (`ANY` for input and ceiling), layer, indices of
            utterances, their waveforms ``(samples,)`` and log-mels ``(frames, n_mels)`` (`hfprobe.analysis.keep`).
        pieces: Where every batch is kept as soon as it is measured, and taken up from if it was kept before.
        share: Number of this process and how many there are (Accelerate's, which have to be set up); each measures its
            share of the batches, and all get what all have measured.

    Returns:
        What was measured; `Measured.rows` makes result rows of it.

    Raises:
        ConfigError: An option is unknown, or two recognisers have one name.
        EncoderError: Words are asked for and nothing can transcribe.
    """
    _check_options(against, trials, convention)
    mel_config, vocoder = check_pairs(encoders), vocoder or GriffinLim(n_iter)
    for encoder, bank in encoders:
        encoder.to(device).eval()
        bank.to(device)
    names = tuple(encoder.name for encoder, _ in encoders)
    readers = readers_of([encoder for encoder, _ in encoders], words, recognisers, device)
    measured = Measured(test, TRIALS[trials](test.speakers, seed=seed), names, readers, seed, convention)
    batches = length_batches([len(waveform) for waveform in test.waveforms], BATCH_SAMPLES)
    work = [(condition, batch) for condition in conditions for batch in batches]
    session = Session(
        encoders, test, verifier, vocoder, mel_config, readers, tuple(quality), layers, against, seed, device, keep
    )  # fmt: skip
    settings = session.settings() if pieces is not None else {}
    found: dict[int, Piece] = {}
    rank, world = share
    for number in progress(range(rank, len(work), world)):
        condition, batch = work[number]
        heard = [apply_condition(test.waveforms[i], test.ids[i], condition, noise, seed) for i in batch]
        items, name, piece = list(zip(batch, heard, strict=True)), "", None
        if pieces is not None:
            sounds = [*heard, *(test.waveforms[i] for i in batch)]
            kept = sorted(set(batch).intersection(getattr(keep, "indices", ())))
            name = piece_name({**settings, "kept": kept}, condition.name, [test.ids[i] for i in batch], sounds)
            piece = pieces.read(name)
        if piece is None or not _sounds_there(piece, keep):
            piece = moved(_measure(session, condition, items))
            if pieces is not None:
                pieces.write(name, piece)
        found[number] = piece
    if world > 1:
        found = {number: piece for part in gather(found) for number, piece in part.items()}
    if keep is not None and hasattr(keep, "begin_again"):
        keep.begin_again()  # the index lists sounds in the order of the work, whoever made them
    for number in range(len(work)):
        _add(measured, found.pop(number), keep)
    return measured


def _measure(session: Session, condition: Condition, items: list[tuple[int, np.ndarray]]) -> Piece:
    """Hear a batch every way and measure it; in halves where it does not fit into memory."""
    done = attempt(lambda: _measure_at_once(session, condition, items), len(items))
    if done:
        return done[0]
    middle = len(items) // 2
    first, second = (_measure(session, condition, part) for part in (items[:middle], items[middle:]))
    return first.joined(second)


def _measure_at_once(session: Session, condition: Condition, items: list[tuple[int, np.ndarray]]) -> Piece:
    indices = [index for index, _ in items]
    piece, sounds = Piece(indices), []
    for encoder_name, layer, waveforms, mel in session.sounds(items):
        sounds += waveforms
        heard = HeardPiece(np.asarray(session.verifier.embed(*pad_waveforms(waveforms))))
        piece.systems[condition.name, encoder_name, layer] = heard
        if session.keep is not None:
            frames = [session.mel_config.frames(len(waveform)) for waveform in waveforms]
            mels = [one[:n].cpu().numpy() for one, n in zip(mel, frames, strict=True)]
            heard.kept = session.keep(condition.name, encoder_name, layer, indices, waveforms, mels) or {}
        heard_by = session.readers if encoder_name == ANY else (encoder_name,)
        for reader in {each.key: each for name in heard_by for each in session.readers[name]}.values():
            heard.texts[reader.key] = reader.read(waveforms, session.device)
    _score(session, condition, items, piece, sounds)
    return piece


def _sounds_there(piece: Piece, keep: Any) -> bool:
    """Whether the sounds that a piece says were kept are still in the folder."""
    there = getattr(keep, "is_there", None)
    return there is None or all(there(facts) for heard in piece.systems.values() for facts in heard.kept.values())


def _add(measured: Measured, piece: Piece, keep: Any) -> None:
    """Add a batch to what was measured, and its kept sounds to the index."""
    for key, heard in piece.systems.items():
        system = measured.systems[key]
        system.embeddings.update(zip(piece.indices, heard.embeddings, strict=True))
        for reader, texts in heard.texts.items():
            system.texts[reader].update(zip(piece.indices, texts, strict=True))
        for measure, values in heard.quality.items():
            system.quality[measure].update(zip(piece.indices, values, strict=True))
        if heard.kept and hasattr(keep, "take_up"):
            keep.take_up(key, heard.kept)
    measured.failures.update(piece.failures)


def _check_options(against: Sequence[str], trials: str, convention: str) -> None:
    """Refuse options that are not known, before anything is computed."""
    for option, given, known in (
        ("against", tuple(against), REFERENCES),
        ("trials", (trials,), tuple(TRIALS)),
        ("convention", (convention,), CONVENTIONS),
    ):
        if not given or any(value not in known for value in given):
            raise ConfigError(f"expected {option} of {', '.join(known)}, got {', '.join(given) or 'nothing'}")


def _score(
    session: Session, condition: Condition, items: list[tuple[int, np.ndarray]], piece: Piece, sounds: list[np.ndarray]
) -> None:
    """Quality of all systems on one batch; one call, so that all cores have work."""
    size, keys = len(items), list(piece.systems)
    clean, heard = [session.test.waveforms[i] for i, _ in items], [waveform for _, waveform in items]
    references, degraded, places = [], [], []
    if "clean" in session.against:
        places += [(key, "") for key in keys]
        references, degraded = clean * len(keys), list(sounds)
    if "input" in session.against and condition.snr_db is not None:
        # The input against itself says nothing.
        rebuilt = [number for number, key in enumerate(keys) if key[2] != "input"]
        places += [(keys[number], AGAINST_INPUT) for number in rebuilt]
        references += heard * len(rebuilt)
        degraded += [sound for number in rebuilt for sound in sounds[number * size : (number + 1) * size]]
    scores = score_pairs(references, degraded, session.quality)
    for measure, values in scores.items():
        for number, (key, ending) in enumerate(places):
            piece.systems[key].quality[measure + ending] = values[number * size : (number + 1) * size]
        for reason, count in scores.failures[measure].items():
            piece.failures[condition.name, measure, reason] += count
