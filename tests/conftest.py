"""What has to happen before any test module is imported."""

from hfprobe.asr.train import quiet_nltk

quiet_nltk()  # importing espnet would try to download nltk data otherwise
