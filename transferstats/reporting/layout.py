"""What a table shows before it is written in any syntax: cells, columns, title, notes, the rows behind them."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: what is read, what it sorts by (a number or text), its tone (a verdict, "short", ""), an aside."""

    text: str
    sort: float | str = ""
    tone: str = ""
    aside: str = ""

    @property
    def full(self) -> str:
        """Text and aside on one line."""
        return f"{self.text} {self.aside}".strip()


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its heading, "l" or "r", and whether its sentences may break to take the width that is left."""

    heading: str
    align: str = "l"
    wraps: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    """What a table shows, for any renderer; text is plain, each renderer makes it inert in its own syntax.

    Attributes
    ----------
    name: file name and label, ascii. title: caption. columns: of :class:`Column`.
    rows: cells, as many a row as columns.
    note: what a reader must know (interval, adjustment). data: full precision, for the CSV.
    footnotes: (mark, text) of the marks in the cells.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    data: pd.DataFrame = field(default_factory=pd.DataFrame)
    footnotes: tuple[tuple[str, str], ...] = ()

    @property
    def headings(self) -> tuple[str, ...]:
        """Headings of the columns, in order."""
        return tuple(column.heading for column in self.columns)
