"""Tables, named numbers and references: what stands in them, and in which syntax."""

from __future__ import annotations

import io
import math
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from transferstats.reporting import cite, numbers, table
from transferstats.reporting.citations import BIBLIOGRAPHY
from transferstats.reporting.layout import Cell, Column
from transferstats.reporting.macros import camel
from transferstats.reporting.renderers import escape_markdown
from transferstats.reporting.tables import Table
from transferstats.results import COLUMNS, Estimates, Evidence

SMALL = Table(
    "small",
    "A & B",
    (Column("Term"), Column("Estimate", "r")),
    ((Cell("x_1"), Cell("\u22120.5 [\u22121.0, 0.0]", -0.5)), (Cell("50 %"), Cell("1", 1.0, "", "nats"))),
    "100 % of it.",
    pd.DataFrame({"term": ["x_1", "y"], "estimate": [-0.5, math.nan], "ok": [True, False]}),
    (("a", "few seeds"),),
)


def test_latex_snapshot() -> None:
    assert SMALL.latex() == (
        "\\begin{table}\n\\centering\n\\caption{A \\& B}\n\\label{tab:small}\n"
        "\\footnotesize\\setlength{\\tabcolsep}{4pt}\n"
        "\\begin{tabular}{@{}lr@{}}\n\\toprule\n"
        "Term & Estimate \\\\\n\\midrule\n"
        "x\\_1 & \\ensuremath{-}0.5 [\\ensuremath{-}1.0, 0.0] \\\\\n50 \\% & "
        "\\begin{tabular}[t]{@{}r@{}}1\\\\nats\\end{tabular} \\\\\n"
        "\\bottomrule\n\\end{tabular}\n"
        "\\par\\smallskip{\\footnotesize 100 \\% of it.\\par}\n"
        "\\par\\smallskip{\\footnotesize a: few seeds.\\par}\n"
        "\\end{table}\n"
    )


def test_markdown_snapshot() -> None:
    assert SMALL.markdown() == (
        "**A & B**\n\n| Term | Estimate |\n| :--- | ---: |\n| x\\_1 | \u22120.5 \\[\u22121.0, 0.0\\] |\n"
        "| 50 % | 1 nats |\n\n100 % of it.\n\na: few seeds.\n"
    )


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("1. not a list", "&#49;. not a list"),
        ("- not a list", "&#45; not a list"),
        ("# not a heading", "&#35; not a heading"),
        ("a <b> & c &lt; < 1", "a &lt;b> & c &amp;lt; < 1"),
        ("0.5 [0.4, 0.6]", "0.5 \\[0.4, 0.6\\]"),
        ("http://x.invalid @y", "http&#58;//x.invalid &#64;y"),
    ],
)
def test_markdown_escapes_what_starts_a_line(text: str, safe: str) -> None:
    assert escape_markdown(text) == safe


def test_typst_snapshot() -> None:
    assert SMALL.typst() == (
        '#figure(\n  kind: table,\n  caption: "A & B",\n  table(\n'
        "    columns: 2, align: (left, right,), stroke: none,\n"
        '    table.hline(), table.header(strong("Term"), strong("Estimate")), table.hline(stroke: 0.5pt),\n'
        '    "x_1", "\u22120.5 [\u22121.0, 0.0]",\n    "50 %", "1 nats",\n'
        "    table.hline(),\n  ),\n) <tab-small>\n"
        '#par(text(size: 0.85em, "100 % of it."))\n#par(text(size: 0.85em, "a: few seeds."))\n'
    )


def test_csv_is_spelled_for_r() -> None:
    assert SMALL.csv() == "term,estimate,ok\nx_1,-0.5,TRUE\ny,NA,FALSE\n"


def test_html_marks_headers_and_sort_keys() -> None:
    html = SMALL.html()
    assert html.count('scope="col"') == 2
    assert html.count('scope="row"') == 2
    assert 'data-sort="-0.5"' in html
    assert "<caption>A &amp; B</caption>" in html


def test_claims_put_the_average_first_and_each_caveat_once(study: Evidence) -> None:
    shown = table(study)
    assert [row[2].text for row in shown.rows[:3]] == ["average", "code", "wikitext"]
    reasons = ["3 seeds: valid, but wide", "a second caveat", "the study has no shared lens"]
    assert [text for _, text in shown.footnotes] == reasons
    inconclusive = next(row for row in shown.rows if row[6].text == "inconclusive")
    assert inconclusive[7].text == "a, b"
    untested = next(row for row in shown.rows if row[6].text == "not tested")
    assert [cell.text for cell in untested[3:6]] == ["\u2013"] * 3


def test_untested_claims_become_one_row_with_the_reason(study: Evidence) -> None:
    untested = study.claims[-1]
    twice = replace(study, claims=(*study.claims, replace(untested, dataset="wikitext")))
    rows = [row for row in table(twice).rows if row[6].text == "not tested"]
    assert [row[2].text for row in rows] == ["all"]
    other = replace(study, claims=(*study.claims, replace(untested, dataset="wikitext", reason="another reason")))
    assert len([row for row in table(other).rows if row[6].text == "not tested"]) == 2


def test_every_result_is_a_table_with_the_shared_columns(study: Evidence) -> None:
    data = study.datasets[0]
    for one in (data.cells, data.fits["linear"], data.comparison, study.claims[0], study, data):
        shown = table(one)
        assert shown.rows
        assert all(len(row) == len(shown.columns) for row in shown.rows)
        assert tuple(shown.data)[: len(COLUMNS)] == COLUMNS
        read = pd.read_csv(io.StringIO(shown.csv()))
        assert len(read) == len(shown.data)


def test_common_unit_and_sample_are_said_once(study: Evidence) -> None:
    shown = table(study.datasets[0].cells)
    assert "nats/token" in shown.headings[1]
    assert "Unit" not in shown.headings
    assert "3 seeds \u00d7 24 documents" in shown.note


def test_numbers_have_unique_names_of_letters_only(study: Evidence) -> None:
    named = numbers(study)
    assert len(named) > 50
    assert all(re.fullmatch(r"[A-Za-z]+", name) for name in named)
    tex = re.findall(r"\\newcommand\{\\(\w+)\}", named.tex())
    assert tex == list(named)
    assert len(set(tex)) == len(tex)


def test_numbers_carry_the_estimate_at_full_precision(study: Evidence) -> None:
    named = numbers(study)
    mean = study.datasets[0].summary.pick("mean")
    assert named.entries["TransferWikitextMean"].value == float(mean.estimate)
    assert named.entries["TransferWikitextMeanLow"].value == float(mean.conf_low)
    assert named["TransferWikitextMeanCI"].startswith("[0.")
    assert named["TransferClaimCTwoVerdict"] == "exceeds"
    assert named["TransferSmallest"] == "0.05"


def test_a_changed_grid_changes_the_numbers(study: Evidence) -> None:
    summary = study.datasets[0].summary
    moved = replace(summary, estimate=summary.estimate + 0.1, conf_high=summary.conf_high + 0.2)
    changed = replace(study, datasets=(replace(study.datasets[0], summary=moved), *study.datasets[1:]))
    assert numbers(changed).tex() != numbers(study).tex()


def test_names_that_collide_get_a_letter(study: Evidence) -> None:
    twins = tuple(replace(data, dataset=name) for data, name in zip(study.datasets, ("a-b", "A b"), strict=True))
    named = numbers(replace(study, datasets=twins))
    assert "TransferABMean" in named.entries
    assert "TransferABMeanXA" in named.entries


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("wikitext-103", "WikitextOneZeroThree"),
        ("\u05e9\u05dc", "Unnamed"),
        ("half_distance", "HalfDistance"),
        ("C4", "CFour"),
    ],
)
def test_macro_names(text: str, name: str) -> None:
    assert camel(text) == name


def test_references_are_those_of_the_methods_used(study: Evidence, bare: Evidence) -> None:
    full = set(re.findall(r"@\w+\{(\w+),", cite(study)))
    assert full == {
        "belrose2023", "nostalgebraist2020", "martens2015", "owen2007", "schuett2023", "schuirmann1987",
        "holm1979", "golub1973", "hurvich1989", "wu1986", "kline2012",
    }  # fmt: skip
    small = set(re.findall(r"@\w+\{(\w+),", cite(bare)))
    assert small == {"belrose2023", "owen2007", "schuett2023", "schuirmann1987", "holm1979"}


def test_bibliography_is_well_formed() -> None:
    for key, entry in BIBLIOGRAPHY.items():
        assert re.match(rf"@\w+\{{{key},", entry)
        assert entry.count("{") == entry.count("}")
        assert re.search(r"\byear = \{\d{4}\}", entry)
        assert entry.isascii()


def test_bootstrap_estimates_cite_the_bootstrap(study: Evidence) -> None:
    one = replace(study.datasets[0].summary.pick(0), replicates=np.zeros(10))
    assert "diciccio1996" in cite(one)
    assert "diciccio1996" not in cite(study.datasets[0].summary)


def test_estimates_over_datasets_are_named_by_dataset(study: Evidence) -> None:
    ones = tuple(data.summary.pick("mean") for data in study.datasets)
    named = numbers(Estimates(ones))
    assert {"TransferWikitextMean", "TransferCodeMean"} <= set(named)
