"""The crossed two-term t interval: seeds and units are both sampled, layers are fixed.

    z[k,i] = <G, p[k,i] - M>                                 influence table, mean 0
    A  = sum_k zbar_k^2 / (K (K-1))                          seeds, K-1 df
    B  = sum_i zbar_i^2 / (N (N-1))                          units, N-1 df
    E  = sum_ki (z - zbar_k - zbar_i)^2 / (K N (K-1) (N-1))  residual, counted in both A and B
    interval: theta +- sqrt(t_{K-1}^2 A + t_{N-1}^2 max(B - E, 0))

With B in place of B - E it is exactly conservative for Gaussian influences. Seeds are few, so their t
quantile matters more than anything else; formulas that use one normal quantile under-cover badly.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from transferstats.arrays import FloatArray
from transferstats.distance import Distance
from transferstats.errors import DesignError, UncertaintyWarning
from transferstats.results.estimate import Estimate
from transferstats.results.estimates import AVERAGE
from transferstats.stats.influence import (
    Influence,
    check_losses,
    check_weights,
    influence_table,
    mean_penalty,
    penalties,
)
from transferstats.stats.intervals import (
    Interval,
    check_conf_level,
    effective_df,
    interval_from_parts,
    p_greater,
    p_two_sided,
)
from transferstats.stats.samples import OWN_LENSES
from transferstats.stats.statistics import Statistic, StatisticLike, as_statistic

__all__ = [
    "Interval",
    "Labels",
    "Piece",
    "VarianceParts",
    "assemble",
    "average_pieces",
    "crossed_estimate",
    "crossed_piece",
    "effective_df",
    "interval_from_parts",
    "jackknife_seed_variance",
    "p_greater",
    "p_two_sided",
    "variance_parts",
]

METHOD = "crossed two-term t"

DISAGREEMENT = 2.0
"""Ratio of jackknife to linearised seed variance (either way) from which a warning is given."""

IDENTICAL = 1e-20
"""Seed parts below this share of the variance are rounding errors of seeds that do not differ at all."""

NEGLIGIBLE_SHARE = 0.01
"""Seed variances below this share of the total cannot mislead, and raise no warning."""


@dataclass(frozen=True, slots=True)
class VarianceParts:
    """Independent variance parts of estimates with shape S.

    Attributes
    ----------
    variances: (n_parts, *S) variances of the estimate, in its unit squared, none negative.
    dfs: (n_parts,) degrees of freedom.
    names: what each part samples; a name may repeat (one part per dataset).
    residual: S, variance E of the seed-by-unit residual, already removed; NaN where inestimable.
    """

    variances: FloatArray
    dfs: FloatArray
    names: tuple[str, ...]
    residual: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """What an estimate is about; everything in it that is not arithmetic."""

    terms: tuple[str, ...]
    scalar: bool
    n_seeds: int
    n_units: int
    unit: str = "nats/token"
    method: str = METHOD
    note: str = ""
    dataset: str = ""


@dataclass(frozen=True, slots=True)
class Piece:
    """(m,) values with their variance parts (n_parts, m) and labels: an estimate before its interval."""

    estimate: FloatArray
    parts: VarianceParts
    labels: Labels

    def interval(self, *, conf_level: float, scale: str = "identity") -> Estimate:
        """The :class:`Estimate` at this level and on this scale."""
        return assemble(self.estimate, self.parts, self.labels, conf_level=conf_level, scale=scale)


def average_pieces(pieces: Sequence[Piece]) -> Piece:
    """Equal-weight average of independent pieces with the same terms; every variance part keeps its df.

    Datasets are fixed strata: part j of piece d contributes part / D^2 to the variance of the average.
    """
    first = pieces[0].labels
    different = [piece.labels.dataset for piece in pieces if piece.labels.terms != first.terms]
    if different:
        raise DesignError(f"datasets {', '.join(different)} have other terms than {first.dataset}: no average")
    share = len(pieces)
    parts = VarianceParts(
        np.concatenate([piece.parts.variances for piece in pieces]) / share**2,
        np.concatenate([piece.parts.dfs for piece in pieces]),
        tuple(name for piece in pieces for name in piece.parts.names),
        np.asarray(sum(piece.parts.residual for piece in pieces) / share**2),
    )
    return Piece(
        np.mean([piece.estimate for piece in pieces], axis=0),
        parts,
        average_labels([piece.labels for piece in pieces]),
    )


def average_labels(labels: Sequence[Labels]) -> Labels:
    """Labels of an average over datasets: the fewest seeds of any, all units together."""
    notes = [f"{one.dataset}: {one.note}" for one in labels if one.note]
    what = f"equal-weight average of {len(labels)} datasets as fixed strata"
    return replace(
        labels[0],
        n_seeds=min(one.n_seeds for one in labels),
        n_units=sum(one.n_units for one in labels),
        note="; ".join([what, *notes]),
        dataset=AVERAGE,
    )


def variance_parts(table: npt.ArrayLike) -> VarianceParts:
    """Variance parts A (seeds) and B' = max(B - E, 0) (units) of influence tables.

    ``table``: (..., K, N) with mean 0 over the last two axes. One seed leaves the unit part only (conditional
    on this lens set); one unit leaves parts that are NaN, because nothing is known about other units.
    """
    z = np.asarray(table, dtype=np.float64)
    n_seeds, n_units = z.shape[-2:]
    by_seed, by_unit = z.mean(axis=-1), z.mean(axis=-2)
    undefined = np.full(z.shape[:-2], np.nan)
    if n_units == 1:
        return VarianceParts(undefined[None], np.array([1.0]), ("units",), undefined)
    unit = np.square(by_unit).sum(axis=-1) / (n_units * (n_units - 1))
    if n_seeds == 1:
        return VarianceParts(unit[None], np.array([n_units - 1.0]), ("units",), undefined)
    seed = np.square(by_seed).sum(axis=-1) / (n_seeds * (n_seeds - 1))
    rest = np.square(z - by_seed[..., :, None] - by_unit[..., None, :]).sum(axis=(-2, -1))
    residual = rest / (n_seeds * n_units * (n_seeds - 1) * (n_units - 1))
    return VarianceParts(
        np.stack([seed, np.maximum(unit - residual, 0.0)]),
        np.array([n_seeds - 1.0, n_units - 1.0]),
        ("seeds", "units"),
        np.asarray(residual),
    )


def crossed_estimate(
    loss: npt.ArrayLike,
    statistic: StatisticLike,
    *,
    conf_level: float = 0.95,
    weights: npt.ArrayLike | None = None,
    scale: str = "identity",
    distance: Distance | None = None,
    unit: str = "nats/token",
) -> Estimate:
    """Estimate a statistic of the mean penalty matrix, for new seeds and new units, with the same layers.

    Parameters
    ----------
    loss: (K, N, L, L) raw losses of lens s on layer t, nats; the penalty is taken here.
    statistic: a name (mean, forward, backward, asymmetry, slope, distance, cells, ...), a statistic object, or
        a function of the (L, L) mean penalty that returns a number or a vector.
    conf_level: nominal coverage in (0, 1).
    weights: (N,) tokens per unit; the mean over units is then a ratio estimator.
    scale: ``"identity"``, or ``"log"`` for positive parameters (interval on the log scale, then exp).
    distance: (L, L) distances in place of |s - t|.
    unit: unit of the losses.

    Returns
    -------
    Estimate with parts A and B', their df, the residual E, and a p-value against 0 that inverts the interval.
    K = 1: interval conditional on this lens set. N = 1, or no variation at all: NaN with the reason in ``note``.

    Raises
    ------
    DataError, DesignError: input that cannot be analysed. Warns (UncertaintyWarning) where delete-one-seed
    jackknife and linearisation disagree by a factor of 2.
    """
    piece = crossed_piece(loss, statistic, weights=weights, distance=distance, unit=unit)
    return piece.interval(conf_level=conf_level, scale=scale)


def crossed_piece(
    loss: npt.ArrayLike,
    statistic: StatisticLike,
    *,
    weights: npt.ArrayLike | None = None,
    distance: Distance | None = None,
    unit: str = "nats/token",
) -> Piece:
    """What :func:`crossed_estimate` does, short of the interval, so that pieces can be averaged or compared."""
    influence = influence_table(loss, statistic, weights=weights, distance=distance, unit=unit)
    parts = variance_parts(influence.table)
    note = ""
    if not influence.linear and min(influence.table.shape[1:]) > 1:
        jackknife = jackknife_seed_variance(loss, statistic, weights=weights, distance=distance)
        note = disagreement(parts, jackknife)
        if note:
            warnings.warn(f"{'/'.join(influence.terms[:3])}: {note}", UncertaintyWarning, stacklevel=3)
    return Piece(influence.estimate, parts, labels_of(influence, note))


def jackknife_seed_variance(
    loss: npt.ArrayLike,
    statistic: StatisticLike,
    *,
    weights: npt.ArrayLike | None = None,
    distance: Distance | None = None,
) -> FloatArray:
    """(m,) delete-one-seed jackknife variance; equal to A for linear statistics. Needs K >= 2.

    (Efron & Stein 1981, doi 10.1214/aos/1176345462)
    """
    values = check_losses(loss)
    n_seeds = len(values)
    if n_seeds < 2:
        raise DesignError("a jackknife over seeds needs at least 2 seeds")
    weight = check_weights(weights, values.shape[1])
    chosen: Statistic = as_statistic(statistic, distance=distance)
    per_seed = np.stack([mean_penalty(penalties(seed[None]), weight) for seed in values])
    without = (per_seed.sum(axis=0) - per_seed) / (n_seeds - 1)
    values = chosen.batch(without)
    return np.asarray((n_seeds - 1) / n_seeds * np.square(values - values.mean(axis=0)).sum(axis=0))


def disagreement(parts: VarianceParts, jackknife: FloatArray) -> str:
    """Words for a linearised seed variance that the jackknife contradicts by a factor of 2; empty if none."""
    seed, total = parts.variances[0], parts.variances.sum(axis=0)
    larger, smaller = np.maximum(seed, jackknife), np.minimum(seed, jackknife)
    matters = larger > NEGLIGIBLE_SHARE * np.maximum(total, larger)
    apart = matters & (larger > DISAGREEMENT * smaller)
    if not apart.any():
        return ""
    if (smaller[apart] == 0).any():
        return (
            "the statistic has no gradient here, although it changes from seed to seed (a rank, a count, a "
            "maximum?): use a bootstrap interval"
        )
    worst = float(np.max(larger[apart] / smaller[apart]))
    return (
        f"seed variance by delete-one-seed jackknife and by linearisation differ {worst:.1f}-fold: the statistic "
        "is far from linear over these seeds; prefer scale='log' or a bootstrap interval"
    )


def labels_of(influence: Influence, note: str = "", *, method: str = METHOD, dataset: str = "") -> Labels:
    """Labels of an estimate made from one influence table."""
    n_seeds, n_units = influence.table.shape[1:]
    return Labels(
        terms=influence.terms,
        scalar=influence.scalar,
        n_seeds=n_seeds,
        n_units=n_units,
        unit=influence.unit,
        method=method,
        note=note,
        dataset=dataset,
    )


def assemble(
    estimate: FloatArray, parts: VarianceParts, labels: Labels, *, conf_level: float, scale: str = "identity"
) -> Estimate:
    """An :class:`Estimate` from (m,) values and their variance parts (identity scale, (n_parts, m)).

    On the log scale the parts become parts / estimate^2 (delta method), the limits are transformed back, and
    values that are not positive get NaN limits with a note.
    """
    check_conf_level(conf_level)
    if scale not in ("identity", "log"):
        raise DesignError(f"unknown scale {scale!r}: use 'identity' or 'log'")
    working = _on_log_scale(estimate, parts) if scale == "log" else parts
    low, high, p_value = _limits(estimate, working, conf_level, scale)
    spread = parts.variances.sum(axis=0)
    error = np.sqrt(np.where(spread > 0, spread, np.nan))
    statistic = estimate / error if scale == "identity" else np.full(estimate.shape, np.nan)

    def shaped(array: FloatArray) -> FloatArray:
        return np.asarray(array[..., 0] if labels.scalar else array)

    return Estimate(
        terms=labels.terms,
        estimate=shaped(estimate),
        std_error=shaped(error),
        statistic=shaped(statistic),
        df=shaped(effective_df(parts.variances, parts.dfs)),
        p_value=shaped(p_value),
        conf_low=shaped(low),
        conf_high=shaped(high),
        conf_level=float(conf_level),
        parts=shaped(working.variances),
        dfs=parts.dfs,
        part_names=parts.names,
        residual=shaped(working.residual),
        n_seeds=labels.n_seeds,
        n_units=labels.n_units,
        unit=labels.unit,
        method=labels.method,
        note="; ".join(_notes(estimate, parts, labels, scale)),
        scale=scale,
        dataset=labels.dataset,
    )


def _on_log_scale(estimate: FloatArray, parts: VarianceParts) -> VarianceParts:
    """Delta method: variances of log(estimate); NaN where the estimate is not positive."""
    positive = np.where(estimate > 0, estimate, np.nan)
    return replace(
        parts, variances=parts.variances / positive**2, residual=np.asarray(parts.residual / positive**2)
    )


def _limits(
    estimate: FloatArray, working: VarianceParts, conf_level: float, scale: str
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(low, high, two-sided p against 0); on the log scale no p, because 0 lies infinitely far away."""
    if scale == "identity":
        interval = interval_from_parts(estimate, working.variances, working.dfs, conf_level=conf_level)
        return interval.conf_low, interval.conf_high, p_two_sided(estimate, working.variances, working.dfs)
    logs = np.log(np.where(estimate > 0, estimate, np.nan))
    interval = interval_from_parts(logs, working.variances, working.dfs, conf_level=conf_level)
    return np.exp(interval.conf_low), np.exp(interval.conf_high), np.full(estimate.shape, np.nan)


def _notes(estimate: FloatArray, parts: VarianceParts, labels: Labels, scale: str) -> list[str]:
    notes = [labels.note] if labels.note else []
    if labels.n_units == 1:
        notes.append("1 unit: nothing is known about other units, so there is no interval")
    if labels.n_seeds == 1 and OWN_LENSES not in labels.note:
        notes.append("1 seed: conditional on this lens set, no inference about other seeds")
    if labels.n_seeds == 2 and labels.n_units > 1:
        notes.append("2 seeds: valid, but 4 to 5 times wider than with many seeds")
    names = np.asarray(labels.terms)
    for wrong, reason in (
        (~np.isfinite(estimate), "the statistic is not finite at the observed matrix"),
        (
            np.isfinite(estimate) & np.isnan(parts.variances).any(axis=0) & (labels.n_units > 1),
            "the gradient is not finite",
        ),
        ((parts.variances == 0).all(axis=0), "no variation over seeds or units, so the uncertainty is unknown"),
        (_identical_seeds(parts), "the same value for every seed: copies of one lens tell nothing about others"),
        ((estimate <= 0) & (scale == "log"), "not positive, so it has no interval on the log scale"),
    ):
        if wrong.any():
            notes.append(_about(names[wrong], reason, len(names)))
    if scale == "log":
        notes.append("no test against 0 on the log scale")
    return notes


def _identical_seeds(parts: VarianceParts) -> npt.NDArray[np.bool_]:
    """(m,) terms with a seed part that is nothing but rounding, although units vary."""
    seed = [values for values, name in zip(parts.variances, parts.names, strict=True) if name == "seeds"]
    total = parts.variances.sum(axis=0)
    if not seed:
        return np.zeros(total.shape, dtype=bool)
    return np.asarray((np.min(seed, axis=0) <= IDENTICAL * total) & (total > 0))


def _about(names: npt.NDArray[np.str_], reason: str, n_terms: int) -> str:
    if n_terms == 1:
        return reason
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{reason} ({len(names)} of {n_terms} terms: {shown})"
