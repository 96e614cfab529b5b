"""The paper's numbers, to stand beside ours: Li, Yuan and Lee, arXiv 1911.01102, Tables 1 and 2."""

from __future__ import annotations

# WER (%) on dev-clean and test-clean. Baseline: no augmentation; robust: MUSAN added.
TABLE_1: dict[str, dict[str, float]] = {
    "blstm-baseline": {"dev-clean": 30.72, "test-clean": 30.98},
    "blstm-robust": {"dev-clean": 25.23, "test-clean": 25.45},
    "vgg-blstm-baseline": {"dev-clean": 29.02, "test-clean": 29.55},
    "vgg-blstm-robust": {"dev-clean": 22.64, "test-clean": 22.51},
}

_VGG = ("cnn1", "cnn2", "cnn4", "blstm1", "blstm3", "blstm5")
_BLSTM = ("blstm1", "blstm2", "blstm3", "blstm4", "blstm5")
_ROWS = """
clean robust   4.38 4.68 7.18 16.48 30.03 48.07       6.92 12.63 23.92 33.55 46.85
clean baseline 4.47 4.72 6.76 16.20 32.87 48.12       7.03 13.97 23.26 34.55 47.49
noise@20dB robust   5.80 6.27 9.23 18.11 30.40 47.75  8.44 14.97 24.98 33.80 47.07
noise@20dB baseline 5.80 6.19 9.21 18.85 33.28 47.82  8.84 17.65 25.37 35.53 47.54
noise@10dB robust   9.81 10.75 13.87 20.87 30.49 47.37  13.89 19.66 25.93 33.79 46.85
noise@10dB baseline 9.89 10.92 15.00 24.00 36.75 47.48  14.64 24.31 30.06 37.83 47.03
noise@0dB robust    23.15 24.63 28.62 31.50 34.91 46.22 29.14 33.15 33.69 38.46 46.21
noise@0dB baseline  23.18 25.27 29.80 37.66 44.56 48.13 30.54 39.90 42.10 45.41 47.89
"""


def _table_2() -> dict[tuple[str, str, str], float]:
    table = {}
    for line in _ROWS.strip().splitlines():
        condition, kind, *numbers = line.split()
        values = list(map(float, numbers))
        for arch, layers, part in (("vgg-blstm", _VGG, values[:6]), ("blstm", _BLSTM, values[6:])):
            table |= {(condition, f"{arch}-{kind}", layer): v for layer, v in zip(layers, part, strict=True)}
    return table


# EER (%) of rebuilt speech by (condition, encoder, layer), ThinResNet.
TABLE_2 = _table_2()
EER_OF_NATURAL_SPEECH = {"ge2e": 4.51, "thinresnet": 3.34}  # test-clean
