"""Short-time objective intelligibility for ``evaluate.load``."""

import datasets
import evaluate

from hfprobe.evaluate_modules import score_clips

_DESCRIPTION = """
Short-time objective intelligibility (STOI): how much of the words a listener would understand, from the correlation of
band envelopes with those of the clean signal. About 0 (nothing) to 1 (everything).
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
    stoi (float or None), the mean over clips that could be scored; ci_low and ci_high, its 95 % interval by bootstrap
    (None for a single clip or speaker); n and n_failed (int); failures (dict), failed clips by reason.
Examples:
    >>> import evaluate, numpy
    >>> from hfprobe.evaluate_modules import path
    >>> noise = numpy.random.default_rng(0).standard_normal(16000)
    >>> scores = evaluate.load(path("stoi")).compute(predictions=[noise], references=[noise])
    >>> round(scores["stoi"], 3), scores["n"]
    (1.0, 1)
"""

_CITATION = """
@article{taal2011stoi,
  title = {An algorithm for intelligibility prediction of time-frequency weighted noisy speech},
  author = {Taal, Cees H. and Hendriks, Richard C. and Heusdens, Richard and Jensen, Jesper},
  journal = {IEEE Transactions on Audio, Speech, and Language Processing},
  volume = {19}, number = {7}, pages = {2125--2136}, year = {2011}
}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class Stoi(evaluate.Metric):
    """Short-time objective intelligibility."""

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
        return score_clips("stoi", predictions, references, sampling_rate, speakers, seed, n_jobs)
