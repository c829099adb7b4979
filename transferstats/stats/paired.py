"""Differences of two crossed samples whose units are the same, partly the same, or different."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from transferstats.arrays import FloatArray, IntArray
from transferstats.errors import DataError
from transferstats.stats.crossed import VarianceParts, variance_parts


@dataclass(frozen=True, slots=True)
class Pairing:
    """Which units of two samples are the same: ``first[j]`` and ``second[j]`` are one unit.

    Attributes
    ----------
    first, second: (S,) indices into the units of the two samples.
    """

    first: IntArray
    second: IntArray


def pair_units(first: tuple[str, ...], second: tuple[str, ...]) -> Pairing:
    """Pair units by label."""
    position = {unit: index for index, unit in enumerate(second)}
    shared = [(index, position[unit]) for index, unit in enumerate(first) if unit in position]
    pairs = np.array(shared, dtype=np.intp).reshape(-1, 2)
    return Pairing(pairs[:, 0], pairs[:, 1])


def paired_parts(
    first: FloatArray,
    second: FloatArray,
    *,
    pairing: Pairing | None = None,
    second_name: str = "seeds",
    own_lenses: bool = False,
) -> VarianceParts:
    """Variance parts of (mean of ``first``) - (mean of ``second``).

    Parameters
    ----------
    first: (m, K, N) influence tables. second: (m, R, M) influence tables of the other sample.
    pairing: the shared units; None: the same units in the same order.
    second_name: what the rows of ``second`` are ("seeds", "null replicates").
    own_lenses: the units of ``second`` have lenses of their own, so that its one row lacks no seed part.

    Seeds of the two samples are independent. Shared units enter through their differences, so that what a unit
    does to both cancels; the residual of each sample is removed from the unit part, as in ``variance_parts``.
    One row in ``first`` leaves its seed part out; one row in ``second`` leaves the whole undefined unless its
    units have lenses of their own, and so does a single unit.
    """
    n_units, n_other = first.shape[2], second.shape[2]
    if pairing is None:
        if n_units != n_other:
            raise DataError(f"paired samples need the same units, got {n_units} and {n_other}")
        pairing = Pairing(np.arange(n_units), np.arange(n_units))
    undefined = np.full(len(first), np.nan)
    if (second.shape[1] == 1 and not own_lenses) or min(n_units, n_other) == 1:
        return VarianceParts(undefined[None], np.array([1.0]), ("units",), undefined)
    one, other = variance_parts(first), variance_parts(second)
    values, dfs, names = [], [], []
    for sample, name in ((one, "seeds"), (other, second_name)):
        if len(sample.dfs) > 1:
            values.append(sample.variances[0])
            dfs.append(sample.dfs[0])
            names.append(name)
    for variance, df in _unit_parts(first, second, pairing, (one, other)):
        values.append(variance)
        dfs.append(df)
        names.append("units")
    residual = np.nan_to_num(one.residual) + np.nan_to_num(other.residual)
    return VarianceParts(np.stack(values), np.array(dfs), tuple(names), residual)


def _unit_parts(
    first: FloatArray, second: FloatArray, pairing: Pairing, samples: tuple[VarianceParts, VarianceParts]
) -> list[tuple[FloatArray, float]]:
    """(variance, df) of the shared units and of the units that only one sample has."""
    tables = (first, second)
    indices = (pairing.first, pairing.second)
    # Contribution of each unit to the mean of its sample.
    unit_means = [table.mean(axis=1) / table.shape[2] for table in tables]
    noise = [np.nan_to_num(sample.residual) for sample in samples]
    parts = []
    n_shared = len(pairing.first)
    if n_shared > 1:
        difference = unit_means[0][:, pairing.first] - unit_means[1][:, pairing.second]
        doubled = sum(residual * n_shared / table.shape[2] for residual, table in zip(noise, tables, strict=True))
        parts.append((_sum_variance(difference, doubled), n_shared - 1.0))
    for table, mean, index, residual, sample in zip(tables, unit_means, indices, noise, samples, strict=True):
        n_units = table.shape[2]
        alone = np.setdiff1d(np.arange(n_units), index if n_shared > 1 else index[:0])
        if len(alone) > 1:
            parts.append((_sum_variance(mean[:, alone], residual * len(alone) / n_units), len(alone) - 1.0))
        elif len(alone) == 1:
            # One unit shows no spread of its own: it is given the spread of all.
            parts.append((sample.variances[-1] / n_units, n_units - 1.0))
    return parts


def _sum_variance(contributions: FloatArray, doubled: FloatArray | float) -> FloatArray:
    """(m,) variance of the sum of (m, n) independent contributions, less the residual counted elsewhere."""
    count = contributions.shape[1]
    return np.asarray(np.maximum(count * contributions.var(axis=1, ddof=1) - doubled, 0.0))
