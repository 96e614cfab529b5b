"""Turn a training folder into a small experiment folder that can be given away.

ESPnet's ``config.yaml``, a recogniser's or a language model's, names files and folders of the machine that trained; a
shipped one keeps what rebuilds the model and says how it was trained, and nothing else. Weights are stored as float16
(loaders cast them back), which halves the download; whatever is measured afterwards is measured on the rounded model.
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

import torch
import yaml

from hfprobe.errors import EncoderError, HfprobeError
from hfprobe.hub.pickled import read_pickled
from hfprobe.plain import read_yaml

# What rebuilds the model, and then how it was trained. Everything else in ESPnet's config.yaml is left out.
MODEL_KEYS = (
    "token_type token_list init input_size frontend frontend_conf specaug specaug_conf normalize encoder encoder_conf "
    "decoder decoder_conf model model_conf ctc_conf preencoder postencoder lm lm_conf"
).split()
TRAINING_KEYS = (
    "seed max_epoch num_iters_per_epoch optim optim_conf scheduler scheduler_conf grad_clip accum_grad "
    "hf_train hf_valid hf_noise hf_clean_share hf_batch hf_max_seconds hf_speeds hf_bfloat16 unit_start "
    "hf_frames hf_held hf_warp hf_shift hf_lower"
).split()
RECURRENT = ("rnn", "vgg_rnn")  # ESPnet's, which drop out in eval() too
PREFIXES = ("frontend.", "normalize.", "preencoder.", "encoder.", "ctc.", "lm.")


def ship(training: Path, output: Path, weights: str = "latest.pth") -> Path:
    """Write ``config.yaml`` and float16 weights of a trained model into ``output``.

    Args:
        training: ESPnet training folder.
        output: Folder to write; replaced as a whole.
        weights: Weight file in ``training``.

    Returns:
        ``output``.

    Raises:
        EncoderError: A file is missing, the weights hold NaN, or ``output`` is a folder of something else.
    """
    for needed in (training / "config.yaml", training / weights):
        if not needed.is_file():
            raise EncoderError(f"{needed.name} is missing in {str(training)!r}; train first")
    _check_output(training, output)
    full = read_yaml(training / "config.yaml", "a training configuration")
    config = {key: full[key] for key in MODEL_KEYS if key in full}
    config["normalize_conf"] = {}  # mean and deviation are buffers among the weights
    config["training"] = {key: _portable(full[key]) for key in TRAINING_KEYS if full.get(key) not in (None, [])}
    config["training"]["weights"] = weights
    rate = (config.get("encoder_conf") or {}).get("dropout", 0.0)
    if config.get("encoder") in RECURRENT and rate:
        # Whoever loads this with ESPnet alone would get other numbers each time.
        config["encoder_conf"] = {**config["encoder_conf"], "dropout": 0.0}
        config["training"]["dropout"] = rate
    rate = (config.get("lm_conf") or {}).get("dropout_rate", 0.0)
    if rate:
        config["lm_conf"] = {**config["lm_conf"], "dropout_rate": 0.0}
        config["training"]["dropout"] = rate
    state = read_pickled(training / weights)
    kept = {}
    for name, value in state.items():
        if not name.startswith(PREFIXES):
            continue
        # Means and deviations of the features stay exact: they are tiny, and float16 would move every input.
        exact = name.startswith(("frontend.", "normalize.")) or not value.is_floating_point()
        kept[name] = value if exact else value.half()
        if not torch.isfinite(kept[name]).all():
            raise EncoderError(
                f"weight {name} of {weights} holds NaN or numbers too large for float16; choose an earlier epoch"
            )
    temporary = output.with_name(f".{output.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    (temporary / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    torch.save(kept, temporary / "valid.loss.best.pth")
    if output.exists():
        shutil.rmtree(output)
    os.replace(temporary, output)
    return output


def _check_output(training: Path, output: Path) -> None:
    """Refuse to replace anything but an earlier shipped folder."""
    if not output.exists():
        return
    earlier = output.is_dir() and (not any(output.iterdir()) or (output / "config.yaml").is_file())
    source = training.resolve()
    if not earlier or (output / "checkpoint.pth").exists() or output.resolve() in (source, *source.parents):
        raise EncoderError(
            f"{str(output)!r} is not an earlier shipped encoder, so it is not replaced; choose a new folder"
        )


def _portable(value):
    """A setting without the folders of this machine: ``kaldi:/home/me/data`` becomes ``kaldi:data``."""
    if isinstance(value, list):
        return [_portable(item) for item in value]
    if not isinstance(value, str):
        return value
    return ":".join(Path(part).name if part.startswith(("/", "~", "..")) else part for part in value.split(":"))


def main() -> None:
    """``python -m hfprobe.asr.ship EXP OUTPUT [--weights valid.loss.ave_2best.pth]``."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("training", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--weights", default="latest.pth")
    args = parser.parse_args()
    try:
        folder = ship(args.training, args.output, args.weights)
    except HfprobeError as error:
        raise SystemExit(f"hfprobe.asr.ship: error: {error}") from None
    size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    print(f"wrote {folder} ({size:.1f} MB)")


if __name__ == "__main__":
    main()
