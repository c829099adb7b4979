"""report.pdf: the same bytes twice, hostile names and all; without typst the manifest says why there is none."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping

import pytest
import required

from transferstats.reporting.documents import report_files
from transferstats.reporting.pdf import MISSING
from transferstats.results import Evidence


def test_pdf_holds_hostile_names(renamed: Callable[[str], Evidence]) -> None:
    required.module("typst")
    files = report_files(renamed('#let x = 1; \\u{41} "end" ]$*_@label <tag> // \u05e9\u05dc'))
    assert files["report.pdf"].startswith(b"%PDF")
    assert json.loads(files["manifest.json"])["remarks"] == []


def test_pdf_has_no_date(study_files: Mapping[str, bytes]) -> None:
    required.module("typst")
    dates = set(re.findall(rb"D:(\d{4})", study_files["report.pdf"]))
    assert dates <= {b"1970"}


def test_without_typst_the_manifest_says_so(bare: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transferstats.reporting.pdf.ENGINE", "no_such_typesetter")
    files = report_files(bare)
    assert "report.pdf" not in files
    assert json.loads(files["manifest.json"])["remarks"] == [MISSING]
