"""A small corpus, the shipped BLSTM, and commands that run in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from small_sounds import write_corpus, write_noise  # noqa: E402

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
SECONDS = 600  # a command that takes longer hangs: the machine may be busy


@dataclass
class Run:
    """A command that runs, or has run."""

    process: int
    out_file: Path
    err_file: Path
    server: Server
    status: int | None = None

    @property
    def out(self) -> str:
        return self.out_file.read_text()

    @property
    def err(self) -> str:
        return self.err_file.read_text()

    def wait(self, seconds: float = SECONDS) -> Run:
        """Until it ends; fails the test if it does not."""
        if self.status is None:
            self.status = self.server.ask(do="wait", process=self.process, seconds=seconds)
        assert self.status is not None, f"does not end\n{self.out}\n{self.err}"
        return self

    def ended_within(self, seconds: float) -> bool:
        """Whether it has ended after so many seconds."""
        if self.status is None:
            self.status = self.server.ask(do="wait", process=self.process, seconds=seconds)
        return self.status is not None

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self.status is None:
            os.kill(self.process, number)


@dataclass
class Server:
    """Forks commands from a process that has imported what they need; see `forked`."""

    folder: Path
    log: object = field(init=False)
    count: int = 0

    def __post_init__(self):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), "CUDA_VISIBLE_DEVICES": ""}
        environment |= {"HFPROBE_DATA": "", "MPLBACKEND": "Agg", "PYTHONWARNINGS": "ignore"}
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
            environment.pop(name, None)
        self.log = open(self.folder / "server.log", "w")
        self.server = subprocess.Popen(
            [sys.executable, str(HERE / "forked.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log,
            text=True, env=environment,
        )  # fmt: skip
        assert self.server.stdout.readline() == '"ready"\n', (self.folder / "server.log").read_text()

    def ask(self, **request):
        self.server.stdin.write(json.dumps(request) + "\n")
        self.server.stdin.flush()
        return json.loads(self.server.stdout.readline())

    def start(self, *argv, points=(), env=None, folder=None, pool: bool = False) -> Run:
        """Start a command."""
        self.count += 1
        out, err = (self.folder / f"{self.count}.{name}" for name in ("out", "err"))
        # Drawing takes more time than all the rest; what is drawn is not what these tests are about.
        points = [{"kind": "quick_figures"}, *([] if pool else [{"kind": "one_process"}]), *points]
        process = self.ask(
            do="start", argv=[str(word) for word in argv], points=points, env=env or {}, out=str(out),
            err=str(err), folder=str(folder or self.folder),
        )  # fmt: skip
        return Run(process, out, err, self)

    def run(self, *argv, status: int | None = 0, **options) -> Run:
        """Run a command to its end and check its status."""
        done = self.start(*argv, **options).wait()
        assert status is None or done.status == status, f"status {done.status}\n{done.out}\n{done.err}"
        return done

    def together(self, *argv, processes: int = 2, points=(), only=None) -> list[Run]:
        """Run a command in several processes that know of each other, as torchrun starts them."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        shared = {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1"}
        shared |= {"MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
        ranks = [
            self.start(
                *argv,
                env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                points=[*points, *(only or {}).get(rank, ())],
            )  # fmt: skip
            for rank in range(processes)
        ]
        return [rank.wait() for rank in ranks]


@pytest.fixture(scope="session")
def hfprobe(tmp_path_factory):
    """Runs commands."""
    server = Server(tmp_path_factory.mktemp("commands"))
    yield server
    server.server.stdin.close()
    server.server.wait(60)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    """Twelve utterances of three speakers."""
    return write_corpus(tmp_path_factory.mktemp("corpus") / "c", 4)


@pytest.fixture(scope="session")
def noise(tmp_path_factory) -> Path:
    """A noise corpus."""
    return write_noise(tmp_path_factory.mktemp("noise") / "n")


@pytest.fixture(scope="session")
def train_words(corpus, noise):
    """The command that trains small probes of two layers in eight steps."""

    def words(output, *more):
        return [
            "train", "--encoder", "blstm-robust", "--dataset", f"audiofolder:{corpus}", "--noise", noise,
            "--layers", "blstm1", "blstm3", "--steps", "8", "--batch-size", "3", "--hidden-dim", "8",
            "--checkpoint-steps", "2", "--device", "cpu", "--output", output, *more,
        ]  # fmt: skip

    return words


@pytest.fixture(scope="session")
def whole_bank(hfprobe, train_words, tmp_path_factory) -> Path:
    """The bank of a training that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "bank"
    hfprobe.run(*train_words(folder))
    return folder


@pytest.fixture(scope="session")
def evaluate_words(corpus, noise, whole_bank):
    """The command that evaluates that bank on six utterances under two conditions."""

    def words(output, *more):
        return [
            "evaluate", "--encoder", "blstm-robust", "--probes", whole_bank, "--dataset", f"audiofolder:{corpus}",
            "--noise", noise, "--snr", "clean", "5", "--speakers", "3", "--per-speaker", "2", "--iterations", "2",
            "--layers", "blstm1", "--device", "cpu", "--output", output, *more,
        ]  # fmt: skip

    return words
