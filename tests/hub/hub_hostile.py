"""Banks and probes that mean harm: each is a bank's files with one thing changed, and checksums that agree."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import struct
from pathlib import Path

import torch


class Payload:
    """Leaves a file when it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = str(mark)

    def __reduce__(self):
        return open, (self.mark, "w")


def safetensors(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    """A file of that format from any header, true or not."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def agreed(files: dict[str, bytes], **index) -> dict[str, bytes]:
    """Files with a bank.json whose checksums are theirs."""
    told = {**json.loads(files["bank.json"]), **index}
    told["sha256"] |= {path: hashlib.sha256(data).hexdigest() for path, data in files.items() if "/" in path}
    return {**files, "bank.json": json.dumps(told).encode()}


def hostile_banks(files: dict[str, bytes], mark: Path) -> dict[str, tuple[dict[str, bytes], str]]:
    """Name to files, and what the refusal has to say.

    Args:
        files: A good bank with layers l1, l2 and l3.
        mark: File that is there if code was run.
    """
    weights, config = "l1/model.safetensors", "l1/config.json"
    settings = json.loads(files[config])
    size = struct.unpack("<Q", files[weights][:8])[0]
    header, data = json.loads(files[weights][8 : 8 + size]), files[weights][8 + size :]
    first = next(name for name in header if name != "__metadata__")
    zipped = io.BytesIO()
    torch.save(Payload(mark), zipped)
    plain = pickle.dumps(Payload(mark), protocol=4)

    def with_weights(content):
        return agreed({**files, weights: content})

    def with_settings(**changes):
        return agreed({**files, config: json.dumps({**settings, **changes}).encode()})

    pickled = {**files, "l1/pytorch_model.bin": plain}
    del pickled[weights]
    deep = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    return {
        "pickle": (pickled, "pickle"),
        "pickle-named-safetensors": (with_weights(plain), "pickle"),
        "zip-named-safetensors": (with_weights(zipped.getvalue()), "pickle"),
        "header-longer-than-file": (with_weights(safetensors(header, data, 10**12)), "header"),
        "header-of-megabytes": (with_weights(safetensors(b"{" + b" " * 5_000_000 + b"}")), "header"),
        "header-no-json": (with_weights(safetensors(b"\xff{not json}")), "header"),
        "header-too-deep": (with_weights(safetensors(deep)), "header"),
        "header-a-list": (with_weights(safetensors([1, 2])), "header"),
        "offsets-overlap": (with_weights(safetensors({**header, "twin": header[first]}, data)), "overlap"),
        "offsets-strange": (with_weights(safetensors({**header, first: {**header[first], "data_offsets": [-8, 10**15]}}, data)), first),
        "shape-strange": (with_weights(safetensors({**header, first: {**header[first], "shape": ["x"]}}, data)), first),
        "truncated": (with_weights(files[weights][:-9]), "header"),
        "empty": (with_weights(b""), "header"),
        "huge-width": (with_settings(hidden_dim=900_000, input_dim=900_000), "mismatched"),
        "wider-than-any": (with_settings(hidden_dim=10**12), "hidden_dim"),
        "many-highways": (with_settings(num_layers=10**9), "num_layers"),
        "many-bins": (with_settings(mel={**settings["mel"], "n_fft": 10**9}), "65536"),
        "dtype-a-name": (with_settings(dtype="system"), "settings"),
        "width-a-text": (with_settings(input_dim="6"), "input_dim"),
        "other-type": (with_settings(model_type="bert"), "bert"),
        "auto-map": (with_settings(auto_map={"AutoModel": "evil.Model"}), "auto_map"),
        "attention-kernel": (with_settings(attn_implementation="evil/kernel"), "attn_implementation"),
        "quantised": (with_settings(quantization_config={"quant_method": "evil"}), "quantization_config"),
        "settings-too-large": (with_settings(note="x" * 4_100_000), "4,000,000"),
        "settings-too-deep": (agreed({**files, config: deep}), "deep"),
        "settings-a-list": (agreed({**files, config: b"[]"}), "object"),
        "index-too-large": (agreed(files, note="x" * 4_100_000), "4,000,000"),
        "index-no-json": ({**files, "bank.json": b"\x80\x04"}, "JSON"),
        "index-too-deep": ({**files, "bank.json": deep}, "deep"),
        "index-with-code": (agreed(files, auto_map={"AutoModel": "evil.Model"}), "auto_map"),
        "layer-up": (agreed(files, layers=["../../etc"]), "layer names"),
        "layer-absolute": (agreed(files, layers=["/etc/passwd"]), "layer names"),
        "layer-below": (agreed(files, layers=["l1/x"]), "layer names"),
        "layer-hidden": (agreed(files, layers=["..", "l1"]), "layer names"),
        "layer-a-number": (agreed(files, layers=[3]), "layer names"),
        "layers-many": (agreed(files, layers=[f"a{i}" for i in range(5000)]), "at most 1000"),
        "checksum-a-number": (json_index(files, lambda index: index["sha256"].update({weights: 3})), "checksum"),
        "checksum-of-another": (json_index(files, lambda index: index["sha256"].update({weights: "0" * 64})), "checksum"),
        "no-mel": (json_index(files, lambda index: index.pop("mel")), "'mel'"),
        "newer-format": (json_index(files, lambda index: index.update(format_version=9)), "format version"),
    }  # fmt: skip


def json_index(files: dict[str, bytes], change) -> dict[str, bytes]:
    """Files with a changed bank.json."""
    index = json.loads(files["bank.json"])
    change(index)
    return {**files, "bank.json": json.dumps(index).encode()}
