"""Starts ``hfprobe`` commands as processes of their own, forked from one that has imported everything already.

A command of a second is otherwise ten seconds of imports. What runs is the command itself, in a real process that can
be killed; requests and answers are lines of JSON. ``points`` of a request says where the process is to fail.
"""

import importlib
import json
import os
import signal
import sys
import time
import traceback

MODULES = (
    "accelerate", "datasets", "soundfile", "hfprobe.cli.train", "hfprobe.cli.evaluate", "hfprobe.cli.classify",
    "hfprobe.encoders.espnet.loading", "hfprobe.encoders.espnet.adapter", "hfprobe.probes.training",
    "hfprobe.analysis.evaluate", "hfprobe.analysis.classify", "hfprobe.analysis.classify_points",
    "hfprobe.analysis.differences", "hfprobe.speakers.ge2e", "hfprobe.reports.figures", "hfprobe.reports.paper",
    "hfprobe.reports.differences", "hfprobe.reports.probing", "hfprobe.analysis.alignment", "hfprobe.reports.kept",
    "hfprobe.metrics.quality", "hfprobe.vocoders", "pystoi", "espnet2.asr.frontend.default",
    "espnet2.asr.encoder.rnn_encoder",
)  # fmt: skip


def start(request: dict) -> int:
    """Fork; the child does not come back."""
    child = os.fork()
    if child:
        return child
    status = 70
    try:
        os.setsid()
        os.chdir(request["folder"])
        for name, descriptor in (("out", 1), ("err", 2)):
            file = os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(file, descriptor)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdout, sys.stderr = (os.fdopen(d, "w", buffering=1, closefd=False) for d in (1, 2))
        os.environ.update(request["env"])
        # A server in the background inherits an ignored SIGINT; the command must hear it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        import fault_points

        fault_points.arm(request["points"])
        from hfprobe.cli import main

        status = main(request["argv"])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        raise SystemExit(status)


def wait(request: dict) -> int | None:
    """Exit status of a child, negative for a signal, as `subprocess` has it; None if it does not end in time."""
    end = time.monotonic() + request["seconds"]
    while time.monotonic() < end:
        child, status = os.waitpid(request["process"], os.WNOHANG)
        if child:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    return None


def serve() -> None:
    """Answer requests until there are no more."""
    import warnings

    warnings.simplefilter("ignore")
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    for name in MODULES:
        importlib.import_module(name)
    print(json.dumps("ready"), flush=True)
    for line in iter(sys.stdin.readline, ""):
        request = json.loads(line)
        print(json.dumps({"start": start, "wait": wait}[request["do"]](request)), flush=True)


if __name__ == "__main__":
    serve()
