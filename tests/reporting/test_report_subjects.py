"""The report of a comparison: the same machinery, the same promises as for one subject."""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from test_report_inert import NASTY, Tags

from transferstats.reporting import cite, figure, formats, numbers, report, sentence, table
from transferstats.reporting.documents import report_files
from transferstats.reporting.pdf import source
from transferstats.reporting.study import Study
from transferstats.reporting.subjects import content
from transferstats.results import SubjectComparison
from transferstats.simulation import simulate_grid, true_penalty
from transferstats.stats.subjects import compare_subjects


def compared(*names: str) -> SubjectComparison:
    grids = [
        replace(
            simulate_grid(true_penalty(5 + n), n_seeds=4, n_units=24, datasets=("one", "two"), rng=n).grid,
            subject=name,
        )
        for n, name in enumerate(names)
    ]
    return compare_subjects(grids, smallest=0.05)


@pytest.fixture(scope="module")
def comparison() -> SubjectComparison:
    return compared("plain", "residual", "deep")


@pytest.fixture(scope="module")
def files(comparison: SubjectComparison) -> Mapping[str, bytes]:
    return report_files(comparison)


def test_everything_a_reader_expects_is_there(files: Mapping[str, bytes]) -> None:
    drawn = ["claims", "statistics", "distance", "depth", "matrix-1-plain", "matrix-2-residual", "matrix-3-deep"]
    assert {f"figures/{name}.{end}" for name in drawn for end in ("svg", "pdf")} == {
        name for name in files if name.startswith("figures/")
    }
    assert {f"tables/figure-{name}.csv" for name in drawn} <= set(files)
    for name in ("index.html", "report.md", "references.bib", "numbers.tex", "numbers.json", "numbers.typ"):
        assert files[name], name
    for name in ("claims", "statistics", "distances-1-plain", "depth-3-deep"):
        for ending in ("csv", "tex", "md", "typ"):
            assert f"tables/{name}.{ending}" in files, name


def test_links_lead_to_files_and_contents_to_sections(files: Mapping[str, bytes]) -> None:
    page = files["index.html"].decode()
    for link in re.findall(r'href="([^"#][^"]*)"', page):
        assert link == "data:," or link in files, link
    assert set(re.findall(r'<li><a href="#([a-z]+)"', page)) == set(re.findall(r'<section id="([a-z]+)"', page))
    assert "<title>Lens transfer compared: plain, residual and deep</title>" in page


def test_numbers_of_the_page_are_numbers_of_the_comparison(
    comparison: SubjectComparison, files: Mapping[str, bytes]
) -> None:
    frame = pd.read_csv(io.BytesIO(files["tables/claims.csv"]))
    for row, claim in zip(frame.to_dict("records"), comparison.claims, strict=True):
        assert claim.estimate is not None
        assert row["estimate"] == float(claim.estimate.estimate)
        assert row["verdict"] == claim.verdict
    one = comparison.subjects[1]
    cells = pd.read_csv(io.BytesIO(files["tables/figure-matrix-2-residual.csv"]))
    assert np.array_equal(cells["estimate"], one.matrix[cells["source"], cells["target"]])
    named = numbers(comparison)
    mean = one.statistics["mean"].headline
    assert json.loads(files["numbers.json"])["TransferResidualMean"]["value"] == float(mean.estimate)
    assert named["TransferClaimDOneVerdict"] == comparison.claims[2].verdict


def test_another_process_writes_the_same_bytes(
    comparison: SubjectComparison, files: Mapping[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / "found.pkl").write_bytes(pickle.dumps(comparison))
    code = (
        "import pickle, pathlib, transferstats.reporting as r\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "r.report(pickle.loads((folder / 'found.pkl').read_bytes()), folder / 'out')\n"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "11", "TZ": "Asia/Tokyo"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=tmp_path)
    out = tmp_path / "out"
    written = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert set(written) == set(files)
    assert [name for name in written if written[name] != files[name]] == []


CAUSAL = re.compile(r"\b(because of|due to|causes?|caused|leads? to|effect)\b|no difference", re.IGNORECASE)


def test_sentences_state_differences_and_claim_no_reason(comparison: SubjectComparison) -> None:
    text = sentence(comparison)
    assert not CAUSAL.search(text)
    assert "rose with" not in text  # a difference of slopes is no slope
    assert text.count("Verdict on") == 9
    assert "The mean penalty of plain minus that of residual was" in text
    assert text.count("4 seeds: valid, but wide") == 1
    assert cite(comparison).count("@") >= 3
    assert figure(comparison)


def test_the_named_differences_wrap_and_take_the_width_that_is_left(comparison: SubjectComparison) -> None:
    shown = table(comparison)
    assert [column.heading for column in shown.columns if column.wraps] == ["Difference"]
    assert r"\begin{tabular}{@{}lp{0.25\linewidth}llrrll@{}}" in shown.latex()
    told = content(comparison)
    assert "#table(columns: (auto, 1fr, auto, auto, auto, auto, auto, auto,)" in source(Study(told, ()))


def test_an_earlier_report_of_one_subject_leaves_nothing(comparison: SubjectComparison, tmp_path: Path) -> None:
    report(comparison, tmp_path)
    smaller = compared("plain", "other")
    report(smaller, tmp_path)
    assert not (tmp_path / "figures/matrix-3-deep.svg").exists()
    with pytest.raises(TypeError, match="no report for dict"):
        report({}, tmp_path)  # type: ignore[arg-type]


HOSTILE = NASTY["markup"] + NASTY["formula"] + NASTY["tex"] + NASTY["right to left"] + NASTY["typst"]


def test_hostile_names_of_subjects_stay_inert() -> None:
    names = (HOSTILE, "=1+1", "W" * 300)
    files = report_files(compared(*names))
    page = Tags()
    page.feed(files["index.html"].decode())
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert "img" not in [tag for tag, _ in page.tags]
    assert all(re.fullmatch(r"(tables/|figures/)?[A-Za-z0-9][\w.-]*", path) for path in files)
    assert formats.legible(HOSTILE) in "".join(page.text)
    assert json.loads(files["manifest.json"])["remarks"] == []  # the PDF was set
    for path, made in files.items():
        if path.endswith(".svg"):
            assert not [e for e in ElementTree.fromstring(made.decode()).iter() if e.tag.endswith("script")]
        if path.endswith(".tex") and path.startswith("tables/"):
            assert b"\\input" not in made
        if path.endswith(".csv"):
            rows = list(csv.reader(io.StringIO(made.decode(), newline="")))
            assert {len(row) for row in rows} == {len(rows[0])}, path
            for cell in (cell for row in rows for cell in row):
                number = re.fullmatch(r"-?(\d[\d.]*(e[+-]?\d+)?|Inf)", cell)
                assert number or not cell.lstrip().startswith(("=", "+", "-", "@")), (path, cell[:40])
