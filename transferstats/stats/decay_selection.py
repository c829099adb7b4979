"""Which shape does the decay of penalty with distance have, and how sure can one be of it?

Three views: AICc with n = cells, the error in predicting the row and column of a layer that was left out, and how
often each family wins when seeds and units are resampled. With few layers none of them singles out a functional
form, so the conclusion is about shape only: flat, straight, or bending.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from transferstats.arrays import FloatArray
from transferstats.distance import Distance, distance_name, off_diagonal
from transferstats.errors import DataError, DesignError
from transferstats.grid import TransferGrid
from transferstats.results.decay import DecayComparison, DecayComparisons
from transferstats.stats.bootstrap import DEFAULT_PLAN, Bootstrap
from transferstats.stats.curves import FEW_DISTANCES, fitted_values, information_criterion
from transferstats.stats.decay import mean_cells, summarise
from transferstats.stats.decay_terms import Side, decay_sides
from transferstats.stats.estimation import estimate
from transferstats.stats.families import FAMILIES, Family, find_family, predict
from transferstats.stats.projection import BatchFit, reduce_points, require_distances, solve
from transferstats.stats.samples import samples_of

CLOSE = 2.0
"""Families within this many AICc of the best are not told apart (Burnham & Anderson 2004, doi
10.1177/0049124104268644)."""
BENDING = ("log", "power", "saturating", "michaelis_menten")
CHUNK = 1000
"""Replicates refitted at once; bounds memory, changes no number."""


def compare_decay(
    grid: TransferGrid,
    families: Sequence[str] = tuple(FAMILIES),
    *,
    direction: str = "both",
    distance: Distance = "index",
    loss: str | None = None,
    method: Bootstrap | None = DEFAULT_PLAN,
) -> DecayComparisons:
    """Compare decay families in every dataset.

    Parameters
    ----------
    grid: losses of one subject. families: names; all by default.
    direction, distance, loss: as in :func:`~transferstats.stats.decay.fit_decay`.
    method: bootstrap plan for the selection frequencies (its kind of interval does not matter), or None.

    Raises
    ------
    DesignError: unknown or repeated families, or fewer distinct distances than one of them needs.
    """
    chosen = grid if loss is None else grid.with_loss(loss)
    resolved = chosen.scale(distance)
    comparisons = []
    for index, (data, sample) in enumerate(zip(chosen.datasets, samples_of(chosen, None), strict=True)):
        replicates = None
        if method is not None:
            single = chosen.with_datasets([data.name])
            replicates = _as_matrices(estimate(single, "cells", method=method).headline.replicates, grid.n_layers)
        one = compare_curves(
            mean_cells(chosen, index), families, direction=direction, distance=resolved, replicates=replicates
        )
        n_seeds, n_units = sample.losses.shape[:2]
        comparisons.append(
            replace(one, dataset=data.name, n_seeds=n_seeds, n_units=n_units, unit=chosen.loss_unit)
        )
    return DecayComparisons(tuple(comparisons))


def compare_curves(
    penalty: npt.ArrayLike,
    families: Sequence[str] = tuple(FAMILIES),
    *,
    direction: str = "both",
    distance: Distance = "index",
    replicates: npt.ArrayLike | None = None,
) -> DecayComparison:
    """Compare decay families on one (L, L) mean penalty matrix.

    ``replicates``: (B, L, L) bootstrap replicates of the matrix for the selection frequencies, or None. The other
    arguments and errors as in :func:`compare_decay`.
    """
    matrix, names, sides = _check_input(penalty, families, direction, distance)
    scores = [_score(find_family(name), sides, matrix) for name in names]
    aicc = np.array([score.aicc for score in scores])
    cv_error = np.array([_left_out(find_family(name), sides, matrix) for name in names])
    selection, n_replicates, n_failed = _select(names, sides, replicates)
    best = np.nanmin(aicc) if np.isfinite(aicc).any() else np.nan
    return DecayComparison(
        families=names,
        rss=np.array([score.rss for score in scores]),
        aicc=aicc,
        delta_aicc=aicc - best,
        cv_error=cv_error,
        selection=selection,
        n_parameters=np.array([float(score.n_parameters) for score in scores]),
        n_replicates=n_replicates,
        n_failed=n_failed,
        dataset="",
        direction=direction,
        distance=distance_name(distance),
        n_cells=sum(len(side.cells) for side in sides),
        n_distances=len(np.unique(np.concatenate([side.points.x for side in sides]))),
        n_seeds=0,
        n_units=0,
        unit="nats/token",
        conclusion=_conclude(names, aicc - best, scores, sides),
        notes=tuple("; ".join(score.flags) for score in scores),
    )


def _check_input(
    penalty: npt.ArrayLike, families: Sequence[str], direction: str, distance: Distance
) -> tuple[FloatArray, tuple[str, ...], tuple[Side, ...]]:
    """The matrix, the names of the families and the sides of the fit."""
    matrix = np.asarray(penalty, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise DataError(f"the penalty must be one square matrix, got shape {matrix.shape}")
    matrix = np.where(off_diagonal(len(matrix)), matrix, 0.0)
    names = tuple(find_family(name).name for name in families)
    if len(set(names)) != len(names) or not names:
        raise DesignError(f"families must be named once each, got {list(names)}")
    sides = decay_sides(len(matrix), direction, distance)
    for name in names:
        for side in sides:
            require_distances(find_family(name), side.points.x)
    if not np.isfinite(matrix[off_diagonal(len(matrix))]).all():
        raise DataError("the penalty matrix has NaN or infinite cells off the diagonal")
    return matrix, names, sides


@dataclass(frozen=True, slots=True)
class _Score:
    """One family on the observed matrix. ``bend``: -1 levelling off, 0 straight, 1 accelerating (first side)."""

    rss: float
    aicc: float
    n_parameters: int
    flags: tuple[str, ...]
    rises: bool
    bend: int


def _score(family: Family, sides: tuple[Side, ...], penalty: FloatArray) -> _Score:
    fits = tuple(solve(family, s.points.x, s.means(penalty[None]), s.points.weights) for s in sides)
    rss, n_parameters, flags = summarise(family, sides, fits, penalty)
    n_cells = sum(len(side.cells) for side in sides)
    curve = fitted_values(family, fits[0], sides[0].points.x)[0]
    steps = np.diff(curve) / np.diff(sides[0].points.x) if len(curve) > 1 else np.zeros(1)
    change = float(np.abs(steps[-1]) - np.abs(steps[0]))
    straight = abs(change) <= 1e-9 * float(np.abs(steps).max())
    return _Score(
        rss=rss,
        aicc=information_criterion(rss, n_cells, n_parameters),
        n_parameters=n_parameters,
        flags=flags,
        rises=bool(curve[-1] > curve[0]),
        bend=0 if straight else int(np.sign(change)),
    )


def _left_out(family: Family, sides: tuple[Side, ...], penalty: FloatArray) -> float:
    """Root mean squared error of a layer's row and column predicted from all other cells; NaN where a fit
    without that layer has too few distances."""
    size = len(penalty)
    errors = []
    for side in sides:
        values = penalty.reshape(-1)[side.cells]
        distance = side.points.x[side.points.index]
        source, target = np.divmod(side.cells, size)
        for layer in range(size):
            out = (source == layer) | (target == layer)
            if not out.any():
                continue
            if out.all() or len(np.unique(distance[~out])) < max(family.n_parameters, 1):
                return float("nan")
            points = reduce_points(distance[~out], np.ones(int((~out).sum())))
            fit = solve(family, points.x, (points.averaging @ values[~out])[None], points.weights)
            errors.append(values[out] - _predicted(family, fit, points.x, distance[out]))
    return float(np.sqrt(np.mean(np.square(np.concatenate(errors)))))


def _predicted(family: Family, fit: BatchFit, x: FloatArray, at: FloatArray) -> FloatArray:
    """Curve at new distances; isotonic levels are joined by lines and held beyond their ends."""
    if family.basis is None and not family.separable:
        return np.asarray(np.interp(at, x, fit.parameters[0]))
    return predict(family, fit.parameters[0], at)


def _select(
    names: tuple[str, ...], sides: tuple[Side, ...], replicates: npt.ArrayLike | None
) -> tuple[FloatArray, int, int]:
    """Share of replicates in which each family has the smallest AICc, how many there were, how many failed."""
    if replicates is None:
        return np.full(len(names), np.nan), 0, 0
    matrices = np.asarray(replicates, dtype=np.float64)
    if matrices.ndim != 3 or matrices.shape[1] != matrices.shape[2] or not len(matrices):
        raise DataError(f"replicates must be matrices (B, L, L), got shape {matrices.shape}")
    matrices = np.where(off_diagonal(matrices.shape[-1]), matrices, 0.0)
    criteria = np.stack([_criteria(find_family(name), sides, matrices) for name in names])
    valid = np.isfinite(criteria).any(axis=0)
    winner = np.where(np.isfinite(criteria), criteria, np.inf)[:, valid].argmin(axis=0)
    shares = np.bincount(winner, minlength=len(names)) / max(1, int(valid.sum()))
    if not valid.any():
        shares = np.full(len(names), np.nan)
    return shares, len(matrices), int((~valid).sum())


def _criteria(family: Family, sides: tuple[Side, ...], matrices: FloatArray) -> FloatArray:
    """(B,) AICc of one family; NaN where undefined."""
    n_cells = sum(len(side.cells) for side in sides)
    values = np.empty(len(matrices))
    for start in range(0, len(matrices), CHUNK):
        part = matrices[start : start + CHUNK]
        rss, counted = np.zeros(len(part)), np.zeros(len(part), dtype=int)
        for side in sides:
            fit = solve(family, side.points.x, side.means(part), side.points.weights)
            fitted = fitted_values(family, fit, side.points.x)
            cells = part.reshape(len(part), -1)[:, side.cells]
            rss += np.square(cells - fitted[:, side.points.index]).sum(axis=1)
            steps = np.diff(fit.parameters, axis=1) != 0
            counted += family.n_parameters or steps.sum(axis=1) + 1
        values[start : start + CHUNK] = [
            information_criterion(float(one), n_cells, int(count)) for one, count in zip(rss, counted, strict=True)
        ]
    return values


def _as_matrices(replicates: FloatArray, n_layers: int) -> FloatArray:
    """(B, L (L - 1)) off-diagonal cells -> (B, L, L)."""
    matrices = np.zeros((len(replicates), n_layers, n_layers))
    matrices[:, off_diagonal(n_layers)] = replicates
    return matrices


def _conclude(names: tuple[str, ...], delta: FloatArray, scores: list[_Score], sides: tuple[Side, ...]) -> str:
    """One sentence about the shape, never about a functional form."""
    if not np.isfinite(delta).any():
        return "AICc is undefined for every family, so nothing can be said about the shape."
    close = [name for name, gap in zip(names, delta, strict=True) if gap <= CLOSE]
    best = scores[int(np.nanargmin(delta))]
    text = _shape(close, dict(zip(names, scores, strict=True)), names) or (
        "Non-decreasing in distance, but no parametric shape describes it."
    )
    if not best.rises and close != ["constant"] and "constant" not in close:
        text += " Penalties fall with distance."
    if len(close) > 1:
        spelled = ", ".join(name.replace("_", "-") for name in close)
        text += f" Within {CLOSE:g} AICc of each other: {spelled}; no functional form is singled out."
    distances = min(len(side.points.x) for side in sides)
    if distances < FEW_DISTANCES:
        text += f" There are only {distances} distances."
    return text


def _shape(close: list[str], scores: dict[str, _Score], compared: tuple[str, ...]) -> str:
    bends = {scores[name].bend for name in close if name in BENDING}
    if "constant" in close:
        return "No dependence on distance is needed: a constant is within 2 AICc of the best family."
    if "linear" in close:
        if bends:
            return "It changes with distance; a straight line and a bending curve are not told apart."
        return "Linear rather than bending." if any(name in BENDING for name in compared) else "Linear."
    against = " rather than linear" if "linear" in compared else ""
    if bends == {-1}:
        return f"Saturating (levelling off){against}."
    if bends == {1}:
        return f"Accelerating{against}."
    return f"Not straight, but its bend is not settled{against}." if bends else ""
