"""``python -m hfprobe.asr.train``: ESPnet's trainer on Hugging Face streams (options: ``--help``)."""

from __future__ import annotations

import os
import tempfile
import zipfile
from pathlib import Path


def quiet_nltk() -> None:
    """Keep ESPnet's text front end from trying to download two nltk data files that CTC training never uses."""
    if "NLTK_DATA" in os.environ:
        return
    folder = Path(tempfile.gettempdir()) / f"hfprobe-nltk-{os.getuid()}"
    for name in ("taggers/averaged_perceptron_tagger_eng.zip", "corpora/cmudict.zip"):
        path = folder / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            # Two trainings may start at once: neither must read the other's half-written file.
            temporary = path.with_name(f".{path.name}.{os.getpid()}")
            zipfile.ZipFile(temporary, "w").close()
            os.replace(temporary, path)
    os.environ["NLTK_DATA"] = str(folder)


def main(cmd: list[str] | None = None) -> None:
    """Train; ``cmd`` replaces the command line. What a user can repair is said in one line, with exit status 1."""
    quiet_nltk()
    import torch

    # Gradients that fade to denormal numbers in the LSTMs make a CPU step up to five times slower; zero is as good.
    torch.set_flush_denormal(True)
    from hfprobe.asr.task import StreamASRTask
    from hfprobe.errors import HfprobeError
    from hfprobe.memory import keep_freed_memory

    keep_freed_memory()
    try:
        StreamASRTask.main(cmd=cmd)
    except HfprobeError as error:
        raise SystemExit(f"hfprobe.asr.train: error: {' '.join(str(error).split())}") from None


if __name__ == "__main__":
    main()
