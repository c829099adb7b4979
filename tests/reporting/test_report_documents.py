"""The folder of a report: complete, self-contained, reproducible to the byte, honest about what is missing."""

from __future__ import annotations

import hashlib
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

import numpy as np
import pandas as pd
import pytest

import transferstats.reporting
from transferstats.reporting import cite, figure, numbers, report, sentence, table
from transferstats.reporting.documents import report_files
from transferstats.results import Evidence


def test_everything_a_reader_expects_is_there(study_files: Mapping[str, bytes]) -> None:
    for name in (
        "index.html",
        "report.md",
        "references.bib",
        "manifest.json",
        "numbers.tex",
        "numbers.json",
        "numbers.typ",
    ):
        assert study_files[name], name
    for name in (
        "claims",
        "cells-1-wikitext",
        "distances-2-code",
        "decay-1-wikitext",
        "certificates",
        "shared-1-wikitext",
    ):
        assert f"tables/{name}.csv" in study_files, name
    drawn = [
        "claims",
        "penalty-matrix-1-wikitext",
        "null-matrix-1-wikitext",
        "excess-matrix-2-code",
        "depth-2-code",
    ]
    drawn += ["distance-1-wikitext", "shares-1-wikitext", "shared-1-wikitext", "null-distribution-1-wikitext"]
    drawn += ["plan-2-code"]
    for name in drawn:
        for ending in ("svg", "pdf"):
            assert f"figures/{name}.{ending}" in study_files, name
        assert f"tables/figure-{name}.csv" in study_files, name
    for ending in ("tex", "md", "typ"):
        assert f"tables/claims.{ending}" in study_files


def test_page_reaches_for_nothing_outside(study_files: Mapping[str, bytes]) -> None:
    page = study_files["index.html"].decode()
    assert "default-src 'none'" in page
    outside = re.findall(r"(?:src|href|action|poster|data)\s*=\s*[\"'](?:https?:)?//[^\"']*", page)
    assert outside == []
    assert not re.search(r"@import|url\((?!#)", page)


def test_page_states_verdicts_before_anything_else(study_files: Mapping[str, bytes]) -> None:
    page = study_files["index.html"].decode()
    sections = re.findall(r'<section id="([a-z]+)"', page)
    assert sections[:2] == ["verdicts", "sentences"]
    assert {"matrix", "distance", "depth", "shared", "shares", "certificates", "design", "limits"} <= set(sections)
    links = set(re.findall(r'<li><a href="#([a-z]+)"', page))
    assert links == set(sections)


def test_every_link_of_the_page_leads_to_a_file(study_files: Mapping[str, bytes]) -> None:
    page = study_files["index.html"].decode()
    for link in re.findall(r'href="([^"#][^"]*)"', page):
        assert link == "data:," or link in study_files, link


def test_every_figure_has_an_alternative_text_and_unique_ids(study_files: Mapping[str, bytes]) -> None:
    page = study_files["index.html"].decode()
    figures = re.findall(r'<svg [^>]*role="img"[^>]*aria-labelledby="([^"]+)"', page)
    assert len(figures) == len(
        [name for name in study_files if name.startswith("figures/") and name.endswith(".svg")]
    )
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    for pair in figures:
        for one in pair.split():
            content = re.search(rf'id="{one}">([^<]+)<', page)
            assert content, one
            assert len(content.group(1)) > 12


def test_inline_figures_take_their_colours_from_the_page(study_files: Mapping[str, bytes]) -> None:
    page = study_files["index.html"].decode()
    drawings = "".join(re.findall(r"<svg .*?</svg>", page, flags=re.DOTALL))
    assert "var(--f-q" in drawings
    assert re.findall(r"(?:fill|stroke): #[0-9a-f]{6}", drawings) == []
    style = page[page.index("<style>") : page.index("</style>")]
    used = set(re.findall(r"var\((--f-\w+)\)", drawings))
    dark = style[style.index("prefers-color-scheme: dark") :]
    for name in used:
        assert f"{name}:" in style, name
        assert f"{name}:" in dark, name


def test_numbers_on_the_page_are_numbers_of_the_evidence(
    study: Evidence, study_files: Mapping[str, bytes]
) -> None:
    frame = pd.read_csv(io.BytesIO(study_files["tables/claims.csv"]))
    for row, claim in zip(frame.to_dict("records"), study.claims, strict=True):
        assert row["claim"] == claim.title
        if claim.estimate is not None:
            assert row["estimate"] == float(claim.estimate.estimate)
            assert row["conf_low"] == float(claim.estimate.conf_low)
    cells = pd.read_csv(io.BytesIO(study_files["tables/figure-penalty-matrix-1-wikitext.csv"]))
    matrix = study.datasets[0].matrix
    assert np.array_equal(cells["estimate"], matrix[cells["source"], cells["target"]])


def test_manifest_names_every_file_and_its_hash(study_files: Mapping[str, bytes]) -> None:
    manifest = json.loads(study_files["manifest.json"])
    assert set(manifest["files"]) == set(study_files) - {"manifest.json"}
    for name, digest in manifest["files"].items():
        assert hashlib.sha256(study_files[name]).hexdigest() == digest
    assert manifest["inputs"]["cells"] == ["ab" * 32]
    assert {"matplotlib", "numpy", "transferstats"} <= set(manifest["report_versions"])


def test_another_process_writes_the_same_bytes(
    study: Evidence, study_files: Mapping[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / "evidence.pkl").write_bytes(pickle.dumps(study))
    # A user's own matplotlib settings and another hash seed must not reach the files.
    (tmp_path / "matplotlibrc").write_text("font.size: 20\naxes.grid: True\nsvg.fonttype: path\n")
    code = (
        "import pickle, pathlib, transferstats.reporting as r\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "r.report(pickle.loads((folder / 'evidence.pkl').read_bytes()), folder / 'out')\n"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "MATPLOTLIBRC": str(tmp_path), "TZ": "Asia/Tokyo"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=tmp_path)
    out = tmp_path / "out"
    written = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert set(written) == set(study_files)
    assert [name for name in written if written[name] != study_files[name]] == []


def test_bare_evidence_says_what_is_not_there(bare: Evidence, tmp_path: Path) -> None:
    page = report(bare, tmp_path / "bare").read_text()
    for text in (
        "No decay curve was fitted",
        "no shared lens",
        "came without certificates",
        "no null replicates were run for wikitext",
        "No reference loss was recorded",
    ):
        assert text in page, text
    assert "had converged" not in page
    assert sentence(bare)
    assert cite(bare)
    assert numbers(bare)["TransferMean"]
    assert table(bare).rows
    assert figure(bare)


def test_missing_intervals_are_shown_as_missing(bare: Evidence) -> None:
    data = bare.datasets[0]
    blank = np.full_like(data.cells.conf_low, np.nan)
    cells = replace(data.cells, conf_low=blank, conf_high=blank, note="one unit: no interval")
    text = report_files(replace(bare, datasets=(replace(data, cells=cells),)))["index.html"].decode()
    assert "20 of 20 intervals include 0" not in text
    assert "20 of 20 cells have no interval" in text
    assert "0 of 0 intervals include 0" in text


def test_a_failed_write_keeps_the_old_file(
    bare: Evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "index.html").write_text("old")

    def full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        report(bare, target)
    assert (target / "index.html").read_text() == "old"
    assert [path.name for path in target.iterdir()] == ["index.html"]


def test_an_earlier_report_leaves_nothing_stale_and_nothing_else_is_touched(
    bare: Evidence, tmp_path: Path
) -> None:
    target = tmp_path / "out"
    (target / "tables").mkdir(parents=True)
    for name in ("tables/cells-9-gone.csv", "notes.txt", "report.pdf"):
        (target / name).write_text("old")
    outside = tmp_path / "precious.txt"
    outside.write_text("mine")
    named = dict.fromkeys(
        ["tables/cells-9-gone.csv", "notes.txt", "../precious.txt", "tables/../../precious.txt"], "0"
    )
    (target / "manifest.json").write_text(json.dumps({"files": named}))
    report(bare, target)
    assert not (target / "tables/cells-9-gone.csv").exists()
    assert (target / "notes.txt").exists()
    assert outside.exists()


def test_the_room_does_not_hide_the_verb(bare: Evidence, tmp_path: Path) -> None:
    import transferstats
    import transferstats.reporting

    transferstats.report(bare, tmp_path)
    assert (tmp_path / "index.html").is_file()


def test_importing_the_room_loads_neither_matplotlib_nor_jinja2() -> None:
    code = (
        "import sys, transferstats.reporting; print(sorted({'matplotlib', 'jinja2', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_the_room_computes_no_statistics_and_knows_no_other_room() -> None:
    folder = Path(transferstats.reporting.__file__).parent
    for path in folder.glob("*.py"):
        found = re.findall(
            r"^\s*(?:from|import) (transferstats\.(?:stats|lens|engine|evidence|readers)\b|scipy|statsmodels)",
            path.read_text(),
            re.M,
        )
        assert found == [], path.name
