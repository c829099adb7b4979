"""Read losses into a grid: a store of cells, or anybody's long table."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from transferstats.engine import CellOutput, Store, StoredCell
from transferstats.errors import DataError, StoreError
from transferstats.grid import LOSSES, DatasetLosses, TransferGrid, losses_from_frame

UNITS_TO_NATS: Mapping[str, float] = {"nats": 1.0, "bits": float(np.log(2.0))}


def read_grid(
    source: str | os.PathLike[str] | pd.DataFrame,
    *,
    columns: Mapping[str, str] | None = None,
    loss_unit: str = "nats",
    loss: str | None = None,
    subject: str | None = None,
    balanced_subset: bool = False,
) -> TransferGrid:
    """Read a transfer grid.

    Parameters
    ----------
    source: folder of a store; a long CSV or Parquet file; or a data frame. Long tables have one row a
        (dataset, seed, unit, source, target) with "kl" and/or "ce".
    columns: their column name -> ours, where a table uses other names.
    loss_unit: "nats" or "bits" (converted).
    loss: the loss that statistics use; default "kl" where there is one.
    subject: name of the network, for tables.
    balanced_subset: keep only the complete units instead of refusing an incomplete table.

    Raises
    ------
    StoreError: unfinished, torn or altered store. DataError: missing, duplicated or non-finite rows.
    """
    if not isinstance(source, pd.DataFrame):
        path = Path(source)
        if path.is_dir():
            if columns or subject or balanced_subset or loss_unit != "nats":
                raise DataError(
                    f"{path} is a store, which knows its own columns, units and subject: "
                    "columns, loss_unit, subject and balanced_subset are for tables"
                )
            return _from_store(Store(path), loss)
        source = _read_table(path, dict(columns or {}))
        subject = subject or path.stem
    frame = source.rename(columns=dict(columns or {}))
    return _from_table(frame, loss_unit, loss, subject or "subject", balanced_subset)


NAMES: tuple[str, ...] = ("dataset", "seed", "unit", "cluster")
"""Columns that hold names: read as text, so that "007" stays "007" and a unit may be called "NA"."""


def _read_table(path: Path, columns: Mapping[str, str]) -> pd.DataFrame:
    if not path.is_file():
        raise DataError(f"no file or store folder at {path}")
    if path.suffix == ".parquet":
        try:
            return pd.read_parquet(path)
        except (ValueError, OSError) as error:  # pyarrow's own errors are both
            raise DataError(f"{path.name} is not a readable table: {error}") from error
    if path.suffix in (".csv", ".tsv"):
        return _read_text(path, "," if path.suffix == ".csv" else "\t", columns)
    raise DataError(f"cannot read {path.name}: give a .csv, .tsv or .parquet file, or the folder of a store")


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


MISSING: tuple[str, ...] = ("", "NA", "NaN", "nan", "N/A", "null", "None")


def _as_numbers(column: pd.Series[Any]) -> pd.Series[Any]:
    """Seeds in the order of numbers where all are whole numbers without leading zeros, else as they are."""
    whole = column.str.fullmatch(r"0|[1-9][0-9]{0,17}").all()
    return column.astype(np.int64) if whole else column


def _from_table(
    frame: pd.DataFrame, loss_unit: str, loss: str | None, subject: str, balanced_subset: bool
) -> TransferGrid:
    if loss_unit not in UNITS_TO_NATS:
        raise DataError(f"unknown loss_unit {loss_unit!r}: use one of {', '.join(UNITS_TO_NATS)}")
    present = [name for name in LOSSES if name in frame]
    try:
        nats = {name: frame[name].astype(np.float64) * UNITS_TO_NATS[loss_unit] for name in present}
    except (ValueError, TypeError) as error:
        raise DataError(f"a loss column holds something that is not a number: {error}") from error
    frame = frame.assign(**nats)
    if "dataset" not in frame:
        frame = frame.assign(dataset="data")
    unnamed = int((frame["dataset"].isna() | (frame["dataset"].astype(str) == "")).sum())
    if unnamed:
        raise DataError(f"{unnamed} rows name no dataset; name it or remove them")
    datasets = tuple(
        losses_from_frame(part, str(name), balanced_subset=balanced_subset)
        for name, part in frame.groupby("dataset", sort=True, observed=True)
    )
    if not datasets:
        raise DataError("the table has no rows")
    layers = tuple(str(index) for index in range(datasets[0].n_layers))
    return TransferGrid(subject, layers, datasets, loss or ("kl" if "kl" in datasets[0].losses else "ce"))


def _from_store(store: Store, loss: str | None) -> TransferGrid:
    study = store.study()
    planned, finished = store.planned(), set(store.keys())
    missing = [label for key, label in planned.items() if key not in finished]
    if missing:
        raise StoreError(
            f"{len(missing)} of {len(planned)} cells of {store.root} are not finished ({', '.join(missing[:3])}); "
            "sweep again, finished cells are kept"
        )
    stored = [store.read(key) for key in planned]
    by_dataset: dict[str, list[StoredCell]] = {}
    for cell in stored:
        by_dataset.setdefault(cell.config["dataset"]["name"], []).append(cell)
    datasets = tuple(_dataset_with_null(name, group) for name, group in sorted(by_dataset.items()))
    return TransferGrid(
        subject=str(study["subject"]["name"]),
        layers=tuple(stored[0].record["layers"]),
        datasets=datasets,
        loss=loss or "kl",
        unit=str(stored[0].record["unit"]),
        certificates=_certificates(stored),
        similarities={name: _similarities(group) for name, group in by_dataset.items()},
        provenance=_provenance(study, stored),
    )


def dataset_from_outputs(name: str, outputs: Mapping[tuple[str, int], CellOutput]) -> DatasetLosses:
    """Losses of one dataset from cells in memory, by (world, seed): simulations that need no store."""
    group = [
        StoredCell("", {"dataset": {"name": name}, "world": world, "seed": seed}, output.record, {}, output.table)
        for (world, seed), output in outputs.items()
    ]
    return _dataset_with_null(name, group)


def _dataset_with_null(name: str, group: list[StoredCell]) -> DatasetLosses:
    observed = _dataset_of(name, [cell for cell in group if cell.config["world"] == "observed"])
    replicates = [cell for cell in group if cell.config["world"] == "null"]
    return replace(observed, null=_dataset_of(name, replicates)) if replicates else observed


def _dataset_of(name: str, group: list[StoredCell]) -> DatasetLosses:
    group = sorted(group, key=lambda cell: int(cell.config["seed"]))
    lens = pd.concat([_readout(cell, "lens").assign(seed=cell.config["seed"]) for cell in group])
    data = losses_from_frame(lens, name)
    readouts = {
        readout: _layer_losses(group, readout, data.units)
        for readout in sorted(set(group[0].table["readout"]) - {"lens", "final", "prior"})
    }
    return replace(data, readouts=readouts, baselines=_baselines(group[0], data.units))


def _baselines(cell: StoredCell, units: tuple[str, ...]) -> dict[str, Any]:
    """Losses without a lens, (N,) each; null cells have none."""
    found = {}
    for key, readout, loss in (
        ("final_ce", "final", "ce"),
        ("prior_kl", "prior", "kl"),
        ("prior_ce", "prior", "ce"),
    ):
        rows = _readout(cell, readout)
        if len(rows):
            found[key] = rows.set_index("unit").loc[list(units), loss].to_numpy(np.float64)
    return found


def _readout(cell: StoredCell, readout: str) -> pd.DataFrame:
    return cell.table[cell.table["readout"] == readout]


def _layer_losses(group: list[StoredCell], readout: str, units: tuple[str, ...]) -> dict[str, Any]:
    """loss -> (K, N, L) of a readout with one loss a layer."""
    position = {unit: index for index, unit in enumerate(units)}
    stacked: dict[str, list[Any]] = {loss: [] for loss in LOSSES}
    for cell in group:
        rows = _readout(cell, readout)
        order = np.lexsort((rows["target"].to_numpy(), rows["unit"].map(position).to_numpy()))
        for loss in LOSSES:
            stacked[loss].append(rows[loss].to_numpy(np.float64)[order].reshape(len(units), -1))
    return {loss: np.stack(parts) for loss, parts in stacked.items()}


def _certificates(stored: list[StoredCell]) -> pd.DataFrame:
    rows = [
        {
            "dataset": cell.config["dataset"]["name"],
            "world": cell.config["world"],
            "seed": cell.config["seed"],
            **row,
        }
        for cell in stored
        for row in cell.record["certificates"]
    ]
    frame = pd.DataFrame(rows)
    frame["change"] = frame["change"].astype(np.float64)
    return frame.sort_values(["dataset", "world", "seed"], kind="stable", ignore_index=True)


def _similarities(group: list[StoredCell]) -> dict[str, Any]:
    """measure -> (L, L), the mean over the seeds that recorded it."""
    recorded = [cell.record["similarities"] for cell in group if "similarities" in cell.record]
    names = recorded[0] if recorded else ()
    return {name: np.mean([one[name] for one in recorded], axis=0) for name in names}


def _provenance(study: Mapping[str, Any], stored: list[StoredCell]) -> dict[str, Any]:
    versions = {tuple(sorted(cell.versions.items())) for cell in stored}
    return {
        "study": dict(study),
        "cells": [cell.key for cell in stored],
        "datasets": sorted({(c.config["dataset"]["name"], c.config["dataset"]["fingerprint"]) for c in stored}),
        "versions": [dict(version) for version in sorted(versions)],
    }
