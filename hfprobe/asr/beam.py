"""CTC with a language model: what a recogniser reads when it also knows how sentences are written.

ESPnet's own search and language models, over the logits of any encoder here with a CTC head. Probes and measures use
the best token of each frame (`SpeechEncoder.transcribe`), which says what the encoder itself has heard.
Source: Hannun et al., "First-pass large vocabulary continuous speech recognition using bi-directional recurrent DNNs"
(arXiv 1408.2873), as ESPnet's ``BeamSearchTimeSync`` has it.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hfprobe.encoders.espnet.adapter import EspnetEncoder
from hfprobe.errors import EncoderError
from hfprobe.hub.pickled import read_pickled
from hfprobe.plain import check_file, read_yaml, reason, short, shown

WEIGHTS = "valid.loss.best.pth"
LARGEST = 10_000


def shipped_language_models() -> dict[str, Path]:
    """Folders of the language models that come with hfprobe, by name.

    Example:
        >>> list(shipped_language_models())
        ['char-lstm']
    """
    home = Path(str(resources.files("hfprobe"))) / "pretrained" / "language_models"
    return {path.name: path for path in sorted(home.iterdir()) if (path / "config.yaml").is_file()}


def load_language_model(folder: str | Path) -> tuple[nn.Module, tuple[str, ...]]:
    """A language model that ESPnet trained.

    Args:
        folder: With ``config.yaml`` and ``valid.loss.best.pth``; or the name of a shipped one, ``char-lstm``.

    Returns:
        ESPnet's scorer in ``eval()`` mode and the tokens that it knows.

    Raises:
        EncoderError: A file is missing or of something else, or both do not fit together.
    """
    from hfprobe.asr.train import quiet_nltk

    quiet_nltk()
    from espnet2.tasks.lm import LMTask
    from typeguard import TypeCheckError

    shipped = shipped_language_models()
    folder = Path(shipped.get(str(folder), folder))
    for name in ("config.yaml", WEIGHTS):
        if not (folder / name).exists():
            raise EncoderError(
                f"expected {name} in {shown(folder)}, found none; train one with hfprobe.asr.train_lm, or name what "
                f"comes along: {', '.join(shipped)}"
            )
        check_file(folder / name, "a language model", EncoderError)
    config = read_yaml(folder / "config.yaml", "the configuration of a language model", EncoderError)
    if not isinstance(config, dict) or not isinstance(config.get("lm"), str):
        raise EncoderError(
            f"expected lm in config.yaml of {shown(folder)}, found none; give a language model of ESPnet"
        )
    tokens = config.get("token_list")
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise EncoderError(f"expected token_list in config.yaml of {shown(folder)}, a list of texts; train it again")
    known = {"model": "lm", "model_conf": {}, "init": None, "lm_conf": {}, **config, "token_list": tokens}
    weights = read_pickled(folder / WEIGHTS)
    try:
        arguments = argparse.Namespace(**known)
        _check_numbers(arguments.lm_conf)
        # First without memory: settings of a broken file may want any amount of it.
        with torch.device("meta"):
            wanted = {key: tuple(value.shape) for key, value in LMTask.build_model(arguments).state_dict().items()}
        if wanted != {key: tuple(value.shape) for key, value in weights.items()}:
            raise ValueError("weights and lm_conf are of different models")
        with torch.random.fork_rng(devices=[]):  # what is drawn is overwritten
            model = LMTask.build_model(arguments)
        model.load_state_dict({name: value.float() for name, value in weights.items()})
    except (
        ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError,
        TypeCheckError,
    ) as error:  # fmt: skip
        raise EncoderError(f"{shown(folder)} holds no language model of ESPnet ({reason(error)})") from None
    return model.lm.eval().requires_grad_(False), tuple(tokens)


def _check_numbers(settings: dict[str, Any]) -> None:
    """Refuse sizes that no language model has, on which building one would take for ever.

    Raises:
        ValueError: One of them is.
    """
    for name, value in settings.items():
        if isinstance(value, int) and not isinstance(value, bool) and not 0 <= value <= LARGEST:
            raise ValueError(f"{name} must be from 0 to {LARGEST}, got {short(value)}")


class _Logits(nn.Module):
    """Takes logits for ESPnet's encoder output, of which its search wants log-probabilities."""

    def log_softmax(self, logits: Tensor) -> Tensor:
        return logits.log_softmax(dim=-1)


class BeamRecogniser:
    """A recogniser that searches with a language model; takes the encoder's place where ``transcribe`` is asked for.

    Args:
        encoder: An ESPnet encoder with a CTC head.
        lm: What `load_language_model` gives.
        tokens: Its tokens; they must be the encoder's.
        beam: Hypotheses that are kept.
        lm_weight: What the language model's log-probability counts.
        bonus: Added for each token, as a language model prefers short texts.

    Raises:
        EncoderError: The encoder has no CTC head, or other tokens.
    """

    def __init__(
        self,
        encoder: EspnetEncoder,
        lm: nn.Module,
        tokens: Sequence[str],
        beam: int = 5,
        lm_weight: float = 0.4,
        bonus: float = 0.5,
    ):
        from espnet.nets.beam_search_timesync import BeamSearchTimeSync

        text = getattr(encoder, "text", None)
        if text is None or getattr(encoder, "ctc", None) is None:
            raise EncoderError(f"encoder {encoder.name} has no CTC head of ESPnet: it cannot search for tokens")
        if tuple(tokens) != text.tokens:
            raise EncoderError(
                f"the language model has other tokens ({len(tokens)}) than encoder {encoder.name} "
                f"({len(text.tokens)}); train it with the encoder's token_list"
            )
        self.encoder, self.text = encoder, text
        self.name = f"{encoder.name}+lm"
        weights = {"ctc": 1.0, "lm": lm_weight, "decoder": 0.0, "length_bonus": bonus}
        scorers = {"ctc": _Logits(), "decoder": None, "lm": lm}
        last = len(tokens) - 1  # <sos/eos>
        self.search = BeamSearchTimeSync(last, beam, scorers, weights, list(tokens), blank=tokens.index(text.blank))
        # Tokens of a frame that are tried; it takes more than there are for an index error.
        self.search.pre_beam_size = min(self.search.pre_beam_size, len(tokens))

    def to(self, device: Any) -> BeamRecogniser:
        """Move encoder and language model."""
        self.encoder.to(device)
        self.search.to(device)
        return self

    def eval(self) -> BeamRecogniser:
        """Both are meant to be in ``eval()``."""
        self.encoder.eval()
        return self

    @torch.no_grad()
    def transcribe(self, waveforms: Tensor, lengths: Tensor | Sequence[int] | None = None) -> list[str]:
        """Recognise by beam search; see `SpeechEncoder.transcribe`."""
        output = self.encoder(waveforms, lengths, output_hidden_states=False)
        with _quiet():
            return [
                self.text.join(self.search(row[:size])[0].yseq.tolist())
                for row, size in zip(output.logits, output.hidden_lengths[-1].tolist(), strict=True)
            ]


@contextmanager
def _quiet():
    """ESPnet's search logs three lines for each utterance."""
    before = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(before)
