"""Bad documents get an error that names the document or line, and the fix; odd but real text goes through."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import small_study

import transferstats as ts
from transferstats import embedded
from transferstats.errors import DataError, DesignError
from transferstats.lens.documents import MAX_CHARACTERS, Documents, read_documents


def lines(*rows: object) -> str:
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


def write(folder: Path, content: str | bytes, name: str = "data.jsonl") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


GOOD = {"unit": "a", "text": "some words"}

BAD_LINES: dict[str, tuple[str | bytes, str]] = {
    "empty document": (lines(GOOD, {"unit": "b", "text": ""}), "document 'b' is empty; remove it"),
    "only whitespace": (lines(GOOD, {"unit": "b", "text": " \n\t\u2003 "}), "document 'b' is empty; remove it"),
    "repeated unit": (lines(GOOD, {"unit": "a", "text": "other"}), "unit 'a' appears more than once"),
    "line of 10 MB": (lines(GOOD, {"unit": "b", "text": "x " * 5_000_000}), "10,000,000 characters; split it"),
    "NUL characters": (lines(GOOD, {"unit": "b", "text": "a\0b"}), "document 'b' holds NUL characters"),
    "half a surrogate": (
        lines(GOOD, '{"unit": "b", "text": "a\\ud800b"}'),
        "document 'b' holds half of a surrogate",
    ),
    "broken JSON": (lines(GOOD, GOOD, '{"unit": '), "data.jsonl, line 3: need a JSON object"),
    "blank lines count": (lines(GOOD, "", "", "oops"), "data.jsonl, line 4"),
    "not an object": (lines(GOOD, [1, 2]), "line 2: need a JSON object with 'unit' and 'text'"),
    "no text": (lines(GOOD, {"unit": "b"}), "line 2"),
    "no unit": (lines(GOOD, {"text": "b"}), "line 2"),
    "null unit": (lines(GOOD, {"unit": None, "text": "b"}), "line 2"),
    "text is a number": (lines(GOOD, {"unit": "b", "text": 7}), "line 2: 'text' must be a string"),
    "not UTF-8": (b'{"unit": "a", "text": "caf\xe9"}\n', "not readable as UTF-8 JSON lines"),
    "nothing": (b"", "has no documents: give"),
    "copies": (lines(GOOD, {"unit": "b", "text": GOOD["text"]}), "'a' and 'b' have the same text"),
}


@pytest.mark.parametrize("kind", BAD_LINES)
def test_a_bad_file_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    content, words = BAD_LINES[kind]
    with pytest.raises(DataError, match=words):
        read_documents(write(tmp_path, content))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:60],
        lambda data: b"plain text",
        lambda data: data[:30] + bytes(byte ^ 0xFF for byte in data[30:60]) + data[60:],
    ],
    ids=["truncated", "not gzip", "damaged"],
)
def test_a_spoilt_gzip_file_is_refused(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    rows = [{"unit": str(index), "text": f"words {index * 7919}"} for index in range(50)]
    data = gzip.compress(lines(*rows).encode())
    with pytest.raises(DataError, match=r"data\.jsonl\.gz is not readable"):
        read_documents(write(tmp_path, spoil(data), "data.jsonl.gz"))


def test_an_unknown_dataset_lists_what_there_is() -> None:
    with pytest.raises(DataError, match=r"no dataset 'wikitext'.*python, docstrings, kjv, shakespeare"):
        read_documents("wikitext")


def test_copies_within_one_cluster_are_not_a_leak(tmp_path: Path) -> None:
    rows = [{**GOOD, "cluster": "c"}, {**GOOD, "unit": "b", "cluster": "c"}]
    assert read_documents(write(tmp_path, lines(*rows))).clusters == ("c", "c")


def test_a_missing_or_null_cluster_is_the_unit_itself(tmp_path: Path) -> None:
    rows = [GOOD, {"unit": "b", "text": "t", "cluster": None}, {"unit": 3, "text": "u", "cluster": 4}]
    found = read_documents(write(tmp_path, lines(*rows)))
    assert found.units == ("a", "b", "3")
    assert found.clusters == ("a", "b", "4")


def test_a_folder_of_text_files(tmp_path: Path) -> None:
    (tmp_path / "play").mkdir()
    write(tmp_path / "play", "scene one", "1.txt")
    write(tmp_path / "play", "scene two", "2.txt")
    write(tmp_path, "a poem", "poem.txt")
    write(tmp_path, "ignored", "notes.md")
    found = read_documents(tmp_path)
    assert dict(zip(found.units, found.clusters, strict=True)) == {
        "play/1.txt": "play",
        "play/2.txt": "play",
        "poem.txt": "poem",
    }


def test_a_folder_without_text_and_a_file_in_latin_1_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no documents: give \.txt files"):
        read_documents(tmp_path)
    write(tmp_path, b"caf\xe9", "latin.txt")
    with pytest.raises(DataError, match=r"latin\.txt is not UTF-8 text: .*; save it again as UTF-8"):
        read_documents(tmp_path)


def test_the_fingerprint_is_the_content_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    one = read_documents(write(tmp_path, lines(GOOD)))
    other = read_documents(write(tmp_path / "elsewhere", lines(GOOD), "renamed.jsonl"))
    assert one.fingerprint == other.fingerprint
    for changed in (
        Documents("n", ("a",), ("a",), ("some word",)),
        Documents("n", ("b",), ("a",), ("some words",)),
        Documents("n", ("a",), ("b",), ("some words",)),
    ):
        assert changed.fingerprint != one.fingerprint


@pytest.mark.parametrize(
    ("domain", "begin"),
    [("python", "292872a1"), ("docstrings", "4ecd675d"), ("kjv", "c8c62eb0"), ("shakespeare", "7a9789c5")],
)
def test_stored_cells_find_the_shipped_domains_under_their_fingerprints(domain: str, begin: str) -> None:
    """Cells are kept under keys that follow from these."""
    found = read_documents(domain)
    rows = zip(found.units, found.clusters, found.texts, strict=True)
    rule = hashlib.sha256("".join(json.dumps(row) for row in rows).encode()).hexdigest()
    assert found.fingerprint == rule
    assert found.fingerprint.startswith(begin)


def test_fields_cannot_run_into_each_other_in_the_fingerprint() -> None:
    one = Documents("n", ("ab", "c"), ("x", "y"), ("1", "2"))
    other = Documents("n", ("a", "bc"), ("x", "y"), ("1", "2"))
    assert one.fingerprint != other.fingerprint


@pytest.mark.parametrize("domain", embedded.DOMAINS)
def test_embedded_documents_pass_every_check(domain: str) -> None:
    assert max(len(text) for text in read_documents(domain).texts) < MAX_CHARACTERS


ODD = {
    "control characters": "\x01\x02\x1b[31m bell \x07 form \x0c feed " * 12,
    "emoji and right-to-left": "naïve 👩‍👩‍👧 שלום مرحبا 你好 " * 12,
    "one long word": "x" * 4000,
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_text_is_read_and_scored(tmp_path: Path, kind: str, embedded_model: object) -> None:
    from transferstats.lens.language import Encoding, LanguageModel, LanguageSubject

    assert isinstance(embedded_model, LanguageModel)
    documents = read_documents(write(tmp_path, lines({"unit": "odd", "text": ODD[kind]})))
    states = LanguageSubject(embedded_model, documents, Encoding(64, 64, 32)).capture([0])
    assert states.n_rows > 30
    assert bool(states.hidden.isfinite().all())


def test_fewer_than_two_seeds_is_refused(document_files: list[Path]) -> None:
    with pytest.raises(DesignError, match="at least 2 seeds, better 5"):
        ts.cells("embedded", document_files, seeds=1)


def test_too_few_documents_for_the_design_is_refused_before_anything_runs(document_files: list[Path]) -> None:
    with pytest.raises(DesignError, match="bring more documents, fewer seeds or fewer evaluation units"):
        ts.cells(
            "embedded", document_files, seeds=5, evaluation=ts.EvaluationPlan(units=small_study.DOCUMENTS - 4)
        )


def test_two_datasets_of_one_name_are_refused(document_files: list[Path]) -> None:
    with pytest.raises(DesignError, match="each with its own name"):
        ts.cells("embedded", [document_files[0], document_files[0]], seeds=2)


def test_no_dataset_is_refused() -> None:
    with pytest.raises(DesignError, match="at least one dataset"):
        ts.cells("embedded", [], seeds=2)
