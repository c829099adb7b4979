"""Several claims at once: p-values adjusted for their number."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from transferstats.arrays import FloatArray
from transferstats.errors import DesignError

METHODS: tuple[str, ...] = ("holm", "bonferroni")
"""Both bound the family-wise error; Holm (1979) never rejects less, and is what verdicts use."""


def adjusted_p(p_values: npt.ArrayLike, method: str = "holm") -> FloatArray:
    """Adjusted p-values in the shape given; NaN stays NaN and is not counted as a test."""
    if method not in METHODS:
        raise DesignError(f"unknown correction {method!r}: use one of {', '.join(METHODS)}")
    values = np.asarray(p_values, dtype=np.float64)
    valid = ~np.isnan(values)
    if ((values[valid] < 0) | (values[valid] > 1)).any():
        raise DesignError("p-values must lie between 0 and 1")
    adjusted = np.full(values.shape, np.nan)
    if valid.any():
        adjusted[valid] = _correct(values[valid], method)
    return adjusted


def _correct(values: FloatArray, method: str) -> FloatArray:
    """Adjusted p-values of (m,) valid ones.

    Not by ``statsmodels.multipletests``: that collects all garbage of the process on every call, which takes
    longer than everything else in a verdict. The tests compare the two.
    """
    if method == "bonferroni":
        return np.minimum(values * len(values), 1.0)
    order = np.argsort(values, kind="stable")
    steps = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted
