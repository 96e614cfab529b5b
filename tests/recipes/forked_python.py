"""A python that starts at once: a server has imported the heavy packages, and forks for every call.

A recipe starts a dozen interpreters, and importing ESPnet in each takes longer than all they do on a tiny corpus.
`forked_python` gives the path of a stand-in for ``python`` that takes ``-m MODULE``, ``FILE`` and ``-c CODE`` with their
arguments, working folder, environment and standard streams.
"""

import contextlib
import json
import os
import runpy
import socket
import subprocess
import sys
from pathlib import Path

START = 300  # seconds that the imports may take on a busy machine
CLIENT = """#!{python} -IS
import json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({place!r})
call = json.dumps(dict(words=sys.argv[1:], folder=os.getcwd(), environment=dict(os.environ))).encode()
socket.send_fds(server, [len(call).to_bytes(8, "big")], [0, 1, 2])
server.sendall(call)
code = server.recv(1)
sys.exit(code[0] if code else 1)
"""


@contextlib.contextmanager
def forked_python(folder: Path):
    """Start the server; gives the path of the stand-in, and stops the server at the end."""
    place = folder / "python.socket"
    script = folder / "forked-python"
    script.write_text(CLIENT.format(python=sys.executable, place=str(place)))
    script.chmod(0o755)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    server = subprocess.Popen(
        [sys.executable, __file__, str(place)], env=environment, stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        # Packages print remarks of their own before.
        assert any(line.strip() == b"ready" for line in server.stdout), "the server did not start"
        yield script
    finally:
        server.terminate()
        server.wait(START)
        server.stdout.close()


def _run(words: list[str]) -> None:
    """What ``python WORDS`` does."""
    if words[0] == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        exec(words[1], {"__name__": "__main__"})
    else:
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")


def _become(connection: socket.socket) -> list[str]:
    """Take on the streams, folder and environment of the caller; the words of its command line."""
    size, streams, _, _ = socket.recv_fds(connection, 8, 3)
    data = b""
    while len(data) < int.from_bytes(size, "big"):
        data += connection.recv(65536)
    call = json.loads(data)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(call["folder"])
    os.environ.clear()
    os.environ.update(call["environment"])
    return call["words"]


def serve(place: str) -> None:
    """Import what recipes use, then answer until somebody ends it."""
    from hfprobe.asr.train import quiet_nltk

    quiet_nltk()
    import accelerate  # noqa: F401
    import datasets  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import torch
    import transformers  # noqa: F401

    import hfprobe.asr.task
    import hfprobe.cli.evaluate
    import hfprobe.encoders
    import hfprobe.probes
    import hfprobe.speakers  # noqa: F401

    torch.set_num_threads(1)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(place)
    listener.listen()
    print("ready", flush=True)
    while True:
        connection, _ = listener.accept()
        child = os.fork()
        if child == 0:
            listener.close()
            words = _become(connection)
            connection.close()
            return _run(words)  # and ends as any interpreter does
        _, status = os.waitpid(child, 0)  # a recipe runs one command at a time
        connection.sendall(bytes([max(0, os.waitstatus_to_exitcode(status)) or (status != 0)]))
        connection.close()


if __name__ == "__main__":
    serve(sys.argv[1])
