"""Human error rate for ``evaluate.load``."""

import datasets
import evaluate

from hfprobe.metrics import her, her_by_layer

_DESCRIPTION = """
Human error rate: how often listeners, after one clip each of two speakers, say the wrong one of a third clip. 0 when
all voices are told apart, 0.5 when it is guessing. With Wilson's 95 % interval, which holds for few answers, too.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (list of int): answers, 0 (the first speaker) or 1 (the second); -1 where an item was not answered.
    references (list of int): the key, 0 or 1.
    layers (list of str): what each item was made from, for one rate each.
Returns:
    her (float or None), a fraction; ci_low and ci_high (float or None); n and n_failed (int), answers and items without
    one; with layers, by_layer: the same for each.
Examples:
    >>> import evaluate
    >>> from hfprobe.evaluate_modules import path
    >>> evaluate.load(path("her")).compute(predictions=[0, 1, 1, 0], references=[0, 1, 0, 0])["her"]
    0.25
"""

_CITATION = """
@inproceedings{li2020hear,
  title = {What does a network layer hear? {A}nalyzing hidden representations of end-to-end {ASR} through speech
           synthesis},
  author = {Li, Chung-Yi and Yuan, Pei-Chieh and Lee, Hung-Yi},
  booktitle = {Proc. ICASSP},
  year = {2020}
}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class Her(evaluate.Metric):
    """Human error rate."""

    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"predictions": datasets.Value("int32"), "references": datasets.Value("int32")}),
            reference_urls=["https://arxiv.org/abs/1911.01102"],
            license="Apache-2.0",
        )

    def _compute(self, predictions, references, layers=None):
        # A column of whole numbers has no None that all versions of datasets keep.
        answers = [None if answer in (None, -1) else answer for answer in predictions]
        result = _plain(her(answers, references))
        if layers is not None:
            rates = her_by_layer(answers, references, layers)
            result["by_layer"] = {layer: _plain(rate) for layer, rate in rates.items()}
        return result


def _plain(rate):
    return {("her" if name == "value" else name): value for name, value in rate._asdict().items()}
