"""Small made-up runs for the tests of pages: short tones for sounds, planted numbers for results."""

import numpy as np

from hfprobe.reports import Clip, ConditionView, UtteranceView, figures, paper_section, side_by_side
from hfprobe.reports.kept import keep_views
from hfprobe.results import ResultRow, Results

ENCODERS = ("vgg-robust", "vgg-baseline")
LAYERS = ("cnn1", "blstm1", "blstm2")
CONDITIONS = ("clean", "noise@10dB")
HOSTILE = """</script><img src=x onerror="document.title='pwned'">"'><script>document.title='pwned'</script><!--&amp;{{ 7*7 }} é日本"""


def tone(pitch, seconds=2.0):
    """A tone ``(samples,)`` that rises a little, so that its position can be seen."""
    time = np.arange(int(16000 * seconds)) / 16000
    return (0.3 * np.sin(2 * np.pi * (pitch + 40 * time) * time)).astype(np.float32)


def clip(pitch=300, seconds=2.0, **facts):
    frames = int(100 * seconds) + 1
    mel = np.full((frames, 40), -8.0, dtype=np.float32)
    mel[:, pitch // 50 % 40] = 2.0
    mel += np.random.default_rng(pitch).normal(0, 0.5, mel.shape).astype(np.float32)
    return Clip(tone(pitch, seconds), mel, **{"stoi": 0.91, "similarity": 0.82, "text": "a word", **facts})


def view(name="u1", encoders=ENCODERS, layers=LAYERS, conditions=CONDITIONS, seconds=2.0, **facts):
    """An utterance; the sound of every place has a pitch of its own."""
    made = []
    for c, condition in enumerate(conditions):
        start = 200 + 400 * c
        sounds = {
            encoder: {
                layer: clip(start + 50 + 20 * place + 100 * e, seconds, text=f"{layer} of {encoder}, {condition}")
                for place, layer in enumerate(layers)
            }
            for e, encoder in enumerate(encoders)
        }
        made.append(ConditionView(condition, clip(start, seconds), clip(start + 20, seconds), sounds))
    facts = {"title": f"Utterance {name}", "transcript": "THE WORDS", **facts}
    return UtteranceView(name, conditions=tuple(made), **facts)


def value_of(metric, encoder, layer, condition):
    """The planted value of a row, so that a test can ask for it."""
    base = 0.1 if metric in ("eer", "wer") else 0.6
    shift = 0.05 * LAYERS.index(layer) + 0.02 * ENCODERS.index(encoder) + 0.03 * CONDITIONS.index(condition)
    return round(base + shift, 4)


def rows(metrics=("eer", "stoi")):
    made = []
    for metric in metrics:
        for condition in CONDITIONS:
            made.append(ResultRow("-", "input", condition, metric, 0.05, 0.04, 0.06, 40))
            made.append(ResultRow("-", "ceiling", condition, metric, 0.06, 0.05, 0.07, 40))
            for encoder in ENCODERS:
                for layer in LAYERS:
                    value = value_of(metric, encoder, layer, condition)
                    made.append(ResultRow(encoder, layer, condition, metric, value, value - 0.02, value + 0.02, 40, 1))
                made.append(ResultRow(encoder, "floor", condition, metric, 0.5, 0.48, 0.52, 40))
    return made


def saved(folder, results=(), sounds=(), command="evaluate", **config):
    """A run on disk."""
    stamp = {"command": f"hfprobe {command} --x <y>", "seed": 3, "date": "2026-01-02", "versions": {"hfprobe": "0.1"}}
    if results:
        Results(tuple(results), stamp, config).to_json(folder / "results.json")
    if sounds:
        keep_views(sounds, folder, stamp, config)
    return folder


def without_drawing(patch):
    """Have pages written without Matplotlib, which is slow: for what is no test of figures."""
    patch.setattr(side_by_side, "run_figure", lambda *_: None)
    for name in ("figure_2", "figure_4", "spectrogram_figure"):
        patch.setattr(paper_section, name, lambda *_: "figure")
    patch.setattr(figures, "figure_bytes", lambda _: {"png": b"picture", "pdf": b"picture"})


def along_training(encoder="asr"):
    """What ``hfprobe similarity --checkpoints`` writes, for three checkpoints."""
    made = []
    for step in (1, 2, 10):
        for number, (left, right) in enumerate((("a", "b"), ("a", "c"), ("b", "c"))):
            made.append(
                ResultRow(
                    f"{encoder}@{step}", f"{left}~{right}", "clean", "pwcca", 0.9 / (step + number), None, None, 500
                )
            )
        if step < 10:
            for place, layer in enumerate("abc"):
                value = 0.5 + 0.04 * step - 0.1 * place
                made.append(
                    ResultRow(
                        f"{encoder}@{step}~{encoder}@10",
                        f"{layer}~{layer}",
                        "clean",
                        "pwcca",
                        value,
                        value - 0.05,
                        value + 0.05,
                        500,
                    )
                )
    return made
