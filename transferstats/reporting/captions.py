"""Captions and alternative texts: what a figure shows, and what its intervals are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from transferstats.arrays import FloatArray
from transferstats.reporting import formats, wording
from transferstats.reporting.figures_matrix import MOST_PRINTED
from transferstats.results import (
    Claim,
    DatasetEvidence,
    DecayFit,
    Estimate,
    Evidence,
    NullTest,
    StudyPlan,
    TrainingPath,
)

MATRICES: Mapping[str, str] = {
    "penalty": "mean transfer penalty",
    "null": "penalty under the shared-lens null",
    "excess": "penalty in excess of the shared-lens null",
}


def _ci(x: Evidence) -> str:
    return f"{formats.level(x.conf_level)} interval"


def forest(x: Evidence) -> str:
    """Caption of the forest of claims."""
    return (
        f"Estimate and {_ci(x)} behind each verdict, one panel a unit. The shaded bar of a row is the region "
        "that was declared too small to matter; rows without one are judged against 0. Claims that could not be "
        "tested are left out. Intervals are for new seeds and new "
        f"{wording.sampled(x.datasets, x.unit)}, each claim on its own; the verdicts rest on these intervals and "
        "the "
        "table states the p-values adjusted for their number."
    )


def forest_alt(x: Evidence) -> str:
    """Verdict of each row in words."""
    return rows_alt(x.claims)


def rows_alt(claims: Sequence[Claim]) -> str:
    """Verdict of each row in words."""
    rows = [f"{claim.key} {claim.dataset}: {claim.verdict}" for claim in claims]
    return formats.legible(f"Intervals of {len(rows)} claims. " + "; ".join(rows) + ".", 1200)


def matrix(x: Evidence, data: DatasetEvidence, kind: str, missing: int | None = 0) -> str:
    """Caption of a heat map."""
    what = {
        "penalty": f"Mean penalty over {wording.design_size(data, x.unit)}: the loss of the "
        "lens trained on the row's layer and used on the column's, minus the loss of the column's own lens.",
        "null": "The same matrix in the world in which one shared lens is exactly right for every layer, averaged "
        "over null replicates: the penalty that comes from how lenses are trained, not from the layers.",
        "excess": "Observed penalty minus its mean under the shared-lens null, cell by cell.",
    }[kind]
    mark = "Hatched with italic numbers" if len(x.layers) <= MOST_PRINTED else "Dotted"
    marks = (
        f" {mark}: the cell's {_ci(x)} includes 0 (each cell on its own, not adjusted for "
        f"{len(data.cells.terms)} cells)."
    )
    if missing:
        marks += f" {missing} of {len(data.cells.terms)} cells have no interval; they are marked too."
    return (
        f"{what} Rows are sources, columns are targets; the diagonal is 0 by construction and left out. Colour "
        "steps follow the square root of the size, blue above 0 and orange below."
        + ("" if kind == "null" else marks)
    )


def matrix_alt(
    values: FloatArray, unsure: npt.NDArray[np.bool_], layers: tuple[str, ...], name: str, missing: int | None
) -> str:
    """Extremes of a heat map, and how many cells are in doubt; ``missing`` is None where none has an interval."""
    off = ~np.eye(len(layers), dtype=bool)
    if not np.isfinite(values[off]).any():
        return f"Heat map of the {name}; no cell is available."
    masked = np.where(off, values, np.nan)
    places = (np.unravel_index(find(masked), values.shape) for find in (np.nanargmax, np.nanargmin))
    largest, smallest = (
        f"{formats.number(float(values[place]))}, from layer {layers[place[0]]} used on layer {layers[place[1]]}"
        for place in places
    )
    text = (
        f"Heat map of the {name}, {len(layers)} source layers by {len(layers)} target layers. "
        f"Largest {largest}; smallest {smallest}."
    )
    if missing is None:
        return formats.legible(text)
    known = int(off.sum()) - missing
    if missing:
        text += f" {missing} of {int(off.sum())} cells have no interval."
    return formats.legible(f"{text} {int(unsure[off].sum()) - missing} of {known} intervals include 0.")


def null_distribution(test: NullTest) -> str:
    """Caption of seeds beside null replicates."""
    return (
        "Open marks: the statistic under each seed (circles) and each replicate of the shared-lens null "
        "(triangles); "
        "bars: their means. The test compares the means with the variance of seeds, replicates and units; the "
        f"{formats.plural(test.n_null, 'replicate')} are too few to rank the observed value among them."
    )


def null_distribution_alt(test: NullTest) -> str:
    """Range of seeds and of null replicates."""
    parts = []
    for one, seeds, null in zip(test.observed, test.seed_values, test.null_values, strict=False):
        ranges = [f"{formats.number(float(v.min()))} to {formats.number(float(v.max()))}" for v in (seeds, null)]
        parts.append(f"{one.dataset}: seeds from {ranges[0]}, null replicates from {ranges[1]}")
    return formats.legible("; ".join(parts) + ".")


def distance(x: Evidence, data: DatasetEvidence, fits: Mapping[str, DecayFit], banded: str) -> str:
    """Caption of penalty against distance."""
    text = (
        f"Small open marks: mean penalty of each cell (circle forward, triangle backward). Diamonds: mean over "
        f"the cells at a distance, with {_ci(x)}s for new seeds and new {wording.sampled([data], x.unit)}, "
        "pointwise. Cells at "
        "large distances involve the outermost layers only, so distance and layer are partly the same thing here."
    )
    if not fits:
        return text + " No decay curve was fitted."
    band = (
        f" Curves: least-squares fits to the cell means; the band is the pointwise {_ci(x)} of the "
        f"{banded.replace('_', '-')} family, the one with the smallest AICc among those drawn."
    )
    return text + band


def distance_alt(data: DatasetEvidence, fits: Mapping[str, DecayFit]) -> str:
    """Means by distance in words."""
    means = np.atleast_1d(data.distances.estimate)
    steps = ", ".join(
        f"{formats.legible(t, 30)}: {formats.number(float(m))}"
        for t, m in zip(data.distances.terms, means, strict=True)
    )
    curves = f" Fitted families: {', '.join(fits)}." if fits else ""
    return formats.legible(f"Mean penalty by layer distance: {steps}.{curves}", 900)


def depth(x: Evidence, data: DatasetEvidence) -> str:
    """Caption of loss by depth."""
    named = formats.joined([wording.reference_name(name) for name in data.references])
    text = (
        f"Loss of each layer's own lens with its {_ci(x)} for new seeds and new "
        f"{wording.sampled([data], x.unit)}, "
        f"pointwise. The loss is the {wording.LOSSES.get(x.loss, formats.legible(x.loss))}."
    )
    return text + (
        f" For comparison, without intervals: {named}." if named else " No reference loss was recorded."
    )


def depth_alt(data: DatasetEvidence, layers: tuple[str, ...]) -> str:
    """First and last layer in words."""
    values = np.atleast_1d(data.depth.estimate)
    text = (
        f"Own-lens loss is {formats.number(float(values[0]))} at layer {layers[0]} and "
        f"{formats.number(float(values[-1]))} at layer {layers[-1]}."
    )
    constant = [
        f"{wording.reference_name(name)} {formats.number(float(value))}"
        for name, value in data.references.items()
        if np.ndim(value) == 0
    ]
    return formats.legible(text + (f" References: {', '.join(constant)}." if constant else ""))


def ladder(x: Evidence, data: DatasetEvidence) -> str:
    """Caption of the share of the gap that simpler readouts close."""
    return (
        "How far a readout with fewer parameters gets from the logit lens (0, no parameters) to the layer's own "
        f"lens (1, dashed), as a share of the difference of their losses, with {_ci(x)}s for new seeds and new "
        f"{wording.sampled([data], x.unit)}, each layer on its own. Below 0 it is worse than no lens at all. "
        "Where there is no interval, the gap itself may be 0."
    )


def shared(x: Evidence, data: DatasetEvidence, series: Sequence[str]) -> str:
    """Caption of the shared-lens excess."""
    text = (
        "Loss of one lens trained on all layers at once, minus the loss of the layer's own lens, with "
        f"{_ci(x)}s for new seeds and new {wording.sampled([data], x.unit)}, each layer on its own."
    )
    if len(series) > 1:
        text += (
            " Second series: the same beyond the shared-lens null, which removes the own lenses' estimation error."
        )
    return text


def by_layer_alt(series: Mapping[str, Estimate], layers: tuple[str, ...]) -> str:
    """Range of each series in words."""
    parts = []
    for name, one in series.items():
        low, high = float(np.nanmin(one.estimate)), float(np.nanmax(one.estimate))
        parts.append(f"{name}: from {formats.number(low)} to {formats.number(high)}")
    return formats.legible(f"Over {len(layers)} layers. {'; '.join(parts)}.")


def path(x: TrainingPath, smallest: float) -> str:
    """Caption of penalty against held-out kl along the training of lenses."""
    noun = wording.sampled_nouns(x.penalty.unit, x.penalty.note)
    kept = "" if x.kept is None else " Large diamond: the lenses of the study on this fold."
    return (
        "Each line follows the own lenses of one fold from a start (open mark) over the doublings of their "
        "steps to the last (large mark). Across: their mean held-out kl, which falls to the right; a line that "
        "turns back is past its least. Up: the mean penalty over all pairs of layers, with its "
        f"{formats.level(x.penalty.conf_level)} interval for new {noun}, conditional on the lenses of this fold. "
        "From the identity, and from the shared lens, all lenses are one lens at first, and their penalty is 0 "
        "whatever the network does; near there, a small penalty says nothing about the network. Where lines meet "
        "at their right ends, the layers' own data settle the penalty, whatever the start; where they do not, "
        "lenses may have nearly the same held-out kl and other penalties. Dashed: the smallest penalty of "
        f"interest, {formats.trimmed(smallest)}.{kept} {wording.standing(x)}"
    )


def path_alt(x: TrainingPath) -> str:
    """Start and end of each line in words."""
    parts = []
    values = np.atleast_1d(x.penalty.estimate)
    for anchor in x.starts:
        first, last = (x.moments(anchor)[end] for end in (0, -1))
        parts.append(
            f"from {wording.start_name(anchor)}, held-out kl {formats.number(float(x.held_out_kl[first]))} to "
            f"{formats.number(float(x.held_out_kl[last]))} and penalty {formats.number(float(values[first]))} to "
            f"{formats.number(float(values[last]))} after {formats.count(float(x.steps[last]))} steps"
        )
    return formats.legible(f"Mean penalty against held-out kl: {'; '.join(parts)}.", 900)


def shares(x: Evidence, data: DatasetEvidence) -> str:
    """Caption of the variance shares."""
    noun = wording.sampled([data], x.unit)
    return (
        f"Each bar splits the variance of one estimate into what new seeds and what new {noun} contribute. Where "
        f"seeds dominate, more {noun} would hardly narrow the interval; where {noun} dominate, more seeds would "
        f"hardly. The study has {wording.design_size(data, x.unit)}."
    )


def shares_alt(terms: Sequence[Estimate]) -> str:
    """Shares in words."""
    parts = []
    for one in terms:
        split = ", ".join(f"{name} {formats.percent(float(share))}" for name, share in one.share_by_source.items())
        parts.append(f"{wording.term_name(one.terms[0])}: {split}")
    return formats.legible("; ".join(parts) + ".", 900)


def plan(x: StudyPlan) -> str:
    """Caption of half-width against units."""
    nouns = wording.sampled_nouns(x.estimate.unit, x.estimate.note)
    return (
        f"Expected half-width of the {formats.level(x.estimate.conf_level)} interval of the "
        f"{wording.term_name(x.estimate.terms[0]).lower()}, for new seeds and new {nouns}, if the study had other "
        f"numbers of them; from the variance components of this study, "
        f"{wording.plan_size(x.estimate, x.pilot_seeds, x.pilot_units)}, which are estimates themselves. "
        "Where the shaded region is drawn, half-widths in it are below the smallest penalty of interest."
    )


def plan_alt(x: StudyPlan) -> str:
    """Widest and narrowest plan in words."""
    unit = formats.legible(x.estimate.unit, 40)
    ends = []
    for index in (int(np.argmax(x.half_width)), int(np.argmin(x.half_width))):
        size = wording.plan_size(x.estimate, x.seeds[index], x.units[index])
        ends.append(f"{wording.in_unit(formats.number(float(x.half_width[index])), unit)} with {size}")
    return formats.legible(f"Expected half-width falls from {ends[0]} to {ends[1]}.")
