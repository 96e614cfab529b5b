"""Cards of banks that lie in a repository, and cards that the Hub's client gets back."""

CARD = """
import contextlib, io
from hfprobe.cli import main

said, wrong = io.StringIO(), io.StringIO()
with contextlib.redirect_stdout(said), contextlib.redirect_stderr(wrong):
    status = main(["card", source, "--output", out, *options])
"""


def test_card_of_a_bank_in_a_repository_and_back(hub, worker, bank_folder, tmp_path):
    hub.put_folder("model", "user/carded", bank_folder)
    card = tmp_path / "README.md"
    found = worker.run(
        CARD
        + """
from huggingface_hub import ModelCard
from pathlib import Path
text = Path(out).read_text(encoding="utf-8")
address = ProbeBank.from_pretrained("user/carded").push_to_hub("user/carded-again", card=text, dtype="float32")
back = ModelCard.load("user/carded-again")
result = [status, 'ProbeBank.from_pretrained("user/carded")' in text, back.text in text, back.data.license, back.data.library_name]
""",
        source="user/carded", out=str(card), options=["--license", "mit"],
    )  # fmt: skip
    assert found == [0, True, True, "mit", "hfprobe"]
    assert hub.repos["models", "user/carded-again"].files()["README.md"] == card.read_bytes()


def test_no_such_repository_is_one_line(hub, worker, tmp_path):
    result = worker.run(
        CARD + "result = [status, wrong.getvalue()]",
        source="user/nothing-here",
        out=str(tmp_path / "new" / "README.md"),
        options=[],
    )
    assert result[0] == 1 and result[1].startswith("hfprobe: error: ") and result[1].count("\n") == 1
    assert not (tmp_path / "new").exists()
