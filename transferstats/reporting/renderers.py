"""Tables in the syntax of HTML, Markdown, LaTeX, Typst and CSV, with foreign text made inert in each."""

from __future__ import annotations

import json
import re
from html import escape

import pandas as pd

from transferstats.reporting import formats, wording
from transferstats.reporting.layout import Cell, Column, Layout
from transferstats.results import to_r_csv

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""First characters that make a spreadsheet read a text cell as a formula."""

LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "^": r"\textasciicircum{}",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "%": r"\%",
    "<": r"\ensuremath{<}",
    ">": r"\ensuremath{>}",
    "|": r"\ensuremath{|}",
    '"': r"\char34{}",
    "'": r"\char39{}",
    "`": r"\char96{}",
    "-": r"{-}",
    formats.MINUS: r"\ensuremath{-}",
    formats.EN_DASH: "--",
    "\u00d7": r"\ensuremath{\times}",
    "\u00b1": r"\ensuremath{\pm}",
    "\u00a0": "~",
    "\u202f": r"\,",
    "\u2026": r"\ldots{}",
    "\u201c": "``",
    "\u201d": "''",
    "\u00df": r"\ss{}",
    "\u21b5": r"\ensuremath{\hookleftarrow}",
    "\u2192": r"\ensuremath{\rightarrow}",
    "\u0394": r"\ensuremath{\Delta}",
    "\u03c4": r"\ensuremath{\tau}",
    "\u221e": r"\ensuremath{\infty}",
}
"""What pdfLaTeX needs for characters that are markup, or that its fonts do not hold."""

LONG_HEADING = 14
"""Characters above which a LaTeX heading takes two lines."""

MARKDOWN = re.compile(r"([\\`*_{}\[\]|~$])")
"""Characters that mean something anywhere in a line of Markdown."""

MARKDOWN_START = re.compile(r"^(\s*)([#+=>-](?=\s|$|[#=>-])|\d+(?=[.)](\s|$)))")
"""What means something at the beginning of a line only."""


def escape_latex(text: str) -> str:
    """Text that pdfLaTeX prints as it is; characters that its fonts lack become <U+0634>."""
    shown = formats.legible(text)
    return "".join(LATEX.get(character) or _latex_letter(character) for character in shown)


def _latex_letter(character: str) -> str:
    if ord(character) < 128 or (
        0xC0 <= ord(character) <= 0xFF and character not in "\u00d7\u00f7\u00d0\u00de\u00f0\u00fe"
    ):
        return character
    return rf"\ensuremath{{<}}U+{ord(character):04X}\ensuremath{{>}}"


def escape_markdown(text: str) -> str:
    """Text that Markdown (and the HTML it may become) prints as it is, links and mentions included."""
    shown = re.sub(r"&(?=#?\w)", "&amp;", formats.legible(text))
    shown = MARKDOWN.sub(r"\\\1", re.sub(r"<(?=[A-Za-z/!?])", "&lt;", shown))
    shown = MARKDOWN_START.sub(lambda found: _entity(found.group(2), found.group(1)), shown)
    return shown.replace("://", "&#58;//").replace("www.", "www&#46;").replace("@", "&#64;")


def _entity(text: str, before: str) -> str:
    """The first character as an entity: a number at the start of a line cannot be escaped by a backslash."""
    return f"{before}&#{ord(text[0])};{text[1:]}"


def typst_string(text: str) -> str:
    """A Typst string literal: JSON's escapes, with Typst's spelling of code points."""
    return re.sub(r"\\u([0-9a-fA-F]{4})", r"\\u{\1}", json.dumps(formats.legible(text), ensure_ascii=False))


def csv_text(frame: pd.DataFrame) -> str:
    """CSV in R's spelling; a text cell that a spreadsheet would run as a formula gets a leading apostrophe."""
    guarded = frame.astype(object)
    guarded.columns = pd.Index([guard_formula(str(column)) for column in frame.columns])
    guarded = guarded.map(lambda value: guard_formula(value) if isinstance(value, str) else value)
    return to_r_csv(guarded)


def guard_formula(text: str) -> str:
    """Text that no spreadsheet runs, with line ends that CSV readers agree on and no unprintable characters."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    shown = "\n".join(formats.legible(line) for line in lines)
    return f"'{shown}" if text.lstrip(" ").startswith(FORMULA_STARTS) else shown


def html_table(table: Layout, *, sortable: bool = False, caption: bool = True) -> str:
    """The table as HTML: a caption, column headers with scope, row headers, its note and footnotes.

    A sortable table states its roles, because narrow screens lay its rows out as blocks.
    """
    head = "".join(_html_heading(column, sortable) for column in table.columns)
    open_row = '<tr role="row">' if sortable else "<tr>"
    body = "".join(f"{open_row}{_html_row(row, table, sortable)}</tr>\n" for row in table.rows)
    label = escape(formats.legible(table.title))
    title = f"<caption>{label}</caption>" if caption else ""
    kind = ' class="sortable" role="table"' if sortable else ""
    group = ' role="rowgroup"' if sortable else ""
    return (
        f'<div class="scroll" role="region" aria-label="{label}" tabindex="0">\n<table{kind}>{title}\n'
        f"<thead{group}>{open_row}{head}</tr></thead>\n<tbody{group}>\n{body}</tbody>\n</table>\n</div>\n"
        + _html_notes(table)
    )


def _html_notes(table: Layout) -> str:
    note = f'<p class="note">{escape(formats.legible(table.note))}</p>' if table.note else ""
    if table.footnotes:
        marked = (f"<dt>{escape(mark)}</dt><dd><bdi>{escape(text)}</bdi></dd>" for mark, text in table.footnotes)
        note += f'<dl class="footnotes">{"".join(marked)}</dl>'
    return note


def _html_heading(column: Column, sortable: bool) -> str:
    text, side = escape(column.heading), column.align
    if sortable:
        return f'<th scope="col" role="columnheader" class="{side}"><button type="button">{text}</button></th>'
    return f'<th scope="col" class="{side}">{text}</th>'


def _html_row(row: tuple[Cell, ...], table: Layout, sortable: bool) -> str:
    cells = []
    for index, (cell, column) in enumerate(zip(row, table.columns, strict=True)):
        tag, more = ("td", "") if index else ("th", ' scope="row"')
        if sortable:
            more += f' role="{"cell" if index else "rowheader"}" data-label="{escape(column.heading)}"'
        sort = f' data-sort="{escape(_sort_key(cell))}"' if cell.sort != "" else ""
        cells.append(f'<{tag}{more} class="{column.align}"{sort}>{_html_text(cell)}</{tag}>')
    return "".join(cells)


def _sort_key(cell: Cell) -> str:
    return repr(float(cell.sort)) if isinstance(cell.sort, float | int) else formats.legible(cell.sort)


def _html_text(cell: Cell) -> str:
    mark = wording.VERDICT_MARKS.get(cell.tone)
    if mark:
        kind = cell.tone.replace(" ", "-")
        return f'<span class="chip {kind}"><span aria-hidden="true">{mark}</span> {escape(cell.text)}</span>'
    text = f"<bdi>{escape(cell.text)}</bdi>"
    text = f'<span class="{escape(cell.tone)}">{text}</span>' if cell.tone else text
    return f'{text} <span class="aside">{escape(cell.aside)}</span>' if cell.aside else text


def notes(table: Layout) -> list[str]:
    """The note and the footnotes, as plain text."""
    return [text for text in (table.note, *(f"{mark}: {text}." for mark, text in table.footnotes)) if text]


def markdown_table(table: Layout) -> str:
    """The table as a Markdown pipe table, with its title above and its note below."""
    rule = {"l": ":---", "r": "---:"}
    lines = [f"**{escape_markdown(table.title)}**", ""]
    lines.append("| " + " | ".join(escape_markdown(name) or "&nbsp;" for name in table.headings) + " |")
    lines.append("| " + " | ".join(rule[column.align] for column in table.columns) + " |")
    lines += ["| " + " | ".join(escape_markdown(cell.full) for cell in row) + " |" for row in table.rows]
    for text in notes(table):
        lines += ["", escape_markdown(text)]
    return "\n".join(lines) + "\n"


def latex_table(table: Layout) -> str:
    """The table as LaTeX: needs ``\\usepackage{booktabs}``; label ``tab:<name>``; the note below it."""
    columns = "".join(r"p{0.25\linewidth}" if column.wraps else column.align for column in table.columns)
    head = " & ".join(_stacked(*_halves(column.heading), column.align) for column in table.columns)
    rows = [
        " & ".join(_latex_cell(cell, column.align) for cell, column in zip(row, table.columns, strict=True))
        for row in table.rows
    ]
    note = [rf"\par\smallskip{{\footnotesize {escape_latex(text)}\par}}" for text in notes(table)]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape_latex(table.title)}}}",
            rf"\label{{tab:{table.name}}}",
            r"\footnotesize\setlength{\tabcolsep}{4pt}",
            rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}",
            r"\toprule",
            head + r" \\",
            r"\midrule",
            *(row + r" \\" for row in rows),
            r"\bottomrule",
            r"\end{tabular}",
            *note,
            r"\end{table}",
            "",
        ]
    )


def _latex_cell(cell: Cell, side: str) -> str:
    return _stacked(cell.text, cell.aside, side)


def _stacked(above: str, below: str, side: str) -> str:
    """One line, or two in a nested tabular: wide tables must fit the width of a page."""
    if not below:
        return escape_latex(above)
    inner = f"{escape_latex(above)}\\\\{escape_latex(below)}"
    return rf"\begin{{tabular}}[t]{{@{{}}{side}@{{}}}}{inner}\end{{tabular}}"


def _halves(heading: str) -> tuple[str, str]:
    """A long heading in two lines, broken at the space nearest to its middle."""
    if len(heading) <= LONG_HEADING or " " not in heading:
        return heading, ""
    spaces = [index for index, letter in enumerate(heading) if letter == " "]
    middle = min(spaces, key=lambda index: abs(index - len(heading) / 2))
    return heading[:middle], heading[middle + 1 :]


def typst_table(table: Layout) -> str:
    """The table as a Typst figure with a label; all text in string literals, so none of it is markup."""
    sides = ", ".join("right" if column.align == "r" else "left" for column in table.columns)
    head = ", ".join(f"strong({typst_string(name)})" for name in table.headings)
    rows = "".join("    " + ", ".join(typst_string(cell.full) for cell in row) + ",\n" for row in table.rows)
    note = "".join(f"#par(text(size: 0.85em, {typst_string(text)}))\n" for text in notes(table))
    return (
        f"#figure(\n  kind: table,\n  caption: {typst_string(table.title)},\n  table(\n"
        f"    columns: {len(table.columns)}, align: ({sides},), stroke: none,\n"
        f"    table.hline(), table.header({head}), table.hline(stroke: 0.5pt),\n{rows}    table.hline(),\n  ),\n"
        f") <tab-{table.name}>\n{note}"
    )
