"""The report as PDF, through the optional typst wheel; the same bytes every time."""

from __future__ import annotations

import datetime
import importlib.util
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from transferstats.reporting import wording
from transferstats.reporting.content import Chapter
from transferstats.reporting.layout import Cell
from transferstats.reporting.renderers import notes, typst_string
from transferstats.reporting.study import Drawn, Study
from transferstats.reporting.tables import Table

ENGINE = "typst"
MISSING = "report.pdf was not written: typst is not installed (pip install 'transferstats[pdf]' brings it)"

MOST_ROWS = 24
"""Longer tables stay in the CSV: a reader of paper does not look up single cells."""

WIDEST, TALLEST = 101.0, 195.0
"""Millimetres of a floating figure: 58 % of the text width, and a page without title and caption."""

WHOLE = 14
"""Tables of up to this many rows are not torn apart by the end of a page."""

PREAMBLE = """#set page(paper: "a4", margin: (x: 18mm, y: 20mm), numbering: "1 / 1")
#set text(size: 9.5pt, lang: "en")
#set par(justify: false, leading: 0.6em)
#set heading(numbering: none)
#show heading.where(level: 1): set text(size: 17pt)
#show heading.where(level: 2): it => block(above: 1.6em, below: 0.8em, sticky: true, text(size: 12.5pt, it.body))
#set table(stroke: none, inset: (x: 4pt, y: 3.2pt))
#show table: set text(size: 8pt)
#let note(body) = text(size: 8pt, fill: luma(35%), body)
#let plate(file, title, caption) = block(breakable: false, width: 100%)[
  #text(weight: "bold", size: 9pt, title)
  #image(file, width: 100%)
  #note(caption)
]
"""


def try_pdf(study: Study, figures: Mapping[str, bytes]) -> tuple[bytes | None, str]:
    """PDF bytes and no remark, or None and the reason why there is no PDF.

    ``figures`` are the PDF figures of the report by name.
    """
    if importlib.util.find_spec(ENGINE) is None:
        return None, MISSING
    typst: Any = importlib.import_module(ENGINE)
    with tempfile.TemporaryDirectory() as folder:
        for name, content in figures.items():
            (Path(folder) / f"{name}.pdf").write_bytes(content)
        main = Path(folder) / "report.typ"
        main.write_text(source(study), encoding="utf-8")
        try:
            # Only the fonts inside typst: a machine's own would change lines and bytes.
            pdf = typst.compile(
                str(main),
                root=folder,
                timestamp=datetime.datetime.fromtimestamp(0, datetime.UTC),
                ignore_system_fonts=True,
            )
        except (RuntimeError, TypeError) as problem:
            reason = " ".join(str(problem).replace(folder, "").split())
            remark = f"report.pdf was not written: typst could not set it ({reason})"
            # The other files are whole, so they are not withheld; but nobody should miss the PDF by chance.
            warnings.warn(remark, stacklevel=2)
            return None, remark
    return bytes(pdf), ""


def source(study: Study) -> str:
    """The report in Typst; all foreign text stands in string literals."""
    told = study.content
    title = told.title
    parts = [f"#set document(title: {typst_string(title)}, date: none)", PREAMBLE]
    parts += [f"#heading(level: 1, {typst_string(title)})", _text(told.lead)]
    parts += [_heading("Verdicts"), *_tables(study, "verdicts"), *_floating(study, "verdicts")]
    parts += [_heading("In sentences"), *(_text(one) for one in told.sentences)]
    for chapter in told.chapters:
        body = [*_plates(study, chapter.anchor), *_tables(study, chapter.anchor)]
        parts += [_heading(chapter.heading), f"#block(sticky: true, note({typst_string(chapter.introduction)}))"]
        parts += body or [_text(_instead(study, chapter))]
    parts.append(_heading("Design and estimand"))
    rows = ", ".join(f"strong({typst_string(term)}), {typst_string(text)}" for term, text in told.design)
    parts.append(f"#table(columns: (9em, 1fr), {rows})")
    parts += [_heading("What these data cannot show"), f"#list({', '.join(typst_string(t) for t in told.limits)})"]
    parts.append(_text("Data of every figure and table, references and provenance lie beside this file."))
    return "\n\n".join(parts) + "\n"


def _instead(study: Study, chapter: Chapter) -> str:
    """What stands where a section shows nothing: its tables are too long for paper, or there are none."""
    long = [shown.name for section, shown in study.tables if section == chapter.anchor]
    if not long:
        return chapter.absent
    return f"Tables too long for paper lie beside this file: {', '.join(f'tables/{name}.csv' for name in long)}."


def _heading(text: str) -> str:
    return f"#heading(level: 2, {typst_string(text)})"


def _text(text: str) -> str:
    return f"#par({typst_string(text)})"


def _plates(study: Study, section: str) -> list[str]:
    plates = [_plate(one) for one in study.drawn if one.picture.section == section]
    if not plates:
        return []
    columns = "(58%,)" if len(plates) == 1 else "(1fr, 1fr)"
    return [f"#grid(columns: {columns}, gutter: 14pt, {', '.join(plates)})"]


def _floating(study: Study, section: str) -> Iterator[str]:
    """Figures that may move to the top or foot of a page, so that a tall one leaves no page half empty."""
    for one in study.drawn:
        if one.picture.section == section:
            body = f"block(width: {_width(one.svg):.1f}mm, {_plate(one)})"
            yield f"#place(auto, float: true, clearance: 14pt, block(width: 100%, align(left, {body})))"


def _width(svg: str) -> float:
    """Millimetres at which a drawing leaves room for its title and caption on one page."""
    width, height = (float(size) for size in re.findall(r'(?:width|height)="([\d.]+)pt"', svg)[:2])
    return min(WIDEST, TALLEST * width / height)


def _plate(one: Drawn) -> str:
    picture = one.picture
    return f'plate("{picture.name}.pdf", {typst_string(picture.title)}, {typst_string(picture.caption)})'


def _tables(study: Study, section: str) -> Iterator[str]:
    for belongs, shown in study.tables:
        if belongs == section and len(shown.rows) <= MOST_ROWS * (4 if section == "verdicts" else 1):
            yield _table(shown)


def _table(shown: Table) -> str:
    widths = ", ".join("1fr" if column.wraps else "auto" for column in shown.columns)
    sides = ", ".join("right" if column.align == "r" else "left" for column in shown.columns)
    head = ", ".join(f"strong({typst_string(name)})" for name in shown.headings)
    rows = "\n".join(", ".join(_cell(cell) for cell in row) + "," for row in shown.rows)
    below = "\n".join(f"#par(note({typst_string(text)}))" for text in notes(shown))
    title = f'#block(sticky: true, text(weight: "bold", size: 9pt, {typst_string(shown.title)}))'
    inner = (
        f"{title}\n#table(columns: ({widths},), align: ({sides},), table.hline(), table.header({head}),\n"
        f"table.hline(stroke: 0.5pt),\n{rows}\ntable.hline())\n{below}"
    )
    return f"#block(breakable: {'false' if len(shown.rows) <= WHOLE else 'true'}, width: 100%)[\n{inner}\n]"


def _cell(cell: Cell) -> str:
    mark = wording.VERDICT_MARKS.get(cell.tone)
    text = typst_string(f"{mark}\u00a0{cell.text}" if mark else cell.text)
    return f"[#{text} #linebreak() #note({typst_string(cell.aside)})]" if cell.aside else text
