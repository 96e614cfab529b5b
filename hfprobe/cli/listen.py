"""``hfprobe listen``: one page on which a recording is heard through every layer of some encoders.

The folder is a run like others: its sounds lie in ``sounds/``, and ``hfprobe report`` takes it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hfprobe.cli.banks import add_encoder_arguments, add_vocoder_arguments, load_encoders
from hfprobe.cli.common import (
    NOISE_DEFAULT,
    NOISE_HELP,
    check_output,
    device_of,
    positive_float,
    settings,
    write_settings,
)
from hfprobe.cli.report import add_audio_format


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this command."""
    parser.add_argument("audio", nargs="+", metavar="AUDIO", help="wav, flac, ogg or mp3 files")
    add_encoder_arguments(parser)
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for index.html and sounds/")
    parser.add_argument(
        "--snr", nargs="+", default=["clean", "10"], metavar="S",
        help="conditions: clean, or noise at so many dB (default: clean 10)",
    )  # fmt: skip
    parser.add_argument("--noise", metavar="DIR", help=NOISE_HELP + NOISE_DEFAULT)
    parser.add_argument("--noise-type", default="any", help="any, noise, music or speech (default: %(default)s)")
    parser.add_argument("--transcript", help="what is said (one recording only)")
    parser.add_argument(
        "--max-seconds", type=positive_float, default=15.0, help="use only the first seconds (default: %(default)s)"
    )
    add_vocoder_arguments(parser, 64)
    parser.add_argument(
        "--save-sounds", action="store_true", help="has no effect any more: every sound is in sounds/ as a FLAC file"
    )
    add_audio_format(parser)


def run(args: argparse.Namespace) -> str:
    """Make the page."""
    from hfprobe.analysis.conditions import apply_condition, parse_conditions
    from hfprobe.audio import load_audio
    from hfprobe.cli.train import noise_of
    from hfprobe.errors import ConfigError
    from hfprobe.progress import progress_bar
    from hfprobe.reports.kept import Keeper
    from hfprobe.results import Results, environment_stamp
    from hfprobe.vocoders import load_vocoder

    if args.transcript and len(args.audio) > 1:
        raise ConfigError("--transcript goes with one recording; give one AUDIO")
    conditions = parse_conditions(args.snr, args.noise_type)
    folder, device = check_output(args.output), device_of(args)
    # One bad recording stops the command before anything is written: a page that silently lacks one would mislead.
    recordings = [load_audio(path) for path in args.audio]
    noise = noise_of(args.noise, "test") if any(c.snr_db is not None for c in conditions) else None
    vocoder = load_vocoder(args.vocoder, args.iterations, device)
    pairs, verifier = load_encoders(args.encoder, args.probes), _Verifier()

    shortened = [_shorten(recording, args.max_seconds) for recording in recordings]
    for path, (_, notes) in zip(args.audio, shortened, strict=True):
        if notes:
            print(f"{Path(path).name}: {'; '.join(notes)}")
    views, keeper = [], Keeper(folder)
    for index, path in enumerate(progress_bar(args.audio, "listening")):
        clean, notes = shortened[index]
        inputs = {c.name: apply_condition(clean, Path(path).stem, c, noise, args.seed) for c in conditions}
        views.append(
            utterance_view(
                f"{index:02d}-{Path(path).stem}", Path(path).name,
                args.transcript, notes, clean, inputs, pairs, verifier,
                vocoder, args.seed, device, keeper,
            )
        )  # fmt: skip
    results = Results((), environment_stamp(args.seed, args.command_line), settings(args))
    keeper.finish(titles(views), results.environment, results.config)
    # What draws the page takes a second to import: the sounds are there to be heard before that.
    from hfprobe.reports import run_of, write_page

    run = run_of(folder.name or "listen", results, views)
    written = write_page([run], folder, "What does each layer hear?", audio_format=args.audio_format)
    write_settings(args, folder)
    return f"open {written}"


class _Verifier:
    """GE2E, loaded when it is first asked: what it imports takes seconds, in which sounds can be there already."""

    def __init__(self):
        self.encoder = None

    def embed(self, waveforms, lengths):
        """Embeddings, as `hfprobe.speakers` gives them."""
        from hfprobe.speakers import load_speaker_encoder

        self.encoder = self.encoder or load_speaker_encoder("ge2e")
        return self.encoder.embed(waveforms, lengths)


def _shorten(recording, max_seconds: float):
    limit = int(max_seconds * recording.sampling_rate)
    if len(recording.waveform) <= limit:
        return recording.waveform, recording.notes
    return recording.waveform[:limit], (
        *recording.notes,
        f"only the first {max_seconds:g} s of {recording.seconds:.1f} s",
    )


def utterance_view(name, title, transcript, notes, clean, inputs, pairs, verifier, vocoder, seed, device, keeper):
    """One recording under several conditions as a report shows it; its sounds are written before they are measured.

    Args:
        name: Identifier for file names.
        title: Heading.
        transcript: What is said, or ``None``.
        notes: What was done to the file.
        clean: Original ``(samples,)``.
        inputs: Condition name to what the encoders hear.
        pairs: Encoders and banks.
        verifier: Speaker encoder.
        vocoder: What makes sound, see `hfprobe.vocoders.load_vocoder`.
        seed: Seed of the phases.
        device: Where to run.
        keeper: Writes the sounds, see `hfprobe.reports.kept.Keeper`; its index is the caller's to finish.

    Returns:
        A :class:`hfprobe.reports.UtteranceView`.
    """
    from hfprobe.analysis.hear import hear
    from hfprobe.reports import Clip, ConditionView, UtteranceView

    views = []
    for condition, waveform in inputs.items():
        clips: dict[str | None, dict[str, Clip]] = {None: {}, **{encoder.name: {} for encoder, _ in pairs}}

        def made(sound, condition=condition):
            keeper.add(name, condition, sound.encoder, sound.layer, sound.waveform, sound.mel)

        for h in hear(clean, waveform, pairs, verifier, seed=seed, device=device, vocoder=vocoder, made=made):
            measured = {"stoi": h.stoi, "similarity": h.similarity, "text": h.text, "note": h.note}
            keeper.note(name, condition, h.encoder, h.layer, **measured)
            clips[h.encoder][h.layer] = Clip(h.waveform, h.mel, **measured)
        reference = clips.pop(None)
        views.append(ConditionView(condition, reference["input"], reference["ceiling"], clips))
    return UtteranceView(name, title, transcript or None, tuple(notes), tuple(views))


def titles(views) -> dict[str, dict]:
    """What the index of sounds says of each utterance."""
    return {view.id: {"title": view.title, "transcript": view.transcript, "notes": view.notes} for view in views}
