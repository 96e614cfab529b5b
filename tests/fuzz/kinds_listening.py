"""Keys, answers and lists of sounds of listening tests."""

from __future__ import annotations

import json
from pathlib import Path

import soundfile
from kinds import Kind
from listening_fakes import Tones, answers_of, tone

from hfprobe.listening.answers import ANSWERS_FORMAT, gather, read_sheet
from hfprobe.listening.design import NATURAL, Cell, Sound
from hfprobe.listening.key import read_key
from hfprobe.listening.make import make_triplets
from hfprobe.listening.ratings import make_ratings
from hfprobe.listening.score import score_triplets
from hfprobe.listening.score_ratings import score_marks
from hfprobe.listening.sounds import FileSounds
from hfprobe.listening.text_form import read_text_key, read_text_sheet


def triplets(folder: Path) -> None:
    test = make_triplets(Tones(("one", "two"), speakers=4, utterances=4), per_cell=2, catch=1, listeners=1)
    (folder / "key.json").write_text(json.dumps(test.key({})))
    (folder / "ann.json").write_text(json.dumps(answers_of(test, "ann")))


def ratings(folder: Path) -> None:
    test = make_ratings(Tones(), utterances=2, listeners=1)
    (folder / "key.json").write_text(json.dumps(test.key({})))
    items = [item for item in test.items if item.role == "test"]
    # Everybody hears the hidden reference.
    marks = {
        i.id: {clip: 100 if cell == list(NATURAL) else 50 for clip, cell in i.truth["stimuli"].items()} for i in items
    }
    answers = [{"item": name, "ratings": given, "seconds": 20} for name, given in marks.items()]
    content = {"format": ANSWERS_FORMAT, "version": 1, "test": test.id, "listener": "ann", "answers": answers}
    (folder / "ann.json").write_text(json.dumps(content))


def made(write, name: str):
    def make(folder: Path) -> Path:
        write(folder)
        return folder / name

    return make


def score(path: Path):
    key = read_key(path.parent / "key.json")
    sheets = gather([path.parent / "ann.json"], key).sheets
    return (score_marks if key.kind == "mushra" else score_triplets)(key, sheets)


def texts(folder: Path) -> None:
    (folder / "key.txt").write_text("item answer layer\nq1 A one\nq2 B one\nq3 A two\n")
    (folder / "ann.txt").write_text("q1 A\nq2 A\nq3 -\n")
    kit = "/d/musan-layer-9-x/1/2/1-2-3.flac"
    (folder / "kit.txt").write_text(f"{kit} {kit} {kit} 0\n{kit} {kit} {kit} 1\n")


def score_text(path: Path):
    key = read_text_key([path.parent / "key.txt"])
    return score_triplets(key, gather([path.parent / "ann.txt"], key, read=read_text_sheet).sheets)


def sounds(folder: Path) -> Path:
    rows = ["path,speaker,layer,condition,utterance,encoder"]
    for layer in ("input", "blstm1"):
        for speaker in ("ann", "bob"):
            for utterance in "12":
                name = f"{layer}-{speaker}-{utterance}.wav"
                soundfile.write(folder / name, tone(Sound(Cell("", layer, ""), speaker, utterance)), 16000)
                rows.append(f"{name},{speaker},{layer},clean,{utterance},vgg")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder / "manifest.csv"


def listed(path: Path):
    source = FileSounds(path)
    return source.make(list(source.files))


READERS = ("listening/key.py", "listening/answers.py")
LISTENER = ("no listener is left: listener ",)  # answers as they should be, but of somebody who did not listen
KINDS = [
    Kind("key", READERS, "json", made(triplets, "key.json"), read_key),
    Kind("key and answers", READERS, "json", made(triplets, "key.json"), score, ("key", "ann.json", *LISTENER)),
    Kind("answers", READERS, "json", made(triplets, "ann.json"), score, LISTENER),
    Kind("answers of one file", READERS, "json", made(triplets, "ann.json"),
         lambda path: read_sheet(path, read_key(path.parent / "key.json"))),
    Kind("key of ratings", READERS, "json", made(ratings, "key.json"), score, ("key", "ann.json", *LISTENER)),
    Kind("ratings", READERS, "json", made(ratings, "ann.json"), score, LISTENER),
    Kind("key in text", ("listening/text_form.py",), "lines", made(texts, "key.txt"), score_text,
         ("ann", "key", *LISTENER)),
    Kind("answers in text", ("listening/text_form.py",), "lines", made(texts, "ann.txt"), score_text, LISTENER),
    Kind("the paper's kit", ("listening/text_form.py",), "lines", made(texts, "kit.txt"),
         lambda path: read_text_key([path]), ("the key",)),
    Kind("list of sounds", ("listening/sounds.py",), "lines", sounds, listed),
]  # fmt: skip
