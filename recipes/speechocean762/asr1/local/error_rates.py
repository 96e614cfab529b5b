"""Word and character error rates of recognisers, clean and at fixed SNRs, as JSON, CSV and Markdown."""

from __future__ import annotations

import argparse
from pathlib import Path

from hfprobe.analysis.conditions import parse_conditions
from hfprobe.analysis.recognise import recognise
from hfprobe.analysis.test_set import load_test_set
from hfprobe.asr.beam import BeamRecogniser, load_language_model
from hfprobe.data import load_noise
from hfprobe.encoders import AutoSpeechEncoder
from hfprobe.files import write_whole
from hfprobe.reports.tables import markdown_tables
from hfprobe.results import Results, environment_stamp


def main() -> None:
    """Recognise the whole test set with every encoder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("encoders", nargs="+")
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--noise", required=True)
    parser.add_argument("--snr", nargs="+", default=["clean", "20", "10", "0"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--per-speaker", type=int, default=None, help="only so many utterances of each speaker")
    parser.add_argument("--lm", default=None, help="read again with a language model: char-lstm, or a folder")
    parser.add_argument("--lm-weight", type=float, default=0.4)
    parser.add_argument("--beam", type=int, default=5)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    conditions = parse_conditions(args.snr)
    test = load_test_set(args.dataset, per_speaker=args.per_speaker)
    noise = load_noise(None if args.noise == "local" else args.noise, "test")
    rows = []
    language_model = load_language_model(args.lm) if args.lm else None
    for name in args.encoders:
        recognisers: list = [AutoSpeechEncoder.from_pretrained(name)]
        if language_model is not None:
            recognisers.append(BeamRecogniser(recognisers[0], *language_model, args.beam, args.lm_weight))
        for recogniser in recognisers:
            found, transcripts = recognise(recogniser, test, conditions, noise, args.seed)
            rows += found
            for reference, text in list(zip(test.texts, transcripts[conditions[0].name], strict=True))[:5]:
                print(f"{recogniser.name}: {reference!r} -> {text!r}")
    config = {"dataset": args.dataset, "snr": args.snr, "utterances": len(test), "left_out": dict(test.failures)}
    if args.lm:
        config |= {"lm": Path(args.lm).name, "lm_weight": args.lm_weight, "beam": args.beam}
    args.output.mkdir(parents=True, exist_ok=True)
    results = Results(tuple(rows), environment_stamp(args.seed, "local/error_rates.py"), config)
    results.to_json(args.output / "results.json")
    results.to_csv(args.output / "results.csv")
    write_whole(args.output / "results.md", markdown_tables(rows))
    print((args.output / "results.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
