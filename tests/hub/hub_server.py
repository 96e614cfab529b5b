"""A stand-in for the Hugging Face Hub on 127.0.0.1, for tests over real HTTP.

Use (see `Hub` for all of it)::

    with Hub() as hub:
        hub.put_repo("dataset", "user/data", {"clean/test/0000.parquet": data})
        hub.plant("GET .*0000.parquet", "cut", after=1000)          # the first such request breaks off
        environment = {**os.environ, **hub.environment(tmp_path)}   # for a subprocess, or set before the imports
        ...
        assert [request.range for request in hub.requests if request.path.endswith(".parquet")] == [...]

It speaks what huggingface_hub, transformers and datasets ask: create, info, tree, paths-info, resolve with ranges, refs,
commits, preupload, LFS, commit, branches and tags, validate-yaml, whoami. Tokens count: a private repository is not
there without one, and nobody writes without one. The clients read HF_ENDPOINT when they are imported: set it before.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from pathlib import Path

from hub_api import READ_TOKEN, USER, WRITE_TOKEN, Handler, Server
from hub_store import Blob, Repo, is_lfs

__all__ = ["READ_TOKEN", "USER", "WRITE_TOKEN", "Fault", "Hub", "Repo", "Request"]

KINDS = ("status", "stall", "drop", "lost", "cut", "truncate", "corrupt")


@dataclass
class Fault:
    """Something that goes wrong with the next requests of a kind.

    Attributes:
        pattern: Regular expression, looked for in ``"METHOD /path?query"`` (path unquoted).
        kind: ``"status"``: the answer is ``status``, with ``Retry-After`` where ``retry_after`` is given;
            ``"stall"``: after ``after`` bytes of the body (or before the answer, if 0) nothing comes for ``seconds``;
            ``"drop"``: the connection is closed without an answer, after ``after`` bytes of the request's body were read;
            ``"lost"``: the server does what it was asked to and closes the connection without an answer;
            ``"cut"``: the headers promise the whole body, the connection is closed after ``after`` bytes of it;
            ``"truncate"``: the body and the promised length are ``after`` bytes, as if that were all;
            ``"corrupt"``: all the bytes come, but that at ``after`` is another one.
        times: To how many requests it happens.
    """

    pattern: str
    kind: str = "status"
    times: int = 1
    status: int = 503
    retry_after: float | None = None
    after: int = 0
    seconds: float = 3600.0

    def __post_init__(self):
        assert self.kind in KINDS, f"unknown kind of fault {self.kind!r}"


@dataclass
class Request:
    """One line of the log.

    Attributes:
        method: GET, POST, ...
        path: With the query, unquoted.
        status: Of the answer; 0 where the connection was closed without one.
        token: What came as a bearer token, or None.
        range: The Range header, or None.
        received: Bytes of the request's body.
        fault: Kind of the fault that befell it, or None.
    """

    method: str
    path: str
    status: int = 0
    token: str | None = None
    range: str | None = None
    received: int = 0
    fault: str | None = None


@dataclass
class Hub:
    """The server; `start`/`stop`, or a ``with`` block.

    Attributes:
        url: ``http://127.0.0.1:PORT`` once started.
        repos: ``("models" | "datasets", "user/name")`` to `Repo`; see its ``files()``, ``titles()``, ``refs``, ``objects``.
        faults: Planted faults that are still to happen; see `plant`.
        requests: Log of all requests, in the order of their arrival; `clear` forgets it and the faults.
    """

    repos: dict[tuple[str, str], Repo] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    url: str = ""

    def __post_init__(self):
        self.lock, self.stopping, self._server = threading.RLock(), threading.Event(), None

    def __enter__(self) -> Hub:
        return self.start()

    def __exit__(self, *_) -> None:
        self.stop()

    def start(self) -> Hub:
        """Listen on a free port."""
        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.hub = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def stop(self) -> None:
        """Close; requests that stall are let go."""
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()

    def put_repo(
        self, kind: str, repo_id: str, files: dict[str, bytes | str], private: bool = False, revision: str = "main"
    ) -> Repo:
        """Make a repository of these files, or commit them (and them alone) to one that is there.

        Args:
            kind: ``"model"`` or ``"dataset"``; ``"space"`` for files that are only fetched.
            repo_id: ``"user/name"``.
            files: Path in the repository to content.
            private: Seen with a token only.
            revision: Branch.
        """
        key = (f"{kind.removesuffix('s')}s", repo_id)
        with self.lock:
            repo = self.repos.setdefault(key, Repo(*key))
            repo.private = private
            blobs = {p: c.encode() if isinstance(c, str) else c for p, c in files.items()}
            repo.commit(revision, {p: Blob(c, is_lfs(p, len(c))) for p, c in blobs.items()}, "files put there")
        return repo

    def put_folder(self, kind: str, repo_id: str, folder: str | Path, **options) -> Repo:
        """`put_repo` with all files of a folder."""
        paths = [path for path in sorted(Path(folder).rglob("*")) if path.is_file()]
        return self.put_repo(
            kind, repo_id, {p.relative_to(folder).as_posix(): p.read_bytes() for p in paths}, **options
        )

    def plant(self, pattern: str, kind: str = "status", **options) -> Fault:
        """Let something go wrong with the next requests that match; see `Fault`."""
        fault = Fault(pattern, kind, **options)
        with self.lock:
            self.faults.append(fault)
        return fault

    def clear(self) -> None:
        """Forget the log, and the faults that did not happen yet."""
        with self.lock:
            self.faults.clear()
            self.requests.clear()

    def asked(self, pattern: str) -> list[Request]:
        """Requests whose ``"METHOD /path?query"`` matches."""
        with self.lock:
            return [r for r in self.requests if re.search(pattern, f"{r.method} {r.path}")]

    def environment(self, home: str | Path, token: str | None = WRITE_TOKEN) -> dict[str, str]:
        """Variables that send the clients here; to be set before huggingface_hub is imported.

        Args:
            home: Folder for the clients' caches; a fresh one, or a private repository is read from the cache.
            token: Access token; none where None.
        """
        return {
            "HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_CACHE": str(Path(home) / "hub"), "HF_TOKEN": token or "",
            "HF_XET_CACHE": str(Path(home) / "xet"), "HF_DATASETS_CACHE": str(Path(home) / "datasets"),
            "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_OFFLINE": "0", "HF_DATASETS_OFFLINE": "0", "NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost",
        }  # fmt: skip

    def note(self, method: str, path: str, token: str | None, range: str | None, fault: Fault | None) -> Request:
        """Put a request on the log; its status is filled in when it is answered."""
        request = Request(method, path, 0, token, range, fault=fault.kind if fault else None)
        with self.lock:
            self.requests.append(request)
        return request

    def take_fault(self, line: str) -> Fault | None:
        """The fault that befalls a request, taken off the list when used up."""
        with self.lock:
            for fault in self.faults:
                if re.search(fault.pattern, line):
                    fault.times -= 1
                    if fault.times < 1:
                        self.faults.remove(fault)
                    return fault
        return None
