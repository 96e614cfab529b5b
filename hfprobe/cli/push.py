"""``hfprobe push``: a probe bank to the Hugging Face Hub, in one commit, after saying what will be pushed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hfprobe.errors import BankError, ConfigError
from hfprobe.plain import read_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this command."""
    parser.add_argument(
        "bank", metavar="BANK", help="folder that `hfprobe train` or `classify` wrote, or a shipped name"
    )
    parser.add_argument("--repo-id", required=True, metavar="USER/NAME", help="repository; made if it is not there")
    parser.add_argument("--private", action="store_true", help="make the new repository private")
    parser.add_argument("--revision", metavar="BRANCH", help="branch; made if it is not there (default: main)")
    parser.add_argument("--commit-message", metavar="TEXT", help="first line of the commit (default: says what it is)")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--yes", action="store_true", help="push without asking")
    choice.add_argument("--dry-run", action="store_true", help="check, and show what would be pushed; needs no network")


def run(args: argparse.Namespace) -> str:
    """Check the bank and its card, show what there is, push."""
    from hfprobe.hub.client import check_repo_id, check_revision
    from hfprobe.probes.bank_push import CARD, open_bank_folder, push_bank

    check_repo_id(args.repo_id)
    check_revision(args.revision)
    folder = _folder(args.bank)
    bank = open_bank_folder(folder)
    made = None if CARD in bank.files else _default_card(bank, args)
    _check_card(made, folder)
    _show(bank, made, args)
    if args.dry_run:
        return "nothing was pushed (--dry-run); the bank is whole and its card is fine"
    if not args.yes and not _agreed():
        return "nothing was pushed"
    message = args.commit_message or f"Upload {bank.kind} of {bank.index['encoder'].get('name') or 'an encoder'}"
    pushed = push_bank(folder, args.repo_id, made, message, private=args.private or None, revision=args.revision)
    return f"open {pushed.url}"


def _folder(name: str) -> Path:
    from hfprobe.probes.bank_source import shipped_banks, shipped_folder

    if name in shipped_banks():
        return shipped_folder() / name
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise BankError(
            f"expected a bank's folder or the name of a shipped bank ({', '.join(shipped_banks())}), got {name!r}; "
            "check the path"
        )
    return folder


def _default_card(bank, args: argparse.Namespace) -> str:
    """A card for a bank that has none: without results, which only `hfprobe card` is given."""
    from hfprobe.cli.card import card_text
    from hfprobe.probes import ClassifierBank
    from hfprobe.probes.bank_card import classifier_card
    from hfprobe.probes.bank_index import CLASSIFIERS

    if bank.kind == CLASSIFIERS:
        return classifier_card(ClassifierBank.from_pretrained(bank.folder), args.repo_id)
    return card_text(args.bank, "bank", repo_id=args.repo_id)


def _check_card(made: str | None, folder: Path) -> None:
    """Refuse a card that the Hub would refuse, without asking it."""
    from hfprobe.probes.bank_push import CARD
    from hfprobe.reports.cards import validate_card

    text = made if made is not None else read_text(folder / CARD, "a model card")
    problems = validate_card(text, folder)
    if problems:
        more = f" (and {len(problems) - 1} more: {'; '.join(problems[1:])})" if len(problems) > 1 else ""
        raise ConfigError(f"the card {CARD} cannot be pushed: {problems[0]}{more}")


def _show(bank, made: str | None, args: argparse.Namespace) -> None:
    """Print what will be pushed, and what stays."""
    from hfprobe.probes.bank_push import CARD

    sizes = {file: (bank.folder / file).stat().st_size for file in bank.files}
    if made is not None:
        sizes = {f"{CARD} (made now; `hfprobe card --results` adds numbers)": len(made.encode("utf-8")), **sizes}
    seen = "private" if args.private else "public if it is new"
    print(f"to {args.repo_id} ({seen}), branch {args.revision or 'main'}:")
    for file, size in sizes.items():
        print(f"  {_size(size):>9}  {file}")
    print(f"  {_size(sum(sizes.values())):>9}  in {len(sizes)} files, one commit")
    if bank.left:
        print(f"stays here: {', '.join(bank.left)}")


def _size(n_bytes: int) -> str:
    """Bytes as people read them.

    Example:
        >>> _size(999), _size(1500), _size(2_000_000)
        ('999 B', '1.5 kB', '2.0 MB')
    """
    value, unit = float(n_bytes), "B"
    for larger in ("kB", "MB", "GB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise ConfigError("nobody is there to ask; give --yes to push, or --dry-run to see only")
    return input("push? [y/N] ").strip().lower() in ("y", "yes")
