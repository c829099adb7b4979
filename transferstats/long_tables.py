"""Long tables, one row a loss, checked and folded into the arrays of a grid; for stores and for other files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from transferstats.errors import DataError
from transferstats.grid import DISAGREEMENT, LOSSES, DatasetLosses

KEYS: tuple[str, ...] = ("seed", "unit", "source", "target")


def losses_from_frame(
    frame: pd.DataFrame, name: str, *, balanced_subset: bool = False, own_lenses: bool = False
) -> DatasetLosses:
    """Check a long table of one dataset and fold it into :class:`DatasetLosses`.

    Parameters
    ----------
    frame: columns seed, unit, source, target (integers 0..L-1), at least one of kl and ce (nats) and
        disagreement (a share, 0 to 1), and optionally cluster and n (tokens; 1 where absent).
    name: name of the dataset.
    balanced_subset: keep only units scored under every seed, source and target, instead of refusing.
    own_lenses: see :class:`DatasetLosses`.

    Raises
    ------
    DataError: missing columns, duplicated or missing rows (the first of them named), losses that are not
        finite, disagreement outside of 0 to 1, sources and targets that are not the same layers 0..L-1.
    """
    _check_columns(frame, name)
    _refuse_unnamed(frame, name)
    _refuse_duplicates(frame, name)
    _refuse_changing(frame, name)
    _refuse_no_share(frame, name)
    n_layers = _count_layers(frame, name)
    frame = _complete(frame, name, n_layers, balanced_subset)
    seeds, units = _ordered(frame["seed"]), _ordered(frame["unit"])
    order = _row_order(frame, seeds, units, n_layers)
    shape = (len(seeds), len(units), n_layers, n_layers)
    losses = {
        loss: np.asarray(frame[loss], dtype=np.float64)[order].reshape(shape) for loss in LOSSES if loss in frame
    }
    per_unit = frame.drop_duplicates("unit").set_index("unit")
    unit_keys = list(units)
    clusters = per_unit["cluster"].loc[unit_keys] if "cluster" in frame else pd.Series(unit_keys)
    tokens = per_unit["n"].loc[unit_keys] if "n" in frame else pd.Series(np.ones(len(units)))
    return DatasetLosses(
        name=name,
        seeds=tuple(str(seed) for seed in seeds),
        units=tuple(str(unit) for unit in units),
        clusters=tuple(clusters),
        tokens=np.asarray(tokens, dtype=np.float64),
        losses=losses,
        own_lenses=own_lenses,
    )


def _check_columns(frame: pd.DataFrame, name: str) -> None:
    missing = [column for column in KEYS if column not in frame]
    if missing:
        raise DataError(
            f"dataset {name!r}: the table lacks {', '.join(missing)}; it has {', '.join(map(str, frame))}. "
            "Rename with columns={'theirs': 'ours'}."
        )
    if not any(loss in frame for loss in LOSSES):
        raise DataError(
            f"dataset {name!r}: the table needs a loss column, 'kl' or 'ce', in nats, or {DISAGREEMENT!r}"
        )
    if not len(frame):
        raise DataError(f"dataset {name!r}: the table has no rows")


def _refuse_unnamed(frame: pd.DataFrame, name: str) -> None:
    """A missing seed, unit, source or target would vanish in every grouping."""
    for key in KEYS:
        unnamed = frame[key].isna() | (frame[key].astype(str) == "")
        if unnamed.any():
            raise DataError(
                f"dataset {name!r}: {int(unnamed.sum())} rows have no {key}, the first is row "
                f"{int(np.argmax(unnamed.to_numpy()))}. Name them or remove them."
            )


def _refuse_changing(frame: pd.DataFrame, name: str) -> None:
    """A unit has one size and belongs to one cluster, whatever lens is scored on it."""
    for column in ("n", "cluster"):
        if column in frame:
            values = frame.groupby("unit", observed=True, sort=False)[column].nunique(dropna=False)
            if (values > 1).any():
                unit = values.index[values.to_numpy() > 1][0]
                raise DataError(
                    f"dataset {name!r}: {column} of unit {unit!r} differs between its rows; it has one"
                )


def _refuse_no_share(frame: pd.DataFrame, name: str) -> None:
    """Disagreement is counted, so it cannot be negative or more than everything."""
    if DISAGREEMENT not in frame:
        return
    values = frame[DISAGREEMENT].to_numpy(np.float64)
    outside = (values < 0) | (values > 1)
    if outside.any():
        raise DataError(
            f"dataset {name!r}: {int(outside.sum())} values of {DISAGREEMENT!r} lie outside of 0 to 1, such as "
            f"{values[outside][0]:g}: it is a share of tokens (divide percentages by 100; rename the column if it "
            "is something else)"
        )


def _refuse_duplicates(frame: pd.DataFrame, name: str) -> None:
    repeated = frame.duplicated(list(KEYS))
    if repeated.any():
        raise DataError(
            f"dataset {name!r}: {int(repeated.sum())} duplicated rows, the first for "
            f"{_describe(frame[repeated].iloc[0])}. Drop or average them before reading."
        )


def refuse_not_square(frame: pd.DataFrame, name: str) -> None:
    """DataError where a layer, whatever it is called, is only a source or only a target."""
    sources, targets = set(frame["source"].dropna()), set(frame["target"].dropna())
    if sources != targets:
        odd = sorted(sources.symmetric_difference(targets), key=str)[:5]
        raise DataError(
            f"dataset {name!r}: the loss matrix is not square; layers {odd} appear only as source or only "
            "as target"
        )


def _count_layers(frame: pd.DataFrame, name: str) -> int:
    refuse_not_square(frame, name)
    sources = set(frame["source"])
    if sources != set(range(len(sources))):
        raise DataError(f"dataset {name!r}: source and target must be layer indices 0..L-1, without gaps")
    return len(sources)


def _complete(frame: pd.DataFrame, name: str, n_layers: int, balanced_subset: bool) -> pd.DataFrame:
    n_seeds = frame["seed"].nunique()
    counts = frame.groupby("unit", observed=True).size()
    expected = n_seeds * n_layers**2
    short = counts[counts < expected]
    if not len(short):
        return frame
    if balanced_subset and len(short) < len(counts):
        return frame[~frame["unit"].isin(short.index)]
    cells = pd.MultiIndex.from_product(
        [_ordered(frame["seed"]), list(short.index[:3]), range(n_layers), range(n_layers)], names=list(KEYS)
    )
    absent = cells.difference(pd.MultiIndex.from_frame(frame[list(KEYS)]))
    raise DataError(
        f"dataset {name!r}: {int((expected - short).sum())} rows are missing, in {len(short)} of "
        f"{len(counts)} units; the first is {_describe(dict(zip(KEYS, absent[0], strict=True)))}. Finish the "
        "study, or pass balanced_subset=True to analyse only the complete units."
    )


def _ordered(column: pd.Series[Any]) -> list[Any]:
    """Distinct labels in a stable order: numbers as numbers, everything else as text."""
    labels = list(pd.unique(column))
    try:
        return sorted(labels)
    except TypeError:
        return sorted(labels, key=str)


def _row_order(frame: pd.DataFrame, seeds: list[Any], units: list[Any], n_layers: int) -> npt.NDArray[np.intp]:
    position = np.asarray(frame["seed"].map({seed: k for k, seed in enumerate(seeds)}), dtype=np.int64)
    unit = np.asarray(frame["unit"].map({unit: i for i, unit in enumerate(units)}), dtype=np.int64)
    position = position * len(units) + unit
    for column in ("source", "target"):
        position = position * n_layers + np.asarray(frame[column], dtype=np.int64)
    return np.argsort(position, kind="stable")


def _describe(row: Mapping[Any, Any] | pd.Series[Any]) -> str:
    return ", ".join(f"{key} {str(row[key])!r}" for key in KEYS)
