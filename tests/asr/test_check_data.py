"""The data check: what is counted before training, and what is refused with a line that says what to mend."""

import numpy as np
import pytest
import soundfile as sf
import torch
import yaml

from hfprobe.asr.alignable import frames_of, needed_frames
from hfprobe.asr.check_data import main
from hfprobe.asr.manifest import load_split
from hfprobe.asr.pieces import load_pieces, make_pieces
from hfprobe.asr.pieces import main as pieces_main
from hfprobe.encoders.espnet.frontend import DeltaFrontend
from hfprobe.encoders.espnet.loading import ENCODERS
from hfprobe.errors import ConfigError

TOKENS = ["<blank>", "<unk>", "<space>", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ", "<sos/eos>"]
RNN = {"num_layers": 5, "hidden_size": 4, "output_size": 4, "dropout": 0.0}
CONF = {
    "rnn": {**RNN, "subsample": [1, 2, 2, 2, 1]},
    "vgg_rnn": {**RNN, "in_channel": 3},
    "transformer": {
        "output_size": 8,
        "attention_heads": 2,
        "linear_units": 8,
        "num_blocks": 2,
        "input_layer": "conv2d",
    },
}


@torch.no_grad()
@pytest.mark.parametrize("kind", CONF)
def test_frames_are_those_of_the_encoder(kind):
    frames, step = frames_of({"frontend": "delta", "encoder": kind, "encoder_conf": CONF[kind]})
    assert step == (80 if kind == "rnn" else 40)
    encoder = ENCODERS[kind](input_size=240, **CONF[kind]).eval()
    for samples in (8000, 8159, 8160, 12345, 20001):
        features = DeltaFrontend()(torch.zeros(1, samples), torch.tensor([samples]))
        assert frames(samples) == int(encoder(*features)[1][0])
    with pytest.raises(ConfigError, match="encoder 'nobody' is not known; choose from rnn"):
        frames_of({"encoder": "nobody"})


@pytest.mark.parametrize(("text", "spare"), [("HELLO", 1), ("AB", 0), ("AAA", 2)])
def test_needed_frames_are_where_ctc_begins_to_be_possible(text, spare):
    need = needed_frames(text)
    assert need == len(text) + spare
    targets = torch.tensor([[ord(c) - 64 for c in text]])
    for frames, possible in ((need, True), (need - 1, False)):
        logits = torch.zeros(frames, 1, 27).log_softmax(-1)
        loss = torch.nn.functional.ctc_loss(logits, targets, torch.tensor([frames]), torch.tensor([len(text)]))
        assert bool(torch.isfinite(loss)) == possible


def corpus(folder, rows):
    """A Kaldi folder from ``(id, seconds, text, speaker)``."""
    folder.mkdir()
    lists = {"wav.scp": [], "text": [], "utt2spk": []}
    for name, seconds, text, speaker in rows:
        path = folder / f"{name}.wav"
        sf.write(path, 0.1 * np.sin(np.arange(int(16000 * seconds)) / 9).astype(np.float32), 16000)
        for key, value in (("wav.scp", path), ("text", text), ("utt2spk", speaker)):
            lists[key].append(f"{name} {value}")
    for key, lines in lists.items():
        (folder / key).write_text("\n".join(lines) + "\n")
    return folder


def musan(root, categories=("noise", "music", "speech")):
    for category in categories:
        (root / category / "x").mkdir(parents=True)
        for number in range(3):
            sf.write(root / category / "x" / f"{category}-x-{number:04d}.wav", np.full(800, 0.1, np.float32), 16000)
    return root


@pytest.fixture
def place(tmp_path):
    corpus(tmp_path / "train", [("a1", 1.0, "HELLO THERE", "anna"), ("a2", 0.5, "SO MANY LETTERS", "anna")])
    corpus(tmp_path / "test", [("b1", 1.0, "A DOG", "bert")])
    for kind in ("rnn", "vgg_rnn"):
        config = {"token_type": "char", "token_list": TOKENS, "frontend": "delta", "encoder": kind}
        (tmp_path / f"train_{kind}.yaml").write_text(yaml.safe_dump({**config, "encoder_conf": CONF[kind]}))
    musan(tmp_path / "musan")
    return tmp_path


def words(place, *more):
    given = ["--train", f"kaldi:{place}/train", "--test", f"kaldi:{place}/test", "--noise", f"{place}/musan"]
    return [*given, "--recogniser", f"{place}/train_rnn.yaml", f"{place}/train_vgg_rnn.yaml", *more]


def test_what_ctc_cannot_align_is_counted_and_named(place, capsys):
    assert main(words(place, "--write", f"{place}/lists")) == 0
    shown = capsys.readouterr().out
    assert "train: 2 utterances, 0.00 h, 1 speakers" in shown
    # 1 s: 13 frames of 80 ms for 11 characters and one pair of equal ones; 0.5 s: 7 frames for 15 and one pair.
    assert "train, rnn: 1 of 2 utterances (50.0 %) have more characters" in shown and "than 80-ms frames" in shown
    assert "teach CTC nothing: a2" in shown
    assert "train, vgg_rnn: 1 of 2" in shown and "test, rnn: 0 of 1 utterances (0.0 %)" in shown
    assert "noise, train: 2 noise, 2 music, 2 speech\nnoise, test: 1 noise, 1 music, 1 speech" in shown
    split = load_split(place / "lists" / "train.tsv")
    assert [(u.id, u.samples, u.speaker, u.text) for u in split.utterances][1] == (
        "a2",
        8000,
        "anna",
        "SO MANY LETTERS",
    )
    assert split.corpus == f"kaldi:{place}/train"
    again = ["--read", f"{place}/lists", "--recogniser", f"{place}/train_rnn.yaml"]
    assert main(again) == 0 and "teach CTC nothing: a2" in capsys.readouterr().out


def spoil_audio(place):
    (place / "train" / "a2.wav").unlink()


def spoil_text(place):
    (place / "train" / "text").write_text("a1 HELLO THERE\n")


def spoil_token(place):
    (place / "train" / "text").write_text("a1 HELLO THERE\na2 CAFÉ 7\n")


def spoil_speaker(place):
    (place / "test" / "utt2spk").write_text("b1 anna\n")


def spoil_noise(place):
    for path in (place / "musan" / "music").rglob("*.wav"):
        path.unlink()


def spoil_lists(place):
    (place / "train" / "wav.scp").write_text("")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_audio, "train: 1 of 2 utterances .* have a transcript but no readable audio: a2; restore the files"),
        (spoil_text, "train: 1 of 2 utterances .* have no transcript: a2; .* add the transcripts"),
        (spoil_token, r"train: 2 tokens .* not in the token list of train_rnn.yaml: 'É', '7' \(the first in a2\); add"),
        (spoil_speaker, "1 speakers are in both train and test: anna; use disjoint splits"),
        (spoil_noise, "has no music for train; expected folders noise, music, speech"),
        (spoil_lists, "no wav.scp"),
    ],
)
def test_refusals_are_one_line(place, capsys, spoil, message):
    import re

    spoil(place)
    assert main(words(place)) == 1
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and re.search(message, said), said


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--read", "nowhere"], "no list of utterances in 'nowhere'; run the data check first"),
        (["--train", "espeak:train", "--limit", "0"], "train: 'espeak:train' has no utterance"),
        ([], "no corpus is given"),
        (
            ["--train", "espeak:train", "--limit", "1", "--recogniser", "gone.yaml"],
            "training configuration .* 'gone.yaml'",
        ),
        (["--train", "espeak:train", "--limit", "1", "--pieces", "gone"], "token list .* is missing or empty; make it"),
    ],
)
def test_wrong_options_are_one_line(capsys, given, message):
    import re

    assert main(given) == 1
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and re.search(message, said), said


def test_word_pieces_need_fewer_frames(place, capsys):
    assert main(words(place, "--write", f"{place}/lists")) == 0
    assert pieces_main(["--text", f"{place}/lists/train.tsv", "--count", "40", "--output", f"{place}/pieces"]) == 0
    tokens = load_pieces(place / "pieces")
    assert list(tokens.ids)[:2] == ["<blank>", "<unk>"] and list(tokens.ids)[-1] == "<sos/eos>"
    assert "".join(tokens.pieces("HELLO THERE")).replace("\u2581", " ").strip() == "HELLO THERE"
    assert tokens.unknown not in tokens("HELLO THERE") and tokens.unknown in tokens("HELLO É")
    config = yaml.safe_load((place / "train_rnn.yaml").read_text())
    (place / "train_rnn.yaml").write_text(yaml.safe_dump({**config, "token_type": "bpe", "token_list": None}))
    assert tokens.unknown not in tokens("QUIZ")  # letters that the training text lacks
    capsys.readouterr()
    given = ["--read", f"{place}/lists", "--recogniser", f"{place}/train_rnn.yaml"]
    assert main([*given, "--pieces", f"{place}/pieces"]) == 0 and "more word pieces" in capsys.readouterr().out
    assert main(given) == 0 and "more characters" in capsys.readouterr().out  # before there are pieces


def test_pieces_refuse_what_cannot_be_done(tmp_path, capsys):
    with pytest.raises(ConfigError, match="2 word pieces cannot be made from these transcripts"):
        make_pieces(["HELLO THERE"], 2, tmp_path)
    assert not list(tmp_path.iterdir())
    assert pieces_main(["--text", str(tmp_path / "train.tsv"), "--output", str(tmp_path)]) == 1
    assert "is missing; run the data check first" in capsys.readouterr().err
