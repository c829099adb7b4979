"""Layers that are named by a number other than their index: times of a recording, depths."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from transferstats.errors import DataError

STEPS_AGREE = 1e-6
"""Times are evenly spaced if their steps differ by less than this share: they are rounded when written."""


def as_indices(frame: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...], list[str]]:
    """Sources and targets as indices 0..L-1, the names of the layers (empty: their indices), and a remark.

    Whole numbers are indices already and are left to the checks of the grid. Fractions are coordinates: they
    are numbered in their order, and distances then count steps between neighbours.
    """
    if not {"source", "target"} <= set(frame):
        return frame, (), []
    places = {}
    for side in ("source", "target"):
        try:
            places[side] = frame[side].astype(np.float64)
        except (ValueError, TypeError) as error:
            raise DataError(
                f"{side} must be a layer index 0..L-1 or a time, not {error}; layers that have names need "
                "indices in the order of depth"
            ) from error
    known = np.concatenate([one.to_numpy() for one in places.values()])
    known = np.unique(known[np.isfinite(known)])
    if not len(known):
        return frame, (), []
    if (known == np.round(known)).all():
        return frame.assign(**{side: _whole(one) for side, one in places.items()}), (), []
    names = tuple(f"{value:g}" for value in known)
    if len(set(names)) < len(names):
        names = tuple(repr(float(value)) for value in known)
    coded = {side: _coded(one, known) for side, one in places.items()}
    return frame.assign(**coded), names, [spacing(known)]


def _coded(column: pd.Series[Any], known: np.ndarray[Any, np.dtype[np.float64]]) -> pd.Series[Any]:
    """Positions among the known coordinates; rows without one keep NaN, which the grid refuses by name."""
    position = pd.Series(np.searchsorted(known, column), index=column.index).astype(np.float64)
    return _whole(position.where(column.notna()))


def _whole(column: pd.Series[Any]) -> pd.Series[Any]:
    return column.astype(np.int64) if column.notna().all() else column


def spacing(known: np.ndarray[Any, np.dtype[np.float64]]) -> str:
    """What a distance is between these coordinates, in words."""
    steps = np.diff(known)
    if np.ptp(steps) <= STEPS_AGREE * np.abs(steps).max():
        return f"layers are coordinates: distances count steps of {steps[0]:.6g}"
    return (
        f"layers are coordinates with steps from {steps.min():.6g} to {steps.max():.6g}: distances count steps, "
        "so pass distance= where their sizes matter"
    )
