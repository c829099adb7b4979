"""One dataset is the same in every form that people keep documents in; what has two readings is asked."""

from __future__ import annotations

import codecs
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from document_forms import ARRAY, FRAME, ROWS, WANTED, arrow, csv_table, json_lines, parquet, write_file, zstd

from transferstats.errors import DataError
from transferstats.lens.documents import Documents, read_documents


def _feather() -> bytes:
    sink = io.BytesIO()
    FRAME.to_feather(sink)
    return sink.getvalue()


FORMS: dict[str, Callable[[], bytes]] = {
    "docs.jsonl": json_lines,
    "docs.JSONL": json_lines,
    "docs.ndjson": json_lines,
    "docs.json": lambda: ARRAY,
    "docs.Json": json_lines,
    "docs.jsonl.gz": lambda: gzip.compress(json_lines()),
    "docs.JSONL.GZ": lambda: gzip.compress(json_lines()),
    "docs.jsonl.zst": lambda: zstd(json_lines()),
    "docs.jsonl.ZST": lambda: (
        zstd(json_lines(ROWS[:1])) + zstd(json_lines(ROWS[1:]))
    ),  # frames, as `zstd -T0` may write
    "docs.json.zst": lambda: zstd(ARRAY),
    "docs": json_lines,
    "docs.data": lambda: ARRAY,
    "docs.csv": csv_table,
    "docs.CSV": lambda: csv_table(";"),
    "docs.tsv": lambda: csv_table("\t"),
    "docs.csv.gz": lambda: gzip.compress(csv_table()),
    "docs.csv.zst": lambda: zstd(b"sep=;\r\n" + csv_table(";", end="\r\n")),
    "docs.parquet": parquet,
    "docs.PARQUET": parquet,
    "docs.pq": parquet,
    "docs.bin": parquet,
    "docs.arrow": arrow,
    "docs.ipc": lambda: arrow(stream=True),
    "docs.feather": _feather,
    "docs.blob": arrow,
}


@pytest.mark.parametrize("name", FORMS)
def test_one_dataset_in_every_form_is_the_same(tmp_path: Path, name: str) -> None:
    found = read_documents(write_file(tmp_path / name, FORMS[name]()))
    assert (found.name, found.units, found.clusters) == ("docs", WANTED.units, WANTED.clusters)
    assert tuple(found.texts) == WANTED.texts
    assert found.fingerprint == WANTED.fingerprint
    assert found.notes == ()


@pytest.mark.parametrize("mark", ["utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["docs.jsonl", "docs.json", "docs.csv", "docs.jsonl.gz"])
def test_a_mark_before_the_text_names_its_encoding(tmp_path: Path, name: str, mark: str) -> None:
    plain = FORMS[name]()
    text = (gzip.decompress(plain) if name.endswith(".gz") else plain).decode()
    data = (codecs.BOM_UTF16_BE if mark == "utf-16-be" else b"") + text.encode(mark)
    found = read_documents(write_file(tmp_path / name, gzip.compress(data) if name.endswith(".gz") else data))
    assert found.fingerprint == WANTED.fingerprint


def test_utf_16_without_a_mark_is_not_guessed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"docs\.jsonl"):
        read_documents(write_file(tmp_path / "docs.jsonl", json_lines().decode().encode("utf-16-le")))


# --- columns ---

SPELT: dict[str, tuple[dict[str, Any], tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "content and id": (
        {"id": [3, 5], "content": ["x", "y"], "cluster": ["c", "d"]},
        ("3", "5"),
        ("c", "d"),
        ("text from column 'content'", "unit from column 'id'"),
    ),
    "only text": (
        {"text": ["x", "y"]},
        ("row 1", "row 2"),
        ("row 1", "row 2"),
        ("no column 'unit' or 'id': rows are numbered", "no document has a cluster: each is its own"),
    ),
    "case and blanks": (
        {" Text ": ["x", "y"], "UNIT": ["p", "q"], "Cluster": ["c", "c"]},
        ("p", "q"),
        ("c", "c"),
        ("text from column ' Text '", "unit from column 'UNIT'", "cluster from column 'Cluster'"),
    ),
    "unit before id": (
        {"id": ["1", "2"], "unit": ["p", "q"], "text": ["x", "y"], "cluster": ["c", "d"], "url": ["u", "v"]},
        ("p", "q"),
        ("c", "d"),
        (),
    ),
    "document is an id": (
        {"document": ["p", "q"], "text": ["x", "y"], "cluster": ["c", "d"]},
        ("p", "q"),
        ("c", "d"),
        ("unit from column 'document'",),
    ),
}


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "parquet", "arrow"])
@pytest.mark.parametrize("kind", SPELT)
def test_columns_are_known_by_their_names_and_what_was_taken_is_said(
    tmp_path: Path, kind: str, ending: str
) -> None:
    columns, units, clusters, notes = SPELT[kind]
    found = read_documents(write_file(tmp_path / f"docs.{ending}", _as(pd.DataFrame(columns), ending)))
    assert (found.units, found.clusters, tuple(found.texts), found.notes) == (units, clusters, ("x", "y"), notes)


def _as(frame: pd.DataFrame, ending: str) -> bytes:
    written = {
        "jsonl": lambda: frame.to_json(orient="records", lines=True).encode(),
        "json": lambda: frame.to_json(orient="records").encode(),
        "csv": lambda: frame.to_csv(index=False).encode(),
        "parquet": lambda: parquet(frame),
        "arrow": lambda: arrow(frame, stream=True),
    }
    return bytes(written[ending]())


TWO_READINGS: dict[str, tuple[dict[str, list[str]], str]] = {
    "two texts": (
        {"text": ["x"], "content": ["y"]},
        "'text' and 'content' could both be the text of a document: remove or rename all but one",
    ),
    "one name twice": ({"Text": ["x"], "text ": ["y"]}, "'Text' and 'text ' could both be the text"),
    "two ids": ({"id": ["1"], "_id": ["2"], "text": ["y"]}, "'id' and '_id' could both be the unit"),
    "two clusters": ({"cluster": ["1"], "CLUSTER": ["2"], "text": ["y"]}, "could both be the cluster"),
    "no text": (
        {"id": ["1"], "abstract": ["x"], "title": ["y"]},
        r"no column 'text' \(or 'content'\), it has 'id', 'abstract', 'title': rename the column that holds",
    ),
}


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "parquet", "arrow"])
@pytest.mark.parametrize("kind", TWO_READINGS)
def test_what_could_be_read_in_two_ways_is_asked(tmp_path: Path, kind: str, ending: str) -> None:
    columns, words = TWO_READINGS[kind]
    with pytest.raises(DataError, match=rf"docs\.{ending}.*{words}"):
        read_documents(write_file(tmp_path / f"docs.{ending}", _as(pd.DataFrame(columns), ending)))


def test_a_table_of_many_columns_or_without_a_header_is_named_in_short(tmp_path: Path) -> None:
    many = ",".join(f"column {index}" for index in range(40))
    with pytest.raises(DataError, match=r"it has 'column 0', .*'column 11' and 28 more: rename"):
        read_documents(write_file(tmp_path / "many.csv", f"{many}\n".encode()))
    with pytest.raises(DataError, match=rf"it has '{'x' * 40}\.\.\.': rename"):
        read_documents(write_file(tmp_path / "bare.csv", b"x" * 5000 + b"\n"))


def test_rows_that_name_their_columns_differently_are_refused(tmp_path: Path) -> None:
    rows = [{"id": 1, "text": "x"}, {"unit": "b", "text": "y"}]
    with pytest.raises(
        DataError,
        match=r"line 2: the unit of a document is in column 'unit' here and in column 'id' in docs\.jsonl, line 1",
    ):
        read_documents(write_file(tmp_path / "docs.jsonl", json_lines(rows)))
    with pytest.raises(DataError, match=r"line 2: the unit of a document is in no column here"):
        read_documents(write_file(tmp_path / "docs.jsonl", json_lines([rows[0], {"text": "y"}])))
    with pytest.raises(DataError, match=r"line 2: the text of a document is in column 'content' here"):
        read_documents(write_file(tmp_path / "docs.jsonl", json_lines([rows[0], {"id": 2, "content": "y"}])))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"unit": {"oid": 1}, "text": "x"}, "line 1: 'unit' must be a name or a number, and is an object"),
        ({"unit": float("nan"), "text": "x"}, "line 1: 'unit' names the document and is missing: give it a name"),
        (
            {"unit": "a", "cluster": ["b"], "text": "x"},
            "line 1: 'cluster' must be a name or a number, and is a list",
        ),
        ({"unit": "a\ud800", "text": "x"}, "line 1: 'unit' holds half of a surrogate pair, which no file takes"),
        ({"unit": "a", "text": None}, "line 1: 'text' must be a string, and is missing"),
        ({"unit": "a", "text": ["x"]}, "line 1: 'text' must be a string, and is a list"),
    ],
)
def test_a_value_that_is_no_name_or_no_text_is_refused(tmp_path: Path, row: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_documents(write_file(tmp_path / "docs.jsonl", json.dumps(row).encode()))


# --- documents without a cluster ---


@pytest.mark.parametrize("missing", [None, float("nan"), "", " ", "NA", "nan", "None", "null"], ids=repr)
@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet", "memory"])
def test_each_document_without_a_cluster_is_its_own(tmp_path: Path, ending: str, missing: object) -> None:
    clusters = ["book", missing, "book", missing, missing]
    texts = [f"text {index}" for index in range(5)]
    frame = pd.DataFrame({"unit": list("abcde"), "cluster": pd.Series(clusters, dtype=object), "text": texts})
    if ending == "memory":
        found = Documents("docs", tuple("abcde"), tuple(clusters), texts)  # type: ignore[arg-type]
    else:
        found = read_documents(write_file(tmp_path / f"docs.{ending}", _as(frame, ending)))
    assert found.clusters == ("book", "b", "book", "d", "e")
    assert found.notes == ("3 of 5 documents have no cluster: each is its own",)
    assert found.fingerprint == Documents("docs", found.units, found.clusters, texts).fingerprint


def test_numbers_as_clusters_with_gaps_are_not_mixed_up_with_the_numbers_of_documents(tmp_path: Path) -> None:
    """Document 1 has no cluster, and cluster 1 is not its."""
    rows = [
        {"id": 0, "cluster": 1},
        {"id": 1, "cluster": None},
        {"id": 2, "cluster": 1},
        {"id": 3, "cluster": None},
    ]
    found = read_documents(
        write_file(tmp_path / "docs.jsonl", json_lines([{**row, "text": f"text {row['id']}"} for row in rows]))
    )
    assert found.clusters == ("1", "1 (alone)", "1", "3")
    assert found.notes[-1] == "2 of 4 documents have no cluster: each is its own"
    assert found.fingerprint == Documents("docs", found.units, found.clusters, found.texts).fingerprint


def test_the_command_line_says_what_reading_decided(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from transferstats.cli import build_parser
    from transferstats.designs import study_cells

    rows = [
        {"content": f"{index} " + "some words " * 40, "cluster": "c" if index < 3 else None} for index in range(40)
    ]
    write_file(tmp_path / "docs.jsonl", json_lines(rows))
    monkeypatch.chdir(tmp_path)
    options = ["--dataset", "docs.jsonl", "--seeds", "2", "--null-replicates", "0", "--units", "10"]
    planned = study_cells(build_parser().parse_args(["sweep", *options]))
    assert [cell.location["dataset"] for cell in planned] == [str(tmp_path / "docs.jsonl")] * 2
    assert capsys.readouterr().err.splitlines() == [
        "docs: text from column 'content'",
        "docs: no column 'unit' or 'id': rows are numbered",
        "docs: 37 of 40 documents have no cluster: each is its own",
    ]
