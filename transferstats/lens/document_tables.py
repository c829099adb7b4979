"""Records of documents, one after the other, from every kind of file; none is read as a whole."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from transferstats.errors import DataError
from transferstats.lens.document_columns import TEXT, find_roles, kind_of
from transferstats.lens.document_files import (
    ARROW,
    CSV,
    JSON,
    PARQUET,
    Files,
    encoding_of,
    first_character,
    named,
    open_text,
)

MAX_CHARACTERS = 1_000_000  # a longer "document" is a concatenation; its parts should be the units
LONGEST = 16 * MAX_CHARACTERS  # characters of a line or record: a document at the limit, all of it escaped
CHUNK = 1 << 16  # characters read at once of a JSON array
ROWS = 64  # rows of a column that are text at the same time
SEPARATORS = ",;\t"

Record = tuple[str, Mapping[str, Any]]
"""Where a document stands (for errors), and its columns by name."""


def records(files: Files) -> Iterator[Record]:
    """The documents of a dataset in order.

    Raises
    ------
    DataError: a file (named, with the line or row) that is damaged or no table of documents.
    """
    readers = {JSON: _json_records, CSV: _csv_records, PARQUET: _parquet_records, ARROW: _arrow_records}
    if files.kind in readers:
        for path in files.paths:
            yield from readers[files.kind](path)
    else:
        yield from _texts_of_folder(files)


def too_long(unit: str, characters: str) -> str:
    """What is wrong with a document above the limit."""
    return (
        f"document {unit!r} has {characters} characters; split it into documents of at most {MAX_CHARACTERS:,} "
        "and give them a common cluster"
    )


def _texts_of_folder(files: Files) -> Iterator[Record]:
    """One document a file; folders are clusters."""
    for path in files.paths:
        relative = path.relative_to(files.root)
        unit = relative.as_posix()
        cluster = relative.parts[0] if len(relative.parts) > 1 else relative.stem
        try:
            with path.open("rb") as raw:
                encoding = encoding_of(raw.read(4)) or "utf-8"
            with path.open(encoding=encoding) as stream:
                text = stream.read(MAX_CHARACTERS + 1)
        except (UnicodeDecodeError, OSError) as error:
            raise DataError(f"{unit} is not UTF-8 text: {error}; save it again as UTF-8") from error
        if len(text) > MAX_CHARACTERS:
            raise DataError(f"dataset {files.root.name!r}: {too_long(unit, f'more than {MAX_CHARACTERS:,}')}")
        yield unit, {"unit": unit, "cluster": cluster, "text": text}


def _lines(stream: TextIO, path: Path) -> Iterator[str]:
    """Lines, of which one without end is not read to its end."""
    number = 0
    while line := stream.readline(LONGEST):
        number += 1
        if len(line) == LONGEST:
            raise DataError(
                f"{path.name}, line {number} has more than {LONGEST:,} characters: a document has at most "
                f"{MAX_CHARACTERS:,}; write one document a line, and long ones in parts with a common cluster"
            )
        yield line


def _json_records(path: Path) -> Iterator[Record]:
    with named(path, "UTF-8 JSON lines", "save it again as UTF-8, one JSON object a line"):
        is_array = first_character(path) == "["
        with open_text(path) as stream:
            if is_array:
                found = ((f"{path.name}, item {number}", item) for number, item in _array_items(stream, path))
            else:
                found = (
                    (f"{path.name}, line {number}", _parsed(line, path, number))
                    for number, line in enumerate(_lines(stream, path), 1)
                    if line.strip()
                )
            for where, row in found:
                if not isinstance(row, dict):
                    raise DataError(
                        f"{where}: need a JSON object with 'unit' and 'text', and it is {kind_of(row)}"
                    )
                yield where, row


def _parsed(line: str, path: Path, number: int) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path.name}, line {number}: need a JSON object with 'unit' and 'text' ({error!r})"
        ) from error


BLANK = re.compile(r"[ \t\n\r]*")


def _array_items(stream: TextIO, path: Path) -> Iterator[tuple[int, Any]]:
    """Numbered items of a JSON array, parsed one by one."""
    text = _Window(stream)
    text.skip("[")
    number = 0
    while not text.skip("]"):
        if number and not text.skip(","):
            raise _broken(path, number, "neither ',' nor ']' follows")
        number += 1
        try:
            yield number, text.item()
        except (ValueError, RecursionError) as error:
            raise _broken(path, number, str(error)) from error
    if text.rest():
        raise _broken(path, number, "something follows the end of the array")


def _broken(path: Path, number: int, problem: str) -> DataError:
    return DataError(
        f"{path.name}, item {number}: no JSON array of objects with 'unit' and 'text' ({problem}); get or write "
        "it again"
    )


class _Window:
    """The part of a stream that is being parsed."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._text, self._at = stream, "", 0
        self._decoder = json.JSONDecoder()

    def _more(self) -> bool:
        """Read on, as much as is here already, so that a long item is not parsed too often."""
        part = self._stream.read(max(CHUNK, len(self._text) - self._at))
        self._text, self._at = self._text[self._at :] + part, 0
        return bool(part)

    def rest(self) -> str:
        """The next character that is not blank; nothing at the end."""
        while True:
            match = BLANK.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def skip(self, character: str) -> bool:
        """Go past a character if it is the next one."""
        found = self.rest() == character
        self._at += found
        return found

    def item(self) -> Any:
        """The next value.

        Raises
        ------
        ValueError: none, a broken one, or one too long.
        """
        self.rest()
        while True:
            try:
                value, self._at = self._decoder.raw_decode(self._text, self._at)
            except ValueError:
                if len(self._text) - self._at > LONGEST:
                    raise ValueError(f"it is broken, or has more than {LONGEST:,} characters") from None
                if not self._more():
                    raise
            else:
                return value


@contextmanager
def _long_fields() -> Iterator[None]:
    """The csv module takes fields of 131,072 characters, until it is told otherwise."""
    before = csv.field_size_limit(LONGEST)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _csv_records(path: Path) -> Iterator[Record]:
    advice = "save it again as UTF-8, with quotes around every text"
    with named(path, "a table", advice), open_text(path, newline="") as stream, _long_fields():
        lines = _lines(stream, path)
        first = next((line for line in lines if line.strip()), None)
        if first is None:
            return
        separator = _separator(first, path)
        if first.lower().startswith("sep=") and separator == first[4:5]:  # how Excel is told
            first = next(lines, "")
        reader = csv.reader(chain([first], lines), delimiter=separator, strict=True)
        header = next(reader, [])
        find_roles(header, path.name)
        for number, fields in enumerate(reader, 1):
            if len(fields) == len(header):
                yield f"{path.name}, row {number}", dict(zip(header, fields, strict=True))
            elif fields:
                raise DataError(
                    f"{path.name}, row {number} has {len(fields)} fields, its header {len(header)}: put quotes "
                    f"around texts that hold {separator!r} or line ends"
                )


def _separator(first: str, path: Path) -> str:
    """What stands between the columns: the one sign that leaves a column of text."""
    if first.lower().startswith("sep=") and len(first.strip("\r\n")) == 5:
        return first[4]
    if "\t" in first and ".tsv" in path.name.lower():
        return "\t"
    for sign in SEPARATORS:
        names = next(csv.reader([first], delimiter=sign), [])
        if any(name.strip().lower() in TEXT for name in names):
            return sign
    return SEPARATORS[0]


def _parquet_records(path: Path) -> Iterator[Record]:
    with (
        named(path, "Parquet", "get or write it again"),
        pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file,
    ):
        columns = find_roles(file.schema_arrow.names, path.name).columns()
        # Threads of the reader hold more or fewer pages by chance, up to twice as much memory.
        yield from _rows(file.iter_batches(batch_size=ROWS, columns=columns, use_threads=False), path)


def _arrow_records(path: Path) -> Iterator[Record]:
    """Both forms of Arrow files: with an index at the end, or as a stream, as ``datasets`` writes them."""
    # Read and not mapped: a mapped file that somebody cuts short ends the process without a word.
    with named(path, "Arrow", "get or write it again"), pa.OSFile(str(path)) as source:
        is_stream = source.read(6) != b"ARROW1"
        opened = pa.ipc.open_stream if is_stream else pa.ipc.open_file
        source.seek(0)
        names: Sequence[str] = opened(source).schema.names
        wanted = find_roles(names, path.name).columns()
        source.seek(0)
        reader = opened(
            source, options=pa.ipc.IpcReadOptions(included_fields=[names.index(one) for one in wanted])
        )
        batches = iter(reader) if is_stream else map(reader.get_batch, range(reader.num_record_batches))
        yield from _rows(batches, path)


def _rows(batches: Iterator[Any], path: Path) -> Iterator[Record]:
    number = 0
    for batch in batches:
        for start in range(0, batch.num_rows, ROWS):
            for row in batch.slice(start, ROWS).to_pylist():
                number += 1
                yield f"{path.name}, row {number}", row
