"""``hfprobe card``: the model card of a bank or an encoder, from its files and the results of its run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hfprobe.cli.card_facts import bank_facts, encoder_facts, kind_of, read_about
from hfprobe.cli.common import check_output, device_of, positive_float, positive_int
from hfprobe.errors import BankError, ConfigError, HfprobeError

CARD = "README.md"
SHIPPED_FOLDERS = {"encoder": "encoders", "bank": "banks"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this command."""
    parser.add_argument(
        "source", nargs="?", metavar="BANK_OR_ENCODER",
        help="a shipped name, a folder or a Hub id; the bank, where one name stands for both (see --kind)",
    )  # fmt: skip
    parser.add_argument(
        "--output", required=True, metavar="README.md",
        help="file to write, or a folder for README.md; figure and sounds lie beside it",
    )  # fmt: skip
    parser.add_argument(
        "--results", nargs="+", default=[], metavar="FILE",
        help="result files of hfprobe evaluate and others, or folders with such; they may hold other encoders too",
    )  # fmt: skip
    parser.add_argument("--kind", choices=["bank", "encoder"], help="what BANK_OR_ENCODER is (default: found out)")
    parser.add_argument("--encoder", metavar="E", help="of a bank: its encoder (default: the one that it names)")
    parser.add_argument("--probes", metavar="BANK", help="of an encoder: the bank that makes the sounds of --samples")
    parser.add_argument("--repo-id", metavar="USER/NAME", help="repository that the card's code loads from")
    parser.add_argument(
        "--about", metavar="FILE.yaml",
        help="what no file records: summary, language, license, license_name, license_link, license_note, base_model, "
        "encoder_license, datasets, tags, data, training, limits, citation (Markdown)",
    )  # fmt: skip
    parser.add_argument("--license", metavar="ID", help="licence by its id on the Hub (default: unknown)")
    parser.add_argument("--base-model", metavar="USER/NAME", help="model on the Hub that this was made from")
    parser.add_argument(
        "--samples", nargs="+", default=[], metavar="AUDIO",
        help="also write each recording as every layer gives it back, and link to it; ask the speaker first",
    )  # fmt: skip
    parser.add_argument(
        "--max-seconds", type=positive_float, default=10.0, help="of each sample (default: %(default)s)"
    )
    parser.add_argument(
        "--iterations", type=positive_int, default=64, help="Griffin-Lim iterations of samples (default: %(default)s)"
    )
    parser.add_argument("--no-picture", dest="picture", action="store_false", help="no figure beside the card")
    parser.add_argument(
        "--shipped", action="store_true",
        help="instead: the cards of all encoders and banks that come with hfprobe, and their template, into --output",
    )  # fmt: skip


def run(args: argparse.Namespace) -> str:
    """Write the card, or all cards of what ships."""
    from hfprobe.reports.cards import load_results

    if args.shipped:
        alone = ("source", "kind", "encoder", "probes", "repo_id", "about", "license", "base_model", "samples")
        clash = next((name for name in alone if getattr(args, name)), None)
        if clash:
            given = "BANK_OR_ENCODER" if clash == "source" else f"--{clash.replace('_', '-')}"
            raise ConfigError(f"--shipped writes all cards that ship and takes no {given}; leave one out")
        folder = check_output(args.output)
        return write_shipped(load_results(args.results), folder, args.picture)
    if not args.source:
        raise ConfigError("expected the name of a bank or an encoder; give BANK_OR_ENCODER, or --shipped for all")
    card = Path(args.output)
    if card.is_dir():
        card = card / CARD
    check_output(str(card.parent))
    results = load_results(args.results)
    facts, encoder, bank = load_facts(args.source, args.kind, args.encoder, args.repo_id)
    about = facts.about
    if args.about:
        said = read_about(args.about)
        about = replace(about, **{name: value for name, value in vars(said).items() if _says(name, value)})
    if args.license:
        about = replace(about, license=args.license)
    if args.base_model:
        about = replace(about, base_model=args.base_model)
    samples: list[Any] = []
    files: dict[str, Any] = {}
    if args.samples:
        encoder, bank = _pair(args, facts, encoder, bank)
        from hfprobe.cli.card_samples import make_samples

        prefix = "samples" if card.name == CARD else f"{card.stem}-samples"
        samples, files = make_samples(
            args.samples, encoder, bank, prefix, args.max_seconds, args.iterations, args.seed, device_of(args)
        )
        print("note: these sounds give a voice away; publish them only if the speaker agreed")
    text = write_card(card, replace(facts, about=about), results, args.picture, samples, files)
    return f"the card of {facts.name} is in {card} ({len(text.encode()):,} bytes)"


def _says(name: str, value: Any) -> bool:
    """Whether a file of the user's says something here; `unknown` is what it says where it says nothing."""
    return bool(value) and not (name == "license" and value == "unknown")


def load_facts(source: str, kind: str | None = None, encoder_source: str | None = None, repo_id: str | None = None):
    """Facts of a bank or an encoder, with what was loaded for them.

    Args:
        source: Shipped name, folder or repository.
        kind: ``bank`` or ``encoder``; found out if None.
        encoder_source: Of a bank: its encoder; loaded, too, if it is given or ships with hfprobe.
        repo_id: Repository that the card goes to.

    Returns:
        `CardFacts`, the encoder or None, the bank or None.
    """
    from hfprobe.encoders import AutoSpeechEncoder
    from hfprobe.probes import ProbeBank

    if kind_of(source, kind) == "encoder":
        encoder = AutoSpeechEncoder.from_pretrained(source)
        return encoder_facts(source, encoder, repo_id), encoder, None
    bank, own = ProbeBank.from_pretrained(source), None
    if encoder_source or bank.encoder in AutoSpeechEncoder.shipped():
        own = AutoSpeechEncoder.from_pretrained(encoder_source or bank.encoder)
        try:
            bank.check(own)
        except BankError:
            if encoder_source:
                raise
            own = None  # somebody's own encoder of that name
    return bank_facts(source, bank, own, encoder_source, repo_id), own, bank


def card_text(source: str, kind: str | None = None, results: Sequence[Any] = (), repo_id: str | None = None) -> str:
    """The card of a bank or an encoder as text, for whoever pushes it; nothing is written.

    Args:
        source: Shipped name, folder or repository.
        kind: ``bank`` or ``encoder``; found out if None.
        results: Result files, see `hfprobe.reports.cards.load_results`.
        repo_id: Repository that it goes to, from which the card's code then loads.

    Returns:
        The text, without a figure and sounds.

    Example:
        >>> 'ProbeBank.from_pretrained("user/probes")' in card_text("blstm-robust", repo_id="user/probes")
        True
    """
    from hfprobe.reports.cards import render_card

    return render_card(load_facts(source, kind, repo_id=repo_id)[0], results)


def _pair(args: argparse.Namespace, facts: Any, encoder: Any, bank: Any) -> tuple:
    """Encoder and bank for the sounds."""
    from hfprobe.encoders import AutoSpeechEncoder
    from hfprobe.probes import ProbeBank
    from hfprobe.probes.bank_source import shipped_banks

    if encoder is None:
        encoder = AutoSpeechEncoder.from_pretrained(facts.encoder)
    if bank is None:
        if not args.probes and args.source not in shipped_banks():
            raise ConfigError("--samples needs the probes of this encoder; give --probes BANK")
        bank = ProbeBank.from_pretrained(args.probes or args.source)
    bank.check(encoder)
    return encoder, bank


def write_card(
    card: Path,
    facts: Any,
    results: Sequence[Any],
    picture: bool = True,
    samples: Sequence[Any] = (),
    files: dict[str, bytes] | None = None,
) -> str:
    """Write a card with what lies beside it; the card comes last, and not at all if the Hub would refuse it.

    Args:
        card: File to write.
        facts: `CardFacts`.
        results: Result files.
        picture: Whether to draw the figure, where there are numbers for it.
        samples: Sounds that the card links to.
        files: Their content by path relative to the card.

    Returns:
        The text of the card.

    Raises:
        ReportError: The results hold nothing of this encoder, or contradict each other.
        ConfigError: The card has a problem, such as a licence that the Hub does not know.
    """
    from hfprobe.files import write_whole
    from hfprobe.reports.cards import card_picture, check_encoder, render_card, validate_card

    check_encoder(results, facts.encoder)
    drawn = card_picture(results, facts.encoder) if picture else None
    name = "layers.png" if card.name == CARD else f"{card.stem}-layers.png"
    text = render_card(facts, results, name if drawn else None, samples)
    problems = validate_card(text)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise ConfigError(f"the card would not be valid: {problems[0]}{more}")
    for place, data in (files or {}).items():
        write_whole(card.parent / place, data)
    if drawn:
        write_whole(card.parent / name, drawn)
    write_whole(card, text)
    return text


def shipped_cards() -> list[tuple[str, str]]:
    """Kind and name of everything that ships and has a card."""
    from hfprobe.encoders import AutoSpeechEncoder
    from hfprobe.probes.bank_source import shipped_banks

    return [("encoder", name) for name in AutoSpeechEncoder.shipped()] + [("bank", name) for name in shipped_banks()]


def write_shipped(results: Sequence[Any], folder: Path, picture: bool = True) -> str:
    """Write the cards of all encoders and banks that ship, and the template, below a folder.

    Args:
        results: Result files of all of them.
        folder: Gets ``encoders/NAME/README.md``, ``banks/NAME/README.md`` and ``template.md.j2``.
        picture: Whether to draw figures.

    Returns:
        What was done, as a sentence.
    """
    from hfprobe.files import write_whole
    from hfprobe.progress import progress_bar
    from hfprobe.reports.cards import template_text

    found = shipped_cards()
    for kind, name in progress_bar(found, "writing", "card"):
        try:
            write_card(folder / SHIPPED_FOLDERS[kind] / name / CARD, load_facts(name, kind)[0], results, picture)
        except HfprobeError as error:
            raise type(error)(f"card of {kind} {name}: {error}") from error
    write_whole(folder / "template.md.j2", template_text())
    return f"{len(found)} cards and their template are in {folder}"
