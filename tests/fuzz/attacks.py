"""Contents that somebody could plant: payloads that run code, bombs, texts that mislead, things that are no files."""

from __future__ import annotations

import functools
import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch


class _Payload:
    """A pickle of this makes a file when it is loaded by a plain `pickle.load`."""

    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch '{self.canary}'",)


def _torch_zip(payload: object) -> bytes:
    buffer = io.BytesIO()
    torch.save({"encoder.weight": payload}, buffer)
    return buffer.getvalue()


@functools.cache
def _zip_bomb() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for number in range(20):
            packed.writestr(f"exp/{number}epoch.pth", bytes(60_000_000), compresslevel=1)
        packed.writestr("meta.yaml", "files: {asr_model_file: exp/1epoch.pth}\n")
    return buffer.getvalue()


def _zip_of(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        packed.writestr(name, "x")
    return buffer.getvalue()


def _laughs() -> str:
    names = "abcdefghijklmnop"
    lines = [f"a: &a [{', '.join(['lol'] * 9)}]"]
    lines += [f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]" for old, new in zip(names, names[1:], strict=False)]
    return "\n".join(lines) + "\nencoder: *p\nencoder_conf: *p\ntoken_list: *p\nseed: *p\n"


def contents(canary: Path) -> dict[str, bytes]:
    """Name to content; a payload that ran would leave ``canary``."""
    command = f"touch '{canary}'"
    pickled = pickle.dumps(_Payload(canary))
    return {
        "empty": b"",
        "blank": b" \n\t\n",
        "mark only": b"\xef\xbb\xbf",
        "no text": bytes(range(128, 256)) * 4,
        "UTF-16": "key: value\n".encode("utf-16"),
        "zeros": bytes(1000),
        "deep lists": b"[" * 100_000,
        "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        "deep dashes": b"- " * 20_000 + b"a",
        "a list": b"[1, 2]",
        "a number": b"1" * 5000,
        "sixty": b"a: " + b"1:" * 50_000 + b"1",
        "NaN": b'{"a": NaN, "b": Infinity}',
        "laughs": _laughs().encode(),
        "merged laughs": b"a: &a {k: v}\nb: &b {<<: [*a,*a,*a]}\n" + b"".join(
            f"{chr(99 + i)}: &{chr(99 + i)} {{<<: [*{chr(98 + i)},*{chr(98 + i)},*{chr(98 + i)}]}}\n".encode()
            for i in range(20)
        ),
        "itself": b"&a {a: *a, encoder: *a, token_list: *a}",
        "tag apply": f"encoder: !!python/object/apply:os.system [\"{command}\"]\n".encode(),
        "tag new": f"encoder: !!python/object/new:os.system [\"{command}\"]\n".encode(),
        "tag of SpeechBrain": f"n_mels: !apply:os.system [\"{command}\"]\nx: !new:subprocess.Popen [[sh, -c, \"{command}\"]]\n".encode(),
        "bad date": b"a: 2001-99-99\n",
        "bad stamp": b"a: !!timestamp x\n",
        "bad whole": b'a: !!int ""\n',
        "two documents": b"a: 1\n---\nb: 2\n",
        "pickle": pickled,
        "pickle of protocol 0": pickle.dumps(_Payload(canary), protocol=0),
        "pickle in zip": _torch_zip(_Payload(canary)),
        "zip outside": _zip_of("../../outside.txt"),
        "zip bomb": _zip_bomb(),
        "long line": b"x" * 3_000_000,
        "many lines": b"a b\n" * 50_000,
        "control": b"\x1b[2J\x1b]0;title\x07 \x08 \xe2\x80\xae dne\n" * 3,
        "HTML": b"<html><body>404: not found</body></html>",
        "LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1\n",
    }  # fmt: skip


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _loop(path: Path) -> None:
    path.symlink_to(path)


# What may stand in the place of a file.
PLACES: dict[str, Callable[[Path], None]] = {
    "missing": lambda path: None,
    "folder": lambda path: path.mkdir(),
    "pipe": _pipe,
    "link to nothing": lambda path: path.symlink_to(path.parent / "nothing"),
    "link to itself": _loop,
    "endless device": lambda path: path.symlink_to("/dev/zero"),
}
