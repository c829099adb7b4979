"""Tables as people have them: one reading is taken and said, two are asked about, columns are never guessed."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from test_readers import assert_same, long_table

import transferstats as ts
from transferstats.errors import DataError
from transferstats.grid import TransferGrid

UMLAUT = "Größe"


def named() -> pd.DataFrame:
    """A table with clusters, one of which has letters beyond ASCII."""
    return long_table().assign(cluster=lambda f: f["unit"].map({"unit 0": "a", "unit 1": "a", "unit 2": UMLAUT}))


def text(frame: pd.DataFrame, separator: str = ",", decimal: str = ".") -> str:
    return frame.to_csv(index=False, sep=separator, decimal=decimal)


def zipped(name: str, content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, content)
            archive.writestr("__MACOSX/._losses.csv", b"\x00")

    return write


def lines(frame: pd.DataFrame) -> str:
    return "\n".join(json.dumps(row) for row in frame.to_dict("records"))


CSV, SEMICOLONS = text(named()), text(named(), ";", ",")
COMMAS, DECIMALS = "separated by semicolons", "written with a comma"

FILES: dict[str, tuple[bytes | Callable[[Path], None], tuple[str, ...]]] = {
    "LOSSES.CSV": (CSV.encode(), ()),
    "losses.csv.gz": (gzip.compress(CSV.encode()), ()),
    "Losses.CSV.GZ": (gzip.compress(CSV.encode()), ()),
    "losses.csv.bz2": (bz2.compress(CSV.encode()), ()),
    "losses.tsv.xz": (lzma.compress(text(named(), "\t").encode()), ()),
    "losses.zip": (zipped("folder/losses.csv", CSV.encode()), ()),
    "losses.csv.zip": (zipped("losses.csv", CSV.encode()), ()),
    "commas.txt": (CSV.encode(), ()),
    "tabs.txt": (text(named(), "\t").encode(), ()),
    "bars.txt": (text(named(), "|").encode(), ()),
    "commas.tsv": (CSV.encode(), ("separated by commas",)),
    "semicolons.csv": (SEMICOLONS.encode(), (COMMAS, DECIMALS)),
    "points.csv": (text(named(), ";").encode(), (COMMAS,)),
    "tabs.csv": (text(named(), "\t", ",").encode(), ("separated by tabs", DECIMALS)),
    "excel.csv": (("sep=;\r\n" + SEMICOLONS).encode(), (COMMAS, DECIMALS)),
    "stated.csv": (("sep=,\n" + CSV).encode(), ()),
    "stated.txt": (('"sep=|"\n' + text(named(), "|")).encode(), ()),
    "mark.csv": (CSV.encode("utf-8-sig"), ()),
    "utf16.csv": (CSV.encode("utf-16"), ("is written in UTF-16",)),
    "utf16-without-mark.csv": (CSV.encode("utf-16-le"), ("is written in UTF-16",)),
    "utf16-big.csv": (CSV.encode("utf-16-be"), ("is written in UTF-16",)),
    "latin.csv": (CSV.encode("latin-1"), ("is not UTF-8 and was read as Latin-1",)),
    "padded.csv": (CSV.replace(",", ", ").encode(), ()),
    "rows.jsonl": (lines(named()).encode(), ()),
    "rows.ndjson.gz": (gzip.compress(lines(named()).encode()), ()),
    "rows.json": (("\ufeff" + json.dumps(named().to_dict("records"))).encode(), ()),
    "columns.json": (json.dumps(named().to_dict("list")).encode(), ()),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_with_one_reading_is_read_and_says_what_was_done(name: str, tmp_path: Path) -> None:
    content, remarks = FILES[name]
    path = tmp_path / name
    if callable(content):
        content(path)
    else:
        path.write_bytes(content)
    grid = ts.read_grid(path)
    assert_same(grid, ts.read_grid(named()))
    assert UMLAUT in grid.datasets[0].clusters
    assert grid.subject == name.split(".")[0]
    said = ts.describe(grid).caveats
    assert len(said) == len(remarks)
    for remark in remarks:
        assert any(remark in text for text in said)


def test_spaces_part_the_columns_of_a_text_file_without_anything_else(tmp_path: Path) -> None:
    frame = long_table().assign(unit=lambda f: f["unit"].str.replace(" ", "_"))
    (tmp_path / "losses.txt").write_text(frame.to_string(index=False))
    read = ts.read_grid(tmp_path / "losses.txt").datasets[0]
    assert read.units == ("unit_0", "unit_1", "unit_2")
    assert read.losses["kl"].mean() == pytest.approx(frame["kl"].mean(), rel=1e-5)


def test_the_report_repeats_how_a_file_was_read(tmp_path: Path) -> None:
    frame = ts.simulate_grid(n_seeds=3, n_units=8, rng=1).grid.to_frame()
    (tmp_path / "losses.csv").write_text(text(frame, ";", ","))
    page = ts.report(ts.evaluate(ts.read_grid(tmp_path / "losses.csv"), 0.05), tmp_path / "report")
    assert "Decimals of losses.csv are written with a comma" in page.read_text(encoding="utf-8")


def test_numbers_with_two_readings_are_asked_about(tmp_path: Path) -> None:
    frame = long_table()[["seed", "unit", "source", "target"]].assign(kl="1,234")
    frame.to_csv(tmp_path / "losses.csv", index=False)
    with pytest.raises(DataError, match="such as '1,234', which may have a decimal comma or count thousands"):
        ts.read_grid(tmp_path / "losses.csv")
    frame.assign(kl="0,234").to_csv(tmp_path / "losses.csv", index=False)
    assert ts.read_grid(tmp_path / "losses.csv").datasets[0].losses["kl"].max() == 0.234


def test_an_archive_of_several_files_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "losses.zip", "w") as archive:
        archive.writestr("a.csv", CSV)
        archive.writestr("b.csv", CSV)
    with pytest.raises(DataError, match="holds 2 files: pack the one table alone"):
        ts.read_grid(tmp_path / "losses.zip")
    (tmp_path / "torn.csv.gz").write_bytes(gzip.compress(CSV.encode())[:40])
    with pytest.raises(DataError, match=r"cannot read .*torn\.csv\.gz"):
        ts.read_grid(tmp_path / "torn.csv.gz")


# --- columns ---


def renamed() -> pd.DataFrame:
    return long_table().assign(book="b").rename(columns={"unit": "doc", "source": "from", "target": "to"})


MAPPING = {"doc": "unit", "from": "source", "to": "target"}


@pytest.fixture(params=["frame", "csv", "parquet", "jsonl"])
def read(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., TransferGrid]:
    """``read_grid`` by every way that has columns."""

    def reader(frame: pd.DataFrame, **options: object) -> TransferGrid:
        path = tmp_path / f"losses.{request.param}"
        if request.param == "csv":
            frame.to_csv(path, index=False)
        elif request.param == "parquet":
            frame.to_parquet(path, index=False)
        elif request.param == "jsonl":
            path.write_text(lines(frame))
        return ts.read_grid(frame if request.param == "frame" else path, **options)  # type: ignore[arg-type]

    return reader


def test_a_mapping_of_a_column_that_is_not_there_lists_those_that_are(read: Callable[..., TransferGrid]) -> None:
    words = r"columns names 'books', which the table lacks; it has: seed, doc, from, to, kl, ce, n, book$"
    with pytest.raises(DataError, match=words):
        read(renamed(), columns=MAPPING | {"books": "cluster"})


def test_a_mapping_to_a_name_that_nothing_reads_is_refused(read: Callable[..., TransferGrid]) -> None:
    with pytest.raises(
        DataError, match="columns maps to 'clusters', which is not read; what is read: dataset, seed"
    ):
        read(renamed(), columns=MAPPING | {"book": "clusters"})


def test_a_mapping_onto_a_name_that_is_there_is_refused(read: Callable[..., TransferGrid]) -> None:
    frame = renamed().assign(unit="all")
    with pytest.raises(DataError, match="columns maps 'doc' to 'unit', as which 'unit' is read: only one can be"):
        read(frame, columns=MAPPING)
    with pytest.raises(DataError, match="columns maps 'doc' to 'unit', as which 'book' is read"):
        read(renamed(), columns=MAPPING | {"book": "unit"})


def test_columns_may_change_places(read: Callable[..., TransferGrid]) -> None:
    swapped = long_table().rename(columns={"source": "target", "target": "source"})
    assert_same(read(swapped, columns={"source": "target", "target": "source"}), ts.read_grid(long_table()))


def test_headers_with_spaces_and_capitals_are_known(read: Callable[..., TransferGrid]) -> None:
    frame = long_table().rename(columns={"unit": " Unit ", "source": "SOURCE", "kl": "KL", "n": "N"})
    grid = read(frame)
    assert_same(grid, ts.read_grid(long_table()))
    (said,) = ts.describe(grid).caveats
    assert "read by their names but for spaces and capitals" in said
    loud = renamed().rename(columns=str.upper)
    assert_same(read(loud, columns={"doc": "unit", "from ": "source", "To": "target"}), ts.read_grid(long_table()))


def test_headers_that_may_both_be_one_name_are_asked_about(read: Callable[..., TransferGrid]) -> None:
    frame = long_table().rename(columns={"unit": "Unit"}).assign(UNIT="x")
    with pytest.raises(DataError, match="columns 'Unit', 'UNIT' may all be 'unit'"):
        read(frame)


def test_messages_list_no_column_that_the_reader_added(read: Callable[..., TransferGrid]) -> None:
    bare = long_table()[["unit", "source", "target", "kl"]].rename(columns={"unit": "document"})
    with pytest.raises(DataError, match=r"lacks unit; it has document, source, target, kl. Rename"):
        read(bare)
    with pytest.raises(DataError, match=r"lacks target; it has document, source, kl. Rename"):
        read(bare.drop(columns="target"))
    with pytest.raises(DataError, match="needs a loss column"):
        read(long_table().drop(columns=["kl", "ce"]))


@pytest.mark.parametrize("apart", [",", " ", "'", "\u202f"])
def test_counts_with_thousands_set_apart_are_numbers(apart: str, read: Callable[..., TransferGrid]) -> None:
    sizes = {"unit 0": 512, "unit 1": 1024, "unit 2": 1234567}
    plain = long_table().assign(n=lambda f: f["unit"].map(sizes))
    words = {unit: f"{size:,}".replace(",", apart) for unit, size in sizes.items()}
    grid = read(plain.assign(n=plain["unit"].map(words)))
    assert grid.datasets[0].tokens.tolist() == [512, 1024, 1234567]
    assert any("n was read with thousands set apart" in text for text in ts.describe(grid).caveats)


def test_counts_in_words_are_refused_with_the_column(read: Callable[..., TransferGrid]) -> None:
    frame = long_table().assign(n=lambda f: f["unit"].map({"unit 0": "10", "unit 1": "many", "unit 2": "12"}))
    with pytest.raises(
        DataError, match="column 'n' holds something that is not a number in 18 rows, such as 'many'"
    ):
        read(frame)
