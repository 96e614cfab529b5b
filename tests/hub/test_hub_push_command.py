"""``hfprobe push`` from end to end, and that no access token ever shows."""

import os
import shutil
import subprocess
import sys
import traceback

import pytest
from hub_server import READ_TOKEN, WRITE_TOKEN

from hfprobe.errors import HubError
from hfprobe.hub.client import explained
from hfprobe.hub.messages import explain, scrub

RUN = """
from hfprobe.cli import main
result = main(arguments)
"""
CARD = "---\nlicense: mit\nlibrary_name: hfprobe\ntags: [hfprobe]\n---\n# Probes\n\n![figure](figure.png)\n"


def command(worker, *arguments):
    status = worker.run(RUN, arguments=["push", *map(str, arguments)])
    assert WRITE_TOKEN not in worker.output
    return status, worker.output


def test_push_from_end_to_end(hub, worker, bank_folder, tmp_path):
    bank = shutil.copytree(bank_folder, tmp_path / "bank")
    (bank / "README.md").write_text(CARD)
    (bank / "figure.png").write_bytes(b"\x89PNG")
    (bank / "train_log.jsonl").write_text("{}\n")
    status, output = command(worker, bank, "--repo-id", "user/cli", "--private", "--dry-run")
    assert status == 0 and "l1/model.safetensors" in output and "stays here: train_log.jsonl" in output
    assert "in 11 files" in output and output.splitlines()[-1].startswith("nothing was pushed")
    assert not hub.requests  # a dry run needs no network
    status, output = command(worker, bank, "--repo-id", "user/cli")
    assert status == 1 and "--yes" in output.splitlines()[-1] and not hub.requests
    options = ["--repo-id", "user/cli", "--private", "--revision", "v2", "--commit-message", "Second", "--yes"]
    status, output = command(worker, bank, *options)
    repo = hub.repos["models", "user/cli"]
    assert status == 0 and output.splitlines()[-1] == f"open {hub.url}/user/cli/commit/{repo.refs['v2']}"
    assert repo.private and repo.titles("v2") == ["Second", "initial commit"] and repo.files("main") == {}
    pushed = repo.files("v2")
    expected = {
        p.relative_to(bank).as_posix(): p.read_bytes() for p in bank.rglob("*") if p.is_file() and p.suffix != ".jsonl"
    }
    assert pushed == expected
    worker.run("ProbeBank.from_pretrained('user/cli', revision='v2')")


def test_a_failed_push_is_resumed_by_the_same_command(hub, worker, bank_folder):
    hub.plant("PUT /lfs/models/user/again/", status=403, times=1)
    arguments = [bank_folder, "--repo-id", "user/again", "--yes"]
    hub.plant("POST /api/models/user/again/commit", status=500, times=1000)
    assert command(worker, *arguments)[0] == 1
    status, output = command(worker, *arguments)
    repo = hub.repos["models", "user/again"]
    assert status == 1 and "500" in output.splitlines()[-1] and repo.files() == {} and len(repo.objects) == 4
    hub.clear()
    assert command(worker, *arguments)[0] == 0
    assert not hub.asked("PUT /lfs/") and "bank.json" in repo.files() and "README.md" in repo.files()
    assert repo.titles() == ["Upload probes of toy", "initial commit"]


def test_what_is_not_whole_is_not_pushed(hub, worker, bank_folder, classifier_folder, tmp_path):
    bank = shutil.copytree(bank_folder, tmp_path / "bank")
    weights = bank / "l2" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    cases = {
        "checksum": [bank, "--repo-id", "user/x", "--yes"],
        "bank.json": [tmp_path, "--repo-id", "user/x", "--yes"],
        "shipped bank": [tmp_path / "nowhere", "--repo-id", "user/x", "--yes"],
        "user/name": [bank_folder, "--repo-id", "nobody", "--yes"],
        "branch": [bank_folder, "--repo-id", "user/x", "--revision", "a..b", "--yes"],
    }
    for expected, arguments in cases.items():
        status, output = command(worker, *arguments)
        assert status == 1 and expected in output.splitlines()[-1] and output.count("\n") == 1, (expected, output)
    (bank / "l2" / "model.safetensors").write_bytes((bank_folder / "l2" / "model.safetensors").read_bytes())
    (bank / "README.md").write_text("# No metadata\n")
    status, output = command(worker, bank, "--repo-id", "user/x", "--yes")
    assert status == 1 and "README.md" in output and "metadata" in output
    (bank / "README.md").write_text(CARD)  # whose figure is missing
    status, output = command(worker, bank, "--repo-id", "user/x", "--yes")
    assert status == 1 and "figure.png" in output
    assert not hub.requests
    assert command(worker, classifier_folder, "--repo-id", "user/classes-cli", "--yes")[0] == 0
    assert hub.repos["models", "user/classes-cli"].titles()[0] == "Upload classifiers of toy"


def test_no_token_in_what_a_process_prints(hub, bank_folder, tmp_path):
    arguments = [
        sys.executable,
        "-m",
        "hfprobe",
        "push",
        str(bank_folder),
        "--repo-id",
        "user/denied",
        "--yes",
        "--debug",
    ]
    environment = {**os.environ, **hub.environment(tmp_path, READ_TOKEN), "HF_DEBUG": "1"}
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and "does not allow this with repository 'user/denied'" in done.stderr
    assert "Traceback" in done.stderr  # --debug
    assert READ_TOKEN not in done.stdout + done.stderr and READ_TOKEN[:12] not in done.stdout + done.stderr


def test_tokens_never_show(worker):
    result = worker.run(
        r"""
        import os, traceback
        texts = []
        for token in ("hf_secretsecret\nX: y", "secret without form", "hf_secretsecret"):
            for function in (lambda: ProbeBank.from_pretrained("user/none", token=token),
                             lambda: HighwayProbe.from_pretrained("user/none", token=token)):
                try:
                    function()
                except Exception:
                    texts.append(traceback.format_exc())
        result = texts
        """
    )
    assert len(result) == 6 and not [text for text in result if "secret" in text]


def test_errors_with_secrets_in_them_lose_them():
    try:
        with explained("user/x", token="sesame-open"):
            try:
                raise ValueError("Illegal header value b'Bearer sesame-open'")
            except ValueError as inner:
                raise OSError("https://s3.example.org/put?X-Signature=abcdef failed for hf_abcdefgh") from inner
    except HubError as error:
        told, text = str(error), "".join(traceback.format_exception(error))
    assert "sesame" not in text.replace('token="sesame-open"', "") and "abcdef" not in text and "?***" in told
    assert scrub("hf_abcdefgh api_org_abcdefgh Bearer xyz") == "*** *** Bearer ***"
    assert "\n" not in explain(OSError("one\ntwo"), "user/x")
    with pytest.raises(HubError) as plain, explained("user/x"):
        raise ValueError("nothing to hide")
    assert isinstance(plain.value.__cause__, ValueError)  # --debug shows it
