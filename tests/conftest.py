"""What has to happen before any test module is imported."""

from hfprobe.asr.train import quiet_nltk

quiet_nltk()  # importing espnet would try to download nltk data otherwise

# Doctests are looked for in all files; conftests have one name, and only the first could be imported by it.
collect_ignore_glob = ["conftest.py", "*/conftest.py"]
