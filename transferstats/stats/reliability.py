"""How reliable is the pattern of a penalty matrix, and what would other people's methods have said?

The only module that imports pingouin (GPL-3.0), and only when an ICC is asked for. pingouin rounds results for
display before handing them out; that is switched off here and put back afterwards.
"""

from __future__ import annotations

import importlib
import itertools
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import rankdata

from transferstats.arrays import FloatArray
from transferstats.distance import off_diagonal
from transferstats.errors import DataError, DependencyError, DesignError
from transferstats.grid import TransferGrid
from transferstats.results.estimates import Estimates
from transferstats.results.reliability import Coefficient, Reliability
from transferstats.stats.bootstrap import DEFAULT_PLAN, Bootstrap
from transferstats.stats.estimation import estimate
from transferstats.stats.influence import penalties
from transferstats.stats.samples import LossSample, loss_sample
from transferstats.stats.strata import average_estimates

ICC_TERMS = {"ICC(A,1)": "icc_agreement", "ICC(C,1)": "icc_consistency", "ICC(C,k)": "icc_mean"}
"""pingouin's names -> ours: one seed (absolute), one seed (up to shifts), the mean over all seeds."""

SPLITS = 500
"""Random half-splits of units; the mean over them moves by less than 0.001 between rngs in the tests."""


def reliability(
    grid: TransferGrid,
    dataset: str | None = None,
    *,
    loss: str | None = None,
    rng: int | np.random.Generator = 0,
) -> Reliability:
    """How far seeds, and units, agree about the pattern of a penalty matrix, one dataset.

    Intraclass correlations over seeds (targets = cells, raters = seeds; McGraw & Wong 1996, doi
    10.1037/1082-989X.1.1.30) by pingouin, and split-half correlations over units and over seeds, stepped up by
    Spearman-Brown.

    Parameters
    ----------
    grid: at least 3 layers. dataset: its name, needed where there are several. loss: "kl", "ce" or
        "disagreement"; the grid's own by default. rng: for the random half-splits.

    Returns
    -------
    :class:`Reliability`. Coefficients over seeds are NaN, with the reason, where there is one seed or no
    variation. They are about this pattern of cells: the crossed intervals need none of them.

    Raises
    ------
    DependencyError: pingouin is missing. DesignError: fewer than 3 layers, several datasets and none named.

    Examples
    --------
    >>> import transferstats as ts
    >>> found = ts.reliability(ts.simulate_grid(n_seeds=4, n_units=40, rng=1).grid)
    >>> 0 < found["icc_agreement"].estimate < found["icc_mean"].estimate < 1
    True
    """
    if grid.n_layers < 3:
        raise DesignError("2 layers have 2 cells, whose correlation is always +-1; reliability needs 3 layers")
    sample = loss_sample(grid.dataset(dataset), loss or grid.loss)
    return _measure(sample, np.random.default_rng(rng))


def _measure(sample: LossSample, rng: np.random.Generator) -> Reliability:
    penalty = penalties(sample.losses)[:, :, off_diagonal(sample.losses.shape[-1])]
    weights = sample.weights / sample.weights.sum()
    cells = np.einsum("n,knc->kc", weights, penalty)
    rows = [*intraclass(cells), split_units(penalty.mean(axis=0), sample.weights, rng), split_seeds(cells)]
    return Reliability(tuple(rows), cells, sample.name, len(cells), penalty.shape[1])


def intraclass(cells: npt.ArrayLike) -> list[Coefficient]:
    """Intraclass correlations of a (K seeds, C cells) table, at full precision, 95 % intervals."""
    table = np.asarray(cells, dtype=np.float64)
    if table.ndim != 2 or not np.isfinite(table).all():
        raise DataError(f"cells must be a finite (seeds, cells) table, got shape {table.shape}")
    reason = _no_icc(table)
    if reason:
        return [
            Coefficient(name, math.nan, method="pingouin ICC over seeds", note=reason)
            for name in ICC_TERMS.values()
        ]
    rows = _by_pingouin(table)
    interval = "CI95" if "CI95" in rows else "CI95%"
    coefficients = []
    for theirs, ours in ICC_TERMS.items():
        row = rows.loc[_older_name(theirs, rows.index)]
        coefficients.append(
            Coefficient(
                ours,
                float(row["ICC"]),
                conf_low=float(row[interval][0]),
                conf_high=float(row[interval][1]),
                conf_level=0.95,
                statistic=float(row["F"]),
                df=float(row["df1"]),
                p_value=float(row["pval"]),
                method=f"{theirs} over seeds (pingouin)",
                note="cells as targets; their dependence is ignored by this interval",
            )
        )
    return coefficients


def _by_pingouin(table: FloatArray) -> Any:
    """pingouin's table of coefficients, one row a type; penalties are scaled to order 1 first."""
    n_seeds, n_cells = table.shape
    frame = pd.DataFrame(
        {
            "cell": np.tile(np.arange(n_cells), n_seeds),
            "seed": np.repeat(np.arange(n_seeds), n_cells),
            "penalty": (table / np.abs(table).max()).ravel(),
        }
    )
    with full_precision() as pingouin:
        found = pingouin.intraclass_corr(data=frame, targets="cell", raters="seed", ratings="penalty")
    return found.set_index("Type")


def _older_name(name: str, known: pd.Index[Any]) -> str:
    """pingouin before 0.6 called the same rows ICC2, ICC3 and ICC3k."""
    return name if name in known else {"ICC(A,1)": "ICC2", "ICC(C,1)": "ICC3", "ICC(C,k)": "ICC3k"}[name]


def _no_icc(table: FloatArray) -> str:
    if len(table) < 2:
        return "1 seed: agreement between seeds is unknown"
    spread = table - table.mean(axis=0)
    scale = float(np.abs(table).max())
    if np.abs(spread - spread.mean(axis=1, keepdims=True)).max() <= 1e-13 * scale:
        return "seeds differ by no more than a constant, so there is no error variance to compare with"
    return ""


@contextmanager
def full_precision() -> Iterator[Any]:
    """Pingouin with its display rounding off; its options are put back whatever happens inside."""
    try:
        pingouin = importlib.import_module("pingouin")
    except ImportError as error:
        raise DependencyError("the ICC needs pingouin: pip install pingouin") from error
    options = pingouin.options
    saved = dict(options)
    for key in saved:
        if key.startswith("round"):
            del options[key]
    options["round"] = None
    try:
        # Deprecations between pingouin and pandas are theirs to settle; every other warning goes through.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            yield pingouin
    finally:
        options.clear()
        options.update(saved)


def spearman_brown(correlation: FloatArray, factor: float) -> FloatArray:
    """Reliability of a measurement ``factor`` times as long as the two that correlate."""
    return np.asarray(factor * correlation / (1 + (factor - 1) * correlation))


def split_units(penalty: FloatArray, weights: FloatArray, rng: np.random.Generator) -> Coefficient:
    """Split-half reliability over units. penalty: (N, C) mean over seeds; weights: (N,) tokens."""
    n_units = len(penalty)
    half = n_units // 2
    if half < 1:
        return Coefficient("split_half_units", math.nan, method="split half", note="1 unit cannot be split")
    order = rng.permuted(np.tile(np.arange(n_units), (SPLITS, 1)), axis=1)
    halves = []
    for members in (order[:, :half], order[:, half : 2 * half]):
        share = np.zeros((SPLITS, n_units))
        np.put_along_axis(share, members, weights[members], axis=1)
        halves.append(share @ penalty / share.sum(axis=1, keepdims=True))
    return _split_half(
        "split_half_units", halves[0], halves[1], n_units / half, f"{SPLITS} random splits of units"
    )


def split_seeds(cells: FloatArray) -> Coefficient:
    """Split-half reliability over seeds, all splits. cells: (K, C)."""
    n_seeds = len(cells)
    half = n_seeds // 2
    if half < 1:
        return Coefficient("split_half_seeds", math.nan, method="split half", note="1 seed cannot be split")
    first, second = [], []
    for one in itertools.combinations(range(n_seeds), half):
        rest = [seed for seed in range(n_seeds) if seed not in one]
        for other in itertools.combinations(rest, half):
            if one < other:
                first.append(cells[list(one)].mean(axis=0))
                second.append(cells[list(other)].mean(axis=0))
    splits = np.stack(first), np.stack(second)
    return _split_half("split_half_seeds", *splits, n_seeds / half, f"all {len(first)} splits of seeds")


def _split_half(term: str, first: FloatArray, second: FloatArray, factor: float, method: str) -> Coefficient:
    left, right = (half - half.mean(axis=1, keepdims=True) for half in (first, second))
    norm = np.sqrt(np.square(left).sum(axis=1) * np.square(right).sum(axis=1))
    if not (norm > 0).all():
        return Coefficient(term, math.nan, method=method, note="constant cells have no correlation")
    values = spearman_brown((left * right).sum(axis=1) / norm, factor)
    low, high = np.quantile(values, [0.025, 0.975])
    note = f"95 % of splits lie in [{low:.3f}, {high:.3f}]; that is no confidence interval"
    return Coefficient(term, float(values.mean()), method=f"Spearman-Brown, {method}", note=note)


@dataclass(frozen=True, slots=True, eq=False)
class RankCorrelation:
    """Spearman correlation between off-diagonal penalties and an (L, L) similarity.

    It has no useful gradient (ranks are flat between jumps), so it needs a bootstrap; its gradient is NaN.
    """

    similarity: FloatArray
    measure: str = "similarity"

    scalar = True
    unit = ""

    @property
    def name(self) -> str:
        """Name in results."""
        return f"spearman({self.measure})"

    def batch(self, penalty: FloatArray) -> FloatArray:
        """(B, L, L) -> (B, 1); NaN for constant penalties."""
        mask = off_diagonal(penalty.shape[-1])
        fixed = _standard(rankdata(self.similarity[mask])[None])
        moving = _standard(rankdata(penalty[:, mask], axis=1))
        return np.asarray(moving @ fixed.T)

    def gradient(self, penalty: FloatArray) -> FloatArray:
        """(1, L, L) of NaN."""
        return np.full((1, *penalty.shape), np.nan)

    def __call__(self, penalty: FloatArray) -> FloatArray:
        """(L, L) -> the correlation."""
        return np.asarray(self.batch(np.asarray(penalty, dtype=np.float64)[None])[0, 0])


def _standard(ranks: FloatArray) -> FloatArray:
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    norm = np.sqrt(np.square(centred).sum(axis=1, keepdims=True))
    return np.asarray(np.where(norm > 0, centred / np.where(norm > 0, norm, 1.0), np.nan))


def correlate_similarity(
    grid: TransferGrid,
    measure: str,
    *,
    loss: str | None = None,
    method: Bootstrap = DEFAULT_PLAN,
    conf_level: float = 0.95,
) -> Estimates:
    """Spearman correlation between penalty and layer similarity, per dataset and averaged, as in the paper.

    Parameters
    ----------
    grid: losses with ``similarities[dataset][measure]`` (L, L). measure: its name.
    loss: "kl", "ce" or "disagreement"; the grid's own by default. method: bootstrap plan. conf_level: nominal
        coverage.

    Raises
    ------
    DesignError: the measure is missing (the message lists those there are), or 2 layers.
    DataError: a similarity that is not finite or is constant.
    """
    if grid.n_layers < 3:
        raise DesignError("2 layers have 2 cells, whose rank correlation is always +-1; use at least 3 layers")
    members = []
    for data in grid.datasets:
        known = grid.similarities.get(data.name, {})
        if measure not in known:
            raise DesignError(
                f"dataset {data.name!r} has no similarity {measure!r}; it has: {', '.join(known) or 'none'}"
            )
        similarity = np.asarray(known[measure], dtype=np.float64)
        cells = similarity[off_diagonal(grid.n_layers)]
        if not np.isfinite(cells).all() or np.ptp(cells) == 0:
            raise DataError(f"similarity {measure!r} of dataset {data.name!r} is constant or not finite")
        statistic = RankCorrelation(similarity, measure)
        single = grid.with_datasets([data.name])
        members.append(estimate(single, statistic, loss=loss, method=method, conf_level=conf_level).headline)
    if len(members) > 1:
        members.append(average_estimates(members))
    return Estimates(tuple(members))
