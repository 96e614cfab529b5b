"""Beam search with a language model: against all paths counted out, planted preferences, and files that are refused."""

import itertools
from collections import defaultdict

import pytest
import torch
import yaml

from hfprobe.asr.beam import WEIGHTS, BeamRecogniser, load_language_model
from hfprobe.asr.manifest import Utterance
from hfprobe.asr.ship import ship
from hfprobe.asr.train_lm import main, write_texts
from hfprobe.encoders import AutoSpeechEncoder
from hfprobe.encoders.espnet.decoding import CTCText
from hfprobe.errors import DatasetError, EncoderError

TOKENS = ("<blank>", "<unk>", "<space>", "A", "B", "<sos/eos>")


class Ears:
    """An encoder whose logits are given."""

    name, ctc, text = "ears", object(), CTCText(TOKENS)

    def __init__(self, logits):
        self.logits = logits

    def __call__(self, waveforms, lengths, output_hidden_states):
        return self

    @property
    def hidden_lengths(self):
        return (torch.tensor([len(row) for row in self.logits]),)


class Taste(torch.nn.Module):
    """A language model that says how much it likes a token, whatever came before."""

    def __init__(self, **likes):
        super().__init__()
        self.scores = torch.tensor([likes.get(token.strip("<>"), 0.0) for token in TOKENS])

    def init_state(self, x):
        return None

    def score(self, y, state, x):
        return self.scores, None


def likeliest(log_probs):
    """The text with the largest probability, all paths counted out."""
    total = defaultdict(float)
    for path in itertools.product(range(len(TOKENS)), repeat=len(log_probs)):
        merged = tuple(index for index, _ in itertools.groupby(path) if index != 0)
        total[merged] += float(sum(row[index] for row, index in zip(log_probs, path, strict=True)).exp())
    return Ears.text.join(max(total, key=total.__getitem__))


@pytest.mark.parametrize("seed", range(5))
def test_without_a_language_model_it_finds_the_likeliest_text(seed):
    logits = 2 * torch.randn(2, 5, len(TOKENS), generator=torch.Generator().manual_seed(seed))
    logits[:, :, [1, 5]] = -20  # never heard
    search = BeamRecogniser(Ears(logits), Taste(), TOKENS, beam=50, lm_weight=1.0, bonus=0.0)
    assert search.transcribe(torch.zeros(2, 100)) == [likeliest(row.log_softmax(-1)) for row in logits]


def test_a_language_model_and_the_bonus_have_their_say():
    logits = torch.full((1, 3, len(TOKENS)), -20.0)
    logits[0, 0, 3], logits[0, 0, 4] = 1.0, 0.9  # A, nearly B
    logits[0, 1, 0] = 5.0
    logits[0, 2, 0], logits[0, 2, 3] = 1.0, 0.7  # nothing, nearly A
    heard = {
        (likes, bonus): BeamRecogniser(Ears(logits), Taste(**{likes: 1.0}), TOKENS, lm_weight=0.5, bonus=bonus)
        for likes, bonus in itertools.product("AB", (0.0, 2.0))
    }
    read = {key: search.transcribe(torch.zeros(1, 100))[0] for key, search in heard.items()}
    assert read == {("A", 0.0): "AA", ("B", 0.0): "B", ("A", 2.0): "AA", ("B", 2.0): "BA"}


def utterances(count=40):
    return [Utterance(f"u {n}", 16000, f"speaker {n}", "A BAD CAB" if n % 2 else "A CAB") for n in range(count)]


def test_texts_are_split_by_speaker_and_ids_have_no_spaces(tmp_path):
    train, valid = write_texts(utterances(), tmp_path, held=0.2)
    lines = [path.read_text().splitlines() for path in (train, valid)]
    assert sum(map(len, lines)) == 40 and 2 <= len(lines[1]) <= 15
    assert all(line.split(maxsplit=1)[1] in ("A BAD CAB", "A CAB") for line in lines[0] + lines[1])
    with pytest.raises(DatasetError, match="2 sentences are left to train on and 0 to validate"):
        write_texts(utterances(2), tmp_path, held=0.0)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """A small language model, trained for one epoch on spoken sentences and made ready to give away."""
    folder = tmp_path_factory.mktemp("lm")
    tokens = list(AutoSpeechEncoder.from_pretrained("blstm-robust").text.tokens)
    config = {
        "token_type": "char", "token_list": tokens, "lm": "seq_rnn", "batch_type": "unsorted", "batch_size": 8,
        "lm_conf": {"rnn_type": "lstm", "nlayers": 1, "unit": 16}, "optim": "adam", "max_epoch": 1, "num_workers": 0,
        "use_tensorboard": False, "use_matplotlib": False, "best_model_criterion": [["valid", "loss", "min"]],
    }  # fmt: skip
    (folder / "conf.yaml").write_text(yaml.safe_dump(config))
    main(
        ["--corpus", "espeak:test", "--held", "0.3", "--output_dir", str(folder / "exp"), "--ngpu", "0"]
        + ["--config", str(folder / "conf.yaml")]
    )
    return ship(folder / "exp", folder / "lm", WEIGHTS)


def test_a_trained_model_searches_for_a_shipped_recogniser(shipped):
    encoder = AutoSpeechEncoder.from_pretrained("blstm-robust")
    lm, tokens = load_language_model(shipped)
    assert tokens == encoder.text.tokens and not lm.training
    assert (shipped / WEIGHTS).stat().st_size < 20_000 and "texts" not in (shipped / "config.yaml").read_text()
    waveforms = 0.1 * torch.randn(2, 16000, generator=torch.Generator().manual_seed(0))
    search = BeamRecogniser(encoder, lm, tokens, beam=4).to("cpu").eval()
    assert search.name == "blstm-robust+lm"
    texts = search.transcribe(waveforms, [16000, 9000])
    assert len(texts) == 2 and texts[1] == search.transcribe(waveforms[1:, :9000])[0]


def test_the_shipped_model_knows_how_english_is_written():
    encoder = AutoSpeechEncoder.from_pretrained("vgg-blstm-robust")
    lm, tokens = load_language_model("char-lstm")
    assert tokens == encoder.text.tokens
    ids = {token: index for index, token in enumerate(tokens)}

    def score(text):
        line = [ids["<sos/eos>"], *(ids["<space>" if c == " " else c] for c in text)]
        scores, _ = lm(torch.tensor([line[:-1]]), None)
        return float(scores.log_softmax(-1)[0].gather(1, torch.tensor(line[1:])[:, None]).mean())

    assert score("SHE WENT TO THE HOUSE") > score("SHE WENT TO THE HOSUE") > score("XQ ZVKJ PFF WXQ GGTRS")
    # Better than knowing letters alone (2.9 nats for English).
    assert score("THE WEATHER WAS GOOD AND WE WENT OUT") > -2.0


def test_files_that_are_refused(shipped, tmp_path):
    with pytest.raises(EncoderError, match=r"expected config\.yaml .*hfprobe\.asr\.train_lm"):
        load_language_model(tmp_path)
    config = yaml.safe_load((shipped / "config.yaml").read_text())
    (tmp_path / WEIGHTS).write_bytes((shipped / WEIGHTS).read_bytes())
    for change, message in (
        ({"lm": None}, "expected lm"),
        ({"token_list": "A"}, "expected token_list"),
        ({"lm": "parrot"}, "no language model of ESPnet"),
        ({"lm_conf": {"unit": "many"}}, "no language model of ESPnet"),
        ({"lm_conf": {"unit": 8}}, "no language model of ESPnet"),
    ):
        (tmp_path / "config.yaml").write_text(yaml.safe_dump({**config, **change}))
        with pytest.raises(EncoderError, match=message) as caught:
            load_language_model(tmp_path)
        assert "\n" not in str(caught.value)
    encoder = AutoSpeechEncoder.from_pretrained("blstm-robust")
    lm, tokens = load_language_model(shipped)
    with pytest.raises(EncoderError, match=r"other tokens \(30\) than encoder blstm-robust \(31\)"):
        BeamRecogniser(encoder, lm, tokens[1:])
    with pytest.raises(EncoderError, match="ears has no CTC head"):
        deaf = Ears(torch.zeros(1, 1, 6))
        deaf.ctc = None
        BeamRecogniser(deaf, lm, TOKENS)
