"""The figures of a report, each with its caption, alternative text and data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from transferstats.arrays import FloatArray
from transferstats.reporting import captions, formats
from transferstats.reporting.data_limits import curve_alt, curve_caption, draw_curve
from transferstats.reporting.figures import figure
from transferstats.reporting.figures_claims import draw_forest, draw_shares
from transferstats.reporting.figures_curves import draw_by_layer, draw_depth, draw_distance
from transferstats.reporting.figures_matrix import cells_matrix, draw_matrix, includes_zero
from transferstats.reporting.figures_null import null_frame
from transferstats.reporting.figures_path import draw_path
from transferstats.reporting.figures_plan import draw_plan
from transferstats.reporting.sentences import scalar_terms
from transferstats.reporting.tables import ordered_claims
from transferstats.results import (
    DatasetEvidence,
    DecayFit,
    DecayFits,
    Estimate,
    Evidence,
    LearningCurve,
    NullTest,
    StudyPlan,
    TrainingPath,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A figure of a report.

    Attributes
    ----------
    name: file name, ascii. section: where in the report it stands. group: dataset, "" for all of them.
    title: short heading.
    caption: what is drawn and what the intervals are. alt: what somebody who cannot see it must know.
    draw: makes the matplotlib figure. data: the numbers drawn, full precision.
    """

    name: str
    section: str
    group: str
    title: str
    caption: str
    alt: str
    draw: Callable[[], Figure]
    data: pd.DataFrame


def slug(position: int, name: str) -> str:
    """A file name for a dataset: its position, and what of its name is plain ascii."""
    plain = "".join(c.lower() if c.isascii() and c.isalnum() else "-" for c in name)
    plain = "-".join(part for part in plain.split("-") if part)[:24].strip("-")
    return f"{position + 1}-{plain}" if plain else str(position + 1)


def pictures(x: Evidence) -> Iterator[Picture]:
    """All figures of the report of one subject, in reading order."""
    yield Picture(
        name="claims",
        section="verdicts",
        group="",
        title="Forest of claims",
        caption=captions.forest(x),
        alt=captions.forest_alt(x),
        draw=lambda: draw_forest(ordered_claims(x.claims)),
        data=x.tidy(),
    )
    for position, data in enumerate(x.datasets):
        tail = slug(position, data.dataset)
        yield from _matrices(x, data, tail)
        yield from _null(x, data, tail)
        yield from _learning(data, tail)
        yield _distance(x, data, tail)
        yield _depth(x, data, tail)
        yield from _ladder(x, data, tail)
        yield from _by_layer(x, data, tail)
        yield from _path(x, data, tail)
        yield _shares(x, data, tail)
        yield from _plans(data, tail)


def _matrices(x: Evidence, data: DatasetEvidence, tail: str) -> Iterator[Picture]:
    observed = cells_matrix(data.cells, data.matrix)
    found: dict[str, tuple[FloatArray, Estimate | None]] = {"penalty": (observed, data.cells)}
    null = data.extras.get("null_matrix")
    if isinstance(null, np.ndarray) and null.shape == data.matrix.shape:
        found["null"] = (null, None)
    excess = data.extras.get("excess")
    if isinstance(excess, Estimate) and len(excess.terms) == len(data.cells.terms):
        found["excess"] = (cells_matrix(excess, np.zeros_like(data.matrix)), excess)
    off = ~np.eye(len(x.layers), dtype=bool)
    largest = max(float(np.nanmax(np.abs(values[off]), initial=0.0)) for values, _ in found.values())
    for kind, (values, cells) in found.items():
        unsure = np.zeros(values.shape, dtype=bool)
        if cells is not None:
            unsure = includes_zero(np.atleast_1d(cells.conf_low), np.atleast_1d(cells.conf_high), len(x.layers))
        label = f"{captions.MATRICES[kind]}, {formats.legible(x.unit, 40)}"
        yield Picture(
            name=f"{kind}-matrix-{tail}",
            section="matrix",
            group=formats.legible(data.dataset),
            title=f"{captions.MATRICES[kind].capitalize()}, {formats.legible(data.dataset)}",
            caption=captions.matrix(x, data, kind, _without_interval(cells)),
            alt=captions.matrix_alt(values, unsure, x.layers, captions.MATRICES[kind], _without_interval(cells)),
            draw=_drawing(values, unsure, x.layers, label, largest),
            data=matrix_frame(values, cells, x.layers, x.unit),
        )


def _without_interval(cells: Estimate | None) -> int | None:
    """How many cells have no interval; None where no interval belongs to the matrix."""
    return None if cells is None else int((~np.isfinite(np.atleast_1d(cells.conf_low))).sum())


def _null(x: Evidence, data: DatasetEvidence, tail: str) -> Iterator[Picture]:
    test = data.extras.get("null_test")
    if isinstance(test, NullTest):
        yield Picture(
            name=f"null-distribution-{tail}",
            section="matrix",
            group=formats.legible(data.dataset),
            title=f"Mean penalty by seed and by null replicate, {formats.legible(data.dataset)}",
            caption=captions.null_distribution(test),
            alt=captions.null_distribution_alt(test),
            draw=lambda: figure(test),
            data=null_frame(test),
        )


def _learning(data: DatasetEvidence, tail: str) -> Iterator[Picture]:
    curve = data.extras.get("learning_curve")
    if isinstance(curve, LearningCurve):
        yield Picture(
            name=f"learning-curve-{tail}",
            section="data",
            group=formats.legible(data.dataset),
            title=f"Mean penalty against training rows, {formats.legible(data.dataset)}",
            caption=curve_caption(curve, data.dataset),
            alt=curve_alt(curve, data.dataset),
            draw=lambda: draw_curve(curve, data.dataset),
            data=curve.tidy(),
        )


def _drawing(
    values: FloatArray, unsure: npt.NDArray[np.bool_], layers: tuple[str, ...], label: str, largest: float
) -> Callable[[], Figure]:
    return lambda: draw_matrix(values, unsure, layers, label=label, largest=largest)


def matrix_frame(values: FloatArray, cells: Estimate | None, layers: tuple[str, ...], unit: str) -> pd.DataFrame:
    """Long table of a matrix: source and target by index and name, direction, value, interval if there is one."""
    source, target = np.nonzero(~np.eye(len(layers), dtype=bool))
    if cells is not None and len(cells.terms) == len(source):
        frame = cells.tidy()
    else:
        frame = pd.DataFrame({"estimate": values[source, target], "unit": unit})
    return frame.assign(
        source=source,
        target=target,
        source_layer=[layers[i] for i in source],
        target_layer=[layers[i] for i in target],
        direction=np.where(target > source, "forward", "backward"),
    )


def _distance(x: Evidence, data: DatasetEvidence, tail: str) -> Picture:
    fits = decay_fits(data)
    banded = banded_family(data, fits)
    frames = [data.distances.tidy().assign(part="mean at distance")]
    frames += [fit.frame() for fit in fits.values()]
    label = f"penalty, {formats.legible(x.unit, 40)}"
    return Picture(
        name=f"distance-{tail}",
        section="distance",
        group=formats.legible(data.dataset),
        title=f"Penalty against distance, {formats.legible(data.dataset)}",
        caption=captions.distance(x, data, fits, banded),
        alt=captions.distance_alt(data, fits),
        draw=lambda: draw_distance(data.cells, data.distances, fits, layers=x.layers, label=label, banded=banded),
        data=pd.concat(frames, ignore_index=True),
    )


def decay_fits(data: DatasetEvidence) -> dict[str, DecayFit]:
    """Decay fits of one dataset by family, whatever else ``fits`` may hold."""
    found: dict[str, DecayFit] = {}
    for name, fit in data.fits.items():
        chosen = (
            next((one for one in fit if one.dataset == data.dataset), None) if isinstance(fit, DecayFits) else fit
        )
        if isinstance(chosen, DecayFit):
            found[name] = chosen
    return found


def banded_family(data: DatasetEvidence, fits: Mapping[str, DecayFit]) -> str:
    """The family whose band is drawn: the smallest AICc of the comparison, else of the fits themselves."""
    if not fits:
        return ""
    return min(fits, key=lambda name: fits[name].aicc if np.isfinite(fits[name].aicc) else np.inf)


def _depth(x: Evidence, data: DatasetEvidence, tail: str) -> Picture:
    frame = data.depth.tidy().assign(readout="own lens")
    rows = [
        {"term": layer, "estimate": float(value), "unit": x.unit, "readout": name}
        for name, values in data.references.items()
        for layer, value in zip(data.depth.terms, np.broadcast_to(values, len(data.depth.terms)), strict=True)
        if np.ndim(values) == 0 or np.size(values) == len(data.depth.terms)
    ]
    return Picture(
        name=f"depth-{tail}",
        section="depth",
        group=formats.legible(data.dataset),
        title=f"Loss by depth, {formats.legible(data.dataset)}",
        caption=captions.depth(x, data),
        alt=captions.depth_alt(data, x.layers),
        draw=lambda: draw_depth(
            data.depth, data.references, x.layers, label=f"{x.loss}, {formats.legible(x.unit, 40)}"
        ),
        data=pd.concat([frame, pd.DataFrame(rows)], ignore_index=True) if rows else frame,
    )


def _ladder(x: Evidence, data: DatasetEvidence, tail: str) -> Iterator[Picture]:
    names = {"gap_shared": "one shared lens", "gap_tied": "one linear map, a bias a layer"}
    series = _series(x, data, names)
    if series:
        yield Picture(
            name=f"ladder-{tail}",
            section="depth",
            group=formats.legible(data.dataset),
            title=f"Share of the gap from logit lens to own lens closed, {formats.legible(data.dataset)}",
            caption=captions.ladder(x, data),
            alt=captions.by_layer_alt(series, x.layers),
            draw=lambda: draw_by_layer(series, x.layers, label="share of the gap closed", reference=1.0),
            data=_by_series(series),
        )


def _series(x: Evidence, data: DatasetEvidence, names: Mapping[str, str]) -> dict[str, Estimate]:
    """Label -> those of the extras that have one value a layer."""
    return {
        label: data.extras[key]
        for key, label in names.items()
        if isinstance(data.extras.get(key), Estimate) and len(data.extras[key].terms) == len(x.layers)
    }


def _by_series(series: Mapping[str, Estimate]) -> pd.DataFrame:
    return pd.concat([one.tidy().assign(series=name) for name, one in series.items()], ignore_index=True)


def _by_layer(x: Evidence, data: DatasetEvidence, tail: str) -> Iterator[Picture]:
    names = {"shared": "shared-lens excess S", "shared_null": "S beyond the shared-lens null"}
    series = _series(x, data, names)
    if not series:
        return
    yield Picture(
        name=f"shared-{tail}",
        section="shared",
        group=formats.legible(data.dataset),
        title=f"Shared-lens excess by layer, {formats.legible(data.dataset)}",
        caption=captions.shared(x, data, tuple(series)),
        alt=captions.by_layer_alt(series, x.layers),
        draw=lambda: draw_by_layer(series, x.layers, label=f"excess loss, {formats.legible(x.unit, 40)}"),
        data=_by_series(series),
    )


def _path(x: Evidence, data: DatasetEvidence, tail: str) -> Iterator[Picture]:
    """Penalty along the training of the lenses, where the study followed them."""
    path = data.extras.get("path")
    if isinstance(path, TrainingPath):
        yield Picture(
            name=f"path-{tail}",
            section="path",
            group=formats.legible(data.dataset),
            title=f"Penalty along the training of the lenses, {formats.legible(data.dataset)}",
            caption=captions.path(path, x.smallest),
            alt=captions.path_alt(path),
            draw=lambda: draw_path(path, smallest=x.smallest),
            data=path.tidy(),
        )


def _shares(x: Evidence, data: DatasetEvidence, tail: str) -> Picture:
    terms = scalar_terms(data.summary)
    return Picture(
        name=f"shares-{tail}",
        section="shares",
        group=formats.legible(data.dataset),
        title=f"Where the variance comes from, {formats.legible(data.dataset)}",
        caption=captions.shares(x, data),
        alt=captions.shares_alt(terms),
        draw=lambda: draw_shares(terms),
        data=data.summary.tidy(),
    )


def _plans(data: DatasetEvidence, tail: str) -> Iterator[Picture]:
    """The curve of a plan, where the evidence has one."""
    plan = data.extras.get("plan")
    if isinstance(plan, StudyPlan):
        yield Picture(
            name=f"plan-{tail}",
            section="shares",
            group=formats.legible(data.dataset),
            title=f"What a larger study would show, {formats.legible(data.dataset)}",
            caption=captions.plan(plan),
            alt=captions.plan_alt(plan),
            draw=lambda: draw_plan(plan),
            data=plan.tidy(),
        )
