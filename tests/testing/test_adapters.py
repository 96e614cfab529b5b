"""The conformance suite on adapters of each toolkit: small models from configurations, weights not trivial."""

import pytest
from espnet_attention_stock import build_attention
from hf_models import build_stock

from hfprobe.encoders import AutoSpeechEncoder
from hfprobe.testing import CHECKS, CheckSkipped, Settings, check_encoder

TRANSFORMERS = ("wav2vec2-base", "hubert-large-ctc", "wavlm-base", "data2vec-ctc", "whisper", "parakeet-ctc")
ESPNET = ("transformer-conv2d", "conformer-latest", "branchformer-concat", "e_branchformer-macaron")


def conforms(folder):
    encoder = AutoSpeechEncoder.from_pretrained(folder)
    lengths = (9000, max(encoder.min_samples, 2000), 7345)
    report = check_encoder(encoder, lengths=lengths, longest=1.0)
    skipped = {result.name for result in report.results if result.status == "skipped"}
    # The reference is compared in the tests of the adapters themselves.
    assert skipped <= {"check_reference", "check_cuda", "check_time_axis"}, str(report)


@pytest.mark.parametrize("variant", TRANSFORMERS)
def test_transformers_adapters_conform(variant, tmp_path):
    build_stock(tmp_path, variant)
    conforms(tmp_path)


@pytest.mark.parametrize("variant", ESPNET)
def test_espnet_attention_adapters_conform(variant, tmp_path):
    conforms(build_attention(tmp_path, variant).folder)


@pytest.mark.parametrize("check", [check for check in CHECKS if check.__name__ != "check_time_axis"])
def test_w2v_bert_conforms_but_answers_late(check, w2v_bert):
    # Its convolutions look back only, so that after a block the strongest answer comes some frames after the sound.
    try:
        check(w2v_bert, Settings(lengths=(9000, 2000, 7345), longest=1.0))
    except CheckSkipped as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def w2v_bert(tmp_path_factory):
    folder = tmp_path_factory.mktemp("w2v-bert")
    build_stock(folder, "w2v-bert")
    return AutoSpeechEncoder.from_pretrained(folder)
