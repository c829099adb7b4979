"""Anybody's long table of losses or scores, from a file or a data frame, as a grid."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from transferstats.errors import DataError
from transferstats.foreign.conversion import LN2, PER_BYTE, Conversion, error_of
from transferstats.foreign.coordinates import as_indices
from transferstats.foreign.generalization import NO_SEEDS
from transferstats.grid import DISAGREEMENT, LOSSES, SCORED, TransferGrid
from transferstats.labels import MISSING
from transferstats.long_tables import losses_from_frame

NAMES: tuple[str, ...] = ("dataset", "seed", "unit", "cluster", "replicate")
"""Columns that hold names: read as text, so that "007" stays "007" and a unit may be called "NA"."""

EVERYTHING = "all units together"
"""Name of the only unit of a table of means."""

ONE_SEED = "the table names no seed: all losses come from one set of lenses, and nothing is known about others"
ONLY_MEANS = (
    "the table names no unit: it holds means, and nothing is known about how they would vary with other units; "
    "no interval, test or verdict can be had"
)


def read_table(path: Path, columns: Mapping[str, str]) -> pd.DataFrame:
    """The rows of a .csv, .tsv or .parquet file; DataError where there is no such table."""
    if not path.is_file():
        raise DataError(f"no file or store folder at {path}")
    if path.suffix == ".parquet":
        try:
            return pd.read_parquet(path)
        except (ValueError, OSError) as error:  # pyarrow's own errors are both
            raise DataError(f"{path.name} is not a readable table: {error}") from error
    if path.suffix in (".csv", ".tsv"):
        return _read_text(path, "," if path.suffix == ".csv" else "\t", columns)
    raise DataError(
        f"cannot read {path.name}: give a .csv, .tsv or .parquet file, the folder of a store, an "
        "aggregate_metrics.json or batches.jsonl of tuned-lens, or a .npy of matrices"
    )


def _read_text(path: Path, separator: str, columns: Mapping[str, str]) -> pd.DataFrame:
    try:
        header = pd.read_csv(path, sep=separator, nrows=0).columns
        names = [theirs for theirs in header if columns.get(theirs, theirs) in NAMES]
        frame = pd.read_csv(
            path,
            sep=separator,
            dtype=dict.fromkeys(names, str),
            keep_default_na=False,
            na_values={theirs: MISSING for theirs in header if theirs not in names},
        )
    except (ValueError, UnicodeDecodeError) as error:  # pandas' parser errors are ValueErrors
        raise DataError(f"{path.name} is not a readable table: {error}") from error
    seeds = [theirs for theirs in names if columns.get(theirs, theirs) == "seed"]
    return frame.assign(**{theirs: _as_numbers(frame[theirs]) for theirs in seeds})


def _as_numbers(column: pd.Series[Any]) -> pd.Series[Any]:
    """Seeds in the order of numbers where all are whole numbers without leading zeros, else as they are."""
    whole = column.str.fullmatch(r"0|[1-9][0-9]{0,17}").all()
    return column.astype(np.int64) if whole else column


def grid_from_table(
    frame: pd.DataFrame, conversion: Conversion, *, loss: str | None, subject: str, balanced_subset: bool
) -> TransferGrid:
    """A long table with our column names as a grid; see ``read_grid``."""
    if not len(frame):
        raise DataError("the table has no rows")
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
    provenance = {"source": "long table", "caveats": [*caveats, *absent, *remarks]}
    return TransferGrid(subject, names, datasets, chosen, unit, provenance=provenance)


def _in_one_unit(
    frame: pd.DataFrame, conversion: Conversion, loss: str | None
) -> tuple[pd.DataFrame, str, list[str]]:
    """The table with its losses in the unit of the grid, that unit, and what was done."""
    if conversion.score is not None:
        values = _numbers(frame, conversion.score)
        rest = frame.drop(columns=[name for name in LOSSES if name in frame])
        made = rest.assign(**{SCORED: error_of(values.to_numpy(), conversion.score)})
        return made, conversion.score, conversion.caveats()
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
        raise DataError(f"the table has no column {name!r}; it has {', '.join(map(str, frame))}")
    try:
        return frame[name].astype(np.float64)
    except (ValueError, TypeError) as error:
        raise DataError(f"a loss column holds something that is not a number: {error}") from error


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
    return frame, absent


def _replicated(frame: pd.DataFrame) -> pd.DataFrame:
    """A replicate is a unit with lenses of its own: seed and unit cannot be told apart."""
    both = [name for name in ("seed", "unit") if name in frame]
    if both:
        raise DataError(
            f"the table has {' and '.join(both)} and 'replicate': a replicate is seed and unit in one; keep "
            "'replicate' where each unit has lenses of its own, 'seed' and 'unit' where lenses were scored on all"
        )
    return frame.assign(seed=0, unit=frame["replicate"])
