"""Where documents are: the files of a dataset, how each is opened, and whether they stay what they are."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import re
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TextIO, cast

import pyarrow as pa

from transferstats.errors import DataError

TXT, JSON, CSV, PARQUET, ARROW = "txt", "json", "csv", "parquet", "arrow"

ENDINGS: dict[str, str] = {
    ".jsonl": JSON,
    ".ndjson": JSON,
    ".json": JSON,
    ".csv": CSV,
    ".tsv": CSV,
    ".parquet": PARQUET,
    ".pq": PARQUET,
    ".arrow": ARROW,
    ".feather": ARROW,
    ".ipc": ARROW,
}
PACKED: tuple[str, ...] = (".gz", ".zst")
IN_FOLDERS = (".jsonl", ".ndjson", ".csv", ".tsv")  # a .json in a folder mostly tells about the other files

READABLE = (
    ".jsonl, .json and .csv files (also .gz or .zst), .parquet, .arrow and .feather files, folders of .txt files "
    "or of Parquet or Arrow files, and folders that datasets.save_to_disk wrote"
)
"""What a dataset may be, in the words of errors."""

SHARD = re.compile(r"(?P<set>.*?)[-.]?(?P<index>\d{5})-of-(?P<count>\d{5})\b")

MARKS: tuple[tuple[bytes, str], ...] = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

DAMAGE = (UnicodeDecodeError, OSError, EOFError, zlib.error, csv.Error, pa.lib.ArrowException)
"""What libraries raise on files that are not what they seem."""

Stamp = tuple[tuple[int, int, int], ...]
"""Size in bytes, time of change in ns and inode of every file: equal stamps mean unchanged files."""


@dataclass(frozen=True, slots=True)
class Files:
    """The files of a dataset, in the order in which they are read; all of one kind."""

    root: Path
    kind: str
    paths: tuple[Path, ...]

    def stamp(self) -> Stamp:
        """What a change of any file changes."""
        stats = (path.stat() for path in self.paths)
        return tuple((about.st_size, about.st_mtime_ns, about.st_ino) for about in stats)


def find_files(path: Path) -> Files:
    """The files of a dataset.

    Parameters
    ----------
    path: a file or a folder.

    Raises
    ------
    DataError: a kind of file that holds no documents, several datasets in one folder, or parts that are missing.
    """
    if not path.is_dir():
        return Files(path, _kind_of_file(path), (path,))
    if (path / "dataset_dict.json").is_file():
        _ask_for_split(path)
    if (path / "state.json").is_file():
        return Files(path, ARROW, _saved_files(path))
    inside = sorted(file for file in path.rglob("*") if file.is_file())
    texts = tuple(file for file in inside if file.suffix.lower() == ".txt")
    columnar = [file for file in inside if _ending(file)[0] in (PARQUET, ARROW) and not _is_hidden(file)]
    if texts and not columnar:
        return Files(path, TXT, texts)
    tables = columnar or [file for file in inside if _ending(file)[1] in IN_FOLDERS and not _is_hidden(file)]
    kinds = sorted({_ending(file)[0] for file in tables} | ({TXT} if texts else set()))
    if len(kinds) > 1:
        raise DataError(
            f"{path} holds files of several kinds ({', '.join(kinds)}): name the file that holds the documents, "
            "or give a folder of one kind"
        )
    _refuse_incomplete(path, tables)
    return Files(path, kinds[0] if kinds else TXT, tuple(tables))


def _ending(path: Path) -> tuple[str, str]:
    """(kind or "", the ending that tells it) of a file, by its name."""
    name = path.name.lower()
    for packed in PACKED:
        name = name.removesuffix(packed)
    ending = Path(name).suffix
    return ENDINGS.get(ending, ""), ending


def _is_hidden(path: Path) -> bool:
    """Names by which writers of tables mark what is no part of them."""
    return path.name.startswith((".", "_"))


def _kind_of_file(path: Path) -> str:
    kind, _ = _ending(path)
    if kind in (PARQUET, ARROW) and path.suffix.lower() in PACKED:
        raise DataError(f"{path.name} is packed once more, and its kind is read by place: unpack it")
    if kind:
        return kind
    with named(path, "documents", f"datasets are {READABLE}"):
        with path.open("rb") as stream:
            head = stream.read(6)
        if head.startswith(b"PAR1"):
            return PARQUET
        if head == b"ARROW1":
            return ARROW
        if first_character(path) not in ("", "{", "["):
            raise DataError(f"{path.name} is no table of documents: datasets are {READABLE}")
    return JSON


def _ask_for_split(path: Path) -> None:
    try:
        splits = json.loads((path / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]
    except (ValueError, KeyError, TypeError):
        splits = sorted(one.parent.name for one in path.glob("*/state.json"))
    raise DataError(
        f"{path} holds the splits {', '.join(map(str, splits))}: give the folder of one of them, such as "
        f"{path / str(next(iter(splits), 'train'))}"
    )


def _saved_files(path: Path) -> tuple[Path, ...]:
    """The files that a folder of ``datasets.save_to_disk`` lists, in their order."""
    try:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        names = [one["filename"] for one in state["_data_files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path / 'state.json'} does not list the files of a dataset ({error!r}): save the dataset again with "
            "save_to_disk"
        ) from error
    if state.get("_indices_files") or state.get("_indices_data_files"):
        raise DataError(
            f"{path} keeps a selection of rows beside its rows, as old versions of datasets did: load it and save "
            "it again with flatten_indices().save_to_disk"
        )
    missing = [name for name in names if not (path / name).is_file()]
    if missing:
        raise DataError(f"{path} lacks {len(missing)} of its {len(names)} files ({missing[0]}, ...): get it again")
    return tuple(path / name for name in names)


def _refuse_incomplete(path: Path, tables: Iterable[Path]) -> None:
    """Parts that count themselves ("train-00000-of-00002") say what is missing, and which set they are of."""
    sets: defaultdict[tuple[str, int], set[int]] = defaultdict(set)
    for file in tables:
        if part := SHARD.match(file.name):
            sets[part["set"], int(part["count"])].add(int(part["index"]))
    if len(sets) > 1:
        raise DataError(
            f"{path} holds parts of several sets ({', '.join(sorted(name or 'unnamed' for name, _ in sets))}): "
            "put those of the one that is meant into a folder of their own"
        )
    for (name, count), present in sets.items():
        if missing := sorted(set(range(count)) - present):
            raise DataError(
                f"{path} lacks {len(missing)} of the {count} parts of {name!r}, the first is "
                f"{missing[0]:05d}-of-{count:05d}: get it again"
            )


@contextmanager
def named(path: Path, kind: str, advice: str) -> Iterator[None]:
    """Name the file, what it was read as, and what to do, where reading fails.

    Raises
    ------
    DataError: in place of what a library raises.
    """
    try:
        yield
    except DAMAGE as error:
        raise DataError(f"{path.name} is not readable as {kind}: {error}; {advice}") from error


def open_text(path: Path, *, newline: str | None = None) -> TextIO:
    """Open a file of text, unpacked if it is packed.

    A mark at its beginning may say UTF-16 or UTF-32; everything else is UTF-8, with or without a mark.

    Parameters
    ----------
    newline: as in ``open``.
    """
    packing = path.suffix.lower()
    stream: BinaryIO
    if packing == ".gz":
        stream = cast(BinaryIO, gzip.open(path, "rb"))  # noqa: SIM115
    elif packing == ".zst":
        stream = pa.input_stream(str(path), compression="zstd")
    else:
        stream = path.open("rb")
    buffered = io.BufferedReader(cast(io.RawIOBase, stream))
    try:
        return io.TextIOWrapper(
            buffered, encoding=encoding_of(buffered.peek(4)[:4]) or "utf-8-sig", newline=newline
        )
    except BaseException:
        buffered.close()
        raise


def encoding_of(head: bytes) -> str | None:
    """The encoding that a mark at the beginning of a file names; None for UTF-8 and no mark."""
    return next((name for mark, name in MARKS if head.startswith(mark)), None)


def first_character(path: Path) -> str:
    """The first character that is not blank; nothing where there is none."""
    with open_text(path) as stream:
        while part := stream.read(4096):
            if found := part.lstrip():
                return found[0]
    return ""
