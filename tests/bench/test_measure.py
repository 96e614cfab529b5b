"""Turns, ratios, floors and machines: planted times, known arithmetic, limits that cannot be exceeded."""

import time

import pytest
import torch

from hfprobe.bench.floors import Floor, count_operations, encoder_floor
from hfprobe.bench.machine import Machine, describe_machine
from hfprobe.bench.measure import Timing, cpu_seconds, interleave, ratio
from hfprobe.bench.report import Goal
from hfprobe.bench.speech import clips, mixed_lengths, pad
from hfprobe.encoders import AutoSpeechEncoder
from hfprobe.errors import ConfigError

MACHINE = Machine("a processor", 2, 1, 2**30, 0.0, "cpu", "cpu", matmul=1e9, bandwidth=1e8)


def test_contenders_take_turns_and_change_the_order():
    called = []
    times = interleave({name: lambda name=name: called.append(name) for name in "abc"}, repeats=3, warm_up=1)
    assert called == [*"abc", *"abc", *"cba", *"abc"]  # once each for the caches, then three rounds
    assert all(len(timing.wall) == len(timing.cpu) == 3 for timing in times.values())
    with pytest.raises(ConfigError, match="at least 1 repeat, got 0"):
        interleave({"a": lambda: None}, repeats=0)


def test_waiting_costs_wall_time_and_no_processor():
    timing = interleave({"sleep": lambda: time.sleep(0.05)}, repeats=2, warm_up=0)["sleep"]
    assert min(timing.wall) >= 0.05 and max(timing.cpu) < 0.04


def test_processor_time_of_children_counts():
    import subprocess
    import sys

    code = "sum(i * i for i in range(2_000_000))"
    before, own = cpu_seconds(), time.process_time()
    subprocess.run([sys.executable, "-c", code], check=True)
    used, mine = cpu_seconds() - before, time.process_time() - own
    assert used > 0.03 and used > 2 * mine


def test_a_ratio_is_taken_round_by_round():
    # The machine gets ten times slower in the second round; the ratio does not notice.
    slow, fast = Timing((4.0, 40.0, 6.0), (1.0,) * 3), Timing((2.0, 20.0, 2.0), (1.0,) * 3)
    found = ratio(slow, fast, "wall")
    assert (found.low, found.median, found.high) == (2.0, 2.0, 3.0)
    assert ratio(fast, slow, "cpu").median == 1.0
    with pytest.raises(ConfigError, match="clock of cpu, wall, got 'moon'"):
        ratio(slow, fast, "moon")


def test_goals_say_what_the_numbers_say():
    assert Goal("x", 6.0, "at least", 6.0).met and not Goal("x", 5.99, "at least", 6.0).met
    assert Goal("x", 1.5, "at most", 1.5).met and not Goal("x", 1.51, "at most", 1.5).met
    assert "**missed**" in Goal("x", 5.99, "at least", 6.0).line()
    with pytest.raises(ConfigError, match="got 'about'"):
        Goal("x", 1.0, "about", 1.0)


def test_operations_of_products_there_and_back():
    x, layer = torch.rand(7, 5), torch.nn.Linear(5, 3)
    assert count_operations(lambda: layer(x)) == 2 * 7 * 5 * 3
    # Backwards only the weights have a gradient: as much again.
    assert count_operations(lambda: layer(x).sum().backward()) == 2 * 2 * 7 * 5 * 3


@pytest.mark.parametrize("packed", [False, True])
@torch.no_grad()
def test_operations_of_a_recurrence(packed):
    rnn = torch.nn.LSTM(6, 4, bidirectional=True, batch_first=True)
    x = torch.rand(2, 9, 6)
    if packed:
        x = torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor([9, 5]), batch_first=True)
    frames = 9 + 5 if packed else 2 * 9
    assert count_operations(lambda: rnn(x)) == 2 * 2 * frames * 4 * 4 * (6 + 4)


def test_a_floor_is_the_slower_of_products_and_bytes():
    assert Floor(2e9, 1e8).seconds(MACHINE) == 2.0 and Floor(1e9, 5e8).seconds(MACHINE) == 5.0
    assert Floor(6e8, 0).seconds(MACHINE, share=0.6) == pytest.approx(1.0)
    assert Floor(1, 2) + Floor(3, 4) == Floor(4, 6)


def test_floor_of_a_convolution_by_hand():
    network = torch.nn.Sequential(torch.nn.Unflatten(1, (1, -1)), torch.nn.Conv1d(1, 8, 400, 160))
    encoder = AutoSpeechEncoder.from_module(network, {"conv": "1"}, stride=160, offset=200, layout="bct")
    speech = [torch.rand(1600), torch.rand(800)]
    frames = (1600 - 400) // 160 + 1 + (800 - 400) // 160 + 1
    floor = encoder_floor(encoder, speech)
    assert floor.operations == 2 * frames * 8 * 400
    assert floor.bytes == 4 * (8 * 400 + 8 + 2400 + frames * 8)


def test_the_machine_has_limits_that_its_own_work_keeps():
    machine = describe_machine(matrix=256, copied=2**22, repeats=3)
    assert machine.cores >= 1 and machine.memory > 2**27 and machine.model and machine.threads >= 1
    a = torch.rand(256, 256)
    timing = interleave({"mm": lambda: [a @ a for _ in range(30)]}, repeats=3)["mm"]
    reached = 30 * 2 * 256**3 / timing.median("cpu")
    assert 0 < reached < 5 * machine.matmul  # chance apart, far from 5
    assert 1e8 < machine.bandwidth < 1e13


def test_speech_has_the_lengths_asked_for_and_no_clip_comes_twice():
    lengths = mixed_lengths(5, 2.0)
    assert sorted(lengths) == [0.4, 0.8, 1.2, 1.6, 2.0] and lengths != sorted(lengths)
    speech = clips(lengths)
    assert [len(clip) for clip in speech] == [round(16000 * each) for each in lengths]
    assert all(float(clip.abs().max()) > 0.01 for clip in speech)
    assert not torch.equal(speech[0][:6400], speech[1][:6400])
    batch, counts = pad(speech)
    assert batch.shape == (5, 32000) and counts.tolist() == [len(clip) for clip in speech]
    assert torch.equal(clips(lengths)[2], speech[2])
