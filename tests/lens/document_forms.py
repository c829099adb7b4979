"""One small dataset of documents, as bytes of every kind of file."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from transferstats.lens.documents import Documents

ROWS = [
    {"unit": "007", "cluster": "a", "text": "first, with a comma"},
    {"unit": "8", "cluster": "a", "text": 'second "quoted"\nwith a line end'},
    {"unit": "NA", "cluster": "b", "text": "third: naïve 你好 👩‍👧; a semicolon and a\ttab"},
]
WANTED = Documents("docs", *(tuple(row[name] for row in ROWS) for name in ("unit", "cluster", "text")))
FRAME = pd.DataFrame(ROWS)
ARRAY = json.dumps(ROWS, indent=2).encode()


def json_lines(rows: list[dict[str, Any]] = ROWS) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def csv_table(separator: str = ",", *, end: str = "\n") -> bytes:
    return FRAME.to_csv(index=False, sep=separator, lineterminator=end).encode()


def zstd(data: bytes) -> bytes:
    return bytes(pa.Codec("zstd").compress(data, asbytes=True))


def parquet(frame: pd.DataFrame = FRAME) -> bytes:
    return bytes(frame.to_parquet(index=False))


def arrow(frame: pd.DataFrame = FRAME, *, stream: bool = False, rows: int = 2) -> bytes:
    table, sink = pa.Table.from_pandas(frame, preserve_index=False), io.BytesIO()
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)
    return sink.getvalue()


def write_file(path: Path, data: bytes) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(data)
    return path
