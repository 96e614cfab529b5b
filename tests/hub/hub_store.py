"""Repositories of the stand-in for the Hub (`hub_server`), in memory: files, commits, branches, LFS objects."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field

# What the Hub's default .gitattributes sends through LFS, as far as speech models and data need it.
LFS_ENDINGS = (
    ".safetensors .bin .pth .pt .ckpt .h5 .npy .npz .pkl .pickle .parquet .arrow .zip .gz .tar .wav .flac .mp3 .ogg .onnx"
).split()
LFS_SIZE = 10_000_000


class HubProblem(Exception):
    """A request that the Hub refuses; becomes an answer with this status."""

    def __init__(self, status: int, message: str, code: str | None = None, **extra):
        super().__init__(message)
        self.status, self.code, self.extra = status, code, extra


@dataclass(frozen=True)
class Blob:
    """Content of one file, by its two names: git's and LFS's."""

    data: bytes
    lfs: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def git_oid(self) -> str:
        # An LFS file is in git as a pointer of three lines.
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.data)}\n"
        stored = pointer.encode() if self.lfs else self.data
        return hashlib.sha1(b"blob %d\0" % len(stored) + stored).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.git_oid

    def entry(self, path: str) -> dict:
        """As the tree of the Hub's API lists it."""
        entry = {"type": "file", "path": path, "size": len(self.data), "oid": self.git_oid}
        if self.lfs:
            entry["lfs"] = {"oid": self.sha256, "size": len(self.data), "pointerSize": 134}
        return entry


def is_lfs(path: str, size: int) -> bool:
    return size > LFS_SIZE or any(path.endswith(ending) for ending in LFS_ENDINGS)


@dataclass(frozen=True)
class Commit:
    """One state of a repository."""

    oid: str
    files: dict[str, Blob]
    title: str
    parent: str | None


@dataclass
class Repo:
    """A repository of models or of data.

    Attributes:
        kind: ``"models"`` or ``"datasets"``.
        id: ``"user/name"``.
        private: Seen with a token only.
        commits: By their id, oldest first.
        refs: Branches and tags, by name.
        objects: What was uploaded through LFS, by SHA-256, whether a commit names it or not.
    """

    kind: str
    id: str
    private: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self):
        self.commit("main", {}, "initial commit")

    def commit(self, branch: str, files: dict[str, Blob], title: str) -> Commit:
        """Put a new state on a branch."""
        parent = self.refs.get(branch)
        what = json.dumps([self.kind, self.id, parent, title, len(self.commits)]).encode()
        commit = Commit(hashlib.sha1(what).hexdigest(), dict(files), title, parent)
        self.commits[commit.oid] = commit
        self.refs[branch] = commit.oid
        return commit

    def at(self, revision: str) -> Commit:
        """The state at a branch, tag or commit."""
        oid = self.refs.get(revision) or self.tags.get(revision) or revision
        if oid not in self.commits:
            raise HubProblem(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[oid]

    def files(self, revision: str = "main") -> dict[str, bytes]:
        """Path to content, at a revision."""
        return {path: blob.data for path, blob in self.at(revision).files.items()}

    def titles(self, branch: str = "main") -> list[str]:
        """Titles of the commits of a branch, newest first."""
        titles, oid = [], self.refs.get(branch)
        while oid is not None:
            titles.append(self.commits[oid].title)
            oid = self.commits[oid].parent
        return titles

    def tree(self, revision: str, under: str, recursive: bool) -> list[dict]:
        """Files and folders below a folder; an error if there is no such folder."""
        files = self.at(revision).files
        prefix = f"{under.strip('/')}/" if under.strip("/") else ""
        inside = {path: blob for path, blob in files.items() if path.startswith(prefix)}
        if prefix and not inside:
            raise HubProblem(404, f"{under} does not exist on {revision}", "EntryNotFound")
        entries, folders = [], set()
        for path, blob in sorted(inside.items()):
            parts = path[len(prefix) :].split("/")
            for depth in range(1, len(parts)):
                if recursive or depth == 1:
                    folders.add(prefix + "/".join(parts[:depth]))
            if recursive or len(parts) == 1:
                entries.append(blob.entry(path))
        oid = hashlib.sha1
        return [
            {"type": "directory", "path": f, "oid": oid(f.encode()).hexdigest(), "size": 0} for f in sorted(folders)
        ] + entries

    def info(self, revision: str, blobs: bool) -> dict:
        """As the Hub's API describes a repository."""
        commit = self.at(revision)
        siblings = [{"rfilename": path} for path in sorted(commit.files)]
        if blobs:
            for item in siblings:
                entry = commit.files[item["rfilename"]].entry("")
                item |= {"size": entry["size"], "blobId": entry["oid"], "lfs": entry.get("lfs")}
                if item["lfs"]:
                    item["lfs"] = {"sha256": item["lfs"]["oid"], **item["lfs"]}
        readme = commit.files.get("README.md")
        card = card_data(readme.data.decode()) if readme else None
        return {
            "_id": hashlib.sha1(self.id.encode()).hexdigest()[:24], "id": self.id, "modelId": self.id, "author": self.id.split("/")[0],
            "sha": commit.oid, "private": self.private, "gated": False, "disabled": False, "downloads": 0, "likes": 0,
            "tags": (card or {}).get("tags") or [], "siblings": siblings, "cardData": card,
            "lastModified": "2026-01-01T00:00:00.000Z", "createdAt": "2026-01-01T00:00:00.000Z",
        }  # fmt: skip


def card_data(readme: str) -> dict | None:
    """The YAML between the first two lines of dashes of a card."""
    import yaml

    parts = readme.replace("\r\n", "\n").split("---\n", 2)
    if len(parts) < 3 or parts[0].strip():
        return None
    data = yaml.safe_load(parts[1])
    return json.loads(json.dumps(data, default=str)) if isinstance(data, dict) else None
