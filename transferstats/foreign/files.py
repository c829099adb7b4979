"""Files of tables: separators, decimal commas, encodings and compression as people have them."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import re
import zipfile
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from transferstats.errors import DataError
from transferstats.foreign.columns import NAMES, renaming
from transferstats.labels import MISSING

TEXT: Mapping[str, str] = MappingProxyType({".csv": ",", ".tsv": "\t", ".txt": "", ".dat": ""})
"""Suffix of a text table -> the separator that it promises."""

SEPARATORS: tuple[str, ...] = (",", ";", "\t", "|")
SEPARATOR_NAMES: Mapping[str, str] = MappingProxyType(
    {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "spaces"}
)

PACKED: Mapping[str, Callable[[bytes], bytes]] = MappingProxyType(
    {".gz": gzip.decompress, ".bz2": bz2.decompress, ".xz": lzma.decompress}
)

MARKS: Mapping[bytes, str] = MappingProxyType(
    {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
)
"""Byte-order marks."""

SAMPLED = 1000
"""Rows that tell how numbers are written."""

DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+")

EXCEL = (".xlsx", ".xls", ".ods")


@dataclass(frozen=True, slots=True)
class Table:
    """A table with our column names.

    Attributes
    ----------
    frame: its rows. remarks: what was done to read it, in words.
    """

    frame: pd.DataFrame
    remarks: tuple[str, ...] = ()


def table_of(frame: pd.DataFrame, columns: Mapping[str, str], score: str | None) -> Table:
    """A data frame with our column names."""
    names, remarks = renaming(list(frame), columns, score)
    return Table(frame.rename(columns=names), tuple(remarks))


def table_suffix(path: Path) -> str:
    """Kind of a file by its name, whatever its capitals and compression: ".csv" of "LOSSES.CSV.gz"."""
    suffixes = [one.lower() for one in path.suffixes]
    while suffixes and (suffixes[-1] in PACKED or suffixes[-1] == ".zip"):
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def read_table(path: Path, columns: Mapping[str, str], score: str | None) -> Table:
    """The rows of a file with our column names; DataError where there is no such table."""
    if not path.is_file():
        raise DataError(f"no file or store folder at {path}")
    suffix = table_suffix(path)
    if suffix == ".parquet":
        try:
            return table_of(pd.read_parquet(path), columns, score)
        except (ValueError, OSError) as error:  # pyarrow's own errors are both
            raise DataError(f"{path.name} is not a readable table: {error}") from error
    if suffix in EXCEL:
        raise DataError(f"{path.name} is a workbook: save the sheet with the losses as .csv")
    name, content = unpacked(path)
    suffix = PurePath(name).suffix.lower()
    if suffix in TEXT:
        text, remarks = decoded(name, content)
        return _read_text(path.name, text, TEXT[suffix], columns, score, remarks)
    raise DataError(
        f"cannot read {path.name}: give a .csv, .tsv, .txt, .jsonl or .parquet file (text also as .gz or .zip), "
        "the folder of a store, an aggregate_metrics.json or batches.jsonl of tuned-lens, or a .npy of matrices"
    )


def table_stem(path: Path) -> str:
    """Name of a file without what its compression and kind add to it."""
    while path.suffix.lower() in (*PACKED, ".zip"):
        path = path.with_suffix("")
    return path.stem


def read_records(path: Path, columns: Mapping[str, str], score: str | None) -> Table | None:
    """A long table of JSON, one flat object a row or one list a column; None where objects hold more than that."""
    name, content = unpacked(path)
    text, remarks = decoded(name, content)
    found = records_of(path.name, text)
    if (
        len(found) == 1
        and isinstance(found[0], Mapping)
        and all(isinstance(one, list) for one in found[0].values())
    ):
        frame = pd.DataFrame(found[0]) if len({len(one) for one in found[0].values()}) == 1 else None
    else:
        flat = found and all(isinstance(row, Mapping) and not any(map(_is_nested, row.values())) for row in found)
        frame = pd.DataFrame(found) if flat else None
    if frame is None or not len(frame):
        return None
    table = table_of(frame, columns, score)
    return Table(table.frame, (*remarks, *table.remarks))


def _is_nested(value: Any) -> bool:
    return isinstance(value, Mapping | list)


def unpacked(path: Path) -> tuple[str, bytes]:
    """Name and content of a file, or of the one file in an archive."""
    try:
        content, suffix = path.read_bytes(), path.suffix.lower()
        if suffix == ".zip":
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                inside = [one for one in archive.namelist() if not one.endswith("/") and "__MACOSX" not in one]
                if len(inside) != 1:
                    raise DataError(f"{path.name} holds {len(inside)} files: pack the one table alone")
                return inside[0], archive.read(inside[0])
        if suffix in PACKED:
            return path.name[: -len(suffix)], PACKED[suffix](content)
    except (OSError, EOFError, lzma.LZMAError, zipfile.BadZipFile, RuntimeError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    return path.name, content


def decoded(name: str, content: bytes) -> tuple[str, list[str]]:
    """Text of a file, and a remark where it is not UTF-8."""
    encoding = next((found for mark, found in MARKS.items() if content.startswith(mark)), "utf-8")
    if encoding == "utf-8" and b"\x00" in content[:200]:
        encoding = "utf-16-le" if content[1:2] == b"\x00" else "utf-16-be"
    try:
        remark = [f"{name} is written in UTF-16"] if encoding.startswith("utf-16") else []
        return content.decode(encoding), remark
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise DataError(f"{name} is not a readable table: {error}") from error
    return content.decode("cp1252", errors="replace"), [
        f"{name} is not UTF-8 and was read as Latin-1 (Windows-1252): names with letters beyond ASCII may be "
        "wrong, numbers are not"
    ]


def records_of(name: str, text: str) -> list[Any]:
    """JSON objects of a file: one list, one object, or one object a line."""
    try:
        try:
            found = json.loads(text)
        except ValueError:
            found = [json.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError as error:
        raise DataError(f"{name} is not JSON: {error}") from error
    return found if isinstance(found, list) else [found]


def _read_text(
    name: str, text: str, promised: str, columns: Mapping[str, str], score: str | None, remarks: list[str]
) -> Table:
    first, _, rest = text.partition("\n")
    stated = re.fullmatch(r'"?sep=(.)"?\s*', first, re.IGNORECASE)
    separator = stated[1] if stated else _separator(first, promised)
    body = rest if stated else text
    if separator != (promised or separator):
        remarks = [
            *remarks,
            f"values of {name} are separated by {SEPARATOR_NAMES.get(separator, repr(separator))}",
        ]
    try:
        return _parsed(name, body, separator, columns, score, remarks)
    except (ValueError, csv.Error) as error:  # pandas' parser errors are ValueErrors
        raise DataError(f"{name} is not a readable table: {error}") from error


def _separator(header: str, promised: str) -> str:
    """What parts the columns of a header; the promise of the file's name where it is kept."""
    counts = {one: len(next(csv.reader([header], delimiter=one), [])) for one in SEPARATORS}
    if promised and counts[promised] > 1:
        return promised
    best = max(counts, key=lambda one: counts[one])
    return best if counts[best] > 1 else promised or " "


def _parsed(
    name: str, text: str, separator: str, columns: Mapping[str, str], score: str | None, remarks: list[str]
) -> Table:
    layout: dict[str, Any] = {"sep": r"\s+" if separator == " " else separator, "skipinitialspace": True}
    sample = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False, nrows=SAMPLED, **layout)
    names, said = renaming(list(sample), columns, score)
    labels = [theirs for theirs in sample if names.get(theirs, theirs) in NAMES]
    decimal = _decimal(name, sample, labels, separator, names)
    frame = pd.read_csv(
        io.StringIO(text),
        dtype=dict.fromkeys(labels, str),
        keep_default_na=False,
        na_values={theirs: MISSING for theirs in sample if theirs not in labels},
        decimal=decimal,
        **layout,
    )
    seeds = [theirs for theirs in labels if names.get(theirs, theirs) == "seed"]
    frame = frame.assign(**{str(theirs): _as_numbers(frame[theirs]) for theirs in seeds})
    if decimal == ",":
        said = [f"decimals of {name} are written with a comma", *said]
    return Table(frame.rename(columns=names), (*remarks, *said))


def _decimal(
    name: str, sample: pd.DataFrame, labels: list[Any], separator: str, names: Mapping[Hashable, str]
) -> str:
    """ "," where numbers are written so, "." else; a count such as 1,024 tells nothing."""
    counts = [theirs for theirs in sample if names.get(theirs, theirs) in ("n", "bytes", "source", "target")]
    values = pd.unique(sample.drop(columns=[*labels, *counts]).to_numpy().ravel())
    written = [str(value).strip() for value in values]
    commas = [value for value in written if DECIMAL_COMMA.fullmatch(value)]
    if not commas or any(re.fullmatch(r"[+-]?\d*\.\d+([eE][+-]?\d+)?", value) for value in written):
        return "."
    if separator != ";" and all(THOUSANDS.fullmatch(value) for value in commas):
        raise DataError(
            f"{name} holds numbers such as {commas[0]!r}, which may have a decimal comma or count thousands: "
            "write them with a decimal point, or without"
        )
    return ","


def _as_numbers(column: pd.Series[Any]) -> pd.Series[Any]:
    """Seeds in the order of numbers where all are whole numbers without leading zeros, else as they are."""
    whole = column.str.fullmatch(r"0|[1-9][0-9]{0,17}").all()
    return column.astype(np.int64) if whole else column
