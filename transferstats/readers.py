"""Read losses into a grid: a store of cells, or other people's tables, evaluations and matrices."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from transferstats.engine import CellOutput, Store, StoredCell
from transferstats.errors import DataError, StoreError
from transferstats.foreign import JSON, Conversion, grid_from_table, read_foreign, table_of, table_suffix
from transferstats.grid import DISAGREEMENT, DatasetLosses, TransferGrid
from transferstats.lens_sets import BESIDE, split_name
from transferstats.long_tables import losses_from_frame
from transferstats.path_losses import PATH, PathLosses
from transferstats.results import LIMITED_GAP

PathLike = str | os.PathLike[str]

STORED: tuple[str, ...] = ("kl", "ce", DISAGREEMENT)
"""Losses of a cell; cells of earlier versions lack the last."""

NO_LENS: tuple[str, ...] = ("final", "prior")
"""Readouts of a store that are no lenses."""


def read_grid(
    source: PathLike | pd.DataFrame | Sequence[PathLike],
    *,
    columns: Mapping[str, str] | None = None,
    loss_unit: str | None = None,
    bytes_per_token: float | None = None,
    score: str | None = None,
    loss: str | None = None,
    subject: str | None = None,
    balanced_subset: bool = False,
) -> TransferGrid:
    """Read a transfer grid.

    Parameters
    ----------
    source: folder of a store; a long table (.csv, .tsv, .txt, .jsonl or .parquet, text also as .gz or .zip), or a
        data frame, with one row a (dataset, seed, unit, source, target) and "kl", "ce" and/or "disagreement";
        ``aggregate_metrics.json`` or ``batches.jsonl`` of tuned-lens 0.2.0 with layer_transfer (a list of them:
        one file a seed); a ``.npy`` of temporal-generalisation matrices, (T, T), (subjects, T, T) or (subjects,
        folds, T, T), training time first. A long table may leave out dataset and seed where there is one, and
        unit where its rows are means; "replicate" stands for seed and unit together where each unit has lenses
        of its own. Layers are numbers, or names that differ in one number.
    columns: their column name -> ours, where a table uses other names; {"axis 1": "fold"} for a .npy with folds.
    loss_unit: unit of the losses, by default "nats" (per token): "bits", "nats/image", "bits/image", or
        "bits/byte", which becomes nats per token with bytes_per_token, or with columns "bytes" and "n", and
        otherwise stays what it is. tuned-lens files are known to be in bits/byte. Disagreement is a share, 0 to 1,
        whatever the unit of the others.
    bytes_per_token: mean length of a token, for losses in bits per byte.
    score: a score of which more is better ("accuracy", "AUC", "r2"): the name of its column, or of what a .npy
        holds. It becomes the loss "error" = 1 - score, in the unit of the score; nothing is turned into a loss
        unasked. Beyond 0 to 1, loss_unit states that unit: loss_unit="d'".
    loss: the loss that statistics use; by default "kl" where there is one. subject: name of the network.
    balanced_subset: keep only the complete units instead of refusing an incomplete table.

    Returns
    -------
    TransferGrid. ``transferstats.describe(grid)`` lists what it cannot support, such as any interval from means.

    Raises
    ------
    StoreError: unfinished, torn or altered store. DataError: missing, duplicated or non-finite rows, files that
    are not what they should be, options that do not belong to the kind of source.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> rows = [(doc, s, t, 3.0 + abs(s - t) + doc / 10) for doc in range(3) for s in range(2) for t in range(2)]
    >>> grid = read_grid(pd.DataFrame(rows, columns=["doc", "from", "to", "ce"]), loss_unit="bits",
    ...                  columns={"doc": "unit", "from": "source", "to": "target"})
    >>> grid.n_layers, grid.loss, grid.unit, len(grid.datasets[0].units)
    (2, 'ce', 'nats/token', 3)
    """
    conversion = Conversion(loss_unit, bytes_per_token, score)
    renamed = dict(columns or {})
    if isinstance(source, pd.DataFrame):
        table, name = table_of(source, renamed, score), subject or "subject"
        return grid_from_table(table, conversion, loss=loss, subject=name, balanced_subset=balanced_subset)
    several = not isinstance(source, str | os.PathLike)
    paths = [Path(one) for one in source] if several else [Path(source)]  # type: ignore[union-attr,arg-type]
    if not paths or (several and not all(table_suffix(path) in JSON for path in paths)):
        raise DataError("a list of sources is for files of tuned-lens, one a run of lenses; concatenate tables")
    path = paths[0]
    if path.is_dir():
        if renamed or balanced_subset or subject or conversion != Conversion():
            raise DataError(
                f"{path} is a store, which knows its own columns, units and subject: columns, loss_unit, "
                "bytes_per_token, score, subject and balanced_subset are for tables and other files"
            )
        return _from_store(Store(path), loss)
    return read_foreign(paths, renamed, conversion, loss=loss, subject=subject, balanced_subset=balanced_subset)


def _from_store(store: Store, loss: str | None) -> TransferGrid:
    study = store.study()
    planned, finished = store.planned(), set(store.keys())
    missing = [label for key, label in planned.items() if key not in finished]
    if missing:
        raise StoreError(
            f"{len(missing)} of {len(planned)} cells of {store.root} are not finished ({', '.join(missing[:3])}); "
            "sweep again, finished cells are kept"
        )
    everything = [store.read(key) for key in planned]
    stored = [cell for cell in everything if cell.config["world"] != PATH]
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
        provenance=_provenance(study, everything),
        paths=_paths(everything, {data.name: data.units for data in datasets}),
    )


def _paths(stored: list[StoredCell], units: Mapping[str, tuple[str, ...]]) -> dict[str, PathLosses]:
    """Dataset -> the path of its lenses, where one was followed; units in the order of the losses."""
    found = {cell.config["dataset"]["name"]: cell for cell in stored if cell.config["world"] == PATH}
    return {name: _path_of(cell, list(units[name])) for name, cell in found.items()}


def _path_of(cell: StoredCell, units: list[str]) -> PathLosses:
    moments = cell.record["path"]
    by_moment = cell.table.set_index(["anchor", "steps", "unit"])

    def scored(kind: str) -> dict[str, Any]:
        return {
            loss: np.stack(
                [
                    by_moment.loc[(one["anchor"], one["steps"])].loc[units, f"{kind}_{loss}"].to_numpy(np.float64)
                    for one in moments
                ]
            )
            for loss in STORED
        }

    return PathLosses(
        seed=str(cell.config["seed"]),
        anchor=str(cell.config["fit"]["anchor"]),
        anchors=tuple(one["anchor"] for one in moments),
        steps=np.array([one["steps"] for one in moments], dtype=np.float64),
        held_out_kl=np.array([one["held_out_kl"] for one in moments], dtype=np.float64),
        own=scored("own"),
        penalty=scored("penalty"),
    )


def dataset_from_outputs(name: str, outputs: Mapping[tuple[str, int], CellOutput]) -> DatasetLosses:
    """Losses of one dataset from cells in memory, by (world, seed): simulations that need no store."""
    group = [
        StoredCell("", {"dataset": {"name": name}, "world": world, "seed": seed}, output.record, {}, output.table)
        for (world, seed), output in outputs.items()
    ]
    return _dataset_with_null(name, group)


def _dataset_with_null(name: str, group: list[StoredCell]) -> DatasetLosses:
    worlds = {cell.config["world"] for cell in group}
    if "observed" not in worlds or ("null of null" in worlds and "null" not in worlds):
        raise StoreError(
            f"dataset {name!r} has cells of {', '.join(sorted(worlds))} and lacks those they belong to"
        )
    made: DatasetLosses | None = None
    for world in ("null of null", "null", "observed"):  # each is the null of the next
        cells = [cell for cell in group if cell.config["world"] == world]
        if cells:
            made = _with_null(_dataset_of(name, cells), made)
    assert made is not None, "there are observed cells"
    return made


def _with_null(data: DatasetLosses, null: DatasetLosses | None) -> DatasetLosses:
    """A dataset with its null, and each of its sets of lenses with the same set of the null."""
    if null is None:
        return data
    sets = {name: _with_null(one, null.sets.get(name)) for name, one in data.sets.items()}
    return replace(data, null=null, sets=sets)


def _dataset_of(name: str, group: list[StoredCell]) -> DatasetLosses:
    group = sorted(group, key=lambda cell: int(cell.config["seed"]))
    names = dict.fromkeys(split_name(readout)[1] for readout in group[0].table["readout"].unique())
    made = {one: _lens_set(name, group, one) for one in names}
    main = made.pop("")
    if BESIDE in made:  # lenses of another anchor stand on the same ladder
        made[BESIDE] = replace(made[BESIDE], readouts=main.readouts)
    sets = {one: replace(data, baselines=main.baselines) for one, data in made.items()}
    return replace(main, sets=sets)


def _lens_set(name: str, group: list[StoredCell], lens_set: str) -> DatasetLosses:
    """Losses of one set of lenses; "" for those of the plan."""
    stored = {readout: split_name(readout) for readout in group[0].table["readout"].unique()}
    mine = {plain: readout for readout, (plain, one) in stored.items() if one == lens_set and plain not in NO_LENS}
    lens = pd.concat([_readout(cell, mine["lens"]).assign(seed=cell.config["seed"]) for cell in group])
    data = losses_from_frame(lens, name)
    readouts = {
        plain: _layer_losses(group, readout, data.units)
        for plain, readout in sorted(mine.items())
        if plain != "lens"
    }
    baselines = {} if lens_set else _baselines(group[0], data.units)
    return replace(data, readouts=readouts, baselines=baselines, training_rows=_training_rows(group, lens_set))


def _training_rows(group: list[StoredCell], lens_set: str) -> tuple[float, ...]:
    recorded = [cell.record.get("rows", {}) for cell in group]
    found = [rows.get(lens_set, rows.get("train")) for rows in recorded]
    return () if None in found else tuple(float(one) for one in found)


def _baselines(cell: StoredCell, units: tuple[str, ...]) -> dict[str, Any]:
    """Losses without a lens, (N,) each; null cells have none."""
    found = {}
    for readout, losses in (("final", ("ce",)), ("prior", STORED)):
        rows = _readout(cell, readout)
        for loss in losses:
            if len(rows) and loss in rows:
                found[f"{readout}_{loss}"] = rows.set_index("unit").loc[list(units), loss].to_numpy(np.float64)
    return found


def _readout(cell: StoredCell, readout: str) -> pd.DataFrame:
    return cell.table[cell.table["readout"] == readout]


def _layer_losses(group: list[StoredCell], readout: str, units: tuple[str, ...]) -> dict[str, Any]:
    """loss -> (K, N, L) of a readout with one loss a layer."""
    position = {unit: index for index, unit in enumerate(units)}
    losses = [loss for loss in STORED if loss in group[0].table]
    stacked: dict[str, list[Any]] = {loss: [] for loss in losses}
    for cell in group:
        rows = _readout(cell, readout)
        order = np.lexsort((rows["target"].to_numpy(), rows["unit"].map(position).to_numpy()))
        for loss in losses:
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
    if not rows:
        return pd.DataFrame()  # ready-made lenses, which nobody certified
    frame = pd.DataFrame(rows)
    frame["change"] = frame["change"].astype(np.float64)
    frame["gap"] = (frame["held_out_kl"] - frame["train_kl"]) / frame["held_out_kl"]
    frame["limited"] = frame["gap"] > LIMITED_GAP
    if "rows" in frame:
        frame["rows_per_parameter"] = frame["rows"] / frame["parameters"]
    return frame.sort_values(["dataset", "world", "seed"], kind="stable", ignore_index=True)


def _similarities(group: list[StoredCell]) -> dict[str, Any]:
    """measure -> (L, L), the mean over the seeds that recorded it."""
    recorded = [cell.record["similarities"] for cell in group if "similarities" in cell.record]
    names = recorded[0] if recorded else ()
    return {name: np.mean([one[name] for one in recorded], axis=0) for name in names}


def _provenance(study: Mapping[str, Any], stored: list[StoredCell]) -> dict[str, Any]:
    versions = {tuple(sorted(cell.versions.items())) for cell in stored}
    caveats = list(dict.fromkeys(text for cell in stored for text in cell.record.get("caveats", ())))
    return {
        **({"caveats": caveats} if caveats else {}),
        "study": dict(study),
        "cells": [cell.key for cell in stored],
        "datasets": sorted({(c.config["dataset"]["name"], c.config["dataset"]["fingerprint"]) for c in stored}),
        "versions": [dict(version) for version in sorted(versions)],
    }
