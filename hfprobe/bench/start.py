"""What it takes to start: imports, help, and the first sound of ``hfprobe listen``, each in a new process."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from hfprobe.bench.machine import Machine
from hfprobe.bench.measure import Timing, cpu_seconds, interleave, ratio
from hfprobe.bench.report import Goal, Section
from hfprobe.bench.speech import clips

HELP = "from hfprobe.cli import main; raise SystemExit(main(['--help']))"
IMPORTS = {
    "python -c pass": "pass",
    "hfprobe --help": HELP,
    "import hfprobe": "import hfprobe",
    "import hfprobe, and what it names": "import hfprobe; hfprobe.AutoSpeechEncoder; hfprobe.ProbeBank",
    "import torch": "import torch",
}


def bench_start(machine: Machine, repeats: int, listen: bool = True, encoder: str = "blstm-robust") -> Section:
    """Measure starts.

    Args:
        machine: Machine; its GPU is not used.
        repeats: Rounds.
        listen: Whether to measure ``hfprobe listen`` too.
        encoder: Encoder for it.

    Returns:
        The section.
    """
    section = Section("start", "Start: each in a new process")
    times = interleave({name: _python(code) for name, code in IMPORTS.items()}, repeats)
    for name, timing in times.items():
        section.add(name, timing, times=ratio(timing, times["import torch"], "cpu").row())
    for clock, unit in (("cpu", "CPU"), ("wall", "wall")):
        name = f"import hfprobe over import torch, {unit} time"
        section.goals.append(Goal(name, ratio(times["import hfprobe"], times["import torch"], clock).median, *IMPORT))
        pairs = zip(times["hfprobe --help"].seconds(clock), times["python -c pass"].seconds(clock), strict=True)
        more = sorted(above - below for above, below in pairs)
        section.goals.append(Goal(f"hfprobe --help, {unit} s more than python -c pass", more[len(more) // 2], *HELPED))
    section.goals.append(Goal("modules of torch that help loads", float(_torch_in_help()), "at most", 0.0))
    if listen:
        first, whole = _listen(repeats, encoder)
        section.add(f"hfprobe listen, 5 s, {encoder}: first sound on disk", first)
        section.add(f"hfprobe listen, 5 s, {encoder}: page done", whole)
        for clock, unit in (("cpu", "CPU"), ("wall", "wall")):
            name = f"first sound of listen, {unit} s"
            section.goals.append(Goal(name, first.median(clock), "at most", 10.0))
    section.notes = ["`import hfprobe` loads no torch: its names are fetched when they are first used."]
    return section


IMPORT, HELPED = ("at most", 1.2), ("at most", 0.5)


def _python(code: str) -> Callable[[], object]:
    return lambda: subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=True)


def _torch_in_help() -> int:
    code = HELP.replace("raise SystemExit(", "").removesuffix(")")
    code += "; import sys; print(sum(name.split('.')[0] == 'torch' for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout.splitlines()[-1])


def _listen(repeats: int, encoder: str) -> tuple[Timing, Timing]:
    """Times of the first sound and of the whole command."""
    from hfprobe.audio import save_audio

    walls: tuple[list[float], list[float]] = ([], [])
    cpus: tuple[list[float], list[float]] = ([], [])
    with tempfile.TemporaryDirectory() as place:
        sound = Path(place) / "five.wav"
        save_audio(sound, clips([5.0])[0].numpy())
        for turn in range(repeats):
            folder = Path(place) / f"out{turn}"
            words = ["listen", str(sound), "--encoder", encoder, "--snr", "clean", "--output", str(folder)]
            code = f"from hfprobe.cli import main; raise SystemExit(main({words!r}))"
            cpu, wall = cpu_seconds(), time.perf_counter()
            process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
            first = _first_sound(process, folder)
            walls[0].append(first[0] - wall)
            cpus[0].append(first[1])
            if process.wait():
                raise RuntimeError(f"hfprobe listen ended with status {process.returncode}; its message is above")
            walls[1].append(time.perf_counter() - wall)
            cpus[1].append(cpu_seconds() - cpu)
    return Timing(tuple(walls[0]), tuple(cpus[0])), Timing(tuple(walls[1]), tuple(cpus[1]))


def _first_sound(process: subprocess.Popen, folder: Path) -> tuple[float, float]:
    """When the first sound is there, and what the process has used until then."""
    used = 0.0
    while process.poll() is None:
        used = _cpu_of(process.pid) or used
        if any(folder.rglob("*.flac")):
            break
        time.sleep(0.02)
    return time.perf_counter(), used


def _cpu_of(pid: int) -> float:
    """CPU seconds that a running process has used; 0 where the system does not tell."""
    import os

    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
