"""What the stand-in for the Hub (`hub_server`) answers to each request of the clients."""

from __future__ import annotations

import base64
import json
import re
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from hub_store import Blob, HubProblem, Repo, card_data, is_lfs

WRITE_TOKEN = "hf_WritesAsUserForTestsOnly0123456789"
READ_TOKEN = "hf_ReadsAsUserForTestsOnly01234567890"
USER = "user"


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    hub: Any

    def handle_error(self, request, client_address):
        pass  # clients that hang up are part of the tests


_API = r"/api/(?P<kind>models|datasets)/(?P<id>[^/]+/[^/]+)"
_REPO = r"/(?:(?P<kind>datasets|spaces)/)?(?P<id>[^/]+/[^/]+)"
# Method, path (still quoted), name of the handler's method.
_ROUTES = [
    (method, re.compile(path), name)
    for method, path, name in (
        ("GET", r"/api/whoami-v2", "whoami"),
        ("POST", r"/api/validate-yaml", "validate_yaml"),
        ("POST", r"/api/repos/create", "create"),
        ("GET", _API, "info"),
        ("GET", _API + r"/revision/(?P<rev>[^/]+)", "info"),
        ("GET", _API + r"/refs", "list_refs"),
        ("GET", _API + r"/commits/(?P<rev>[^/]+)", "list_commits"),
        ("GET", _API + r"/tree/(?P<rev>[^/]+)(?:/(?P<path>.*))?", "tree"),
        ("POST", _API + r"/paths-info/(?P<rev>[^/]+)", "paths_info"),
        ("POST", _API + r"/preupload/(?P<rev>[^/]+)", "preupload"),
        ("POST", _API + r"/commit/(?P<rev>[^/]+)", "commit"),
        ("POST", _API + r"/branch/(?P<name>[^/]+)", "branch"),
        ("POST", _API + r"/tag/(?P<rev>[^/]+)", "tag"),
        ("POST", _REPO + r"\.git/info/lfs/objects/batch", "lfs_batch"),
        ("PUT", r"/lfs/(?P<kind>models|datasets)/(?P<id>[^/]+/[^/]+)/(?P<oid>[0-9a-f]{64})", "lfs_put"),
        ("POST", r"/lfs/(?P<kind>models|datasets)/(?P<id>[^/]+/[^/]+)/verify", "lfs_verify"),
        ("GET", _REPO + r"/resolve/(?P<rev>[^/]+)/(?P<path>.+)", "resolve"),
    )
]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, *_):
        pass

    def do_GET(self):
        self._serve("GET")

    def do_HEAD(self):
        self._serve("GET")

    def do_POST(self):
        self._serve("POST")

    def do_PUT(self):
        self._serve("PUT")

    # -- one request

    def _serve(self, method: str) -> None:
        hub, url = self.server.hub, urlsplit(self.path)
        if hub.stopping.is_set():
            return self._hang_up()  # a connection that was open when the server was stopped
        self.query = {key: values[-1] for key, values in parse_qs(url.query).items()}
        scheme, _, token = (self.headers.get("Authorization") or "").partition(" ")
        self.token = token if scheme.lower() == "bearer" else None
        line = f"{self.command} {unquote(self.path)}"
        self.fault = hub.take_fault(line)
        self.log = hub.note(self.command, unquote(self.path), self.token, self.headers.get("Range"), self.fault)
        limit = self.fault.after if self.fault and self.fault.kind == "drop" else None
        body = self._read_body(limit)
        self.log.received = len(body)
        if limit is not None:
            return self._hang_up()
        if self.fault and self.fault.kind == "stall" and not self.fault.after:
            hub.stopping.wait(self.fault.seconds)
            return self._hang_up()
        if self.fault and self.fault.kind == "status":
            extra = {} if self.fault.retry_after is None else {"Retry-After": f"{self.fault.retry_after:g}"}
            return self._answer(self.fault.status, b"planted by the test", extra)
        try:
            if self.token is not None and self.token not in (WRITE_TOKEN, READ_TOKEN):
                raise HubProblem(401, "Invalid credentials in Authorization header")
            for verb, path, name in _ROUTES:
                found = path.fullmatch(url.path)
                if verb == method and found:
                    parts = {key: unquote(value or "") for key, value in found.groupdict().items()}
                    with hub.lock:
                        status, content, headers = getattr(self, f"_{name}")(body, **parts)
                    return self._answer(status, content, headers)
            raise HubProblem(404, f"the stand-in has no {method} {url.path}")
        except HubProblem as problem:
            headers = {"X-Error-Message": str(problem), **({"X-Error-Code": problem.code} if problem.code else {})}
            return self._answer(problem.status, {"error": str(problem), **problem.extra}, headers)

    def _read_body(self, limit: int | None) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            body = b""
            while limit is None or len(body) < limit:
                size = int(self.rfile.readline().split(b";")[0], 16)
                body += self.rfile.read(size)
                self.rfile.readline()
                if not size:
                    break
            return body
        length = int(self.headers.get("Content-Length") or 0)
        return self.rfile.read(length if limit is None else min(limit, length))

    def _hang_up(self) -> None:
        self.close_connection = True
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def _answer(self, status: int, content: bytes | dict | list, headers: dict | None = None) -> None:
        headers, fault, kind = dict(headers or {}), self.fault, self.fault.kind if self.fault else None
        if not isinstance(content, bytes):
            content, headers = json.dumps(content).encode(), {"Content-Type": "application/json", **headers}
        if kind == "truncate":
            content = content[: fault.after]
        if kind == "corrupt" and content:
            place = min(fault.after, len(content) - 1)
            content = content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]
        if kind == "lost":
            return self._hang_up()
        self.log.status = status
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if kind in ("cut", "stall"):
            self.wfile.write(content[: fault.after])
            self.wfile.flush()
            if kind == "stall":
                self.server.hub.stopping.wait(fault.seconds)
            return self._hang_up()
        self.wfile.write(content)

    # -- who may do what

    def _repo(self, kind: str, repo_id: str, write: bool = False) -> Repo:
        repo = self.server.hub.repos.get((kind or "models", repo_id))
        if repo is None or (repo.private and self.token is None):
            # The Hub does not tell a stranger whether a private repository is there.
            raise HubProblem(401 if self.token is None else 404, "Repository not found", "RepoNotFound")
        if write:
            self._may_write(repo_id.split("/")[0])
        return repo

    def _may_write(self, owner: str) -> None:
        if self.token is None:
            raise HubProblem(401, "Invalid username or password.")
        if self.token != WRITE_TOKEN or owner != USER:
            raise HubProblem(403, f"Forbidden: you don't have the rights to write to {owner}")

    # -- what the clients ask; each answers with status, content and headers

    def _whoami(self, body):
        if self.token is None:
            raise HubProblem(401, "Invalid username or password.")
        role = "write" if self.token == WRITE_TOKEN else "read"
        return 200, {"type": "user", "name": USER, "orgs": [], "auth": {"accessToken": {"role": role}}}, {}

    def _validate_yaml(self, body):
        try:
            data = card_data(json.loads(body)["content"])
        except Exception as error:  # noqa: BLE001  whatever YAML makes of it
            return 400, {"errors": [{"message": str(error)}], "warnings": []}, {}
        warnings = [] if data else [{"message": "empty or missing yaml metadata in repo card"}]
        return 200, {"errors": [], "warnings": warnings}, {}

    def _create(self, body):
        wanted = json.loads(body)
        owner = wanted.get("organization") or USER
        self._may_write(owner)
        key = (f"{wanted.get('type') or 'model'}s", f"{owner}/{wanted['name'].split('/')[-1]}")
        url = f"{self.server.hub.url}/{'datasets/' if key[0] == 'datasets' else ''}{key[1]}"
        if key in self.server.hub.repos:
            raise HubProblem(409, f"You already created this {key[0]} repo", url=url)
        private = wanted.get("private") or wanted.get("visibility") == "private"
        self.server.hub.repos[key] = Repo(*key, private=bool(private))
        return 200, {"url": url, "name": key[1]}, {}

    def _info(self, body, kind, id, rev=""):
        return 200, self._repo(kind, id).info(rev or "main", "blobs" in self.query), {}

    def _list_refs(self, body, kind, id):
        repo = self._repo(kind, id)
        branches = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": o} for n, o in repo.refs.items()]
        tags = [{"name": n, "ref": f"refs/tags/{n}", "targetCommit": o} for n, o in repo.tags.items()]
        return 200, {"branches": branches, "tags": tags, "converts": []}, {}

    def _list_commits(self, body, kind, id, rev):
        repo, oid, commits = self._repo(kind, id), self._repo(kind, id).at(rev).oid, []
        while oid is not None:
            commit = repo.commits[oid]
            commits.append(
                {"id": oid, "title": commit.title, "message": "", "authors": [], "date": "2026-01-01T00:00:00.000Z"}
            )
            oid = commit.parent
        return 200, commits, {"X-Total-Count": str(len(commits))}

    def _tree(self, body, kind, id, rev, path=""):
        recursive = self.query.get("recursive", "").lower() in ("true", "1")
        return 200, self._repo(kind, id).tree(rev, path, recursive), {}

    def _paths_info(self, body, kind, id, rev):
        json_sent = "json" in (self.headers.get("Content-Type") or "")
        wanted = json.loads(body)["paths"] if json_sent else parse_qs(body.decode()).get("paths", [])
        repo, found = self._repo(kind, id), []
        files = repo.at(rev).files
        for path in [wanted] if isinstance(wanted, str) else wanted:
            if path in files:
                found.append(files[path].entry(path))
            elif any(name.startswith(f"{path}/") for name in files):
                found.append({"type": "directory", "path": path, "oid": "0" * 40, "size": 0})
        return 200, found, {}

    def _preupload(self, body, kind, id, rev):
        files = self._repo(kind, id, write=True).at(rev).files
        answers = []
        for item in json.loads(body)["files"]:
            path, there = item["path"], files.get(item["path"])
            mode = "lfs" if is_lfs(path, item["size"]) else "regular"
            answers.append(
                {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": there.etag if there else None}
            )
        return 200, {"files": answers}, {}

    def _lfs_batch(self, body, kind, id):
        repo, hub = self._repo(kind, id, write=True), self.server.hub
        base, objects = f"{hub.url}/lfs/{repo.kind}/{repo.id}", []
        for item in json.loads(body)["objects"]:
            answer = {"oid": item["oid"], "size": item["size"], "authenticated": True}
            if item["oid"] not in repo.objects:
                answer["actions"] = {
                    "upload": {"href": f"{base}/{item['oid']}", "header": {}},
                    "verify": {"href": f"{base}/verify"},
                }
            objects.append(answer)
        return 200, {"transfer": "basic", "objects": objects}, {"Content-Type": "application/vnd.git-lfs+json"}

    def _lfs_put(self, body, kind, id, oid):
        # The address is its own permission, as with the Hub's signed ones: the client sends no token here.
        if Blob(body, True).sha256 != oid:
            raise HubProblem(400, "the content is not what its checksum says")
        self.server.hub.repos[kind, id].objects[oid] = body
        return 200, b"", {}

    def _lfs_verify(self, body, kind, id):
        item = json.loads(body)
        stored = self._repo(kind, id).objects.get(item["oid"])
        if stored is None or len(stored) != item["size"]:
            raise HubProblem(404, "object not found")
        return 200, {}, {}

    def _commit(self, body, kind, id, rev):
        repo = self._repo(kind, id, write=True)
        if rev not in repo.refs:
            raise HubProblem(404, f"Invalid rev id: {rev}", "RevisionNotFound")
        before = repo.at(rev)
        files, title = dict(before.files), ""
        for line in filter(None, body.splitlines()):
            item = json.loads(line)
            what, value = item["key"], item["value"]
            if what == "header":
                title = value["summary"]
                if value.get("parentCommit") not in (None, before.oid):
                    raise HubProblem(412, "A commit has happened since. Please refresh and try again.")
            elif what == "file":
                files[value["path"]] = Blob(base64.b64decode(value["content"]), False)
            elif what == "lfsFile":
                if value["oid"] not in repo.objects:
                    raise HubProblem(400, f"LFS object {value['oid']} of {value['path']} was not uploaded")
                files[value["path"]] = Blob(repo.objects[value["oid"]], True)
            elif what == "deletedFile":
                files.pop(value["path"], None)
            elif what == "deletedFolder":
                folder = value["path"].rstrip("/") + "/"
                files = {path: blob for path, blob in files.items() if not path.startswith(folder)}
            else:
                raise HubProblem(400, f"the stand-in knows no {what!r} in a commit")
        commit = repo.commit(rev, files, title)
        url = f"{self.server.hub.url}/{'datasets/' if kind == 'datasets' else ''}{id}/commit/{commit.oid}"
        return 200, {"success": True, "commitOid": commit.oid, "commitUrl": url, "hookOutput": ""}, {}

    def _branch(self, body, kind, id, name):
        repo, wanted = self._repo(kind, id, write=True), json.loads(body or b"{}")
        if name in repo.refs:
            raise HubProblem(409, f"Reference already exists: {name}")
        repo.refs[name] = repo.at(wanted.get("startingPoint") or "main").oid
        return 200, {}, {}

    def _tag(self, body, kind, id, rev):
        repo, wanted = self._repo(kind, id, write=True), json.loads(body)
        if wanted["tag"] in repo.tags:
            raise HubProblem(409, f"Tag already exists: {wanted['tag']}")
        repo.tags[wanted["tag"]] = repo.at(rev).oid
        return 200, {}, {}

    def _resolve(self, body, kind, id, rev, path):
        commit = self._repo(kind, id).at(rev)
        blob = commit.files.get(path)
        if blob is None:
            raise HubProblem(404, f"{path} does not exist", "EntryNotFound")
        headers = {
            "X-Repo-Commit": commit.oid,
            "ETag": f'"{blob.etag}"',
            "Accept-Ranges": "bytes",
            "Content-Type": "application/octet-stream",
        }
        if blob.lfs:
            headers |= {"X-Linked-Etag": f'"{blob.sha256}"', "X-Linked-Size": str(len(blob.data))}
        found = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range") or "")
        if not found or not any(found.groups()):
            return 200, blob.data, headers
        size, (first, last) = len(blob.data), found.groups()
        start = int(first) if first else max(size - int(last), 0)
        stop = min(int(last) + 1, size) if first and last else size
        if start >= stop:
            return 416, b"", {**headers, "Content-Range": f"bytes */{size}"}
        return 206, blob.data[start:stop], {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{size}"}
