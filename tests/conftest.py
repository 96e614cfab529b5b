"""What has to happen before any test module is imported."""

import pytest

from hfprobe.asr.train import quiet_nltk

quiet_nltk()  # importing espnet would try to download nltk data otherwise

# Doctests are looked for in all files; conftests have one name, and only the first could be imported by it.
collect_ignore_glob = ["conftest.py", "*/conftest.py"]


@pytest.fixture(autouse=True)
def without_lazy_modules():
    """SpeechBrain's placeholders for packages that are not there break hypothesis, which looks at every module."""
    from hfprobe.encoders.speechbrain import forget_lazy_modules

    yield
    forget_lazy_modules()
