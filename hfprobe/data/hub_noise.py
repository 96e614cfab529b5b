"""MUSAN, or noise like it, from the Hugging Face Hub, without keeping it in memory or fetching all of it.

A repository of sound files is read file by file, when a file is drawn. A repository of parquet tables is read table by
table: first the names alone, which decide what is for training and what for testing as they do in a folder, then the
sound of the first ``FILES`` files of each category, which is put on disk below ``HF_HOME``, once for each revision.

Columns as in corypaik/musan: ``audio``, ``label`` (music, speech or noise), ``path`` (music/fma/music-fma-0000.wav).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

from hfprobe.audio.io import load_audio
from hfprobe.data.left_out import by_reason
from hfprobe.data.noise import CATEGORIES, SUFFIXES, NoiseCorpus, NoiseError, part_of
from hfprobe.errors import AudioError, DatasetError
from hfprobe.files import write_whole
from hfprobe.network import READING, call, passes, short
from hfprobe.plain import read_json

FILES = 100  # of each category and part: what a training needs, and a fifth of MUSAN to fetch


@dataclass(frozen=True)
class HubNoise(NoiseCorpus):
    """Noise of a repository; files are fetched when they are read, or lie below ``root`` already.

    Attributes:
        repository: ``user/name``.
        revision: Commit.
        paths: Name to path in the repository, for repositories of sound files; a name that is not in it is a table's.
    """

    repository: str = ""
    revision: str = ""
    paths: dict[str, str] = field(default_factory=dict)

    def path_of(self, name: str) -> Path:
        """Where a file lies on this machine."""
        if name not in self.paths:
            assert self.root is not None, "noise of the Hub lies in a folder"
            return self.root / _kept_as(name)
        from huggingface_hub import hf_hub_download

        def fetch() -> str:
            return hf_hub_download(
                self.repository, self.paths[name], repo_type="dataset", revision=self.revision or None
            )

        try:
            return Path(call(fetch, f"fetching noise {name}", READING))
        except Exception as error:
            if not (isinstance(error, OSError) or passes(error)):
                raise
            message = f"noise file {name!r} cannot be fetched from {self.repository} ({short(error)})"
            raise NoiseError(f"{message}; check the network", name, "missing") from error


@dataclass(frozen=True)
class _Listed:
    """A row of a table.

    Attributes:
        category: Of `CATEGORIES`, or what it has instead.
        name: As it would be in a folder.
        url: Its table.
        group: Row group in it.
        row: Row in the group.
    """

    category: str
    name: str
    url: str
    group: int
    row: int


def load_hub_noise(spec: str, part: str, files: int = FILES) -> HubNoise:
    """Open noise on the Hub.

    Args:
        spec: ``user/name[@revision][:config]``; all configurations named after a category where none is given.
        part: ``"train"``, ``"test"`` or ``"all"``; by the same rule as in a folder.
        files: Most files of each category, for repositories of tables.

    Raises:
        DatasetError: There is no such repository, it cannot be reached, or nothing in it has a category.
    """
    head, _, config = spec.partition(":")
    repository, _, revision = head.partition("@")
    try:
        return _load(repository, revision or None, config or None, part, files)
    except DatasetError:
        raise
    except Exception as error:
        if not (isinstance(error, (OSError, ValueError, RuntimeError, ImportError)) or passes(error)):
            raise
        raise DatasetError(
            f"noise hub:{spec} cannot be opened: {short(error)}; check the name and the network, or give a folder"
        ) from error


def _load(repository: str, revision: str | None, config: str | None, part: str, files: int) -> HubNoise:
    from huggingface_hub import HfApi, constants

    info = call(lambda: HfApi().dataset_info(repository, revision=revision), f"opening {repository}")
    root = Path(constants.HF_HOME) / "hfprobe-noise" / repository.replace("/", "--") / (info.sha or "main")
    index = root / f"{config or 'noise'}-{part}-{files}.json"
    kept = _read_index(index) if index.is_file() else None
    if kept is not None:
        return HubNoise(**kept, root=root, repository=repository, revision=info.sha)
    found: list[_Listed] = []
    sounds: dict[str, str] = {}
    for url, kind, of in _data_files(repository, info.sha, config):
        path = PurePosixPath(url.split(f"{info.sha}/", 1)[-1])
        if kind == "parquet":
            found += call(partial(_list_table, url, of), f"reading {path.name}", READING)
        elif path.suffix.lower() in SUFFIXES:
            category, name = _named(str(path), "", of)
            sounds[name] = str(path)
            found.append(_Listed(category, name, "", 0, 0))
    refused: dict[str, str] = {}
    named = [item for item in found if item.category in CATEGORIES]
    others = Counter(item.category or "none" for item in found if item.category not in CATEGORIES)
    if not named:
        raise DatasetError(
            f"noise of {repository}: expected files or rows of {', '.join(CATEGORIES)} by path or label, found "
            f"{', '.join(others) or 'no sound'}; choose a corpus in MUSAN's layout"
        )
    refused.update((item.name, "of another kind") for item in found if item.category not in CATEGORIES)
    named = list({item.name: item for item in reversed(named)}.values())[::-1]  # the first of a name
    wanted = {c: part_of([item.name for item in named if item.category == c], part) for c in CATEGORIES}
    if not sounds:
        wanted = _keep_tables(named, wanted, root, files, refused)
        write_whole(index, json.dumps({"files": wanted, "refused": refused}, indent=1) + "\n")
    if not any(wanted.values()):
        lost = by_reason(refused).sentence("file") or "nothing"
        raise DatasetError(
            f"no noise for part {part!r} in {repository} (left out: {lost}); testing needs three files of a category"
        )
    return HubNoise(wanted, root, refused, repository, info.sha, sounds)


def _read_index(index: Path) -> dict | None:
    """What was kept of an earlier look; None where it is damaged, so that it is looked for again."""
    try:
        content = read_json(index, "an index of noise", DatasetError)
        return {"files": {c: tuple(names) for c, names in content["files"].items()}, "refused": content["refused"]}
    except (DatasetError, LookupError, TypeError, AttributeError):
        return None


def _data_files(repository: str, sha: str, config: str | None) -> Iterator[tuple[str, str, str]]:
    """Address, kind of storage, and configuration of each data file."""
    from datasets import get_dataset_config_names, load_dataset_builder

    def names() -> list[str]:
        return get_dataset_config_names(repository, revision=sha)

    configs = [config] if config else call(names, f"opening {repository}")
    configs = [name for name in configs if name in CATEGORIES] or configs[:1]
    for name in configs:
        builder = call(partial(load_dataset_builder, repository, name, revision=sha), f"opening {repository}")
        kind = builder.info.builder_name
        if kind not in ("parquet", "audiofolder"):
            raise DatasetError(
                f"{repository} is stored as {kind}; noise is read from parquet tables and sound files: give a folder"
            )
        for urls in builder.config.data_files.values():
            yield from ((str(url), kind, name) for url in urls)


def _named(path: str, label: str, config: str) -> tuple[str, str]:
    """Category and name of a file: from its path, else its label, else its configuration.

    Example:
        >>> _named("musan/noise/free-sound/noise-free-sound-0000.wav", "", "default")
        ('noise', 'noise/free-sound/noise-free-sound-0000.wav')
        >>> _named("a.wav", "music", "default")
        ('music', 'music/a.wav')
    """
    parts = PurePosixPath(path).parts
    for place, part in enumerate(parts[:-1]):
        if part in CATEGORIES:
            return part, "/".join(parts[place:])
    base = parts[-1] if parts else ""
    guesses = (base.split("-")[0], label.lower(), config.lower())
    category = next((guess for guess in guesses if guess in CATEGORIES), label or config)
    return category, f"{category}/{base}"


def _list_table(url: str, config: str) -> list[_Listed]:
    """The names in a parquet file; its sound is not fetched."""
    import pyarrow.parquet as pq
    from datasets import Features
    from huggingface_hub import HfFileSystem

    listed = []
    # Without a cache only what is asked for comes: the footer, and the columns of names.
    with HfFileSystem().open(url, "rb", cache_type="none") as file, pq.ParquetFile(file) as table:
        features = Features.from_arrow_schema(table.schema_arrow)
        if "audio" not in features:
            raise DatasetError(f"{url} has no column 'audio' but {', '.join(features)}; choose a corpus of sounds")
        path = "path" if "path" in features else "audio.path"
        classes = getattr(features.get("label"), "names", None)
        columns = [path, *(["label"] if "label" in features else [])]
        for group in range(table.num_row_groups):
            for row, cells in enumerate(table.read_row_group(group, columns=columns).to_pylist()):
                label = cells.get("label")
                if classes and isinstance(label, int) and 0 <= label < len(classes):
                    label = classes[label]
                where = cells["path"] if path == "path" else (cells["audio"] or {}).get("path")
                name = str(where or f"{PurePosixPath(url).stem}-{group:04d}-{row:04d}")
                listed.append(_Listed(*_named(name, "" if label is None else str(label), config), url, group, row))
    return listed


def _keep_tables(named, wanted, root: Path, files: int, refused: dict[str, str]) -> dict[str, tuple[str, ...]]:
    """Put the sound of the first usable files of each category on disk; what is there already is not fetched."""
    chosen = {category: set(names) for category, names in wanted.items()}
    kept: dict[str, list[str]] = {category: [] for category in wanted}
    groups: dict[tuple[str, int], list[_Listed]] = {}
    for item in named:
        if item.name in chosen[item.category]:
            groups.setdefault((item.url, item.group), []).append(item)
    for (url, group), items in groups.items():
        if all(len(kept[item.category]) >= files for item in items):
            continue

        def fetch(url=url, group=group, items=items) -> None:
            rows = {item.row: item for item in items if not (root / _kept_as(item.name)).is_file()}
            for row, data in _sounds(url, group, rows):
                try:
                    load_audio(data)
                    write_whole(root / _kept_as(rows[row].name), data)
                except AudioError as error:
                    refused[rows[row].name] = error.reason

        call(fetch, f"reading noise of {PurePosixPath(url).name}", READING)
        for item in items:
            if item.name not in refused and len(kept[item.category]) < files:
                kept[item.category].append(item.name)
    return {category: tuple(sorted(names)) for category, names in kept.items()}


def _sounds(url: str, group: int, rows) -> Iterator[tuple[int, bytes]]:
    """The sound of some rows of a row group, one at a time; memory holds a few rows, not the group."""
    import pyarrow.parquet as pq
    from huggingface_hub import HfFileSystem

    if not rows:
        return
    last = max(rows)
    with HfFileSystem().open(url, "rb") as file:
        with pq.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False) as table:
            batches = table.iter_batches(1, row_groups=[group], columns=["audio.bytes"], use_threads=False)
            for row, batch in enumerate(batches):
                if row in rows:
                    yield row, (batch.to_pylist()[0]["audio"] or {}).get("bytes") or b""
                if row == last:
                    return


def _kept_as(name: str) -> str:
    """The file that holds a sound: no name of a table is ever a path here."""
    return f"{hashlib.sha1(name.encode()).hexdigest()}.sound"
