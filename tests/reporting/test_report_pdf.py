"""report.pdf: the same bytes twice, hostile names and all; without typst the manifest says why there is none."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Callable, Mapping

import pytest

from transferstats.reporting.documents import report_files
from transferstats.reporting.pdf import MISSING
from transferstats.results import Evidence


def need_typst() -> None:
    if importlib.util.find_spec("typst") is None:
        if os.environ.get("TRANSFERSTATS_REQUIRE_ALL") == "1":
            pytest.fail("TRANSFERSTATS_REQUIRE_ALL=1, but typst is not installed")
        pytest.skip("typst is not installed (extra pdf)")


def test_pdf_holds_hostile_names(renamed: Callable[[str], Evidence]) -> None:
    need_typst()
    files = report_files(renamed('#let x = 1; \\u{41} "end" ]$*_@label <tag> // \u05e9\u05dc'))
    assert files["report.pdf"].startswith(b"%PDF")
    assert json.loads(files["manifest.json"])["remarks"] == []


def test_pdf_has_no_date(study_files: Mapping[str, bytes]) -> None:
    need_typst()
    dates = set(re.findall(rb"D:(\d{4})", study_files["report.pdf"]))
    assert dates <= {b"1970"}


def test_without_typst_the_manifest_says_so(bare: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transferstats.reporting.pdf.ENGINE", "no_such_typesetter")
    files = report_files(bare)
    assert "report.pdf" not in files
    assert json.loads(files["manifest.json"])["remarks"] == [MISSING]
