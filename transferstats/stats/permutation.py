"""Quadratic assignment: is a layer-by-layer matrix tied to the order of the layers?

Rows and columns are relabelled together and the diagonal is left out. The test asks whether y is tied to a
predictor beyond the idiosyncrasies of single layers. It does not ask whether penalties grow with distance for new
seeds and units: used for that it rejects a third of true null hypotheses, because all cells share few seeds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from transferstats.arrays import FloatArray, IntArray
from transferstats.distance import Distance, forward_mask, off_diagonal, resolve_distance
from transferstats.errors import DataError, DesignError
from transferstats.grid import TransferGrid
from transferstats.results.permutation import QapResult
from transferstats.stats.influence import check_weights, mean_penalty, penalties

METHODS = {
    "dsp": "MRQAP, double semi-partialling",
    "y": "MRQAP, y permuted",
    "mantel": "directed Mantel (Pearson)",
    "mantel_rank": "directed Mantel (Spearman)",
}
ALTERNATIVES: tuple[str, ...] = ("two-sided", "greater", "less")

LARGEST_EXACT = 8
"""8! = 40,320 relabellings take a fraction of a second; 9! would take ten times the memory for no gain in p."""
TIE = 1e-9
"""Partial correlations closer than this are one value: relabellings that leave a matrix unchanged reproduce it
only up to the rounding of sums in another order (1e-15), and different relabellings differ by far more."""
COLLINEAR = 1e-10
"""Share of a predictor's variation that must be left after regression on the others."""
CHUNK = 4096
"""Relabellings evaluated at once."""


@dataclass(frozen=True, slots=True)
class _Design:
    """Everything about one predictor that no relabelling changes.

    ``others``: (n, q) orthonormal basis of the intercept and the other predictors. ``residual``: (n,) the
    predictor after regression on them. ``moving``, ``still``: what is relabelled, (L, L), and the fixed unit
    vector (n,) that it is correlated with.
    """

    others: FloatArray
    residual: FloatArray
    moving: FloatArray
    still: FloatArray


def qap(
    y: npt.ArrayLike,
    predictors: npt.ArrayLike | Sequence[npt.ArrayLike] | Mapping[str, npt.ArrayLike],
    *,
    method: str = "dsp",
    permutations: str | int = "exact",
    rng: int | np.random.Generator | None = None,
    alternative: str = "two-sided",
) -> QapResult:
    """Quadratic assignment test of y on one or more predictors.

    Parameters
    ----------
    y: (L, L) matrix, such as mean penalties; rows sources, columns targets; the diagonal is ignored.
    predictors: one (L, L) matrix, several, or name -> matrix.
    method: ``"dsp"`` (double semi-partialling: the residual of each predictor on the others is relabelled; Dekker,
        Krackhardt & Snijders 2007, doi 10.1007/s11336-007-9016-1), ``"y"`` (y is relabelled), ``"mantel"``
        (correlation with one predictor; Mantel 1967) or ``"mantel_rank"`` (Spearman).
    permutations: ``"exact"`` (all L!, L <= 8) or how many to draw.
    rng: seed or generator, needed when relabellings are drawn.
    alternative: "two-sided", "greater" or "less".

    Returns
    -------
    :class:`QapResult`, with the smallest p-value that this design could have produced.

    Raises
    ------
    DataError: not square, not finite, constant. DesignError: unknown options, collinear predictors, too few
    cells, exact enumeration beyond 8 layers, no ``rng`` for random relabellings.
    """
    _check_options(method, alternative)
    names, outcome, matrices = _check_input(y, predictors, method)
    n_layers = len(outcome)
    mask = off_diagonal(n_layers)
    df = int(mask.sum()) - len(names) - 1
    designs = [_design(outcome, names, matrices, index, method) for index in range(len(names))]
    observed = np.array([float(_partial(design, mask, np.arange(n_layers)[None])[0]) for design in designs])
    exact = permutations == "exact"
    orders = _relabellings(n_layers, permutations, rng)
    null = np.concatenate([np.stack([_partial(d, mask, part) for d in designs]) for part in orders], axis=1)
    extreme = np.stack([_extreme(values, one, alternative) for values, one in zip(null, observed, strict=True)])
    count = extreme.sum(axis=1)
    p_value = count / null.shape[1] if exact else (count + 1) / (null.shape[1] + 1)
    estimate = observed if method.startswith("mantel") else _coefficients(outcome, matrices, mask)
    return QapResult(
        terms=names,
        estimate=estimate,
        statistic=_t_value(observed, df),
        partial_correlation=observed,
        p_value=p_value,
        floor=_floors(designs, mask, null.shape[1], exact, alternative),
        null=null,
        exact=exact,
        n_layers=n_layers,
        df=df,
        method=METHODS[method] + (f", all {null.shape[1]} relabellings" if exact else f", {null.shape[1]} drawn"),
        alternative=alternative,
    )


def order_test(
    grid: TransferGrid,
    dataset: str | None = None,
    *,
    distance: Distance = "index",
    loss: str | None = None,
    permutations: str | int = "exact",
    rng: int | np.random.Generator | None = None,
) -> QapResult:
    """Are mean penalties tied to the order of the layers? QAP on distance and direction, one dataset.

    It asks whether distance tells more than the peculiarities of single layers would, not whether penalties grow
    for new seeds and units: that is the slope of ``estimate``.

    Parameters
    ----------
    grid: at least 3 layers. dataset: its name, needed where there are several.
    distance: "index", "depth" or (L, L). loss: "kl", "ce" or "disagreement"; the grid's own by default.
    permutations, rng: as in :func:`qap`; more than 8 layers need a number of relabellings and an ``rng``.

    Returns
    -------
    :class:`QapResult` by double semi-partialling; ``forward`` is 1 where the target lies after the source.

    Raises
    ------
    DataError, DesignError: as in :func:`qap`; several datasets and none named.

    Examples
    --------
    >>> import transferstats as ts
    >>> found = ts.order_test(ts.simulate_grid(n_seeds=4, n_units=40, rng=1).grid)
    >>> found.terms, found.verdicts()[0]
    (('distance', 'forward'), 'tied to layer order')
    """
    predictors = {
        "distance": resolve_distance(grid.n_layers, grid.scale(distance)),
        "forward": forward_mask(grid.n_layers).astype(np.float64),
    }
    data = grid.dataset(dataset)
    losses = data.loss(loss or grid.loss)
    matrix = mean_penalty(penalties(losses), check_weights(data.tokens, losses.shape[1]))
    return replace(qap(matrix, predictors, permutations=permutations, rng=rng), dataset=data.name)


def _check_options(method: str, alternative: str) -> None:
    if method not in METHODS:
        raise DesignError(f"unknown method {method!r}: use one of {', '.join(METHODS)}")
    if alternative not in ALTERNATIVES:
        raise DesignError(f"unknown alternative {alternative!r}: use one of {', '.join(ALTERNATIVES)}")


def _check_input(
    y: npt.ArrayLike,
    predictors: npt.ArrayLike | Sequence[npt.ArrayLike] | Mapping[str, npt.ArrayLike],
    method: str,
) -> tuple[tuple[str, ...], FloatArray, list[FloatArray]]:
    """Names, y and predictors, ranked where the method asks for ranks."""
    names, matrices = _check_predictors(predictors)
    outcome = _check_matrix(y, "y", matrices[0].shape)
    mask = off_diagonal(len(outcome))
    if method.startswith("mantel") and len(names) > 1:
        raise DesignError(f"method {method!r} takes one predictor, got {len(names)}; use 'dsp' for several")
    if int(mask.sum()) - len(names) - 1 < 1:
        raise DesignError(f"{int(mask.sum())} cells cannot carry {len(names)} predictors and an intercept")
    if method == "mantel_rank":
        return names, _ranks(outcome, mask), [_ranks(matrix, mask) for matrix in matrices]
    return names, outcome, matrices


def _check_predictors(
    predictors: npt.ArrayLike | Sequence[npt.ArrayLike] | Mapping[str, npt.ArrayLike],
) -> tuple[tuple[str, ...], list[FloatArray]]:
    if isinstance(predictors, Mapping):
        names, given = tuple(map(str, predictors)), list(predictors.values())
    else:
        stack = np.asarray(predictors, dtype=np.float64)
        given = [stack] if stack.ndim == 2 else list(stack)
        names = tuple(f"x{index + 1}" for index in range(len(given)))
    if not given:
        raise DesignError("at least one predictor is needed")
    shape = np.shape(given[0])
    return names, [_check_matrix(one, name, shape) for name, one in zip(names, given, strict=True)]


def _check_matrix(values: npt.ArrayLike, name: str, shape: tuple[int, ...]) -> FloatArray:
    matrix = np.array(values, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.shape != shape:
        raise DataError(f"{name} must be a square matrix like the others, {shape}; got shape {matrix.shape}")
    if len(matrix) < 3:
        raise DesignError(f"{len(matrix)} layers have nothing to relabel; QAP needs at least 3")
    cells = matrix[off_diagonal(len(matrix))]
    if not np.isfinite(cells).all():
        raise DataError(f"{name} has {int((~np.isfinite(cells)).sum())} NaN or infinite cells off the diagonal")
    if np.ptp(cells) <= 1e-14 * np.abs(cells).max():
        raise DataError(f"{name} is constant off the diagonal, so it is tied to nothing")
    np.fill_diagonal(matrix, 0.0)
    return matrix


def _ranks(matrix: FloatArray, mask: npt.NDArray[np.bool_]) -> FloatArray:
    ranked = np.zeros_like(matrix)
    ranked[mask] = rankdata(matrix[mask])
    return ranked


def _unit(values: FloatArray) -> FloatArray:
    """Columns (n, q) centred and scaled, so that no unit of measurement decides what counts as collinear."""
    centred = values - values.mean(axis=0)
    return np.asarray(centred / np.sqrt((centred**2).sum(axis=0)))


def _design(y: FloatArray, names: tuple[str, ...], matrices: list[FloatArray], index: int, method: str) -> _Design:
    mask = off_diagonal(len(y))
    columns = _unit(np.column_stack([matrix[mask] for matrix in matrices]))
    rest = np.column_stack([np.ones(int(mask.sum())), np.delete(columns, index, axis=1)])
    others, triangle = np.linalg.qr(rest)
    diagonal = np.abs(np.diag(triangle))
    residual = columns[:, index] - others @ (others.T @ columns[:, index])
    left = float(residual @ residual)
    if left < COLLINEAR or diagonal.min() < COLLINEAR * diagonal.max():
        raise DesignError(f"predictor {names[index]!r} is a linear combination of the others; drop one of them")
    residual = residual / math.sqrt(left)
    outcome = _unit(y[mask][:, None])[:, 0]
    if method == "y":
        return _Design(others, residual, _fold(outcome, mask), residual)
    still = outcome - others @ (others.T @ outcome)
    norm = math.sqrt(float(still @ still))
    # y inside the span of the other predictors: nothing is left for this one to explain.
    still = still / norm if norm > COLLINEAR else np.zeros_like(still)
    return _Design(others, residual, _fold(residual, mask), still)


def _fold(cells: FloatArray, mask: npt.NDArray[np.bool_]) -> FloatArray:
    matrix = np.zeros(mask.shape)
    matrix[mask] = cells
    return matrix


def _partial(design: _Design, mask: npt.NDArray[np.bool_], orders: IntArray) -> FloatArray:
    """Partial correlations (B,) under relabellings (B, L)."""
    rows, columns = np.nonzero(mask)
    moved = design.moving[orders[:, rows], orders[:, columns]]
    fitted = moved @ design.others
    left = np.square(moved).sum(axis=1) - np.square(fitted).sum(axis=1)
    # A relabelled residual inside the span of the other predictors carries no information: correlation 0.
    usable = left > COLLINEAR
    return np.asarray((moved @ design.still) / np.sqrt(np.where(usable, left, 1.0)) * usable)


def _relabellings(
    n_layers: int, permutations: str | int, rng: int | np.random.Generator | None
) -> Iterator[IntArray]:
    if permutations == "exact":
        if n_layers > LARGEST_EXACT:
            raise DesignError(
                f"{n_layers}! relabellings are too many to enumerate; pass permutations=9999 and rng="
            )
        every = itertools.permutations(range(n_layers))
        while part := list(itertools.islice(every, CHUNK)):
            yield np.array(part, dtype=np.intp)
        return
    if isinstance(permutations, str) or permutations < 1:
        raise DesignError(f"permutations must be 'exact' or a positive number, got {permutations!r}")
    if rng is None:
        raise DesignError("random relabellings need an explicit rng= (a seed or a numpy Generator)")
    generator = np.random.default_rng(rng)
    for start in range(0, permutations, CHUNK):
        rows = min(CHUNK, permutations - start)
        yield generator.permuted(np.tile(np.arange(n_layers, dtype=np.intp), (rows, 1)), axis=1)


def _extreme(values: FloatArray, observed: float, alternative: str) -> npt.NDArray[np.bool_]:
    if alternative == "two-sided":
        return np.asarray(np.abs(values) >= abs(observed) - TIE)
    return np.asarray(values >= observed - TIE if alternative == "greater" else values <= observed + TIE)


def _floors(
    designs: list[_Design], mask: npt.NDArray[np.bool_], n_drawn: int, exact: bool, alternative: str
) -> FloatArray:
    """Smallest attainable p-values: relabellings that no y can tell from the identity always count."""
    n_layers = len(mask)
    if n_layers > LARGEST_EXACT:
        return np.full(len(designs), 1 / (n_drawn + 1))
    floors = []
    for design in designs:
        probe = replace(design, moving=_fold(design.residual, mask), still=design.residual)
        parts = _relabellings(n_layers, "exact", None)
        sign = "two-sided" if alternative == "two-sided" else "greater"
        same = sum(int(_extreme(_partial(probe, mask, part), 1.0, sign).sum()) for part in parts)
        floors.append(same / math.factorial(n_layers))
    lowest = 0.0 if exact else 1 / (n_drawn + 1)
    return np.asarray(np.maximum(np.array(floors), lowest))


def _coefficients(y: FloatArray, matrices: list[FloatArray], mask: npt.NDArray[np.bool_]) -> FloatArray:
    columns = np.column_stack([matrix[mask] for matrix in matrices])
    scales = np.sqrt(np.square(columns - columns.mean(axis=0)).sum(axis=0))
    q, r = np.linalg.qr(np.column_stack([np.ones(len(columns)), _unit(columns)]))
    return np.asarray(np.linalg.solve(r, q.T @ y[mask])[1:] / scales)


def _t_value(partial: FloatArray, df: int) -> FloatArray:
    rest = 1 - partial**2
    perfect = rest <= TIE
    return np.where(perfect, np.nan, partial * np.sqrt(df / np.where(perfect, 1.0, rest)))
