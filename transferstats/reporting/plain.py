"""Tables as plain text for a terminal: columns aligned, no markup, no control characters."""

from __future__ import annotations

import textwrap

from transferstats.reporting import formats
from transferstats.reporting.layout import Layout
from transferstats.reporting.renderers import notes

WIDEST = 60
"""Characters of the widest column; a terminal cannot show longer names beside numbers."""

LINE = 100
"""Characters of a line of the notes."""


def plain_table(table: Layout) -> str:
    """The table as aligned text with its title above and its notes below."""
    cells = [[formats.legible(name, WIDEST) for name in table.headings]]
    cells += [[formats.legible(cell.full, WIDEST) for cell in row] for row in table.rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(table.columns))]
    lines = [_line(row, widths, [column.align for column in table.columns]) for row in cells]
    rule = "-" * min(LINE, sum(widths) + 2 * (len(widths) - 1))
    below = [line for text in notes(table) for line in textwrap.wrap(formats.legible(text), LINE)]
    return "\n".join([formats.legible(table.title), lines[0], rule, *lines[1:], *below]) + "\n"


def _line(row: list[str], widths: list[int], align: list[str]) -> str:
    sides = zip(row, widths, align, strict=True)
    return "  ".join(
        text.rjust(width) if side == "r" else text.ljust(width) for text, width, side in sides
    ).rstrip()
