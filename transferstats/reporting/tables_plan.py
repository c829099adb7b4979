"""Plans as tables: one row a study that could be done."""

from __future__ import annotations

import math

from transferstats.reporting import formats, wording
from transferstats.reporting.layout import Cell, Column
from transferstats.reporting.tables import Table, table
from transferstats.results import StudyPlan, StudySize

__all__ = ["table"]


@table.register
def _plan(x: StudyPlan) -> Table:
    noun = wording.sampled_nouns(x.estimate.unit, x.estimate.note).capitalize()
    powered = math.isfinite(x.smallest[0])
    width = f"Expected half-width, {formats.legible(x.estimate.unit)}"
    headings = ["Seeds", noun, width, "Share from seeds", *(["P(exceeds)", "P(within)"] if powered else [])]
    columns = tuple(Column(heading, "r") for heading in headings)
    rows = []
    for index, half in enumerate(map(float, x.half_width)):
        seeds, units, share = float(x.seeds[index]), float(x.units[index]), float(x.share_seeds[index])
        row = [
            Cell(formats.count(seeds), seeds),
            Cell(formats.count(units), units),
            Cell(formats.number(half), half),
            Cell(formats.percent(share), share),
        ]
        powers = (float(x.power_exceeds[index]), float(x.power_within[index])) if powered else ()
        rows.append((*row, *(Cell(_power(power), power) for power in powers)))
    title = f"Studies planned for the {wording.term_name(x.estimate.terms[0]).lower()}"
    return Table("plan", title, columns, tuple(rows), _note(x, powered), x.tidy())


def _power(power: float) -> str:
    """A simulated probability: never quite 0 or 1."""
    return formats.percent(min(max(power, 0.001), 0.999))


def _note(x: StudyPlan, powered: bool) -> str:
    size = wording.plan_size(x.estimate, x.pilot_seeds, x.pilot_units)
    parts = [f"Numbers are per dataset. Half-widths of {formats.level(x.estimate.conf_level)} intervals"]
    parts[0] += f", expected from the variance components of a pilot of {size}"
    if powered:
        parts.append(
            f"P(exceeds) is the probability of the verdict if the true value is {formats.number(x.effect)}, "
            f"P(within) if it is 0, against {wording.bounds(x.smallest)}"
        )
    return ". ".join([*parts, *([formats.legible(x.note).capitalize()] if x.note else [])]) + "."


@table.register
def _size(x: StudySize) -> Table:
    nouns = wording.sampled_nouns(x.estimate.unit, x.estimate.note)
    headings = ("Seeds", f"{nouns} needed".capitalize(), "Expected half-width", f"With endless {nouns}")
    rows = []
    for seeds, units, reached, floor in zip(x.seeds, x.units, x.half_width, x.floor, strict=True):
        known = math.isfinite(units)
        rows.append(
            (
                Cell(formats.count(float(seeds)), float(seeds)),
                Cell(formats.count(float(units)) if known else "no number suffices", float(units)),
                Cell(formats.number(float(reached)) if known else formats.EN_DASH, float(reached)),
                Cell(formats.number(float(floor)), float(floor)),
            )
        )
    wanted = wording.in_unit(formats.trimmed(x.target), x.estimate.unit)
    note = (
        f"Numbers are per dataset; half-widths of {formats.level(x.estimate.conf_level)} intervals in "
        f"{formats.legible(x.estimate.unit)}, expected from the variance components of a pilot of "
        f"{wording.plan_size(x.estimate, x.pilot_seeds, x.pilot_units)}."
    )
    if x.note:
        note += f" {formats.legible(x.note).capitalize()}."
    return Table(
        "size",
        f"Size of a study with a half-width of {wanted}",
        tuple(Column(heading, "r") for heading in headings),
        tuple(rows),
        note,
        x.tidy(),
    )
