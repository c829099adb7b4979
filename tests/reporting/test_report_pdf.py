"""report.pdf: the same bytes twice, hostile names and all; without typst the manifest says why there is none."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace

import pandas as pd
import pytest
import required

from transferstats.reporting.content import content
from transferstats.reporting.documents import report_files
from transferstats.reporting.pdf import MISSING, source
from transferstats.reporting.study import Study
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


def test_a_section_whose_tables_are_too_long_does_not_claim_that_there_are_none(study: Evidence) -> None:
    """Certificates of many lenses do not fit on paper: the page says where they are."""
    many = pd.concat([study.certificates.assign(layer=str(number)) for number in range(40)], ignore_index=True)
    typeset = source(Study(content(replace(study, certificates=many)), ()))
    assert "came without certificates" not in typeset
    assert "Certificates of the lenses, over seeds and layers" in typeset
    without = source(Study(content(replace(study, certificates=many.iloc[:0])), ()))
    assert "came without certificates" in without


def test_a_pdf_that_cannot_be_set_is_warned_about(bare: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    required.module("typst")
    monkeypatch.setattr("transferstats.reporting.pdf.PREAMBLE", "#no-such-function()\n")
    with pytest.warns(UserWarning, match=r"typst could not set it .*no-such-function"):
        files = report_files(bare)
    assert "report.pdf" not in files
    assert "could not set it" in json.loads(files["manifest.json"])["remarks"][0]
    assert "index.html" in files
