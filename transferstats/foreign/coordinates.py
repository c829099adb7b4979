"""What tables call their layers: indices, numbers from 1 on or with gaps, times, names with a number in them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from transferstats.distance import layer_numbers
from transferstats.errors import DataError
from transferstats.long_tables import refuse_not_square

SIDES: tuple[str, str] = ("source", "target")

EXAMPLES = 4
"""Names of layers that a message shows."""


def as_indices(frame: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...], list[str]]:
    """Sources and targets as indices 0..L-1, the names of the layers (empty: their indices), and a remark.

    Numbers are put in their order, and so are names that differ in one number ("layer_2" before "layer_10");
    ordered categories say their order themselves.

    Raises
    ------
    DataError: names whose order of depth cannot be told, datasets with other layers, a matrix that is not square.
    """
    if not set(SIDES) <= set(frame):
        return frame, (), []
    known = [one for one in pd.unique(pd.concat([frame[side].astype(object) for side in SIDES])) if pd.notna(one)]
    if not known:
        return frame, (), []
    ordered = _in_order(frame, known)
    names = _names(ordered)
    if names == tuple(map(str, range(len(names)))):
        names = ()
    else:
        _refuse_other_layers(frame, ordered)
    place = {label: index for index, label in enumerate(ordered)}
    coded = {side: _whole(frame[side].astype(object).map(place)) for side in SIDES}
    return frame.assign(**coded), names, _remark(names)


def _in_order(frame: pd.DataFrame, known: Sequence[Any]) -> list[Hashable]:
    """The labels of the layers by depth."""
    kind = frame["source"].dtype
    if isinstance(kind, pd.CategoricalDtype) and kind.ordered and kind == frame["target"].dtype:
        return [label for label in kind.categories if label in set(known)]
    numbers = _numbers(known)
    if numbers is None or len(set(numbers)) < len(known):
        shown = ", ".join(repr(str(one)) for one in known[:EXAMPLES])
        raise DataError(
            f"source and target hold {shown}, whose order of depth cannot be told: number the layers in that "
            "order, or name all of them alike with a number in which they differ, such as layer_2 and layer_10"
        )
    return [known[index] for index in np.argsort(numbers, kind="stable")]


def _numbers(known: Sequence[Any]) -> tuple[float, ...] | None:
    try:
        values = tuple(float(one) for one in known)
    except (ValueError, TypeError):
        return layer_numbers([str(one) for one in known])
    return values if np.isfinite(values).all() else None


def _names(ordered: Sequence[Any]) -> tuple[str, ...]:
    """Layers as they are called; numbers without a tail of zeros."""
    try:
        values = [float(one) for one in ordered]
    except (ValueError, TypeError):
        return tuple(str(one).strip() for one in ordered)
    if all(value.is_integer() for value in values):
        return tuple(str(int(value)) for value in values)
    short = tuple(f"{value:g}" for value in values)
    return short if len(set(short)) == len(short) else tuple(repr(value) for value in values)


def _refuse_other_layers(frame: pd.DataFrame, ordered: Sequence[Hashable]) -> None:
    """Every dataset has the layers of the table; by name, because indices would mean nothing to its reader."""
    for name, part in frame.groupby("dataset", observed=True):
        refuse_not_square(part, str(name))
        missing = [label for label in ordered if label not in set(part["source"])]
        if missing:
            raise DataError(
                f"dataset {str(name)!r} has no layer {str(missing[0])!r}, which another dataset has: layers of "
                "one grid are the same in all datasets"
            )


def _remark(names: Sequence[str]) -> list[str]:
    if not names:
        return []
    return [
        f"layers are those that the table calls {names[0]} to {names[-1]}, {len(names)} of them, in this order"
    ]


def _whole(column: pd.Series[Any]) -> pd.Series[Any]:
    """Indices as whole numbers; rows without a layer keep NaN, which the grid refuses by name."""
    return column.astype(np.int64) if column.notna().all() else column.astype(np.float64)
