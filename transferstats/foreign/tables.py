"""Anybody's long table of losses or scores, from a file or a data frame, as a grid."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from transferstats.errors import DataError
from transferstats.foreign.columns import listed
from transferstats.foreign.conversion import LN2, PER_BYTE, Conversion, error_of
from transferstats.foreign.coordinates import SIDES, as_indices
from transferstats.foreign.files import Table
from transferstats.foreign.generalization import NO_SEEDS
from transferstats.foreign.wide import melted
from transferstats.grid import DISAGREEMENT, LOSSES, SCORED, TransferGrid
from transferstats.long_tables import losses_from_frame

EVERYTHING = "all units together"
"""Name of the only unit of a table of means."""

THOUSANDS = r"[1-9]\d{0,2}([, '_\u00a0\u202f]\d{3})+"
APART = r"[, '_\u00a0\u202f]"
"""Thousands of a count, which has no decimals, and what sets them apart."""

ONE_SEED = "the table names no seed: all losses come from one set of lenses, and nothing is known about others"
ONLY_MEANS = (
    "the table names no unit: it holds means, and nothing is known about how they would vary with other units; "
    "no interval, test or verdict can be had"
)


def grid_from_table(
    table: Table, conversion: Conversion, *, loss: str | None, subject: str, balanced_subset: bool
) -> TransferGrid:
    """A long table with our column names as a grid; see ``read_grid``."""
    frame = table.frame
    if not len(frame):
        raise DataError("the table has no rows")
    frame, wide = melted(frame, conversion, loss)
    _refuse_without(frame, SIDES, frame)
    frame, counted = _with_counts(frame)
    frame, unit, caveats = _in_one_unit(frame, conversion, loss)
    frame, absent = _with_names(frame)
    frame, layers, remarks = as_indices(frame)
    own = "replicate" in frame
    datasets = tuple(
        losses_from_frame(part, str(name), balanced_subset=balanced_subset, own_lenses=own)
        for name, part in frame.groupby("dataset", sort=True, observed=True)
    )
    chosen = loss or next(iter(datasets[0].losses))
    names = layers or tuple(str(index) for index in range(datasets[0].n_layers))
    provenance = {
        "source": "long table",
        "caveats": [*table.remarks, *wide, *counted, *caveats, *absent, *remarks],
    }
    return TransferGrid(subject, names, datasets, chosen, unit, provenance=provenance)


def _in_one_unit(
    frame: pd.DataFrame, conversion: Conversion, loss: str | None
) -> tuple[pd.DataFrame, str, list[str]]:
    """The table with its losses in the unit of the grid, that unit, and what was done."""
    if conversion.score is not None:
        values = _numbers(frame, conversion.score)
        rest = frame.drop(columns=[name for name in LOSSES if name in frame])
        error, unit, remarks = error_of(values.to_numpy(), conversion)
        return rest.assign(**{SCORED: error}), unit, remarks
    if loss == SCORED:
        return frame.assign(**{SCORED: _numbers(frame, SCORED)}), SCORED, []
    present = [name for name in LOSSES if name in frame and name not in (SCORED, DISAGREEMENT)]
    frame = frame.drop(columns=[SCORED], errors="ignore")
    if DISAGREEMENT in frame:  # a share, whatever the unit of the other losses
        frame = frame.assign(**{DISAGREEMENT: _numbers(frame, DISAGREEMENT)})
    elif not present:
        _suggest_score(frame)
    if conversion.loss_unit == PER_BYTE and "bytes" in frame:
        return _by_their_bytes(frame, present, conversion)
    factor, unit = conversion.factor()
    converted = {name: _numbers(frame, name) * factor for name in present}
    return frame.assign(**converted), unit, conversion.caveats() if present else []


def _by_their_bytes(
    frame: pd.DataFrame, present: list[str], conversion: Conversion
) -> tuple[pd.DataFrame, str, list[str]]:
    """Bits per byte with the bytes of each unit: every unit has its own length of a token."""
    if conversion.bytes_per_token is not None:
        raise DataError("the table has a column 'bytes' and bytes_per_token was given: use one of the two")
    if "n" not in frame:
        raise DataError(
            "a column 'bytes' converts bits per byte together with a column 'n', the tokens of the unit; add it, "
            "or remove 'bytes' to keep bits per byte"
        )
    size = _numbers(frame, "bytes") / _numbers(frame, "n")
    if not (np.isfinite(size) & (size > 0)).all():
        raise DataError("columns 'bytes' and 'n' must hold positive numbers in every row")
    converted = {name: _numbers(frame, name) * LN2 * size for name in present}
    return frame.assign(**converted), "nats/token", ["losses were converted from bits per byte, unit by unit"]


def _numbers(frame: pd.DataFrame, name: str) -> pd.Series[Any]:
    if name not in frame:
        raise DataError(f"the table has no column {name!r}; it has {listed(frame)}")
    try:
        return frame[name].astype(np.float64)
    except (ValueError, TypeError) as error:
        read = pd.to_numeric(frame[name], errors="coerce")
        bad = frame[name][read.isna() & frame[name].notna()]
        raise DataError(
            f"column {name!r} holds something that is not a number in {len(bad)} rows, such as "
            f"{str(bad.iloc[0]) if len(bad) else error!r}"
        ) from error


def _with_counts(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Tokens and bytes as numbers, where thousands are set apart too, and what was done."""
    remarks = []
    for name in ("n", "bytes"):
        if name not in frame or pd.api.types.is_numeric_dtype(frame[name]):
            continue
        text = frame[name].where(frame[name].isna(), frame[name].astype(str).str.strip())
        grouped = text.str.fullmatch(THOUSANDS).fillna(False).astype(bool)
        plain = text.where(~grouped, text.str.replace(APART, "", regex=True))
        frame = frame.assign(**{name: _numbers(frame.assign(**{name: plain}), name)})
        if grouped.any():
            remarks.append(f"{name} was read with thousands set apart: {text[grouped].iloc[0]} is one number")
    return frame, remarks


SCORES: tuple[str, ...] = ("accuracy", "acc", "auc", "roc_auc", "score", "f1", "r2")


def _suggest_score(frame: pd.DataFrame) -> None:
    """A score is no loss: it is turned into one only by somebody who says so."""
    found = [str(name) for name in frame if str(name).lower() in SCORES]
    if found:
        raise DataError(
            f"the table has no loss 'kl' or 'ce', but a score {found[0]!r}: pass score={found[0]!r} to analyse "
            f"1 - {found[0]} as a loss"
        )


def _with_names(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Dataset, seed and unit, where a table leaves them out because there is only one; and what that rules out."""
    theirs = list(frame)
    if "dataset" not in frame:
        frame = frame.assign(dataset="data")
    unnamed = int((frame["dataset"].isna() | (frame["dataset"].astype(str) == "")).sum())
    if unnamed:
        raise DataError(f"{unnamed} rows name no dataset; name it or remove them")
    if "replicate" in frame:
        return _replicated(frame), [NO_SEEDS]
    absent = []
    if "seed" not in frame:
        frame, absent = frame.assign(seed=0), [ONE_SEED]
    single = {"dataset", "seed", "source", "target"} <= set(frame)
    if "unit" not in frame and single and not frame.duplicated(["dataset", "seed", "source", "target"]).any():
        frame, absent = frame.assign(unit=EVERYTHING), [*absent, ONLY_MEANS]
    _refuse_without(frame, ("unit",), theirs)
    return frame, absent


def _refuse_without(frame: pd.DataFrame, names: Sequence[str], theirs: Iterable[Hashable]) -> None:
    """Columns that have to be there; the message lists what the table has, and nothing that was added to it."""
    missing = [name for name in names if name not in frame]
    if missing:
        raise DataError(
            f"the table lacks {listed(missing)}; it has {listed(theirs)}. Rename with "
            "columns={'theirs': 'ours'}."
        )


def _replicated(frame: pd.DataFrame) -> pd.DataFrame:
    """A replicate is a unit with lenses of its own: seed and unit cannot be told apart."""
    both = [name for name in ("seed", "unit") if name in frame]
    if both:
        raise DataError(
            f"the table has {' and '.join(both)} and 'replicate': a replicate is seed and unit in one; keep "
            "'replicate' where each unit has lenses of its own, 'seed' and 'unit' where lenses were scored on all"
        )
    return frame.assign(seed=0, unit=frame["replicate"])
