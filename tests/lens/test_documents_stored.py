"""Texts stay on disk: memory does not grow with them, nothing is left behind, and what changes is read anew."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from document_forms import ROWS, WANTED, json_lines, write_file

from transferstats.errors import DataError
from transferstats.lens import documents as module
from transferstats.lens.document_tables import LONGEST, MAX_CHARACTERS, Record
from transferstats.lens.documents import Documents, read_documents
from transferstats.lens.stored_texts import StoredTexts

TEXTS = ["one", "", "drei: 你好", "👩‍👧" * 5000, "x" * 9000, "last"]


def test_stored_texts_are_a_sequence_like_any_other() -> None:
    stored = StoredTexts(iter(TEXTS))
    assert list(stored) == TEXTS
    assert len(stored) == len(TEXTS)
    assert stored[np.int64(3)] == stored[-3] == TEXTS[3]
    assert stored[1:-1:2] == tuple(TEXTS[1:-1:2])
    assert TEXTS[4] in stored
    for outside in (6, -7):
        with pytest.raises(IndexError):
            stored[outside]
    assert repr(stored) == f"StoredTexts(6 texts, {len(''.join(TEXTS).encode())} bytes)"


def test_a_copy_in_another_process_holds_its_texts(tmp_path: Path) -> None:
    found = read_documents(write_file(tmp_path / "docs.jsonl", json_lines()))
    copy = pickle.loads(pickle.dumps(found))
    assert copy == found
    assert copy.texts == WANTED.texts


def test_the_temporary_file_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is gone when its process is killed."""
    room = tmp_path / "room"
    room.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(room))
    stored = StoredTexts(TEXTS)
    assert stored[5] == "last"
    assert not list(room.iterdir()) or os.name == "nt"


def _python(code: str, *arguments: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


FULL = """
import resource, sys
from transferstats.errors import DataError
from transferstats.lens.stored_texts import StoredTexts

resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
try:
    StoredTexts("x" * 100_000 for _ in range(100))
except DataError as error:
    print(error)
"""


@pytest.mark.skipif(os.name == "nt", reason="limits files as Unix does")
def test_a_full_disk_says_where_and_what_to_do() -> None:
    assert "takes no more" in (said := _python(FULL))
    assert "set TMPDIR to a folder that has some" in said


FORKED = """
import os, sys
from transferstats.lens.documents import read_documents

found = read_documents(sys.argv[1])
wanted = tuple(found.texts)
children = []
for _ in range(3):
    child = os.fork()
    if not child:
        os._exit(int(any(found.texts[i] != wanted[i] for i in list(range(len(wanted))) * 20)))
    children.append(child)
print([os.waitpid(child, 0)[1] for child in children])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is forked there")
def test_forked_processes_read_side_by_side(tmp_path: Path) -> None:
    rows = [{"unit": str(index), "text": f"{index} " * (100 + index)} for index in range(200)]
    assert _python(FORKED, write_file(tmp_path / "docs.jsonl", json_lines(rows))) == "[0, 0, 0]\n"


# --- memory ---

PEAK = """
import sys
from pathlib import Path
from transferstats.lens.documents import read_documents

def peak():  # of this process alone: ru_maxrss would begin with that of the parent
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024

peaks = []
for source in sys.argv[1:]:
    found = read_documents(source)
    assert sum(len(found.texts[index]) for index in range(len(found.units))) == 3000 * len(found.units)
    peaks.append(peak())
print(peaks[1] - peaks[0])
"""

MEGABYTES = 54  # that the larger file holds more than the smaller one
GROWTH = 30  # MB; 8 to 20 were measured, for names of 18,000 documents and pages of columns; texts are 54 at least


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads its own peak from /proc")
@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "parquet"])
def test_memory_does_not_grow_with_the_texts(tmp_path: Path, ending: str) -> None:
    """6 and 60 MB, read and then used document by document."""
    rng = np.random.default_rng(0)
    files = []
    for count in (2_000, 20_000):
        letters = rng.integers(97, 123, count * 3000, dtype=np.uint8).tobytes().decode()
        texts = [letters[start : start + 3000] for start in range(0, len(letters), 3000)]
        frame = pd.DataFrame({"unit": [f"document {index}" for index in range(count)], "text": texts})
        files.append(tmp_path / f"{count}.{ending}")
        if ending == "parquet":
            frame.to_parquet(files[-1])
        elif ending == "csv":
            frame.to_csv(files[-1], index=False)
        else:
            frame.to_json(files[-1], orient="records", lines=ending == "jsonl")
    assert files[1].stat().st_size - files[0].stat().st_size > MEGABYTES * 1e6
    assert float(_python(PEAK, *files)) < GROWTH


def test_a_line_without_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "docs.jsonl"
    with path.open("w") as stream:
        stream.write(json.dumps(ROWS[0]) + '\n{"unit": "b", "text": "')
        stream.write("x" * 2 * LONGEST)
    with pytest.raises(
        DataError, match=r"docs\.jsonl, line 2 has more than 16,000,000 characters: a document has at"
    ):
        read_documents(path)
    path.with_suffix(".json").write_text('[{"text": "' + "x" * 2 * LONGEST)
    with pytest.raises(DataError, match=r"item 1: .*it is broken, or has more than 16,000,000 characters"):
        read_documents(path.with_suffix(".json"))
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "long.txt").write_text("x" * (MAX_CHARACTERS + 1))
    with pytest.raises(
        DataError, match=r"'long\.txt' has more than 1,000,000 characters; split it into documents"
    ):
        read_documents(tmp_path / "texts")


# --- files that change ---


def test_a_process_reads_a_dataset_once_until_its_files_change(tmp_path: Path) -> None:
    path = write_file(tmp_path / "docs.jsonl", json_lines())
    first = read_documents(path)
    assert read_documents(str(path)) is first
    write_file(path, json_lines(ROWS[:2]))
    assert read_documents(path).units == WANTED.units[:2]
    write_file(path, json_lines())
    assert read_documents(path) == first


def test_a_file_that_joins_a_folder_is_noticed(tmp_path: Path) -> None:
    write_file(tmp_path / "a.txt", b"one")
    assert read_documents(tmp_path).units == ("a.txt",)
    write_file(tmp_path / "b.txt", b"two")
    assert read_documents(tmp_path).units == ("a.txt", "b.txt")


@pytest.mark.parametrize("change", ["append", "touch", "replace", "remove", "break"])
def test_a_file_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{**row, "text": f"{index}" + "x" * 50_000} for index, row in enumerate(ROWS)]  # longer than a buffer
    path = write_file(tmp_path / "docs.jsonl", json_lines(rows))
    real = module.records

    def meddled(files: module.Files) -> Iterator[Record]:
        for index, record in enumerate(real(files)):
            if index == 1:
                _meddle(path, change)
            yield record

    monkeypatch.setattr(module, "records", meddled)
    with pytest.raises(
        DataError, match=r"dataset 'docs' changed while it was read .*docs\.jsonl\): wait until it"
    ):
        read_documents(path)


def _meddle(path: Path, change: str) -> None:
    """One way in which somebody else changes a file."""
    if change == "append":
        with path.open("ab") as stream:
            stream.write(json_lines([{"unit": "new", "text": "more"}]))
    elif change == "touch":
        os.utime(path, ns=(0, 0))
    elif change == "replace":
        about, other = path.stat(), write_file(path.with_name("other"), path.read_bytes())
        os.utime(other, ns=(about.st_atime_ns, about.st_mtime_ns))
        other.replace(path)
    elif change == "remove":
        path.unlink()
    else:
        with path.open("ab") as stream:
            stream.write(b'{"unit": ')


# --- documents made in memory ---


def test_documents_of_other_texts_have_another_fingerprint() -> None:
    """Also where one is made from the other."""
    texts = ("fourth", *WANTED.texts[1:])
    changed = dataclasses.replace(WANTED, texts=texts)
    assert changed.fingerprint == Documents("docs", WANTED.units, WANTED.clusters, texts).fingerprint
    assert changed.fingerprint != WANTED.fingerprint
    assert changed != WANTED


def test_documents_that_lack_a_name_or_a_text_are_refused() -> None:
    with pytest.raises(DataError, match="'docs' has 3 units, 3 clusters and 2 texts: one of each a document"):
        dataclasses.replace(WANTED, texts=WANTED.texts[:2])
