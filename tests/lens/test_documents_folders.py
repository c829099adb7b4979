"""Folders of documents are read as whoever wrote them meant; what is damaged or incomplete is refused by name."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from document_forms import ARRAY, FRAME, ROWS, WANTED, arrow, json_lines, parquet, write_file, zstd

import transferstats as ts
from transferstats.errors import DataError
from transferstats.lens.documents import read_documents


def _saved(folder: Path, frame: pd.DataFrame = FRAME, **state: object) -> Path:
    """What ``datasets.save_to_disk`` writes: parts as Arrow streams, listed in their order."""
    names = ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]
    for name, part in zip(names, (frame[:2], frame[2:]), strict=True):
        write_file(folder / name, arrow(part, stream=True))
    listed = {
        "_data_files": [{"filename": name} for name in names],
        "_fingerprint": "0",
        "_split": "train",
        **state,
    }
    write_file(folder / "state.json", json.dumps(listed).encode())
    write_file(folder / "dataset_info.json", b'{"features": {}}')
    return folder


def test_a_folder_that_datasets_saved_is_read_by_its_list(tmp_path: Path) -> None:
    folder = _saved(tmp_path / "saved")
    write_file(folder / "cache-1234.arrow", b"of a map that somebody tried")
    found = read_documents(folder)
    assert (found.name, found.fingerprint) == ("saved", WANTED.fingerprint)


def test_a_saved_dataset_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    folder = _saved(tmp_path / "saved")
    (folder / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(
        DataError, match=r"lacks 1 of its 2 files \(data-00001-of-00002\.arrow, \.\.\.\): get it again"
    ):
        read_documents(folder)
    with pytest.raises(DataError, match=r"keeps a selection of rows .* flatten_indices\(\)\.save_to_disk"):
        read_documents(_saved(tmp_path / "selected", _indices_data_files=[{"filename": "indices.arrow"}]))
    write_file(folder / "state.json", b"{}")
    with pytest.raises(DataError, match="does not list the files of a dataset"):
        read_documents(folder)


def test_splits_are_asked_for(tmp_path: Path) -> None:
    _saved(tmp_path / "both" / "train")
    _saved(tmp_path / "both" / "test")
    write_file(tmp_path / "both" / "dataset_dict.json", b'{"splits": ["train", "test"]}')
    with pytest.raises(DataError, match=r"holds the splits train, test: give the folder of one .* .*both.train$"):
        read_documents(tmp_path / "both")
    assert read_documents(tmp_path / "both" / "train").fingerprint == WANTED.fingerprint


@pytest.mark.parametrize(("write", "ending"), [(parquet, "parquet"), (arrow, "arrow"), (json_lines, "jsonl")])
def test_parts_of_a_table_in_a_folder_are_one_dataset(
    tmp_path: Path, write: Callable[..., bytes], ending: str
) -> None:
    for part, rows in enumerate((ROWS[:2], ROWS[2:])):
        data = write(rows if write is json_lines else pd.DataFrame(rows))
        write_file(tmp_path / "parts" / "data" / f"train-{part:05d}-of-00002.{ending}", data)
    write_file(tmp_path / "parts" / "_metadata.parquet", b"of the writer")
    write_file(tmp_path / "parts" / "README.md", b"about")
    write_file(tmp_path / "parts" / "dataset_infos.json", b"{}")
    found = read_documents(tmp_path / "parts")
    assert (found.name, found.fingerprint) == ("parts", WANTED.fingerprint)


def test_rows_without_names_are_numbered_across_the_parts(tmp_path: Path) -> None:
    for part in range(2):
        frame = pd.DataFrame({"text": [f"{part} {row}" for row in range(2)]})
        write_file(tmp_path / f"part-{part}.parquet", parquet(frame))
    assert read_documents(tmp_path).units == ("row 1", "row 2", "row 3", "row 4")


def test_a_folder_with_parts_missing_or_of_two_sets_is_refused(tmp_path: Path) -> None:
    write_file(tmp_path / "one" / "train-00000-of-00003.parquet", parquet())
    with pytest.raises(DataError, match=r"lacks 2 of the 3 parts of 'train', the first is 00001-of-00003: get it"):
        read_documents(tmp_path / "one")
    for split in ("train", "test"):
        write_file(tmp_path / "two" / f"{split}-00000-of-00001.parquet", parquet())
    with pytest.raises(DataError, match=r"holds parts of several sets \(test, train\): put"):
        read_documents(tmp_path / "two")


def test_a_folder_of_several_kinds_is_refused(tmp_path: Path) -> None:
    write_file(tmp_path / "docs.parquet", parquet())
    write_file(tmp_path / "LICENSE.txt", b"as is")
    with pytest.raises(DataError, match=r"holds files of several kinds \(parquet, txt\): name the file"):
        read_documents(tmp_path)
    assert read_documents(tmp_path / "docs.parquet").fingerprint == WANTED.fingerprint


def test_text_files_have_any_case_and_tables_beside_them_are_about_them(tmp_path: Path) -> None:
    write_file(tmp_path / "A.TXT", b"one")
    write_file(tmp_path / "b.txt", "zwei".encode("utf-16"))
    write_file(tmp_path / "metadata.csv", b"unit,year\nA,1900\n")
    found = read_documents(tmp_path)
    assert (found.units, tuple(found.texts)) == (("A.TXT", "b.txt"), ("one", "zwei"))


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_is_read_by_its_own_name(tmp_path: Path) -> None:
    """Caches of downloads link names to files that are called by their hash."""
    blob = write_file(
        tmp_path / "blobs" / "0f3a",
        gzip.compress(json_lines([{"unit": str(i), "text": f"t {i}"} for i in range(40)])),
    )
    (tmp_path / "docs.jsonl.gz").symlink_to(blob)
    cells = ts.cells(
        "embedded",
        [tmp_path / "docs.jsonl.gz"],
        seeds=2,
        null_replicates=0,
        evaluation=ts.EvaluationPlan(units=10),
    )
    found = read_documents(cells[0].location["dataset"])
    assert found.fingerprint == cells[0].config["dataset"]["fingerprint"]
    assert len(found.units) == 40


# --- damage ---

BAD_FILES: dict[str, tuple[bytes, str]] = {
    "empty.jsonl": (b"", "'empty' has no documents: give"),
    "blank.jsonl": (b"\n \n\t\r\n", "'blank' has no documents: give"),
    "blank.csv": (b"\n\r\n", "'blank' has no documents: give"),
    "header.csv": (b"unit,text\n", "'header' has no documents: give"),
    "empty.json": (b" [ ] ", "'empty' has no documents: give"),
    "rows.parquet": (parquet(FRAME[:0]), "'rows' has no documents: give"),
    "rows.arrow": (arrow(FRAME[:0]), "'rows' has no documents: give"),
    "cut.json": (ARRAY[:-40], r"cut\.json, item 3: no JSON array of objects"),
    "open.json": (ARRAY.rstrip()[:-1], r"open\.json, item 3: .*neither ',' nor '\]' follows"),
    "comma.json": (b'[{"text": "a"} {"text": "b"}]', r"comma\.json, item 1: .*neither ',' nor '\]' follows"),
    "tail.json": (ARRAY + b"{}", r"tail\.json, item 3: .*something follows the end"),
    "numbers.json": (b"[1, 2]", r"numbers\.json, item 1: need a JSON object .* and it is a number"),
    "deep.json": (b"[" * 100_000, r"deep\.json, item 1: no JSON array of objects"),
    "deep.jsonl": (b'{"a":' * 100_000, r"deep\.jsonl, line 1: need a JSON object"),
    "pretty.json": (json.dumps(ROWS[0], indent=1).encode(), r"pretty\.json, line 1: need a JSON object"),
    "cut.jsonl.zst": (zstd(json_lines())[:-9], r"cut\.jsonl\.zst is not readable as UTF-8 JSON lines"),
    "plain.jsonl.zst": (json_lines(), r"plain\.jsonl\.zst is not readable"),
    "cut.parquet": (parquet()[:-9], r"cut\.parquet is not readable as Parquet: .*; get or write it again"),
    "empty.parquet": (b"", r"empty\.parquet is not readable as Parquet"),
    "cut.arrow": (arrow()[:-9], r"cut\.arrow is not readable as Arrow: .*; get or write it again"),
    "stream.arrow": (arrow(stream=True)[:-300], r"stream\.arrow is not readable as Arrow"),
    "quote.csv": (b'unit,text\na,"b\nc,d\n', r"quote\.csv is not readable as a table: .*quotes around every text"),
    "fields.csv": (b"unit,text\na,b\nc,d,e\n", r"fields\.csv, row 2 has 3 fields, its header 2: put quotes"),
    "latin.csv": (b"unit,text\na,caf\xe9\n", r"latin\.csv is not readable as a table: .*save it again as UTF-8"),
    "docs.parquet.gz": (gzip.compress(parquet()), r"docs\.parquet\.gz is packed once more.*: unpack it"),
    "one.txt": (
        b"A single document.",
        r"one\.txt is no table of documents: datasets are .* folders of \.txt files",
    ),
    "sheet.xlsx": (b"PK\x03\x04\x14\xff\xfe", r"sheet\.xlsx is not readable as documents: .*; datasets are"),
    "bytes.parquet": (
        parquet(pd.DataFrame({"text": [b"raw"]})),
        r"bytes\.parquet, row 1: 'text' must be a string, and is bytes",
    ),
    "null.parquet": (
        parquet(pd.DataFrame({"text": ["x", None]})),
        r"null\.parquet, row 2: 'text' must be a string, and is missing",
    ),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_is_not_what_it_seems_is_refused_by_name(tmp_path: Path, name: str) -> None:
    data, words = BAD_FILES[name]
    with pytest.raises(DataError, match=words):
        read_documents(write_file(tmp_path / name, data))


def test_a_part_without_the_columns_of_the_others_is_named(tmp_path: Path) -> None:
    write_file(tmp_path / "part-0.parquet", parquet())
    write_file(tmp_path / "part-1.parquet", parquet(FRAME.drop(columns="text")))
    with pytest.raises(DataError, match=r"part-1\.parquet: no column 'text' .* it has 'unit', 'cluster'"):
        read_documents(tmp_path)


def test_only_the_columns_of_documents_are_read(tmp_path: Path) -> None:
    """Other columns may be of any kind, such as vectors, and cost nothing."""
    table = pa.Table.from_pandas(FRAME.assign(vector=[[0.5] * 8] * 3), preserve_index=False)
    pq.write_table(table, tmp_path / "docs.parquet")
    assert read_documents(tmp_path / "docs.parquet").fingerprint == WANTED.fingerprint


def test_an_item_longer_than_the_window_of_the_parser_is_whole(tmp_path: Path) -> None:
    rows = [{"unit": str(index), "text": f"{index}" + 'a "b" ' * 20_000 * index} for index in range(1, 7)]
    found = read_documents(write_file(tmp_path / "docs.json", json.dumps(rows, indent=1).encode()))
    assert list(found.texts) == [row["text"] for row in rows]


def test_long_texts_in_csv_are_read_and_the_limit_of_the_csv_module_is_left_as_it_was(tmp_path: Path) -> None:
    import csv

    before = csv.field_size_limit()
    text = "a, b\n" * 60_000
    pd.DataFrame({"text": [text]}).to_csv(tmp_path / "docs.csv", index=False)
    assert read_documents(tmp_path / "docs.csv").texts[0] == text
    assert csv.field_size_limit() == before
