"""Distance slope by a mixed model with crossed random slopes, as a sensitivity check of the crossed interval.

Every unit is scored under every seed on the same cells, so the least-squares slope of each (seed, unit) holds all
the information about the slope, and its crossed random intercepts are the crossed random slopes of the full model.
The dense solver of statsmodels is cubic in seeds x units, so units are first averaged in blocks.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
import pandas as pd
from scipy.stats import t as student
from statsmodels.regression.mixed_linear_model import MixedLM

from transferstats.arrays import FloatArray
from transferstats.distance import Distance
from transferstats.errors import DesignError
from transferstats.grid import TransferGrid
from transferstats.results.reliability import MixedSlope
from transferstats.stats.influence import penalties
from transferstats.stats.intervals import check_conf_level
from transferstats.stats.samples import LossSample, loss_sample
from transferstats.stats.statistics import named_statistic

BLOCKS = 40
"""Blocks of units. With 5 seeds that makes 200 rows, which fit in under a second; the estimate is unchanged by
the averaging and its expected variance too, only the degrees of freedom of the units fall."""


def mixed_slope(
    grid: TransferGrid,
    dataset: str | None = None,
    *,
    loss: str | None = None,
    distance: Distance = "index",
    conf_level: float = 0.95,
    blocks: int = BLOCKS,
) -> MixedSlope:
    """Slope of penalty on distance by a crossed mixed model (statsmodels ``MixedLM``, REML), one dataset.

    A check of the crossed interval by another method, not a replacement: its optimiser can fail, and its
    degrees of freedom are those of the seeds alone.

    Parameters
    ----------
    grid: at least 2 seeds and 2 units. dataset: its name, needed where there are several.
    loss: "kl", "ce" or "disagreement"; the grid's own by default.
    distance: "index", "depth" or (L, L). conf_level: nominal coverage. blocks: most rows a seed.

    Returns
    -------
    :class:`MixedSlope`; a fit that did not converge keeps its numbers, says so in ``converged`` and lists
    every warning in ``messages``; one that failed outright is NaN with the reason.

    Raises
    ------
    DesignError: fewer than 2 seeds or units, one distance only, several datasets and none named.

    Examples
    --------
    >>> import transferstats as ts
    >>> grid = ts.simulate_grid(n_seeds=4, n_units=40, rng=1).grid
    >>> mixed, crossed = ts.mixed_slope(grid), ts.estimate(grid, "slope").headline
    >>> abs(mixed.estimate - float(crossed.estimate)) < float(crossed.std_error)
    True
    """
    check_conf_level(conf_level)
    slope = named_statistic("slope", distance=grid.scale(distance))
    sample = loss_sample(grid.dataset(dataset), loss or grid.loss)
    penalty = penalties(sample.losses)
    gradient = slope.gradient(penalty.mean(axis=(0, 1)))[0]
    table = np.einsum("st,knst->kn", gradient, penalty)
    return _fit(sample, blockwise(table, sample.weights, blocks), slope.unit(grid.unit_of(loss)), conf_level)


def blockwise(table: FloatArray, weights: FloatArray, blocks: int) -> FloatArray:
    """(K, N) slopes -> (K, at most ``blocks``) weighted means over interleaved blocks of units."""
    n_units = table.shape[1]
    if table.shape[0] < 2 or n_units < 2:
        raise DesignError(f"crossed random slopes need 2 seeds and 2 units, got {table.shape[0]} and {n_units}")
    # Blocks of one size as nearly as possible: the model gives every row the same variance.
    count = n_units // math.ceil(n_units / blocks)
    member = np.arange(n_units) % count
    share = np.zeros((n_units, count))
    share[np.arange(n_units), member] = weights
    return np.asarray(table @ (share / share.sum(axis=0)))


def _fit(sample: LossSample, table: FloatArray, unit: str, conf_level: float) -> MixedSlope:
    n_seeds, n_blocks = table.shape
    scale = float(np.std(table))
    messages: list[str] = []
    values, converged = dict.fromkeys(("estimate", "std_error", "seed", "unit", "residual"), np.nan), False
    # Differences at the level of rounding are no variance to decompose.
    if scale <= 1e-13 * float(np.abs(sample.losses).max()):
        messages.append("no variation over seeds or units, so there is nothing to fit")
    else:
        values, converged, messages = _reml(table / scale)
        values = {
            name: value * scale ** (1 if name in ("estimate", "std_error") else 2)
            for name, value in values.items()
        }
    df = n_seeds - 1
    half = float(student.isf((1 - conf_level) / 2, df)) * values["std_error"]
    statistic = values["estimate"] / values["std_error"]
    return MixedSlope(
        estimate=values["estimate"],
        std_error=values["std_error"],
        statistic=statistic,
        df=df,
        p_value=float(2 * student.sf(abs(statistic), df)),
        conf_low=values["estimate"] - half,
        conf_high=values["estimate"] + half,
        conf_level=conf_level,
        seed_variance=values["seed"],
        unit_variance=values["unit"],
        residual_variance=values["residual"],
        converged=converged,
        messages=tuple(messages),
        n_seeds=n_seeds,
        n_units=sample.losses.shape[1],
        n_blocks=n_blocks,
        unit=unit,
        dataset=sample.name,
    )


def _reml(table: FloatArray) -> tuple[dict[str, float], bool, list[str]]:
    """Estimate, standard error and variances of a (K, blocks) table; every warning of the fit, as text."""
    n_seeds, n_blocks = table.shape
    frame = pd.DataFrame(
        {
            "slope": table.ravel(),
            "seed": np.repeat(np.arange(n_seeds), n_blocks).astype(str),
            "block": np.tile(np.arange(n_blocks), n_seeds).astype(str),
            "everything": 1,
        }
    )
    crossed = {"seed": "0 + C(seed)", "unit": "0 + C(block)"}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model = MixedLM.from_formula("slope ~ 1", groups="everything", vc_formula=crossed, data=frame)
            # The default order starts with BFGS, which stalls where a variance is near 0.
            fit = model.fit(reml=True, method=["lbfgs", "bfgs", "cg"])
        except (np.linalg.LinAlgError, ValueError) as error:
            failed = dict.fromkeys(("estimate", "std_error", "seed", "unit", "residual"), float("nan"))
            return failed, False, [f"the fit failed: {error}"]
    messages = list(dict.fromkeys(str(one.message) for one in caught))
    variances = dict(zip(model.exog_vc.names, fit.vcomp, strict=True))
    values = {
        "estimate": float(fit.fe_params.iloc[0]),
        "std_error": float(fit.bse_fe.iloc[0]),
        "seed": float(variances["seed"]),
        "unit": float(variances["unit"]),
        "residual": float(fit.scale),
    }
    if not fit.converged:
        messages.insert(0, "the optimiser did not converge")
    return values, bool(fit.converged), messages
