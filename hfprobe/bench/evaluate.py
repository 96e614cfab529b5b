"""Evaluation: hours of speech that one core rebuilds, vocodes, verifies and scores in an hour, and what two do.

Every worker is a process of its own with one thread, on its own share of the utterances, so that two of them are what
two cores or two machines would be. They start together when all are ready.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from statistics import median
from typing import IO, Any

from hfprobe.bench.machine import Machine
from hfprobe.bench.measure import Timing, cpu_seconds
from hfprobe.bench.report import Goal, Section

STAGES = ("reconstruct", "vocode", "verify", "stoi", "pesq")


def bench_evaluate(machine: Machine, seconds: Sequence[float], repeats: int, encoder: str = "blstm-robust") -> Section:
    """Measure an evaluation in one process and in two.

    Args:
        machine: Machine.
        seconds: Lengths of the utterances of each worker.
        repeats: Rounds.
        encoder: A shipped encoder, with its bank.

    Returns:
        The section.
    """
    with _Workers(2, encoder, seconds, machine.device) as workers:
        workers.round(1)  # caches and plans
        rounds = [(workers.round(1), workers.round(2)) for _ in range(repeats)]
    speech, layers = sum(seconds), rounds[0][0][0]["layers"]
    one = _timing([single for single, _ in rounds])
    two = _timing([double for _, double in rounds])
    section = Section("evaluate", f"Evaluation of {encoder}: {layers} layers, input, ceiling and floor")
    clock, cores = machine.clock, min(2, machine.cores)
    for name, timing, count in (("one process", one, 1), ("two processes, a share each", two, 2)):
        # A CPU clock sums what all processes used; a wall clock counts them once.
        used = timing.median(clock) * (1 if clock == "cpu" else min(count, cores))
        section.add(name, timing, hours_per_hour=count * speech / used)
    stages = [single[0]["stages"] for single, _ in rounds]
    for stage in STAGES:
        cpu, wall = (tuple(one[stage][clock] for one in stages) for clock in ("cpu", "wall"))
        section.add(f"of which: {stage}", Timing(wall, cpu))
    # Twice the work at the same price for each half would be 2.
    by_cpu = median(2 * median(one.cpu) / value for value in two.cpu) * 2
    by_wall = median(2 * first / second for first, second in zip(one.wall, two.wall, strict=True))
    section.goals = [
        Goal("from 1 to 2 processes, by CPU time of the same work", by_cpu, "at least", 1.8),
        Goal("from 1 to 2 processes, by wall time", by_wall, "at least", 1.8),
    ]
    section.notes = [
        f"Each process has {len(seconds)} utterances, {speech:.1f} s: all layers rebuilt, vocoded (32 iterations), "
        "embedded by GE2E, scored by STOI and PESQ. Wall time says how two processes scale only where nothing else "
        "runs."
    ]
    return section


def _timing(rounds: Sequence[Sequence[dict]]) -> Timing:
    """Of rounds of several workers: until the last is done, and the sum of what they used."""
    wall = tuple(max(worker["wall"] for worker in turn) for turn in rounds)
    return Timing(wall, tuple(sum(worker["cpu"] for worker in turn) for turn in rounds))


def _pipe(stream: IO[str] | None) -> IO[str]:
    """One end of a pipe to a worker."""
    assert stream is not None, "every worker is started with pipes"
    return stream


class _Workers:
    """Processes that wait for a word before each round."""

    def __init__(self, count: int, encoder: str, seconds: Sequence[float], device: str):
        task = json.dumps({"encoder": encoder, "seconds": list(seconds), "device": device})
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-m", "hfprobe.bench.evaluate", task, str(rank)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
            )
            for rank in range(count)
        ]  # fmt: skip

    def __enter__(self) -> _Workers:
        for process in self.processes:
            self._answer(process)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            _pipe(process.stdin).close()
            process.wait()

    def round(self, count: int) -> list[dict]:
        """Let the first ``count`` workers do their work at once; what each used."""
        for process in self.processes[:count]:
            word = _pipe(process.stdin)
            word.write("go\n")
            word.flush()
        return [self._answer(process) for process in self.processes[:count]]

    @staticmethod
    def _answer(process: subprocess.Popen[str]) -> dict:
        while line := _pipe(process.stdout).readline():
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError("a worker of the evaluation benchmark ended; its message is above")


def _work(task: dict, rank: int) -> None:
    """Be a worker: say that it is ready, and then do a round for each line of standard input."""
    import torch

    from hfprobe.bench.speech import clips

    torch.set_num_threads(1)
    pair, verifier, test = _prepare(task["encoder"], clips([*task["seconds"] * (rank + 1)])[-len(task["seconds"]) :])
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        print(json.dumps(evaluate_once(pair, verifier, test, task["device"])), flush=True)


def _prepare(encoder: str, speech: Sequence[Any]) -> tuple:
    """Encoder with bank, verifier, and a test set of these clips (four or more): two by each of so many speakers."""
    from hfprobe.analysis.test_set import TestSet
    from hfprobe.encoders import AutoSpeechEncoder
    from hfprobe.probes import ProbeBank
    from hfprobe.speakers import load_speaker_encoder

    test = TestSet(waveforms=[clip.numpy() for clip in speech])
    for number in range(len(speech)):
        test.ids.append(f"clip{number}")
        test.texts.append("")
        test.speakers.append(f"speaker{number // 2}")
    pair = AutoSpeechEncoder.from_pretrained(encoder), ProbeBank.from_pretrained(encoder)
    return pair, load_speaker_encoder("ge2e"), test


def evaluate_once(pair: tuple, verifier: Any, test: Any, device: str) -> dict:
    """Evaluate a test set and say what it took, in all and by stage.

    Args:
        pair: Encoder and bank.
        verifier: Speaker encoder.
        test: A `TestSet`.
        device: Device.

    Returns:
        ``wall`` and ``cpu`` seconds, those of ``stages``, and the number of ``layers``.
    """
    from hfprobe.analysis import evaluate as module
    from hfprobe.analysis.conditions import parse_conditions
    from hfprobe.vocoders import GriffinLim

    encoder, bank = pair
    spent = {stage: {"wall": 0.0, "cpu": 0.0} for stage in STAGES}
    vocoder = _Counted(GriffinLim(32), spent["vocode"], "__call__", device)
    embedder = _Counted(verifier, spent["verify"], "embed", device)
    bank_counted = _Counted(bank, spent["reconstruct"], "mels", device)
    wall, cpu = time.perf_counter(), cpu_seconds()
    measured = module.measure_systems(
        [(encoder, bank_counted)], test, parse_conditions(["clean"], "any"), embedder, quality=(), device=device,
        vocoder=vocoder, keep=(kept := _Kept()),
    )  # fmt: skip
    for measure in ("stoi", "pesq"):
        with _Clock(spent[measure], device):
            module.score_pairs([test.waveforms[i] for i in kept.indices], kept.sounds, (measure,), n_jobs=1)
    measured.rows()
    total = {"wall": time.perf_counter() - wall, "cpu": cpu_seconds() - cpu}
    return {**total, "stages": spent, "layers": len([spec for spec in encoder.layers if spec.name in bank])}


class _Kept:
    """Holds every sound of one pass, to be scored afterwards."""

    def __init__(self):
        self.indices: list[int] = []
        self.sounds: list[Any] = []

    def __call__(self, condition, encoder, layer, indices, waveforms, mels) -> None:
        self.indices += indices
        self.sounds += waveforms


class _Clock:
    """Adds the time of a block."""

    def __init__(self, spent: dict[str, float], device: str):
        self.spent, self.device = spent, device

    def __enter__(self) -> None:
        from hfprobe.bench.measure import synchronise

        synchronise(self.device)
        self.wall, self.cpu = time.perf_counter(), cpu_seconds()

    def __exit__(self, *_: object) -> None:
        from hfprobe.bench.measure import synchronise

        synchronise(self.device)
        self.spent["wall"] += time.perf_counter() - self.wall
        self.spent["cpu"] += cpu_seconds() - self.cpu


class _Counted:
    """Stands for an object, one method of which is timed."""

    def __init__(self, inner: Any, spent: dict[str, float], method: str, device: str):
        self._inner, self._spent, self._method, self._device = inner, spent, method, device

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if name != self._method:
            return value

        def timed(*arguments: Any, **options: Any) -> Any:
            with _Clock(self._spent, self._device):
                return value(*arguments, **options)

        return timed

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        with _Clock(self._spent, self._device):
            return self._inner(*arguments, **options)

    def __contains__(self, item: object) -> bool:
        return item in self._inner


if __name__ == "__main__":
    _work(json.loads(sys.argv[1]), int(sys.argv[2]))
