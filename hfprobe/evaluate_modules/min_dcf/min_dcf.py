"""Minimum detection cost for ``evaluate.load``."""

import datasets
import evaluate

from hfprobe.metrics import bootstrap_min_dcf, min_dcf

_DESCRIPTION = """
Minimum detection cost of speaker verification (NIST SRE), normalised: the smallest cost of errors over all thresholds,
divided by the cost of the better of always accepting and always rejecting. 0 is perfect, 1 is of no use.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (list of float): similarity of each trial; higher means more alike.
    references (list of int): 1 for the same speaker, 0 for different ones.
    p_target (float): prior probability of the same speaker.
    c_miss (float): cost of a false rejection.
    c_fa (float): cost of a false acceptance.
    left_speakers, right_speakers (lists of str): speaker of either side of each trial; with them, a 95 % interval by
        bootstrap over speakers.
    seed (int): seed of the bootstrap.
Returns:
    min_dcf (float); ci_low and ci_high (float or None); n (int), the number of trials.
Examples:
    >>> import evaluate
    >>> from hfprobe.evaluate_modules import path
    >>> evaluate.load(path("min_dcf")).compute(predictions=[0.9, 0.8, 0.3, 0.1], references=[1, 1, 0, 0])["min_dcf"]
    0.0
"""

_CITATION = """
@misc{nist2016sre,
  title = {{NIST} 2016 Speaker Recognition Evaluation Plan},
  author = {{National Institute of Standards and Technology}},
  year = {2016}
}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class MinDcf(evaluate.Metric):
    """Minimum detection cost."""

    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(
                {"predictions": datasets.Value("float64"), "references": datasets.Value("int32")}
            ),
            reference_urls=["https://www.nist.gov/itl/iad/mig/speaker-recognition"],
            license="Apache-2.0",
        )

    def _compute(
        self, predictions, references, p_target=0.01, c_miss=1.0, c_fa=1.0,
        left_speakers=None, right_speakers=None, seed=0,
    ):  # fmt: skip
        costs = {"p_target": p_target, "c_miss": c_miss, "c_fa": c_fa}
        value, low, high = min_dcf(predictions, references, **costs), None, None
        if left_speakers is not None and right_speakers is not None:
            value, low, high = bootstrap_min_dcf(
                predictions, references, left_speakers, right_speakers, seed=seed, **costs
            )
        return {"min_dcf": value, "ci_low": low, "ci_high": high, "n": len(predictions)}
