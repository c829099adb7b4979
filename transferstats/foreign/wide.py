"""Matrices written as tables: one row a source, one column a target, a block of rows a seed or unit."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import pandas as pd

from transferstats.distance import layer_numbers
from transferstats.errors import DataError
from transferstats.foreign.columns import NAMES
from transferstats.foreign.conversion import Conversion

KEPT: tuple[str, ...] = (*NAMES, "n", "bytes")
"""Columns that belong to a row and are no layers."""

OTHER = {"source": "target", "target": "source"}


def melted(frame: pd.DataFrame, conversion: Conversion, loss: str | None) -> tuple[pd.DataFrame, list[str]]:
    """One row a loss, where a table has a column a layer; what is no such table is given back as it is.

    Raises
    ------
    DataError: numbers of which nobody said what they are.
    """
    sides = [side for side in OTHER if side in frame]
    if len(sides) != 1:
        return frame, []
    side = sides[0]
    wide = [name for name in frame if name not in (*KEPT, side)]
    layers = _same_layers(wide, list(pd.unique(frame[side])))
    if layers is None:
        return frame, []
    if conversion.score is None and conversion.loss_unit is None and loss is None:
        raise DataError(
            f"the table has a column for each {OTHER[side]} and does not say what its numbers are: pass loss='kl' "
            "(or 'ce', 'disagreement'), loss_unit='nats', or score='AUC' where they are scores"
        )
    value = conversion.score or loss or "ce"
    keys = [name for name in frame if name in (*KEPT, side)]
    long = frame.rename(columns=dict(zip(wide, layers, strict=True))).melt(
        keys, var_name=OTHER[side], value_name=value
    )
    return long, [f"the table has a column for each {OTHER[side]}, and its numbers were taken as {value}"]


def _same_layers(columns: Sequence[Hashable], rows: Sequence[Hashable]) -> list[Hashable] | None:
    """The layers of the rows in the order of the columns, which name the same ones, by name or by number."""
    if len(columns) != len(rows) or len(rows) < 2:
        return None
    by_name = {str(row).strip(): row for row in rows}
    if set(by_name) == {str(column).strip() for column in columns}:
        return [by_name[str(column).strip()] for column in columns]
    numbers = [layer_numbers([_whole(one) for one in names]) for names in (columns, rows)]
    if numbers[0] is None or numbers[1] is None or set(numbers[0]) != set(numbers[1]):
        return None
    by_number = dict(zip(numbers[1], rows, strict=True))
    return [by_number[number] for number in numbers[0]]


def _whole(name: Hashable) -> str:
    """A number read as a float is the whole number that it was."""
    return str(int(name)) if isinstance(name, float) and name.is_integer() else str(name)
