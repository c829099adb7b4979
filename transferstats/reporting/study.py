"""A report drawn and laid out: what the page, the Markdown and the PDF are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transferstats.reporting.canvas import draw_pdf, draw_svg
from transferstats.reporting.content import Content
from transferstats.reporting.pictures import Picture
from transferstats.reporting.tables import Table


@dataclass(frozen=True, slots=True)
class Drawn:
    """A picture with its SVG and its PDF."""

    picture: Picture
    svg: str
    pdf: bytes


@dataclass(frozen=True, slots=True)
class Study:
    """All parts of one report, drawn and laid out but not yet written."""

    content: Content
    drawn: tuple[Drawn, ...]

    @property
    def tables(self) -> tuple[tuple[str, Table], ...]:
        """(section, table) of every table."""
        return self.content.tables


def drawn_study(told: Content) -> Study:
    """What a report says, with every picture drawn."""
    return Study(told, tuple(_drawn(one) for one in told.pictures))


def _drawn(picture: Picture) -> Drawn:
    drawing = picture.draw()
    svg = draw_svg(drawing)
    # The layout stands after the first drawing; doing it again would only cost time.
    drawing.set_layout_engine("none")
    return Drawn(picture, svg, draw_pdf(drawing))


def jsonable(value: Any) -> Any:
    """Provenance as JSON can hold it: mappings by sorted text keys, sets sorted, everything unknown as text."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(one) for key, one in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(str(one) for one in value)
    if isinstance(value, list | tuple):
        return [jsonable(one) for one in value]
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else str(value)
    return str(value)
