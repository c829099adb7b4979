"""What other methods say of a dataset, as tables: reliability, a mixed model, the order of the layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from transferstats.reporting import formats, wording
from transferstats.reporting.layout import Cell, Column
from transferstats.reporting.tables import Table, table
from transferstats.results import DatasetEvidence, Estimate, MixedSlope, QapResult, Reliability

__all__ = ["appendix_tables", "table"]


def appendix_tables(data: DatasetEvidence, tail: str, name: str) -> Iterator[tuple[str, Table]]:
    """(section, table) of each check that was made; ``tail`` ends file names, ``name`` is the dataset's."""
    for key in ("reliability", "order_test"):
        if key in data.extras:
            shown = table(data.extras[key])
            yield "appendix", renamed(shown, f"{key.replace('_', '-')}-{tail}", f"{shown.title}, {name}")
    mixed = data.extras.get("mixed_slope")
    if isinstance(mixed, MixedSlope):
        shown = slopes(data.summary.pick("slope"), mixed)
        yield "appendix", renamed(shown, f"mixed-slope-{tail}", f"{shown.title}, {name}")


def renamed(shown: Table, name: str, title: str) -> Table:
    """The same table under another name."""
    return replace(shown, name=name, title=title)


@table.register
def _reliability(x: Reliability) -> Table:
    rows = []
    for one in x.coefficients:
        value, limits = formats.with_interval(one.estimate, one.conf_low, one.conf_high)
        known = one.conf_low == one.conf_low
        rows.append(
            (
                Cell(wording.term_name(one.term), one.term),
                Cell(f"{value} {limits}" if known else value, one.estimate),
                Cell(formats.legible(one.method), one.method),
                Cell(formats.legible(one.note), one.note),
            )
        )
    note = (
        "Agreement about the pattern of cells, 1 at most: of seeds, by intraclass correlations (A,1: one seed; "
        "C,1: one seed up to shifts of the whole matrix; C,k: the mean over seeds), and of halves."
    )
    columns = (
        Column("Coefficient"),
        Column("Value [95\u00a0% interval]"),
        Column("Method"),
        Column("Note", wraps=True),
    )
    return Table("reliability", "Reliability of the penalty matrix", columns, tuple(rows), note, x.tidy())


@table.register
def _order(x: QapResult) -> Table:
    rows = tuple(
        (
            Cell(formats.legible(term), term),
            Cell(formats.number(float(x.partial_correlation[index])), float(x.partial_correlation[index])),
            Cell(formats.p_number(float(x.p_value[index])), float(x.p_value[index])),
            Cell(formats.p_number(float(x.floor[index])), float(x.floor[index])),
            Cell(x.verdicts()[index], x.verdicts()[index]),
        )
        for index, term in enumerate(x.terms)
    )
    columns = (
        Column("Predictor"),
        Column("Partial correlation", "r"),
        Column("p", "r"),
        Column("Smallest possible p", "r"),
        Column("Verdict", wraps=True),
    )
    note = f"{formats.legible(x.method)}, {x.alternative}. Question: {formats.legible(x.question)}."
    return Table("qap", "Permutation test of the order of the layers", columns, rows, note, x.tidy())


@table.register
def _mixed(x: MixedSlope) -> Table:
    return _slopes(x.tidy())


def slopes(crossed: Estimate, mixed: MixedSlope) -> Table:
    """The slope on distance as verdicts rest on it, and by the mixed model."""
    return _slopes(pd.concat([crossed.tidy(), mixed.tidy()], ignore_index=True))


def _slopes(frame: pd.DataFrame) -> Table:
    level, unit = formats.level(float(frame["conf_level"].iloc[0])), formats.legible(frame["unit"].iloc[-1])
    rows = []
    for row in frame.to_dict("records"):
        value, limits = formats.with_interval(*(float(row[key]) for key in ("estimate", "conf_low", "conf_high")))
        numbers = (
            (formats.number, float(row["std_error"])),
            (formats.degrees, float(row["df"])),
            (formats.p_number, float(row["p_value"])),
        )
        rows.append(
            (
                Cell(formats.legible(row["method"]), str(row["method"])),
                Cell(f"{value} {limits}", float(row["estimate"])),
                *(Cell(shown(number), number) for shown, number in numbers),
                Cell(formats.legible(row["note"]) or formats.EN_DASH, str(row["note"])),
            )
        )
    columns = (
        Column("Method", wraps=True),
        Column(f"Estimate [{level} interval], {unit}"),
        *(Column(heading, "r") for heading in ("SE", "df", "p")),
        Column("Note"),
    )
    note = (
        "Verdicts rest on the crossed interval. The mixed model weights units in blocks of one size alike, and "
        "its degrees of freedom are those of the seeds."
    )
    return Table("mixed-slope", "Slope on distance by a mixed model", columns, tuple(rows), note, frame)
