"""How metrics are written: names, units, digits, and what a reader should know about them."""

from __future__ import annotations

from dataclasses import dataclass, replace

MISSING = "–"


@dataclass(frozen=True)
class Metric:
    """How a metric is written: its name, unit and digits, and what a reader should know about it."""

    label: str
    percent: bool
    digits: int
    meaning: str

    def text(self, value: float | None) -> str:
        """The printed number, without a unit; `–` for None.

        Example:
            >>> METRICS["eer"].text(0.0438), METRICS["stoi"].text(0.9291), METRICS["stoi"].text(None)
            ('4.38', '0.929', '–')
        """
        return MISSING if value is None else f"{self.scaled(value):.{self.digits}f}"

    def scaled(self, value: float) -> float:
        """The value in the unit of `axis`: per cent, or as it is."""
        return 100 * value if self.percent else value

    @property
    def axis(self) -> str:
        """Label with unit."""
        return f"{self.label} (%)" if self.percent else self.label


METRICS = {
    "eer": Metric("EER", True, 2, "speaker verification: at 0 % all voices are told apart, at 50 % it is guessing"),
    "mindcf": Metric("minDCF", False, 3, "speaker verification cost: 0 is perfect, 1 is useless"),
    "stoi": Metric("STOI", False, 3, "intelligibility against the clean original, 1 is perfect"),
    "estoi": Metric("ESTOI", False, 3, "extended intelligibility against the clean original, 1 is perfect"),
    "pesq": Metric("PESQ", False, 2, "quality as a listener would rate it, about 1 (bad) to 4.6"),
    "pesq_nb": Metric("PESQ (narrow band)", False, 2, "quality as a telephone listener would rate it, 1 to 4.5"),
    "si_sdr": Metric("SI-SDR, dB", False, 1, "signal to distortion, in dB"),
    "log_mel": Metric("log-mel distance, dB", False, 1, "distance of the log-mel spectrograms, 0 is equal"),
    "wer": Metric("WER", True, 2, "words the recogniser gets wrong"),
    "cer": Metric("CER", True, 2, "characters the recogniser gets wrong"),
    "her": Metric("HER", True, 2, "listeners who name the wrong speaker: at 0 % all voices are told apart"),
    "mushra": Metric("MUSHRA", False, 1, "quality by listeners, 0 (bad) to 100 (like the reference)"),
    "mel_l1": Metric("mel L1", False, 3, "mean absolute difference of the log-mel spectrograms, 0 is equal"),
    "accuracy": Metric("accuracy", True, 1, "test points that a classifier on this layer names right"),
    "control_accuracy": Metric("control accuracy", True, 1, "the same classifier where labels are drawn by type"),
    "selectivity": Metric("selectivity", True, 1, "accuracy less control accuracy: what is not only memory"),
    "mdl": Metric("description length, bits per label", False, 3, "online code of the labels, less is easier to learn"),
    "compression": Metric("compression", False, 2, "uniform code by online code: 1 is no knowledge, more is better"),
    "cosine": Metric("cosine", False, 3, "of clean and noisy frames at the same time, 1 is equal"),
    "cosine_other": Metric("cosine of two speakers", False, 3, "of frames that have nothing in common"),
    "distance": Metric("distance", False, 3, "between clean and noisy frames, by the size of a frame"),
    "distance_other": Metric("distance of two speakers", False, 3, "between clean frames, by the size of a frame"),
    "invariance": Metric("invariance", False, 3, "1 if noise changes nothing, 0 if as much as another speaker would"),
    "si_sdr_clean": Metric("SI-SDR to clean, dB", False, 1, "of the mel rebuilt from noisy input, to the clean mel"),
    "si_sdr_noisy": Metric(
        "SI-SDR to noisy, dB", False, 1, "of the mel rebuilt from noisy input, to the noisy mel: if higher, noise stays"
    ),
    "mean_cca": Metric("mean CCA", False, 3, "mean canonical correlation of two layers, 1 is the same information"),
    "svcca": Metric("SVCCA", False, 3, "CCA of the directions with most variance, 1 is the same information"),
    "pwcca": Metric("PWCCA", False, 3, "CCA weighted by what each direction explains, 1 is the same information"),
    "linear_cka": Metric(
        "linear CKA", False, 3, "likeness of two layers, or of one for clean and noisy input; 1 is the same"
    ),
    "linear_cka_debiased": Metric("linear CKA, debiased", False, 3, "as linear CKA, 0 for unrelated layers"),
    "rbf_cka": Metric("RBF CKA", False, 3, "CKA that compares near neighbours, 1 is the same"),
    "minibatch_cka": Metric("minibatch CKA", False, 3, "linear CKA from debiased parts of batches"),
    "rsa": Metric("RSA", False, 3, "correlation of the distances between points in two layers"),
    "capacity": Metric("capacity", False, 3, "classes per dimension that a plane could still split, more is untangled"),
    "radius": Metric("radius", False, 2, "of a class by the size of its centre, less is untangled"),
    "dimension": Metric("dimension", False, 1, "of a class, in effective directions; less is untangled"),
    "center_correlation": Metric("centre correlation", False, 3, "of class centres, less is untangled"),
    "separability": Metric("linear separability", False, 3, "held-out points that a linear classifier names right"),
    "class_variance": Metric(
        "variance between classes", False, 3, "its share of all variance, 0 where labels tell nothing"
    ),
}
_UNTANGLED = ("capacity", "radius", "dimension", "center_correlation", "separability", "class_variance")
METRICS |= {
    f"{name}_shuffled": replace(
        METRICS[name], label=f"{METRICS[name].label}, shuffled labels", meaning="the same points with shuffled labels"
    )
    for name in _UNTANGLED
}


_AGAINST_INPUT = "_input"


def metric_info(name: str) -> Metric:
    """How to write this metric; one that is not listed is written as it is, with three digits.

    Example:
        >>> metric_info("stoi_input").label
        'STOI to input'
    """
    if name.endswith(_AGAINST_INPUT) and (known := METRICS.get(name.removesuffix(_AGAINST_INPUT))):
        meaning = known.meaning.replace(" against the clean original", "")
        return replace(
            known, label=f"{known.label} to input", meaning=f"{meaning}; against what the encoder heard, noise and all"
        )
    return METRICS.get(name) or Metric(name, False, 3, name)
