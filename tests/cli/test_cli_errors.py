"""Wrong input: one line on standard error, status 1 or 2, nothing written."""

import errno
import subprocess
import sys

import pytest
import soundfile

from hfprobe.cli import main


def refused(capsys, argv, status, *words):
    """Run, and check status, the one line, and that the line names ``words``."""
    capsys.readouterr()
    assert main([str(word) for word in argv]) == status
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "error: " in lines[0] and "Traceback" not in lines[0], lines
    for word in words:
        assert word in lines[0]


def listen(world, out, *more, audio=None):
    return ["listen", audio or world.wav, "--encoder", world.encoder, "--probes", world.bank, "--output", out, *more]


@pytest.mark.parametrize(
    ("kind", "word"),
    [("missing", "does not exist"), ("empty", "is empty"), ("cut", "cut off"), ("silent", "is silent"),
     ("nan", "NaN"), ("short", "10 ms"), ("text", "not readable as audio")],
)  # fmt: skip
def test_bad_sound_is_refused_even_among_good_ones(capsys, world, sounds, tmp_path, kind, word):
    out = tmp_path / "out"
    argv = listen(world, out)
    argv.insert(2, sounds[kind])
    refused(capsys, argv, 1, word, f"{kind}.wav")
    assert not out.exists()


@pytest.mark.parametrize(
    ("command", "options", "status", "word"),
    [
        ("listen", ["--snr", "loud"], 1, "neither 'clean' nor"),
        ("listen", ["--noise", "nowhere"], 1, "nowhere"),
        ("listen", ["--noise-type", "rain"], 1, "rain"),
        ("listen", ["--device", "abacus"], 1, "abacus"),
        ("listen", ["--iterations", "0"], 2, "above 0"),
        ("listen", ["--max-seconds", "nan"], 2, "above 0"),
        ("listen", ["--seed", "-1"], 2, "at least 0"),
        ("listen", ["--bogus"], 2, "--bogus"),
        ("listen", ["--bogus"], 2, "hfprobe listen --help"),
        ("evaluate", ["--iteration", "4"], 2, "did you mean --iterations?"),
        ("evaluate", ["--dataset", "nothing"], 1, "unknown dataset 'nothing'"),
        ("evaluate", ["--dataset", "espeak:dev"], 1, "train and test"),
        ("evaluate", ["--dataset", "kaldi:nowhere"], 1, "nowhere"),
        ("evaluate", ["--verifier", "nobody"], 1, "choose from ecapa, ge2e"),
        ("evaluate", ["--quality", "beauty"], 1, "beauty"),
        ("evaluate", ["--layers", "blstm9"], 1, "blstm5"),
        ("evaluate", ["--vocoder", "wavenet"], 1, "griffin-lim, hifigan"),
        ("evaluate", ["--speakers", "0"], 2, "above 0"),
        ("train", ["--layers", "blstm9"], 1, "blstm5"),
        ("train", ["--noise", "nowhere"], 1, "nowhere"),
        ("train", ["--dataset", "audiofolder:nowhere"], 1, "nowhere"),
        ("train", ["--learning-rate", "-1"], 2, "above 0"),
        ("train", ["--clean-share", "1.5"], 2, "from 0 to 1"),
        ("train", ["--clean-share", "nan"], 2, "from 0 to 1"),
        ("train", ["--config", "a.yaml", "--config", "b.yaml"], 2, "--config is given twice"),
    ],
)
def test_bad_values_leave_nothing_behind(capsys, world, tmp_path, command, options, status, word):
    out = tmp_path / "out"
    argv = {
        "listen": listen(world, out),
        "evaluate": [
            "evaluate",
            "--encoder",
            world.encoder,
            "--probes",
            world.bank,
            "--dataset",
            "espeak",
            "--output",
            out,
        ],
        "train": ["train", "--encoder", world.encoder, "--dataset", "espeak:train", "--output", out, "--steps", "1"],
    }[command]
    refused(capsys, [*argv, *options], status, word)
    assert not out.exists()


@pytest.mark.parametrize(
    "words", [[], ["frob"], ["encoders", "--dataset", "x"], ["listen"], ["listen", "a", "--enc", "b"]]
)
def test_wrong_arguments_exit_2(capsys, words):
    refused(capsys, words, 2, "--help")


def test_encoders_and_banks_must_exist_and_fit(capsys, world, tmp_path):
    out = tmp_path / "out"
    start = ["listen", world.wav, "--output", out, "--encoder"]
    refused(capsys, [*start, "nobody"], 1, "encoder 'nobody'")
    refused(capsys, [*start, tmp_path], 1, "no known kind")
    refused(capsys, [*start, world.encoder], 1, "no probes for encoder", "hfprobe train")
    refused(capsys, [*start, world.encoder, "--probes", "nowhere"], 1, "probe bank 'nowhere' does not exist")
    refused(capsys, [*start, world.other, "--probes", world.bank], 1, "other weights")
    refused(capsys, [*start, world.encoder, "--probes", world.bank, "--probes", world.bank], 1, "1 --encoder but 2")
    refused(capsys, [*start, world.encoder, "--encoder", world.encoder], 1, "given twice")
    refused(capsys, ["encoders", "--encoder", "nobody"], 1, "encoder 'nobody'")
    assert not out.exists()


def test_output_that_is_a_file_is_left_alone(capsys, world, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    refused(capsys, listen(world, file), 1, "is a file")
    refused(capsys, listen(world, file / "below"), 1, "is a file")
    assert file.read_text() == "mine"


def test_a_dataset_without_a_usable_utterance_leaves_nothing_behind(capsys, world, sounds, tmp_path):
    folder, out = tmp_path / "corpus", tmp_path / "out"
    folder.mkdir()
    for kind in ("silent", "text", "empty"):
        sounds[kind].rename(folder / f"{kind}.wav")
    for command in ("train", "evaluate"):
        argv = [command, "--encoder", world.encoder, "--dataset", f"audiofolder:{folder}", "--output", out]
        more = ["--probes", world.bank] if command == "evaluate" else ["--noise", "none", "--steps", "1"]
        refused(capsys, [*argv, *more], 1, "no usable utterance")
    assert not out.exists()


@pytest.mark.parametrize(
    ("text", "word"),
    [(None, "No such file"), ("a: [", "not readable as YAML"), ("- a", "not a table"), ("sneed: 1", "sneed"),
     ("seed: x", "at least 0"), ("save_sounds: 3", "true or false"), (b"\xff\xfe\x00", "not readable as YAML")],
)  # fmt: skip
def test_broken_config_file(capsys, world, tmp_path, text, word):
    path = tmp_path / "c.yaml"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(capsys, listen(world, tmp_path / "out", "--config", path), 2, word)
    assert not (tmp_path / "out").exists()


def test_debug_shows_the_traceback(world, tmp_path, sounds):
    with pytest.raises(ValueError, match="does not exist"):
        main(list(map(str, listen(world, tmp_path / "out", "--debug", audio=sounds["missing"]))))


def test_interruption_is_no_traceback(capsys, monkeypatch):
    from hfprobe.cli import encoders

    def interrupted(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(encoders, "run", interrupted)
    assert main(["encoders"]) == 130
    assert capsys.readouterr().err == "hfprobe: interrupted\n"


def test_help_in_a_process_of_its_own_loads_no_torch():
    code = "import sys, hfprobe.cli as c; s = c.main(['--help']); sys.exit(s + 5 * ('torch' in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
    done = subprocess.run([sys.executable, "-m", "hfprobe", "--help"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and "listen" in done.stdout


def test_resampling_and_mixing_down_are_said(capsys, world, tmp_path, spoken):
    import numpy as np

    path, out = tmp_path / "stereo8k.wav", tmp_path / "out"
    soundfile.write(path, np.stack([spoken[::2]] * 2, 1), 8000)
    argv = listen(world, out, "--snr", "clean", "--iterations", "1", "--device", "cpu", audio=path)
    assert main(list(map(str, argv))) == 0
    said, page = capsys.readouterr(), (out / "index.html").read_text()
    for note in ("mixed 2 channels to 1", "resampled from 8000 Hz to 16000 Hz"):
        assert note in said.out and note in page
    assert said.err == ""  # no bar, no warning where standard error is no terminal


def test_a_folder_without_rights_says_what_to_do(capsys, monkeypatch):
    def run(args):
        raise PermissionError(errno.EACCES, "Permission denied", "page")

    monkeypatch.setattr("hfprobe.cli.encoders.run", run)
    refused(capsys, ["encoders"], 1, "'page'", "change its rights")
