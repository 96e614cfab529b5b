"""Every code block of the documentation runs and prints what the page shows (how: ``page_blocks``)."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from page_blocks import Block, Runner, blocks_of, compare, parse  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs" / "pages").rglob("*.md"))
NAMES = [page.relative_to(ROOT / "docs" / "pages").as_posix() for page in PAGES]

TINY = {
    "conv_dim": (16, 16, 16, 16, 16, 16, 16), "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2,
    "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 12,
}  # fmt: skip


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty folder as the working folder, with a recording ``my.wav``; no corpora, no Hub."""
    import numpy as np

    from hfprobe.audio import save_audio
    from hfprobe.data.synthetic import Voice, speak

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HFPROBE_DATA", "")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    save_audio(tmp_path / "my.wav", np.asarray(speak("the quick brown fox jumps", Voice("m1"))))
    return tmp_path


def tiny_model(folder: Path) -> None:
    """A random model of the architecture in the folder's name, as ``transformers`` saves it."""
    import torch
    import transformers

    kind = {"tiny-wav2vec2": "Wav2Vec2", "tiny-hubert": "Hubert"}[folder.name]
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**TINY)
    getattr(transformers, f"{kind}Model")(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_blocks_run_and_print_what_the_page_shows(page, workplace):
    runner = Runner()
    for block in blocks_of(page.read_text(encoding="utf-8")):
        try:
            if block.how == "parse":
                parse(block)
                continue
            if block.how == "instead":
                parse(block)
                for name in block.replaced.values():
                    if name.startswith("tiny-") and not (workplace / name).exists():
                        tiny_model(workplace / name)
            compare(block, runner.run(block))
        except Exception as error:
            raise AssertionError(f"{page.name}, line {block.line}: {error}") from error


def test_enough_is_run():
    """Pages that only parse would prove little."""
    every = [block for page in PAGES for block in blocks_of(page.read_text(encoding="utf-8"))]
    ran = [block for block in every if block.how != "parse"]
    assert len(ran) >= 35 and len(ran) >= 0.75 * len(every)
    assert sum(block.output is not None for block in ran) >= 15


def test_a_wrong_page_is_found():
    wrong = Block("python", "print(1 + 1)", 1, output="3\n")
    with pytest.raises(AssertionError, match="prints\n2"):
        compare(wrong, Runner().run(wrong))
    with pytest.raises(AssertionError, match="no-such-option"):
        parse(Block("sh", "hfprobe train --no-such-option 3 --encoder e --dataset d --output o", 1))
    with pytest.raises(SyntaxError):
        parse(Block("python", "print(", 1))
    with pytest.raises(ValueError, match="neither tested"):
        blocks_of("```bash\nls\n```\n")
