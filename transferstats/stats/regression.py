"""Regression of penalties on properties of the cells, by formula, with crossed intervals.

Least squares on the mean cells is linear in them, so the influence of every seed and unit on a coefficient
is exact. Regressing cells x seeds rows with ordinary standard errors instead rejects a true null slope a
third of the time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from formulaic import Formula
from formulaic.errors import FormulaicError
from formulaic.formula import SimpleFormula
from scipy.linalg import qr

from transferstats.arrays import FloatArray
from transferstats.distance import Distance, forward_mask, off_diagonal, resolve_distance
from transferstats.errors import DataError, DesignError
from transferstats.grid import DatasetLosses, TransferGrid
from transferstats.results.regression import RegressionFit
from transferstats.stats.estimation import estimate
from transferstats.stats.influence import check_weights, mean_penalty, penalties
from transferstats.stats.statistics import STEP, LinearStatistic, linear_statistic
from transferstats.stats.strata import average_estimates

CELL_COLUMNS: dict[str, str] = {
    "distance": "difference of the layers' own numbers, or the distance asked for",
    "direction": "'forward' (target after source) or 'backward'",
    "source": "index of the layer the lens was trained on",
    "target": "index of the layer it is used on",
    "depth": "relative depth of the middle of the pair, 0 at the first layer and 1 at the last",
}
"""Columns every grid has. Similarity measures come by name, ``shared_excess`` where a shared lens was scored."""

SHARED = "shared_excess"
COLLINEAR = 1e-10
"""Columns scaled to length 1 whose remainder after the others is below this are linear combinations of them."""


def regress(
    formula: str,
    grid: TransferGrid,
    *,
    dataset: str | None = None,
    loss: str | None = None,
    distance: Distance = "index",
    conf_level: float = 0.95,
) -> RegressionFit:
    """Regress mean penalties on properties of the cells.

    Parameters
    ----------
    formula: Wilkinson formula such as ``"penalty ~ log(distance) * direction + C(target)"``. The left side is
        ``penalty``: it may be negative, so it is never transformed. Columns: distance, direction, source,
        target, depth, any similarity measure of the grid, and shared_excess (of the target layer).
    grid: losses of one subject. dataset: one dataset only; all by default, with their equal-weight average.
    loss: "kl", "ce" or "disagreement"; the grid's own by default. distance: "index", "depth" or an (L, L) matrix.
    conf_level: nominal coverage in (0, 1).

    Returns
    -------
    :class:`RegressionFit`. ``shared_excess`` is itself estimated, from the same seeds and units, and its error
    is propagated; all other columns are fixed by the layers.

    Raises
    ------
    DesignError: a formula that cannot be read, unknown columns, collinear columns, more columns than cells.
    DataError: a column that is not finite.

    Examples
    --------
    >>> import transferstats as ts
    >>> grid = ts.simulate_grid(n_seeds=4, n_units=40, rng=1).grid
    >>> ts.regress("penalty ~ log(distance) + direction", grid).headline.terms
    ('Intercept', 'log(distance)', 'direction[T.forward]')
    """
    parsed = _parse(formula)
    chosen = grid if dataset is None else grid.with_datasets([dataset])
    fits = [
        _regress_dataset(parsed, chosen, data, loss=loss or grid.loss, distance=distance, conf_level=conf_level)
        for data in chosen.datasets
    ]
    return combine(formula, fits)


@dataclass(frozen=True, slots=True, eq=False)
class SharedRegression:
    """Coefficients as a statistic of (L + 1, L + 1) matrices whose last row is the shared-lens excess.

    Attributes
    ----------
    names: columns of the model matrix. design: (L,) excess -> (cells, p) model matrix.
    """

    names: tuple[str, ...]
    design: Callable[[FloatArray], FloatArray]

    name = "regression"
    scalar = False

    def terms(self, n_layers: int) -> tuple[str, ...]:
        """Names of the columns."""
        return self.names

    def batch(self, penalty: FloatArray) -> FloatArray:
        """(B, L + 1, L + 1) -> (B, p)."""
        return np.stack([self(one) for one in penalty])

    def __call__(self, penalty: FloatArray) -> FloatArray:
        """(L + 1, L + 1) -> (p,) coefficients."""
        cells = penalty[:-1, :-1][off_diagonal(len(penalty) - 1)]
        return np.asarray(solver(self.design(penalty[-1, :-1])) @ cells)

    def gradient(self, penalty: FloatArray) -> FloatArray:
        """(p, L + 1, L + 1): exact in the penalties, central differences in the excess."""
        size = len(penalty) - 1
        excess, mask = penalty[-1, :-1], off_diagonal(size)
        gradient = np.zeros((len(self.names), size + 1, size + 1))
        inner = np.zeros((len(self.names), size, size))
        inner[:, mask] = solver(self.design(excess))
        gradient[:, :-1, :-1] = inner
        scale = float(np.abs(excess).max()) or 1.0
        for layer in range(size):
            step = np.zeros(size + 1)
            step[layer] = STEP * scale
            above, below = penalty.copy(), penalty.copy()
            above[-1] += step
            below[-1] -= step
            gradient[:, -1, layer] = (self(above) - self(below)) / (above[-1, layer] - below[-1, layer])
        return gradient


def solver(design: FloatArray) -> FloatArray:
    """(p, n) matrix that turns n observations into least-squares coefficients."""
    scale = np.sqrt(np.square(design).sum(axis=0))
    q, r = np.linalg.qr(design / scale)
    return np.asarray(np.linalg.solve(r, q.T) / scale[:, None])


def cell_columns(
    grid: TransferGrid, data: DatasetLosses, *, loss: str, distance: Distance = "index"
) -> pd.DataFrame:
    """One row an off-diagonal cell (row-major): mean penalty and every column that a formula may use."""
    size = grid.n_layers
    mask = off_diagonal(size)
    source, target = np.nonzero(mask)
    losses = data.loss(loss)
    weights = check_weights(data.tokens, losses.shape[1])
    columns = {
        "penalty": mean_penalty(penalties(losses), weights)[mask],
        "distance": resolve_distance(size, grid.scale(distance))[mask],
        "direction": np.where(forward_mask(size)[mask], "forward", "backward"),
        "source": source,
        "target": target,
        "depth": _relative_depth(grid)[np.stack([source, target])].mean(axis=0),
    }
    for measure, matrix in grid.similarities.get(data.name, {}).items():
        columns[measure] = np.asarray(matrix, dtype=np.float64)[mask]
    if loss in data.readouts.get("shared", {}):
        columns[SHARED] = _mean_excess(data, loss, weights)[target]
    return pd.DataFrame(columns)


def _relative_depth(grid: TransferGrid) -> FloatArray:
    """(L,) 0 at the first layer, 1 at the last."""
    place = np.asarray(grid.positions)
    return np.asarray((place - place.min()) / np.ptp(place))


def _mean_excess(data: DatasetLosses, loss: str, weights: FloatArray | None) -> FloatArray:
    """(L,) mean shared-lens excess of every target layer."""
    return mean_penalty(penalties(_with_shared(data, loss).loss(loss)), weights)[-1, :-1]


def _with_shared(data: DatasetLosses, loss: str) -> DatasetLosses:
    """The dataset with the shared lens as one more source, so that its excess is one more row of the matrix."""
    losses = data.loss(loss)
    n_seeds, n_units, size, _ = losses.shape
    wide = np.zeros((n_seeds, n_units, size + 1, size + 1))
    wide[:, :, :-1, :-1] = losses
    wide[:, :, -1, :-1] = data.readouts["shared"][loss]
    return replace(data, losses={loss: wide}, readouts={}, null=None)


def _parse(formula: str) -> SimpleFormula:
    """The right side; DesignError unless the left side is the penalty itself."""
    if "__" in formula:
        raise DesignError(f"formula {formula!r}: names with double underscores are not columns")
    try:
        parsed = Formula(formula)
    except FormulaicError as error:
        raise DesignError(f"cannot read the formula {formula!r}: {error}") from error
    left, right = getattr(parsed, "lhs", None), getattr(parsed, "rhs", parsed)
    if left is None or str(left) != "penalty":
        raise DesignError(
            f"formula {formula!r}: the left side must be 'penalty', as it is (penalties may be negative, so "
            "neither logarithms nor other transformations of them are used)"
        )
    if not isinstance(right, SimpleFormula):
        raise DesignError(f"formula {formula!r}: the right side must be one formula, without '|'")
    if "penalty" in right.required_variables:
        raise DesignError(f"formula {formula!r}: the penalty cannot explain itself")
    return right


def _regress_dataset(
    formula: SimpleFormula,
    grid: TransferGrid,
    data: DatasetLosses,
    *,
    loss: str,
    distance: Distance,
    conf_level: float,
) -> RegressionFit:
    columns = cell_columns(grid, data, loss=loss, distance=distance)
    unknown = sorted(str(name) for name in formula.required_variables if str(name) not in columns)
    if unknown:
        offered = ", ".join(str(name) for name in columns if name != "penalty")
        raise DesignError(f"dataset {data.name!r} has no column {', '.join(unknown)}; it has: {offered}")
    design, names = model_matrix(formula, columns)
    _check_rank(design, names)
    mask = off_diagonal(grid.n_layers)
    cells = columns["penalty"].to_numpy()
    single = grid.with_datasets([data.name]).with_loss(loss)
    statistic: LinearStatistic | SharedRegression
    if SHARED in formula.required_variables:
        target = columns["target"].to_numpy()

        def rebuilt(excess: FloatArray) -> FloatArray:
            return model_matrix(formula, columns.assign(**{SHARED: excess[target]}))[0]

        statistic = SharedRegression(names, rebuilt)
        single = replace(
            single, layers=(*grid.layers, "shared lens"), datasets=(_with_shared(data, loss),), similarities={}
        )
    else:
        weights = np.zeros((len(names), grid.n_layers, grid.n_layers))
        weights[:, mask] = solver(design)
        statistic = linear_statistic(weights, name="regression", terms=names)
    one = estimate(single, statistic, conf_level=conf_level).headline
    one = replace(one, unit=f"{grid.unit_of(loss)} per unit of the column")
    residual = cells - design @ np.asarray(one.estimate)
    total = float(np.square(cells - cells.mean()).sum())
    r_squared = 1 - float(residual @ residual) / total if total > 0 else float("nan")
    return RegressionFit("", (one,), (r_squared,), len(cells), len(names))


def model_matrix(formula: SimpleFormula, columns: pd.DataFrame) -> tuple[FloatArray, tuple[str, ...]]:
    """(cells, p) model matrix and the names of its columns; DataError where a value is not finite."""
    try:
        with np.errstate(all="ignore"):
            matrix = formula.get_model_matrix(columns, context={}, na_action="ignore")
    except (FormulaicError, ValueError, TypeError) as error:
        raise DesignError(f"the right side {str(formula)!r} cannot be evaluated: {error}") from error
    values, names = np.asarray(matrix, dtype=np.float64), tuple(map(str, matrix.columns))
    bad = np.asarray(~np.isfinite(values).all(axis=0))
    if bad.any():
        wrong = ", ".join(name for name, is_bad in zip(names, bad, strict=True) if is_bad)
        raise DataError(f"column {wrong} is NaN or infinite in some cells (a logarithm of 0 or of a negative?)")
    return values, names


def _check_rank(design: FloatArray, names: tuple[str, ...]) -> None:
    n_cells, n_columns = design.shape
    if not n_columns:
        raise DesignError("the formula has no columns")
    if n_cells < n_columns:
        raise DesignError(f"{n_columns} columns cannot be estimated from {n_cells} cells; use fewer terms")
    size = np.sqrt(np.square(design).sum(axis=0))
    scaled = design / np.where(size > 0, size, 1.0)
    _, triangle, pivots = qr(scaled, mode="economic", pivoting=True)
    dependent = np.abs(np.diag(triangle)) < COLLINEAR
    if dependent.any():
        wrong = ", ".join(names[index] for index in sorted(pivots[dependent]))
        raise DesignError(f"columns are linear combinations of the others: {wrong}; drop terms from the formula")


def combine(formula: str, fits: list[RegressionFit]) -> RegressionFit:
    """Fits of several datasets as one result, with their equal-weight average last."""
    estimates = [fit.estimates[0] for fit in fits]
    if len(fits) > 1:
        estimates.append(average_estimates(estimates))
    return RegressionFit(
        formula=formula,
        estimates=tuple(estimates),
        r_squared=tuple(fit.r_squared[0] for fit in fits),
        n_cells=fits[0].n_cells,
        n_columns=fits[0].n_columns,
    )
