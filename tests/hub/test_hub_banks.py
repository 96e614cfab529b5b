"""Banks and probes to the Hub and back, over HTTP."""

import hashlib
import json
import shutil

import pytest
from hub_banks import make_bank
from hub_server import WRITE_TOKEN
from hub_worker import Failed

BANK_FILES = {"bank.json", *(f"{name}/{file}" for name in ("l1", "l2", "l3", "floor") for file in ("config.json", "model.safetensors"))}  # fmt: skip
PUSH = "result = ProbeBank.from_pretrained(folder).push_to_hub(repo, **options)"


def push(worker, folder, repo, **options):
    return worker.run(PUSH, folder=folder, repo=repo, options=options)


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_bank_goes_up_in_one_commit_and_comes_back_bit_by_bit(hub, worker, bank_folder):
    url = push(worker, bank_folder, "user/bank")
    repo = hub.repos["models", "user/bank"]
    assert url == f"{hub.url}/user/bank/commit/{repo.refs['main']}"
    assert repo.titles() == ["Upload probe bank", "initial commit"] and not repo.private
    assert set(repo.files()) == {"README.md", *BANK_FILES}
    assert {path: data for path, data in repo.files().items() if path != "README.md"} == contents(bank_folder)
    assert b'ProbeBank.from_pretrained("user/bank")' in repo.files()["README.md"]
    same = worker.run(
        """
        here, there = ProbeBank.from_pretrained(folder), ProbeBank.from_pretrained("user/bank")
        result = [weights(here[n]) == weights(there[n]) and type(here[n]) is type(there[n]) for n in [*here, "floor"]]
        result += [list(there) == list(here), there.training == here.training, there.fingerprint == here.fingerprint]
        """,
        folder=bank_folder,
    )
    assert same == [True] * 7
    assert all(request.token == WRITE_TOKEN for request in hub.requests if "/lfs/" not in request.path)


def test_one_layer_downloads_one_layer(hub, worker, bank_folder):
    hub.put_folder("model", "user/parts", bank_folder)
    result = worker.run(
        """
        bank = ProbeBank.from_pretrained("user/parts", layers=["l2"])
        alone = HighwayProbe.from_pretrained("user/parts", subfolder="l1")
        automatic = AutoModel.from_pretrained("user/parts", subfolder="l3")
        kind = type(AutoConfig.from_pretrained("user/parts", subfolder="l3")).__name__
        whole = ProbeBank.from_pretrained(folder)
        result = [list(bank), weights(bank["l2"]) == weights(whole["l2"]), weights(alone) == weights(whole["l1"]),
                  type(automatic).__name__, weights(automatic) == weights(whole["l3"]), kind]
        """,
        folder=bank_folder,
    )
    assert result == [["l2"], True, True, "LinearProbe", True, "LinearProbeConfig"]
    fetched = {request.path.split("/")[-2] for request in hub.asked("GET /user/parts/resolve/.*safetensors")}
    assert fetched == {"l1", "l2", "l3", "floor"}
    order = [request.path.split("/")[-2] for request in hub.asked("GET /user/parts/resolve/.*safetensors")]
    assert set(order[:2]) == {"l2", "floor"}  # what the bank of one layer asked for


def test_branch_private_and_message(hub, worker, bank_folder):
    push(worker, bank_folder, "user/secret", private=True, revision="trial", commit_message="First try")
    repo = hub.repos["models", "user/secret"]
    assert repo.private and set(repo.refs) == {"main", "trial"}
    assert repo.files("main") == {} and repo.titles("trial") == ["First try", "initial commit"]
    hub.put_folder("model", "user/both", bank_folder, revision="main")
    hub.repos["models", "user/both"].tags["v1"] = hub.repos["models", "user/both"].refs["main"]
    hub.put_repo("model", "user/both", {"banks/a/" + path: data for path, data in contents(bank_folder).items()}, revision="main")  # fmt: skip
    result = worker.run(
        """
        found = [list(ProbeBank.from_pretrained("user/secret", revision="trial"))]
        found += [list(ProbeBank.from_pretrained("user/both", revision="v1"))]
        found += [list(ProbeBank.from_pretrained("user/both", subfolder="banks/a"))]
        found += [LinearProbe.from_pretrained("user/both", subfolder="banks/a/l3").config.layer]
        found += refused(ProbeBank.from_pretrained, "user/secret", token=False)
        found += refused(ProbeBank.from_pretrained, "user/both", revision="none")
        found += refused(ProbeBank.from_pretrained, "user/both")
        result = found + refused(ProbeBank.from_pretrained(folder).push_to_hub, "user/both", private=True)
        """,
        folder=bank_folder,
    )
    assert result[:4] == [["l1", "l2", "l3"]] * 3 + ["l3"]
    assert result[4] == "BankError" and "'user/secret'" in result[5] and "private" in result[5]
    assert result[6] == "BankError" and "has no revision 'none'" in result[7]
    assert result[8] == "BankError" and "bank.json" in result[9] and "banks" not in result[9]
    assert result[10] == "ConfigError" and "public" in result[11]
    assert all("\n" not in text for text in result[5::2])
    assert "bank.json" not in hub.repos["models", "user/both"].files()


def test_a_single_probe_and_classifiers(hub, worker, bank_folder, classifier_folder):
    result = worker.run(
        """
        bank, classifiers = ProbeBank.from_pretrained(folder), ClassifierBank.from_pretrained(classes)
        bank["l1"].push_to_hub("user/one", commit_message="One probe", revision="b")
        bank.floor.push_to_hub("user/floor", private=True)
        classifiers.push_to_hub("user/classes", commit_message="Classes")
        classifiers["l2"].push_to_hub("user/class")
        one = HighwayProbe.from_pretrained("user/one", revision="b")
        result = [
            weights(one) == weights(bank["l1"]), one.config.layer, one.dtype == torch.float32,
            weights(MeanProbe.from_pretrained("user/floor")) == weights(bank.floor),
            weights(ClassifierProbe.from_pretrained("user/class")) == weights(classifiers["l2"]),
            weights(AutoModel.from_pretrained("user/class")) == weights(classifiers["l2"]),
            weights(ClassifierBank.from_pretrained("user/classes")["l1"]) == weights(classifiers["l1"]),
            refused(ProbeBank.from_pretrained, "user/classes")[1], refused(ClassifierBank.from_pretrained, folder)[1],
            refused(LinearProbe.from_pretrained, "user/one", revision="b")[1],
        ]
        """,
        folder=bank_folder,
        classes=classifier_folder,
    )
    assert result[:7] == [True, "l1", True, True, True, True, True]
    assert "ClassifierBank" in result[7] and "ProbeBank" in result[8] and "'hfprobe-linear'" in result[9]
    one = hub.repos["models", "user/one"]
    assert one.titles("b") == ["One probe", "initial commit"] and one.files("main") == {}
    assert set(one.files("b")) == {"README.md", "config.json", "model.safetensors"}
    assert hub.repos["models", "user/floor"].private
    assert b"gender" in hub.repos["models", "user/classes"].files()["README.md"]


def test_an_interrupted_push_goes_on_where_it_stopped(hub, worker, bank_folder):
    hub.plant("PUT /lfs/models/user/resumed/.*", "status", times=100, status=403)
    faults = hub.faults[0]
    faults.pattern = "PUT /lfs/models/user/resumed/" + _sha(bank_folder / "l3" / "model.safetensors")
    with pytest.raises(Failed) as told:
        push(worker, bank_folder, "user/resumed")
    assert told.value.kind == "HubError" and "403" in told.value.message or "not allow" in told.value.message
    repo = hub.repos["models", "user/resumed"]
    assert repo.files() == {} and repo.titles() == ["initial commit"]  # nobody sees a part of a bank
    assert len(repo.objects) == 2
    hub.clear()
    push(worker, bank_folder, "user/resumed")
    assert len(hub.asked("PUT /lfs/")) == 2 and len(repo.objects) == 4  # l3 and the floor; l1 and l2 were there
    assert set(repo.files()) == {"README.md", *BANK_FILES} and repo.titles()[1:] == ["initial commit"]
    hub.clear()
    push(worker, bank_folder, "user/resumed")  # nothing has changed
    assert not hub.asked("PUT /lfs/") and len(repo.titles()) == 2


def test_a_bank_of_half_precision_stays_so(hub, worker, bank_folder):
    result = worker.run(
        """
        bank = ProbeBank.from_pretrained(folder)
        bank.push_to_hub("user/half", dtype="float16")
        half = ProbeBank.from_pretrained("user/half")
        half.push_to_hub("user/half-again")
        result = [weights(half["l1"]) == weights(bank["l1"]),
                  weights(half["l1"]) == weights(ProbeBank.from_pretrained("user/half-again")["l1"])]
        """,
        folder=bank_folder,
    )
    assert result == [False, True]
    one, two = (hub.repos["models", f"user/{name}"].files() for name in ("half", "half-again"))
    del one["README.md"], two["README.md"]
    assert one == two and len(one["l1/model.safetensors"]) < (bank_folder / "l1" / "model.safetensors").stat().st_size


def test_the_random_twin_comes_along(hub, worker, bank_folder, tmp_path):
    bank, twin = shutil.copytree(bank_folder, tmp_path / "bank"), make_bank(("l1", "l2"), seed=7)
    twin.encoder = "random:toy"
    twin.save_pretrained(bank / "random", dtype="float32")
    result = worker.run(
        """
        from hfprobe.probes.bank_push import push_bank
        push_bank(folder, "user/twins", "# Twins", "Both")
        there, here = ProbeBank.from_pretrained("user/twins"), ProbeBank.from_pretrained(folder)
        twins = [there.random_twin(), here.random_twin()]
        result = [list(twins[0]), twins[0].encoder, weights(twins[0]["l1"]) == weights(twins[1]["l1"]),
                  twins[0].random_twin() is None, list(ProbeBank.from_pretrained("user/twins", subfolder="random"))]
        """,
        folder=bank,
    )
    assert result == [["l1", "l2"], "random:toy", True, True, ["l1", "l2"]]
    files = hub.repos["models", "user/twins"].files()
    assert {path: data for path, data in files.items() if path != "README.md"} == contents(bank)
    push(worker, bank_folder, "user/twins")  # without a twin
    assert set(hub.repos["models", "user/twins"].files()) == {"README.md", *BANK_FILES}


def test_what_passes_is_tried_again(hub, worker, bank_folder):
    hub.plant("POST /api/repos/create", times=2)
    hub.plant("PUT /lfs/", times=1)
    hub.plant("PUT /lfs/", "drop", after=100)
    hub.plant("POST /api/models/user/patient/commit", "lost")
    push(worker, bank_folder, "user/patient")
    repo = hub.repos["models", "user/patient"]
    assert not hub.faults and len(repo.objects) == 4
    assert repo.titles() == [
        "Upload probe bank",
        "initial commit",
    ]  # the commit whose answer was lost is not made twice
    hub.clear()
    hub.plant("GET /api/models/user/patient$", retry_after=7.0)
    hub.plant("GET /user/patient/resolve/.*/l1/model.safetensors", times=2)
    hub.plant("GET /user/patient/resolve/.*/l2/model.safetensors", "cut", after=100)
    hub.plant("GET /user/patient/resolve/.*/l3/model.safetensors", "truncate", after=100)
    hub.plant("HEAD /user/patient/resolve/.*/floor/config.json", "drop")
    waited = worker.run("waits.clear(); result = [list(ProbeBank.from_pretrained('user/patient')), max(waits)]")
    assert waited[0] == ["l1", "l2", "l3"] and waited[1] >= 7 and not hub.faults


def test_a_new_bank_replaces_an_old_one_whole(hub, worker, bank_folder, tmp_path):
    other = {**contents(bank_folder), "notes.txt": b"kept", "l9/config.json": b"{}", "l9/model.safetensors": b"old"}
    hub.put_repo("model", "user/old", other)
    push(worker, bank_folder, "user/old")
    files = hub.repos["models", "user/old"].files()
    assert set(files) == {"README.md", "notes.txt", *BANK_FILES}


def test_somebody_elses_commit_in_between(hub, worker, bank_folder):
    hub.put_folder("model", "user/raced", bank_folder)
    repo, there = hub.repos["models", "user/raced"], contents(bank_folder)

    # Another bank is pushed while this one, whose files were all there, is on its way.
    def race(pattern):
        hub.put_repo("model", "user/raced", {**there, "l1/config.json": b"{}"})
        return original(pattern)

    original = hub.take_fault
    hub.take_fault = lambda line: race(line) if line.startswith("POST") and "/commit/" in line and len(repo.commits) == 2 else original(line)  # fmt: skip
    try:
        push(worker, bank_folder, "user/raced")
    finally:
        del hub.take_fault
    assert len(hub.asked("POST .*/commit/")) == 2
    assert {path: data for path, data in repo.files().items() if path != "README.md"} == there


@pytest.mark.parametrize("kind", ["status", "stall", "drop"])
def test_what_does_not_pass_is_one_sentence(hub, worker, bank_folder, kind):
    hub.put_folder("model", f"user/gone-{kind}", bank_folder)
    hub.plant(f"/user/gone-{kind}", kind, times=1000)
    name, message = worker.run(
        """
        constants.HF_HUB_DOWNLOAD_TIMEOUT = constants.HF_HUB_ETAG_TIMEOUT = 0.3
        result = refused(ProbeBank.from_pretrained, repo)
        constants.HF_HUB_DOWNLOAD_TIMEOUT = constants.HF_HUB_ETAG_TIMEOUT = 10
        """,
        repo=f"user/gone-{kind}",
    )
    assert name == "BankError" and "\n" not in message and f"'user/gone-{kind}'" in message
    assert {"status": "503", "stall": "time-out", "drop": "broke off"}[kind] in message


def test_a_file_that_stalls_or_lies_in_the_middle(hub, worker, bank_folder):
    hub.put_folder("model", "user/slow", bank_folder)
    hub.plant(
        "GET .*/user/slow/.*/l1/model.safetensors|GET /user/slow/.*/l1/model.safetensors", "stall", after=50, times=1000
    )
    message = worker.run(
        """
        constants.HF_HUB_DOWNLOAD_TIMEOUT = 0.3
        result = refused(ProbeBank.from_pretrained, "user/slow")[1]
        constants.HF_HUB_DOWNLOAD_TIMEOUT = 10
        """
    )
    assert "time-out" in message and "\n" not in message
    hub.clear()
    hub.plant("GET /user/slow/.*/l1/model.safetensors", "corrupt", after=3000)
    assert worker.run("result = list(ProbeBank.from_pretrained('user/slow'))") == ["l1", "l2", "l3"]
    assert not hub.faults
    hub.put_folder("model", "user/liar", bank_folder)
    hub.plant("GET /user/liar/.*/l1/model.safetensors", "corrupt", after=3000, times=1000)
    name, message = worker.run("result = refused(ProbeBank.from_pretrained, 'user/liar')")
    assert name == "BankError" and "l1/model.safetensors" in message and "checksum" in message
    hub.clear()  # what was wrong did not stay in the cache
    assert worker.run("result = list(ProbeBank.from_pretrained('user/liar'))") == ["l1", "l2", "l3"]


def test_a_small_file_that_came_wrong_is_fetched_again(hub, worker, bank_folder):
    hub.put_folder("model", "user/text", bank_folder)
    hub.plant("GET /user/text/.*/bank.json", "corrupt", after=10)
    hub.plant("GET /user/text/.*/l2/config.json", "corrupt", after=10)
    assert worker.run("result = list(ProbeBank.from_pretrained('user/text'))") == ["l1", "l2", "l3"]
    assert not hub.faults


def test_offline_says_what_is_missing(hub, worker, bank_folder):
    hub.put_folder("model", "user/cached", bank_folder)
    result = worker.run(
        """
        first = refused(ProbeBank.from_pretrained, "user/cached", local_files_only=True)
        ProbeBank.from_pretrained("user/cached", layers=["l1"])
        constants.HF_HUB_OFFLINE = True
        try:
            part = list(ProbeBank.from_pretrained("user/cached", layers=["l1"]))
            result = [first, part, *refused(ProbeBank.from_pretrained, "user/cached"), *refused(ProbeBank.from_pretrained, "user/never")]
            result += refused(ProbeBank.from_pretrained(folder).push_to_hub, "user/never")
        finally:
            constants.HF_HUB_OFFLINE = False
        """,
        folder=bank_folder,
    )
    assert result[0][0] == "BankError" and result[1] == ["l1"]
    assert result[2] == "BankError" and "HF_HUB_OFFLINE" in result[3] and "l2/" in result[3]
    assert result[4] == "BankError" and "'user/never'" in result[5] and "HF_HUB_OFFLINE" in result[5]
    assert result[6] == "HubError" and "HF_HUB_OFFLINE" in result[7]


def test_unreachable_but_cached(hub, worker, bank_folder):
    hub.put_folder("model", "user/kept", bank_folder)
    worker.run("ProbeBank.from_pretrained('user/kept')")
    hub.plant("/user/kept", times=1000)
    assert worker.run("result = list(ProbeBank.from_pretrained('user/kept'))") == ["l1", "l2", "l3"]
    assert "503" in worker.output and "cache" in worker.output


def _sha(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_files_of_the_fixture(bank_folder):
    assert set(contents(bank_folder)) == BANK_FILES
    assert json.loads((bank_folder / "bank.json").read_text())["layers"] == ["l1", "l2", "l3"]
