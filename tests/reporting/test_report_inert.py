"""Names that come from data come out inert and legible in every format."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from xml.etree import ElementTree

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transferstats.reporting import formats
from transferstats.reporting.documents import report_files
from transferstats.reporting.layout import Cell, Column
from transferstats.reporting.renderers import csv_text, escape_latex, escape_markdown, guard_formula, typst_string
from transferstats.reporting.tables import Table
from transferstats.results import Evidence

NASTY = {
    "markup": "<script>alert(1)</script><img src=x onerror=alert(2)> & \"quoted\" 'single'",
    "tex": "100% of $x_1$ & {\\input{/etc/passwd}} #5 ~ ^ \\end{table}",
    "formula": "=HYPERLINK(\"http://example.invalid\";\"x\")\r\n+1\t-2",
    "template": "{{ 7*7 }} {% raw %} </style></svg> ]]> <!-- --> &lt;b&gt;",
    "right to left": "\u0634\u0628\u0643\u0629 \u202eevil\u202c \u05e9\u05dc\u05d5\u05dd",
    "markdown": "| a | **b** [c](javascript:alert(1)) `d` http://example.invalid @user <b>",
    "control": "nul\x00 bell\x07 zero\u200bwidth",
    "long": "W" * 300,
    "typst": '#let x = 1; \\u{41} "end" ]$*_@label <tag>',
}  # fmt: skip


REPORTS = {
    "markup": NASTY["markup"] + NASTY["template"] + NASTY["markdown"],
    "formula": NASTY["formula"] + NASTY["tex"] + NASTY["typst"],
    "long": NASTY["right to left"] + NASTY["control"] + NASTY["long"],
}
"""Whole reports are slow, so each bears three names at once."""


class Tags(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module", params=REPORTS.values(), ids=REPORTS.keys())
def nasty(request: pytest.FixtureRequest, renamed: Callable[[str], Evidence]) -> tuple[str, Mapping[str, bytes]]:
    """A hostile name and the files of a report in which everything bears it."""
    name = str(request.param)
    return name, report_files(renamed(name))


def test_page_holds_the_name_as_text_only(nasty: tuple[str, Mapping[str, bytes]]) -> None:
    name, files = nasty
    page = Tags()
    page.feed(files["index.html"].decode())
    names = [tag for tag, _ in page.tags]
    assert names.count("script") == 1
    assert {"img", "iframe", "object", "embed", "form", "base"}.isdisjoint(names)
    for tag, attributes in page.tags:
        assert not [key for key in attributes if key.startswith("on")], tag
        target = attributes.get("href") or attributes.get("src") or ""
        assert re.fullmatch(r"(#[\w.:-]+|data:,|[\w./-]+\.(csv|tex|typ|json|bib|md|svg|pdf)|)", target), target
    assert formats.legible(name) in "".join(page.text)


def test_figures_are_well_formed_and_hold_no_script(nasty: tuple[str, Mapping[str, bytes]]) -> None:
    name, files = nasty
    shown = ""
    for path, content in files.items():
        if path.endswith(".svg"):
            tree = ElementTree.fromstring(content.decode())
            for element in tree.iter():
                assert element.tag.rsplit("}", 1)[-1] not in ("script", "foreignObject", "image")
                assert not [key for key in element.attrib if key.rsplit("}", 1)[-1].startswith("on")]
                href = element.attrib.get("{http://www.w3.org/1999/xlink}href", "#")
                assert href.startswith("#")
            shown += "".join(tree.itertext())
    assert formats.legible(name, 18)[:-1].strip() in shown


def test_file_names_never_come_from_data(nasty: tuple[str, Mapping[str, bytes]]) -> None:
    assert all(re.fullmatch(r"(tables/|figures/)?[A-Za-z0-9][\w.-]*", path) for path in nasty[1])


def test_csv_cells_run_no_formula_and_rows_stay_whole(nasty: tuple[str, Mapping[str, bytes]]) -> None:
    for path, content in nasty[1].items():
        if not path.endswith(".csv"):
            continue
        rows = list(csv.reader(io.StringIO(content.decode(), newline="")))
        assert {len(row) for row in rows} == {len(rows[0])}, path
        for cell in (cell for row in rows for cell in row):
            number = re.fullmatch(r"-?(\d[\d.]*(e[+-]?\d+)?|Inf)", cell)
            assert number or not cell.lstrip().startswith(("=", "+", "-", "@", "\t", "\r")), (path, cell[:40])


def test_markdown_tables_keep_their_columns_and_their_text(nasty: tuple[str, Mapping[str, bytes]]) -> None:
    name, files = nasty
    text = files["report.md"].decode()
    assert not re.search(r"<(?!U\+)\w", text.replace("\\<", ""))
    assert not re.search(
        r"\]\((?!figures/|tables/|manifest|references)", text.replace("\\]", "").replace("\\(", "")
    )
    block: list[int] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("| "):
            block.append(len(re.findall(r"(?<!\\)\|", line)))
        else:
            assert len(set(block)) <= 1, line
            block = []
    assert escape_markdown(name) in text


def test_latex_tables_hold_one_table_and_no_command_from_data(nasty: tuple[str, Mapping[str, bytes]]) -> None:
    for path, content in nasty[1].items():
        if path.startswith("tables/") and path.endswith(".tex"):
            assert b"\\input" not in content
            assert content.count(b"\\end{table}") == 1


def test_json_and_macros_read_back(nasty: tuple[str, Mapping[str, bytes]]) -> None:
    name, files = nasty
    assert json.loads(files["manifest.json"])["subject"] == formats.legible(name)
    json.loads(files["numbers.json"])
    for line in files["numbers.tex"].decode().splitlines():
        assert re.fullmatch(r"%.*|\\newcommand\{\\[A-Za-z]+\}\{([^%]|\\%)*\}% [ -~]*", line), line


@pytest.mark.parametrize("name", NASTY.values(), ids=NASTY.keys())
def test_latex_leaves_no_special_character_alive(name: str) -> None:
    text = escape_latex(name)
    assert text.isascii()
    for known in (
        r"\\(textbackslash|textasciicircum|textasciitilde|ldots|char\d+)\{\}",
        r"\\ensuremath\{\\?[A-Za-z<>|-]+\}",
        r"\\[&%$#_{},]",
        r"~",
        r"\{-\}",
    ):
        text = re.sub(known, "", text)
    assert not re.search(r"[\\{}$&#%_^~]", text)


@pytest.mark.parametrize("name", NASTY.values(), ids=NASTY.keys())
def test_typst_literals_end_where_they_should(name: str) -> None:
    literal = typst_string(name)
    assert literal[0] == literal[-1] == '"'
    assert not re.search(r'(?<!\\)(\\\\)*"', literal[1:-1])


def test_formula_guard_leaves_harmless_text_alone() -> None:
    assert guard_formula("layer 0->1") == "layer 0->1"
    assert guard_formula("=1+1") == "'=1+1"
    assert guard_formula("  @x") == "'  @x"


def test_a_table_escapes_titles_notes_and_footnotes() -> None:
    name = NASTY["markup"]
    shown = Table(
        "t",
        name,
        (Column(name),),
        ((Cell(name, name, "", name),),),
        name,
        pd.DataFrame({name: [name]}),
        ((name, name),),
    )
    assert "<script" not in shown.html()
    assert "<script" not in shown.markdown()
    assert "<img" not in shown.html()
    assert shown.typst().count("#figure(") == 1
    assert csv_text(shown.data).count("\n") == 2


HOSTILE = st.text(
    alphabet=st.one_of(
        st.sampled_from(
            list("<>&\"'\\{}$#%_^~|*`[]()=+-@!/;:\n\r\t\x00\x1b\u202e\u202d\u200f\u2028\u05e9\u0634\ud800")
        ),
        st.characters(),
    ),
    min_size=1,
    max_size=300,
)


@settings(max_examples=200)
@given(HOSTILE)
def test_any_text_is_inert_in_every_syntax(name: str) -> None:
    columns = (Column("a"), Column("b", "r"))
    shown = Table("t", name, columns, ((Cell(name), Cell("1")),), name, pd.DataFrame({"x": [name]}))
    page = Tags()
    page.feed(shown.html())
    assert {tag for tag, _ in page.tags} <= {
        "div",
        "table",
        "caption",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "bdi",
        "p",
    }
    assert formats.legible(name) in "".join(page.text)
    row = next(line for line in shown.markdown().splitlines() if line.endswith("| 1 |"))
    assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) == 3
    assert not re.search(r"<(?=[A-Za-z/!?])", row)
    assert shown.latex().count("\\end{tabular}") == 1
    assert len(shown.latex().splitlines()) == 14
    literal = typst_string(name)
    assert not re.search(r'(?<!\\)(\\\\)*"', literal[1:-1])
    cell = list(
        csv.reader(io.StringIO(csv_text(shown.data).encode("utf-8", "backslashreplace").decode(), newline=""))
    )[1]
    assert len(cell) == 1
    assert not cell[0].lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r"))
    lines = shown.text().splitlines()
    assert lines[3].endswith(" 1")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202a-\u202e\u2066-\u2069]", shown.text())
