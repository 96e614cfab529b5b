"""Equal error rate for ``evaluate.load``."""

import datasets
import evaluate

from hfprobe.metrics import bootstrap_eer, eer

_DESCRIPTION = """
Equal error rate of speaker verification: the rate at which false acceptances and false rejections are equal.
Exact with ties; 0 when all pairs of one speaker score higher than all pairs of two, 0.5 when it is guessing.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (list of float): similarity of each trial; higher means more alike.
    references (list of int): 1 for the same speaker, 0 for different ones.
    convention (str): "roc" (crossing of the piecewise linear ROC) or "speechbrain" (mean of both errors where they
        differ least).
    left_speakers, right_speakers (lists of str): speaker of either side of each trial; with them, a 95 % interval by
        bootstrap over speakers.
    seed (int): seed of the bootstrap.
Returns:
    eer (float), a fraction; ci_low and ci_high (float or None); n (int), the number of trials.
Examples:
    >>> import evaluate
    >>> from hfprobe.evaluate_modules import path
    >>> evaluate.load(path("eer")).compute(predictions=[0.9, 0.8, 0.3, 0.1], references=[1, 0, 1, 0])["eer"]
    0.5
"""

_CITATION = """
@inproceedings{martin1997det,
  title = {The {DET} curve in assessment of detection task performance},
  author = {Martin, Alvin and Doddington, George and Kamm, Terri and Ordowski, Mark and Przybocki, Mark},
  booktitle = {Proc. Eurospeech},
  year = {1997}
}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class Eer(evaluate.Metric):
    """Equal error rate."""

    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(
                {"predictions": datasets.Value("float64"), "references": datasets.Value("int32")}
            ),
            reference_urls=["https://arxiv.org/abs/1911.01102"],
            license="Apache-2.0",
        )

    def _compute(self, predictions, references, convention="roc", left_speakers=None, right_speakers=None, seed=0):
        value, low, high = eer(predictions, references, convention), None, None
        if left_speakers is not None and right_speakers is not None:
            sides = left_speakers, right_speakers
            value, low, high = bootstrap_eer(predictions, references, *sides, seed=seed, convention=convention)
        return {"eer": value, "ci_low": low, "ci_high": high, "n": len(predictions)}
