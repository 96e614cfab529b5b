"""Against ESPnet's own route: ``ASRTask.build_model``, its ``state_dict`` and its ``encode``.

The one test here that imports ``espnet2.tasks.asr`` (about 8 s, once).
"""

from __future__ import annotations

import argparse
import zipfile

import numpy as np
import pytest
import torch
import yaml
from espnet_stock import RNN, STFT, TOKENS, peak_error, speechlike

from hfprobe.encoders import AutoSpeechEncoder

CASES = {
    "vgg": ("vgg_rnn", {**RNN, "num_layers": 5, "hidden_size": 16, "in_channel": 3}),
    "rnn": ("rnn", {**RNN, "num_layers": 5, "hidden_size": 16, "subsample": [1, 2, 2, 2, 1]}),
    "self-conditioned conformer": (
        "conformer",
        {
            "output_size": 16,
            "linear_units": 24,
            "num_blocks": 3,
            "macaron_style": True,
            "interctc_layer_idx": [1],
            "interctc_use_conditioning": True,
        },
    ),
    "e_branchformer": ("e_branchformer", {"output_size": 16, "cgmlp_linear_units": 24, "num_blocks": 2}),
}


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nltk")
    for name in ("taggers/averaged_perceptron_tagger_eng.zip", "corpora/cmudict.zip"):
        (folder / name).parent.mkdir(parents=True)
        zipfile.ZipFile(folder / name, "w").close()
    with pytest.MonkeyPatch.context() as patch:
        # Two empty archives keep the import from trying to download.
        patch.setenv("NLTK_DATA", str(folder))
        from espnet2.tasks.asr import ASRTask

        from hfprobe.encoders.espnet.frontend import register

        register()
        yield ASRTask


@torch.no_grad()
@pytest.mark.parametrize("case", CASES)
def test_equal_to_the_model_that_espnet_builds(task, case, tmp_path):
    kind, conf = CASES[case]
    rng = np.random.default_rng(0)
    mean, std = rng.normal(-8, 1, 240), rng.uniform(0.5, 3, 240)
    stats = tmp_path / "stats.npz"
    np.savez(stats, count=9, sum=9 * mean, sum_square=9 * (std**2 + mean**2))
    config = {
        "token_list": list(TOKENS),
        "token_type": "char",
        "input_size": None,
        "init": None,
        "frontend": "delta",
        "frontend_conf": {**STFT, "n_mels": 80},
        "specaug": None,
        "specaug_conf": {},
        "normalize": "global_mvn",
        "normalize_conf": {"stats_file": str(stats)},
        "preencoder": None,
        "preencoder_conf": {},
        "encoder": kind,
        "encoder_conf": conf,
        "postencoder": None,
        "postencoder_conf": {},
        "decoder": None,
        "decoder_conf": {},
        "ctc_conf": {"zero_infinity": True},
        "model": "espnet",
        "model_conf": {"ctc_weight": 1.0},
    }
    torch.manual_seed(0)
    model = task.build_model(argparse.Namespace(**config)).float().eval()
    if hasattr(model.encoder, "enc"):
        # The checkpoint does not hold the dropout that ESPnet applies in eval() too.
        model.encoder.enc[-1].dropout = 0.0
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**config, "token_list": TOKENS}))
    torch.save(model.state_dict(), tmp_path / "valid.loss.ave_5best.pth")
    stats.unlink()
    encoder = AutoSpeechEncoder.from_pretrained(tmp_path)
    assert encoder.state_dict().keys() == model.state_dict().keys()
    for waveform in speechlike(encoder.min_samples, 20000, 16123):
        expected, lengths = model.encode(waveform[None].clone(), torch.tensor([len(waveform)]))
        # With InterCTC the intermediate outputs come along.
        expected = expected[0] if isinstance(expected, tuple) else expected
        output = encoder(waveform[None])
        assert output.hidden_lengths[-1].tolist() == lengths.tolist()
        assert peak_error(output.last_hidden_state, expected) < 1e-5
        assert peak_error(output.logits.log_softmax(-1), model.ctc.log_softmax(expected)) < 1e-5
