"""A process of its own in which the Hub's clients talk to the stand-in: they read HF_ENDPOINT when they are imported.

Importing them takes seconds, so a module of tests shares one `Worker` and sends it snippets.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import textwrap
import threading
import traceback
from pathlib import Path


class Failed(AssertionError):
    """The snippet raised.

    Attributes:
        kind: Name of the class of the error.
        message: Its text.
        trace: Whole traceback, as it would be printed.
        output: What was printed before.
    """

    def __init__(self, kind: str, message: str, trace: str, output: str):
        super().__init__(f"{kind}: {message}\n{trace}\n{output}")
        self.kind, self.message, self.trace, self.output = kind, message, trace, output


class Worker:
    """Runs snippets in one process; names that a snippet defines are gone afterwards.

    Args:
        environment: Variables on top of this process's own.
        setup: Snippet that is run first; its names stay.
    """

    def __init__(self, environment: dict[str, str], setup: str = "", timeout: float = 300.0):
        self.timeout = timeout
        variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=variables, text=True
        )
        self._send({"setup": setup})

    def run(self, code: str, **values):
        """Run a snippet.

        Args:
            code: Python; what it assigns to ``result`` (plain values) comes back, and what it prints, as ``self.output``.
            **values: Plain values that it finds as names; paths become strings.

        Raises:
            Failed: It raised.
        """
        values = {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
        answer = self._send({"code": textwrap.dedent(code), "values": values})
        self.output = answer["output"]
        if "kind" in answer:
            raise Failed(answer["kind"], answer["message"], answer["trace"], answer["output"])
        return answer["result"]

    def _send(self, item: dict) -> dict:
        # A snippet that never ends must not keep the tests from ending.
        timer = threading.Timer(self.timeout, self.process.kill)
        timer.start()
        try:
            self.process.stdin.write(json.dumps(item) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        finally:
            timer.cancel()
        assert line, f"the worker is gone (exit status {self.process.poll()})"
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        self.process.kill()  # it has nothing to tidy up, and would take seconds to do so
        self.process.wait(timeout=60)


def _serve() -> None:
    answers, shared = os.fdopen(os.dup(1), "w"), {}
    os.dup2(2, 1)  # whatever a library prints there must not mix with the answers
    for line in sys.stdin:
        item, output, answer = json.loads(line), io.StringIO(), {}
        try:
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
                if "setup" in item:
                    exec(compile(item["setup"], "setup", "exec"), shared)
                else:
                    names = {**shared, **item["values"]}
                    exec(compile(item["code"], "snippet", "exec"), names)
                    answer["result"] = names.get("result")
        except Exception as error:  # noqa: BLE001  all of them are told
            answer = {"kind": type(error).__name__, "message": str(error), "trace": traceback.format_exc()}
        answers.write(json.dumps({**answer, "output": output.getvalue()}) + "\n")
        answers.flush()


if __name__ == "__main__":
    _serve()
