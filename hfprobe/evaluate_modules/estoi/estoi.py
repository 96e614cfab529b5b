"""Extended short-time objective intelligibility for ``evaluate.load``."""

import datasets
import evaluate

from hfprobe.evaluate_modules import score_clips

_DESCRIPTION = """
Extended short-time objective intelligibility (ESTOI): as STOI, but it also follows noise that comes and goes, and takes
bands together. About 0 (nothing) to 1 (everything); lower than STOI on the same sound.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (list of arrays): degraded clips, mono samples.
    references (list of arrays): clean clips, aligned with the predictions and as long.
    sampling_rate (int): in Hz.
    speakers (list of str): speaker of each clip: the interval is over speakers then, else over clips.
    seed (int): seed of the bootstrap.
    n_jobs (int): processes; all cores when None.
Returns:
    estoi (float or None), the mean over clips that could be scored; ci_low and ci_high, its 95 % interval by bootstrap
    (None for a single clip or speaker); n and n_failed (int); failures (dict), failed clips by reason.
Examples:
    >>> import evaluate, numpy
    >>> from hfprobe.evaluate_modules import path
    >>> noise = numpy.random.default_rng(0).standard_normal(16000)
    >>> scores = evaluate.load(path("estoi")).compute(predictions=[noise], references=[noise])
    >>> round(scores["estoi"], 3), scores["n"]
    (1.0, 1)
"""

_CITATION = """
@article{jensen2016estoi,
  title = {An algorithm for predicting the intelligibility of speech masked by modulated noise maskers},
  author = {Jensen, Jesper and Taal, Cees H.},
  journal = {IEEE/ACM Transactions on Audio, Speech, and Language Processing},
  volume = {24}, number = {11}, pages = {2009--2022}, year = {2016}
}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class Estoi(evaluate.Metric):
    """Extended short-time objective intelligibility."""

    def _info(self):
        clips = datasets.Sequence(datasets.Value("float32"))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"predictions": clips, "references": clips}),
            reference_urls=["https://github.com/mpariente/pystoi"],
            license="Apache-2.0",
        )

    def _compute(self, predictions, references, sampling_rate=16000, speakers=None, seed=0, n_jobs=None):
        return score_clips("estoi", predictions, references, sampling_rate, speakers, seed, n_jobs)
