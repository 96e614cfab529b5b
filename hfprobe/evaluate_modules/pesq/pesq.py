"""Perceptual evaluation of speech quality for ``evaluate.load``."""

import datasets
import evaluate

from hfprobe.errors import MeasureError
from hfprobe.evaluate_modules import score_clips

_DESCRIPTION = """
Perceptual evaluation of speech quality (PESQ, ITU-T P.862 and P.862.2): the opinion that listeners would have of the
sound, as MOS-LQO from about 1 (bad) to 4.64 (wideband) or 4.55 (narrowband).
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (list of arrays): degraded clips, mono samples.
    references (list of arrays): clean clips, aligned with the predictions and as long.
    sampling_rate (int): in Hz.
    mode (str): "wb" (wideband, 16000 Hz only) or "nb"; by the rate when None: wideband at 16000 Hz, narrowband at 8000.
    speakers (list of str): speaker of each clip: the interval is over speakers then, else over clips.
    seed (int): seed of the bootstrap.
    n_jobs (int): processes; all cores when None.
Returns:
    pesq (float or None), the mean over clips that could be scored; ci_low and ci_high, its 95 % interval by bootstrap
    (None for a single clip or speaker); n and n_failed (int); failures (dict), failed clips by reason.
Examples:
    >>> import evaluate, numpy
    >>> from hfprobe.evaluate_modules import path
    >>> noise = numpy.random.default_rng(0).standard_normal(16000)
    >>> scores = evaluate.load(path("pesq")).compute(predictions=[noise], references=[noise])
    >>> round(scores["pesq"], 2), scores["n"]
    (4.64, 1)
"""

_CITATION = """
@inproceedings{rix2001pesq,
  title = {Perceptual evaluation of speech quality ({PESQ}): a new method for speech quality assessment of telephone
           networks and codecs},
  author = {Rix, Antony W. and Beerends, John G. and Hollier, Michael P. and Hekstra, Andries P.},
  booktitle = {Proc. ICASSP},
  year = {2001}
}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class Pesq(evaluate.Metric):
    """Perceptual evaluation of speech quality."""

    def _info(self):
        clips = datasets.Sequence(datasets.Value("float32"))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"predictions": clips, "references": clips}),
            reference_urls=["https://www.itu.int/rec/T-REC-P.862", "https://github.com/ludlows/PESQ"],
            license="Apache-2.0",
        )

    def _compute(self, predictions, references, sampling_rate=16000, mode=None, speakers=None, seed=0, n_jobs=None):
        if (
            sampling_rate not in (8000, 16000)
            or mode not in (None, "nb", "wb")
            or (mode == "wb" and sampling_rate == 8000)
        ):
            raise MeasureError(
                f"PESQ: 16000 Hz with wb or nb, or 8000 Hz with nb; got {sampling_rate} and {mode}", "rate"
            )
        measure = "pesq_nb" if mode == "nb" else "pesq"
        scores = score_clips(measure, predictions, references, sampling_rate, speakers, seed, n_jobs)
        return {"pesq": scores.pop(measure), **scores}
