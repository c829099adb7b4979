"""Distances between layers: by the layers' own numbers, by relative depth, or anybody's matrix.

Convention everywhere: rows are sources s (where the lens was trained), columns are targets t (where it
is used); forward means t > s.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from transferstats.arrays import FloatArray
from transferstats.errors import DataError, DesignError

WHOLE = re.compile(r"[+-]?\d+")
DIGITS = re.compile(r"(\d+)")

STEPS_AGREE = 1e-6
"""Times are evenly spaced if their steps differ by less than this share: they are rounded when written."""


@dataclass(frozen=True, slots=True)
class LayerScale:
    """Distances between layers whose places are known.

    Attributes
    ----------
    name: "index" (difference of places) or "depth" (that difference as a share of the whole). positions: (L,).
    """

    name: str
    positions: tuple[float, ...]

    def matrix(self) -> FloatArray:
        """(L, L) distances, zero diagonal."""
        return layer_distance(self.positions, self.name)


Distance = str | LayerScale | npt.ArrayLike
"""What a distance can be asked for by: a name, a scale of known places, or an (L, L) matrix."""


def layer_distance(layers: int | Sequence[float], scale: str = "index") -> FloatArray:
    """Distance |s - t| between layers.

    Parameters
    ----------
    layers: number of layers L, or their L places.
    scale: ``"index"`` (layers) or ``"depth"`` (fraction of the whole depth).

    Returns
    -------
    (L, L) float64, zero diagonal.

    Raises
    ------
    DesignError: fewer than 2 layers, or an unknown scale.
    """
    place = np.arange(layers, dtype=np.float64) if isinstance(layers, int) else np.asarray(layers, np.float64)
    if len(place) < 2:
        raise DesignError(f"distances need at least 2 layers, got {len(place)}")
    distance = np.abs(place[:, None] - place[None, :])
    if scale == "index":
        return distance
    if scale == "depth":
        return np.asarray(distance / np.ptp(place))
    raise DesignError(f"unknown distance scale {scale!r}: use 'index', 'depth', or pass an (L, L) matrix")


def resolve_distance(n_layers: int, distance: Distance) -> FloatArray:
    """The (L, L) distance matrix of a name ("index", "depth"), of a scale or of the user's own matrix."""
    if isinstance(distance, LayerScale):
        return check_distance(distance.matrix(), n_layers)
    if isinstance(distance, str):
        return layer_distance(n_layers, distance)
    return check_distance(distance, n_layers)


def distance_name(distance: Distance | None) -> str:
    """ "index", "depth", or "custom" for a matrix."""
    if isinstance(distance, LayerScale):
        return distance.name
    return distance if isinstance(distance, str) else "index" if distance is None else "custom"


def scale_of(names: Sequence[str], distance: Distance | None = None) -> Distance:
    """A distance between named layers: "index" (the default), "depth", or the user's matrix, checked."""
    if isinstance(distance, LayerScale):
        return distance
    if distance is not None and not isinstance(distance, str):
        return check_distance(distance, len(names))
    # A complete list needs no places, and equal names let fits of different grids share what they prepare.
    name = distance or "index"
    return name if _is_complete(names) else LayerScale(name, layer_positions(names))


def written_layers(names: Sequence[str]) -> npt.NDArray[Any]:
    """(L,) what a long table calls the layers: indices, but names where indices would lose the distances."""
    sorted_ = (np.diff(layer_positions(names)) > 0).all()
    return np.asarray(names, dtype=object) if sorted_ and not _is_complete(names) else np.arange(len(names))


def _is_complete(names: Sequence[str]) -> bool:
    """Whether the layers' own numbers are as far apart as their places in the list."""
    return np.array_equal(layer_distance(layer_positions(names)), layer_distance(len(names)))


def layer_numbers(names: Sequence[str]) -> tuple[float, ...] | None:
    """The layers' own whole numbers: "4", "layer_10", "blocks.3.mlp"; None where names have none that tells.

    Names must be alike but for one number, and the numbers must differ. Decimals are coordinates, no numbers.
    """
    numbers = _plain(names) or _embedded(names)
    return numbers if numbers and len(set(numbers)) == len(numbers) else None


def layer_positions(names: Sequence[str]) -> tuple[float, ...]:
    """(L,) where layers lie: their own numbers, or their places in the list where names hold none."""
    return layer_numbers(names) or tuple(map(float, range(len(names))))


def _plain(names: Sequence[str]) -> tuple[float, ...] | None:
    found = [name.strip() for name in names]
    return tuple(float(int(name)) for name in found) if all(map(WHOLE.fullmatch, found)) else None


def _embedded(names: Sequence[str]) -> tuple[float, ...] | None:
    parts = [DIGITS.split(name) for name in names]
    if len({tuple(one[::2]) for one in parts}) > 1:
        return None  # other words, or more of them
    fields = list(zip(*(map(int, one[1::2]) for one in parts), strict=True))
    varying = [index for index, values in enumerate(fields) if len(set(values)) > 1]
    if len(varying) != 1 or _is_decimal(parts[0][::2], varying[0]):
        return None
    return tuple(map(float, fields[varying[0]]))


def _is_decimal(words: Sequence[str], field: int) -> bool:
    """Whether a number is part of a decimal such as "t=0.25"; in "encoder.3.0" dots are a path."""
    for first in (field - 1, field):  # the decimal's first half
        if 0 <= first < len(words) - 2 and words[first + 1] == ".":
            return not (words[first].endswith(".") or words[first + 2].startswith("."))
    return False


def distance_note(names: Sequence[str]) -> str:
    """What a layer distance is, in words; empty where it counts layers of a complete list, as anybody expects."""
    numbers = layer_numbers(names)
    if numbers is not None and _is_complete(names):
        return ""
    if numbers is not None:
        return (
            f"layer distances are differences of the layers' own numbers ({_listed(numbers)}), so a distance of 1 "
            "is one layer of the network, whether or not it was used"
        )
    coordinates = _coordinates(names)
    if coordinates is not None:
        return _spacing(coordinates)
    return (
        "layer names hold no numbers that tell how far apart layers are: distances count steps in the order of "
        "the layers, so pass distance= where layers were left out"
    )


def _listed(numbers: Sequence[float], most: int = 6) -> str:
    shown = [f"{number:.12g}" for number in numbers]
    return ", ".join(shown if len(shown) <= most else [*shown[: most - 2], "...", shown[-1]])


def _coordinates(names: Sequence[str]) -> FloatArray | None:
    try:
        values = np.array([float(name) for name in names])
    except ValueError:
        return None
    return values if np.isfinite(values).all() else None


def _spacing(known: FloatArray) -> str:
    steps = np.diff(known)
    if np.ptp(steps) <= STEPS_AGREE * np.abs(steps).max():
        return f"layers are coordinates: distances count steps of {steps[0]:.6g}"
    return (
        f"layers are coordinates with steps from {steps.min():.6g} to {steps.max():.6g}: distances count steps, "
        "so pass distance= where their sizes matter"
    )


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
