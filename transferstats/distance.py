"""Distances between layers: index, relative depth, or anybody's matrix.

Convention everywhere: rows are sources s (where the lens was trained), columns are targets t (where it
is used); forward means t > s.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from transferstats.arrays import FloatArray
from transferstats.errors import DataError, DesignError


def layer_distance(n_layers: int, scale: str = "index") -> FloatArray:
    """Distance |s - t| between layers.

    Parameters
    ----------
    n_layers: number of layers L.
    scale: ``"index"`` (layers) or ``"depth"`` (fraction of the whole depth, |s - t| / (L - 1)).

    Returns
    -------
    (L, L) float64, zero diagonal.

    Raises
    ------
    DesignError: fewer than 2 layers, or an unknown scale.
    """
    if n_layers < 2:
        raise DesignError(f"distances need at least 2 layers, got {n_layers}")
    index = np.arange(n_layers, dtype=np.float64)
    distance = np.abs(index[:, None] - index[None, :])
    if scale == "index":
        return distance
    if scale == "depth":
        return distance / (n_layers - 1)
    raise DesignError(f"unknown distance scale {scale!r}: use 'index', 'depth', or pass an (L, L) matrix")


def check_distance(distance: npt.ArrayLike, n_layers: int) -> FloatArray:
    """Check a user's distance matrix: (L, L), finite, positive off the diagonal. It need not be symmetric."""
    matrix = np.asarray(distance, dtype=np.float64)
    if matrix.shape != (n_layers, n_layers):
        raise DataError(f"distance matrix has shape {matrix.shape}; this grid needs ({n_layers}, {n_layers})")
    off = matrix[off_diagonal(n_layers)]
    if not np.isfinite(off).all() or (off <= 0).any():
        raise DataError("distances between different layers must be finite and positive")
    return matrix


def off_diagonal(n_layers: int) -> npt.NDArray[np.bool_]:
    """(L, L) mask that is True off the diagonal."""
    return ~np.eye(n_layers, dtype=bool)


def forward_mask(n_layers: int) -> npt.NDArray[np.bool_]:
    """(L, L) mask that is True where the target lies after the source (t > s)."""
    return np.triu(np.ones((n_layers, n_layers), dtype=bool), k=1)
