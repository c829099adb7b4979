"""Results as tables: rounded cells to read, beside the full-precision rows they came from."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any

import numpy as np
import pandas as pd

from transferstats.reporting import formats, wording
from transferstats.reporting.layout import Cell, Column, Layout
from transferstats.reporting.plain import plain_table
from transferstats.reporting.renderers import csv_text, html_table, latex_table, markdown_table, typst_table
from transferstats.results import AVERAGE, Claim, DatasetEvidence, Estimate, Evidence, Result


@dataclass(frozen=True, slots=True)
class Table(Layout):
    """A table: what it shows, with a method for each syntax."""

    def __str__(self) -> str:
        return markdown_table(self)

    def _repr_html_(self) -> str:
        return html_table(self)

    def html(self) -> str:
        """The table as an HTML fragment."""
        return self._repr_html_()

    def markdown(self) -> str:
        """The table in Markdown (pipe table)."""
        return str(self)

    def text(self) -> str:
        """The table as aligned plain text, for a terminal."""
        return plain_table(self)

    def latex(self) -> str:
        """The table in LaTeX (booktabs), with a label and its note."""
        return latex_table(self)

    def typst(self) -> str:
        """The table as a Typst figure."""
        return typst_table(self)

    def csv(self) -> str:
        """The full-precision rows as CSV in R's spelling, text cells guarded against formulas."""
        return csv_text(self.data)


@singledispatch
def table(x: object) -> Table:
    """A result as a table.

    Parameters
    ----------
    x: any result. Evidence gives its table of claims.

    Returns
    -------
    :class:`Table`, with ``html()``, ``latex()``, ``typst()``, ``markdown()`` and ``csv()``.

    Raises
    ------
    TypeError: x is not a result.

    Examples
    --------
    >>> import transferstats as ts
    >>> grid = ts.simulate_grid(n_seeds=4, n_units=40, rng=1).grid
    >>> shown = ts.table(ts.estimate(grid, "mean"))
    >>> shown.headings[:2]
    ('Term', 'Estimate [95\\xa0% interval], nats/token')
    >>> shown.latex().splitlines()[0]
    '\\\\begin{table}'
    """
    raise TypeError(f"no table for {type(x).__name__}; pass a result of transferstats")


@table.register
def _result(x: Result) -> Table:
    """Any result: its tidy rows."""
    return tidy_table(x.tidy(), name=x.kind, title=x.kind.replace("_", " ").capitalize())


@table.register
def _estimate(x: Estimate) -> Table:
    where = wording.dataset_phrase(x.dataset)
    return tidy_table(x.tidy(), name="estimates", title="Estimates" + (f", {where}" if where else ""))


@table.register
def _dataset(x: DatasetEvidence) -> Table:
    return tidy_table(
        x.summary.tidy(), name="summary", title=f"Summary of penalties, {wording.dataset_phrase(x.dataset)}"
    )


@table.register
def _claim(x: Claim) -> Table:
    return claims_table([x], x.tidy())


@table.register
def _evidence(x: Evidence) -> Table:
    return claims_table(x.claims, x.tidy())


def claims_table(claims: Iterable[Claim], data: pd.DataFrame, noun: str = "Claim") -> Table:
    """The table of verdicts: one row a claim (``noun``) and dataset, the average first; caveats as footnotes."""
    listed = merged_claims(ordered_claims(claims))
    marks = {text: _mark(i) for i, text in enumerate(dict.fromkeys(c for claim in listed for c in claim.caveats))}
    levels = {claim.estimate.conf_level for claim in listed if claim.estimate is not None}
    confidence = formats.level(levels.pop()) if len(levels) == 1 else "Confidence"
    return Table(
        "claims",
        "Verdicts on the claims",
        (
            Column("No."),
            Column(noun, wraps=True),
            Column("Dataset"),
            Column(f"Estimate [{confidence} interval]"),
            Column("p", "r"),
            Column("Adjusted p", "r"),
            Column("Verdict"),
            Column("Caveats"),
        ),
        tuple(_claim_row(claim, marks) for claim in listed),
        "Intervals are for new seeds and new units, each claim on its own. p belongs to the test behind the "
        "verdict; "
        "adjusted p is Holm-adjusted over the tested claims. A verdict of inconclusive leaves the question open.",
        data,
        tuple((mark, formats.legible(text)) for text, mark in marks.items()),
    )


def ordered_claims(claims: Iterable[Claim]) -> list[Claim]:
    """Claims in their order, the average over datasets before the single datasets."""
    listed = list(claims)
    position = {key: index for index, key in enumerate(dict.fromkeys(claim.key for claim in listed))}
    return sorted(listed, key=lambda claim: (position[claim.key], claim.dataset != AVERAGE))


def merged_claims(claims: list[Claim]) -> list[Claim]:
    """Claims that no dataset could test, for one and the same reason, as one row that gives the reason."""
    found: dict[str, list[Claim]] = {}
    for claim in claims:
        found.setdefault(claim.key, []).append(claim)
    merged: list[Claim] = []
    for group in found.values():
        first = group[0]
        reasons = {claim.reason for claim in group}
        if all(claim.estimate is None for claim in group) and len(reasons) == 1:
            name = first.dataset if len(group) == 1 else "all"
            merged.append(replace(first, dataset=name, caveats=(*first.caveats, first.reason)))
        else:
            merged.extend(group)
    return merged


def _mark(index: int) -> str:
    """a, b, ..., z, aa, ab, ..."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    return letters[index] if index < 26 else letters[index // 26 - 1] + letters[index % 26]


def _claim_row(claim: Claim, marks: Mapping[str, str]) -> tuple[Cell, ...]:
    key = formats.legible(claim.key)
    own = ", ".join(sorted({marks[text] for text in claim.caveats}, key=lambda mark: (len(mark), mark)))
    return (
        Cell(key, key),
        Cell(formats.legible(claim.title), claim.title),
        Cell(formats.legible(claim.dataset), claim.dataset),
        _estimate_cell(claim.estimate),
        _p_cell(claim.p_value),
        _p_cell(claim.p_adjusted),
        Cell(claim.verdict, claim.verdict, claim.verdict),
        Cell(own or formats.EN_DASH, own),
    )


def _p_cell(p: float) -> Cell:
    return Cell(formats.EN_DASH if math.isnan(p) else formats.p_number(p), p)


def _estimate_cell(estimate: Estimate | None, index: int = 0) -> Cell:
    if estimate is None:
        return Cell(formats.EN_DASH, math.nan)
    value, low, high = (
        float(np.atleast_1d(array)[index]) for array in (estimate.estimate, estimate.conf_low, estimate.conf_high)
    )
    shown, limits = formats.with_interval(value, low, high)
    return Cell(f"{shown} {limits}", value, "figure", formats.legible(estimate.unit))


def tidy_table(frame: pd.DataFrame, *, name: str, title: str, extra: Sequence[str] = ()) -> Table:
    """Tidy rows as a table: term, estimate with interval, standard error, t, df, p, sample.

    A unit, dataset or sample size that all rows share is said once, in the heading or the note.
    """
    levels = sorted(set(frame["conf_level"].dropna())) if len(frame) else []
    confidence = formats.level(levels[0]) if len(levels) == 1 else "confidence"
    units = list(dict.fromkeys(str(unit) for unit in frame["unit"]))
    sizes = list(dict.fromkeys(zip(frame["n_seeds"], frame["n_units"], strict=True)))
    varying = [
        key
        for key, several in (
            ("dataset", "dataset" in frame and len(set(frame["dataset"])) > 1),
            ("unit", len(units) > 1),
            ("n_seeds", len(sizes) > 1),
            ("n_units", len(sizes) > 1),
        )
        if several
    ]
    shown = [*varying, *(key for key in extra if key in frame)]
    estimate = f"Estimate [{confidence} interval]"
    if len(units) == 1 and units[0]:
        estimate += f", {formats.legible(units[0])}"
    return Table(
        name,
        title,
        (
            Column("Term"),
            Column(estimate),
            *(Column(heading, "r") for heading in ("SE", "t", "df", "p")),
            *map(_tidy_column, shown),
        ),
        tuple(_tidy_row(row, shown) for row in frame.to_dict("records")),
        _tidy_note(frame, sizes, units),
        frame,
    )


HEADINGS = {"n_seeds": "Seeds", "n_units": "Units"}
OTHERS = {"held_out_kl": "Held-out kl, nats"}
NUMERIC = ("std_error", "statistic", "df", "p_value")
WORDS = ("dataset", "unit", "family", "verdict")


def _tidy_column(key: str) -> Column:
    heading = {**HEADINGS, **OTHERS}.get(key, key.replace("_", " ").capitalize())
    return Column(heading, "l" if key in WORDS else "r")


def _tidy_row(row: Mapping[Hashable, Any], shown: Sequence[str]) -> tuple[Cell, ...]:
    value, low, high = (float(row[key]) for key in ("estimate", "conf_low", "conf_high"))
    text, limits = formats.with_interval(value, low, high)
    return (
        Cell(wording.term_name(str(row["term"])), str(row["term"])),
        Cell(f"{text} {limits}", value),
        *(_number_cell(float(row[key]), key) for key in NUMERIC),
        *(_count_cell(row[key]) if key in HEADINGS else _any_cell(row[key]) for key in shown),
    )


def _tidy_note(frame: pd.DataFrame, sizes: list[tuple[float, float]], units: list[str]) -> str:
    methods = formats.joined([formats.legible(m) for m in dict.fromkeys(frame["method"]) if m])
    if not methods:
        return ""
    known = len(sizes) == 1 and all(math.isfinite(float(size)) for size in sizes[0])
    stated = "; ".join(map(str, frame["note"]))
    sample = wording.sample_size(int(sizes[0][0]), int(sizes[0][1]), units[0], stated) if known and units else ""
    text = f"Interval: {methods}; each row on its own."
    text = f"{text} {_scope(sizes, stated)}; {sample}." if sample else text
    return text + _worse(frame)


def _worse(frame: pd.DataFrame) -> str:
    """The rows whose penalty is more than lenses gain over the prior, in words."""
    found = {str(row["dataset"]): wording.worse_than_prior(str(row["note"])) for row in frame.to_dict("records")}
    told = [f"{formats.legible(name)}: {text}" if len(found) > 1 else text for name, text in found.items() if text]
    text = "; ".join(told)
    return f" {text[:1].upper()}{text[1:]}." if told else ""


def _scope(sizes: list[tuple[float, float]], stated: str) -> str:
    """What the intervals of a table are for."""
    if wording.OWN_LENSES in stated:
        return "Estimates are for new units with lenses of their own"
    if sizes[0][0] == 1:
        return "Estimates are for new units and conditional on this one set of lenses"
    return "Estimates are for new seeds and new units"


def _number_cell(value: float, key: str) -> Cell:
    if math.isnan(value):
        return Cell(formats.EN_DASH, value)
    if key == "statistic":
        return Cell(formats.fixed(value, 2), value)
    return Cell({"p_value": formats.p_number, "df": formats.degrees}.get(key, formats.number)(value), value)


def _count_cell(value: float) -> Cell:
    return Cell(formats.count(float(value)), float(value))


def _any_cell(value: object) -> Cell:
    if isinstance(value, float | np.floating):
        return Cell("not available" if math.isnan(value) else formats.number(float(value)), float(value))
    return Cell(formats.legible(value), str(value))
