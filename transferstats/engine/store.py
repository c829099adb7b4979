"""The store: one Parquet and one JSON file a cell, written atomically, checked by hash when read.

The JSON names the hash of the Parquet and of its own content and is renamed into place last: a cell exists
when its JSON exists. Nothing in either file depends on when or how fast the cell was computed, so two runs of
the same study leave the same bytes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from transferstats.engine.cell import AXES, Cell, CellOutput
from transferstats.errors import DataError, StoreError
from transferstats.provenance import canonical_json, content_key, library_versions

FORMAT = 1
STUDY_FILE = "study.json"
PLAN_FILE = "plan.json"
LEFTOVER = ".tmp"
FOLDERS = ("cells", "failures", "sweeps")
LEFTOVER_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class StoredCell:
    """A finished cell as read back: its configuration, record and table."""

    key: str
    config: Mapping[str, Any]
    record: Mapping[str, Any]
    versions: Mapping[str, str]
    table: pd.DataFrame


@dataclass(frozen=True, slots=True)
class Problem:
    """A stored file that cannot be trusted: the cell's key and what is wrong with it."""

    key: str
    reason: str


class Store:
    """A folder of finished cells of one study.

    Parameters
    ----------
    root: folder; made on the first write.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)

    def keys(self) -> list[str]:
        """Keys of the finished cells, sorted."""
        return sorted(path.stem for path in (self.root / "cells").glob("*.json"))

    def has(self, cell: Cell) -> bool:
        """Whether the cell is finished; its files are checked, a torn one is an error that names it."""
        if not self._record_path(cell.key).exists():
            return False
        self.read(cell.key)
        return True

    def claim(self, cells: Iterable[Cell]) -> None:
        """Bind an empty store to the study of these cells, or check that it is theirs.

        Raises
        ------
        StoreError: the cells belong to several studies, or the store to another one; the options that
            differ are named.
        """
        studies = {content_key(cell.study()): cell.study() for cell in cells}
        if len(studies) != 1:
            raise StoreError(
                f"these cells belong to {len(studies)} studies; a store holds one: use a folder for each"
            )
        ((key, study),) = studies.items()
        path = self.root / STUDY_FILE
        _remove_leftovers(self.root)
        held = self.study() if path.exists() else self._study_of_cells()
        if held is None or (content_key(held) == key and not path.exists()):
            content = {"format": FORMAT, "key": key, "study": study}
            write_atomically(path, (canonical_json(content) + "\n").encode())
        elif content_key(held) != key:
            raise StoreError(
                f"{self.root} holds another study; it differs in: {'; '.join(_differences(held, study))}. "
                "Use another store folder, or repeat the options that the store was made with."
            )

    def _study_of_cells(self) -> dict[str, Any] | None:
        """The study of the finished cells of a store that lost its study file."""
        for key in self.keys():
            config = self._read_record(key)["config"]
            return {name: value for name, value in config.items() if name not in AXES}
        return None

    def plan(self, cells: Iterable[Cell]) -> None:
        """Remember which cells the study consists of, so that the store knows what is missing.

        A torn plan is replaced: the cells given are planned again.
        """
        known: dict[str, str] = {}
        with contextlib.suppress(StoreError):
            known = self.planned()
        labels = {**known, **{cell.key: cell.label for cell in cells}}
        if labels != known:
            content = {"cells": labels, "sha256": content_key(labels)}
            write_atomically(self.root / PLAN_FILE, (canonical_json(content) + "\n").encode())

    def planned(self) -> dict[str, str]:
        """Key -> label of every planned cell, in order of the labels."""
        path = self.root / PLAN_FILE
        if not path.is_file():
            raise StoreError(f"{self.root} is not a transferstats store: it has no {PLAN_FILE}")
        remedy = "sweep again with the study's options to restore it"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            labels: dict[str, str] = content["cells"]
            recorded = content["sha256"]
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{path} is torn ({error!r}); {remedy}") from error
        if content_key(labels) != recorded:
            raise StoreError(f"{path} was altered (hash differs); {remedy}")
        return dict(sorted(labels.items(), key=lambda item: (item[1], item[0])))

    def study(self) -> dict[str, Any]:
        """The configuration that all cells of this store share."""
        path = self.root / STUDY_FILE
        if not path.is_file():
            raise StoreError(f"{self.root} is not a transferstats store: it has no {STUDY_FILE}")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            held, key, version = content["study"], content["key"], content["format"]
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{path} is torn or altered ({error!r}); {_STUDY_REMEDY}") from error
        if version != FORMAT:
            raise StoreError(f"{self.root} has store format {version}, this version reads {FORMAT}")
        if content_key(held) != key:
            raise StoreError(f"{path} was altered: its content does not match its key; {_STUDY_REMEDY}")
        return dict(held)

    def write(self, cell: Cell, output: CellOutput) -> None:
        """Write a finished cell; an interrupted or failed write leaves what was there before.

        Raises
        ------
        DataError: losses or records that are NaN or infinite. StoreError: the folder cannot be written.
        """
        _refuse_nonfinite(cell, output)
        table = _parquet_bytes(output.table)
        content = {
            "format": FORMAT,
            "key": cell.key,
            "config": dict(cell.config),
            "record": dict(output.record),
            "versions": dict(library_versions()),
            "table_sha256": hashlib.sha256(table).hexdigest(),
            "table_rows": len(output.table),
        }
        content["sha256"] = content_key(content)
        write_atomically(self._table_path(cell.key), table)
        write_atomically(self._record_path(cell.key), (canonical_json(content) + "\n").encode())

    def read(self, key: str) -> StoredCell:
        """Read one cell and check every hash.

        Raises
        ------
        StoreError: missing, torn, altered or swapped files, named, with what to do.
        """
        content = self._read_record(key)
        path = self._table_path(key)
        if not path.is_file():
            raise StoreError(f"cell {key[:12]}: {path.name} is missing; {_REMEDY}")
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != content["table_sha256"]:
            raise StoreError(f"cell {key[:12]}: {path.name} is torn or altered (hash differs); {_REMEDY}")
        table = pq.read_table(io.BytesIO(data)).to_pandas()
        return StoredCell(key, content["config"], content["record"], content["versions"], table)

    def _read_record(self, key: str) -> dict[str, Any]:
        path = self._record_path(key)
        if not path.is_file():
            raise StoreError(f"no finished cell {key[:12]} in {self.root}")
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            recorded = content.pop("sha256")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(f"cell {key[:12]}: {path.name} is torn ({error!r}); {_REMEDY}") from error
        if content_key(content) != recorded:
            raise StoreError(f"cell {key[:12]}: {path.name} was altered (hash differs); {_REMEDY}")
        if content.get("key") != key or content_key(content["config"]) != key:
            raise StoreError(f"cell {key[:12]}: {path.name} belongs to another cell (swapped files?); {_REMEDY}")
        return content

    def verify(self) -> list[Problem]:
        """Recompute every hash; the problems found, empty when all is well."""
        problems = []
        for key in self.keys():
            try:
                self.read(key)
            except OSError as error:  # a StoreError, or a file that the disk no longer gives back
                problems.append(Problem(key, str(error)))
        return problems

    def discard(self, key: str) -> None:
        """Remove a cell's files, so that the next sweep computes it again."""
        self._record_path(key).unlink(missing_ok=True)
        self._table_path(key).unlink(missing_ok=True)

    def _table_path(self, key: str) -> Path:
        return self.root / "cells" / f"{key}.parquet"

    def _record_path(self, key: str) -> Path:
        return self.root / "cells" / f"{key}.json"


def _refuse_nonfinite(cell: Cell, output: CellOutput) -> None:
    label = cell.label or cell.key[:12]
    for column in output.table:
        if output.table[column].dtype.kind != "f":
            continue
        bad = output.table[~np.isfinite(output.table[column].to_numpy())]
        if len(bad):
            raise DataError(
                f"cell {label}: {len(bad)} values of {column!r} are NaN or infinite; the first row is "
                f"{bad.iloc[0].to_dict()}. Nothing was kept; refit with other options, or remove these units"
            )
    try:
        canonical_json(output.record)
    except ValueError as error:
        raise DataError(
            f"cell {label}: its record holds NaN or infinite numbers ({error}): a lens diverged; nothing was kept"
        ) from error


_STUDY_REMEDY = "remove it and sweep again with the study's options; finished cells are kept"
_REMEDY = "remove both files of this cell (transferstats verify --discard) and sweep again"


def _parquet_bytes(table: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    arrow = pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None)
    pq.write_table(arrow, buffer, compression="zstd")
    return buffer.getvalue()


def write_atomically(path: Path, data: bytes) -> None:
    """Temporary file, fsync, rename, fsync of the folder: the old content or the new, never a mixture.

    Raises
    ------
    StoreError: a full disk, or a folder that cannot be written; what was there stays.
    """
    # Not tempfile.mkstemp: its files are for their owner's eyes only, and a store is shared.
    temporary = path.parent / f".{path.name}.{secrets.token_hex(8)}{LEFTOVER}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        hint = (
            "the disk is full: free some space"
            if error.errno in (errno.ENOSPC, errno.EDQUOT)
            else "check that the folder is writable"
        )
        raise StoreError(
            f"could not write {path}: {error.strerror or error}; {hint} and sweep again, finished cells are kept"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _remove_leftovers(root: Path) -> None:
    """Temporary files of sweeps that were killed while writing; a younger one may still be written to."""
    for folder in (root, *(root / name for name in FOLDERS)):
        for path in folder.glob(f".*{LEFTOVER}"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > LEFTOVER_SECONDS:
                    path.unlink()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _differences(held: Any, wanted: Any, prefix: str = "") -> list[str]:
    """Dotted names of the options in which two configurations differ, with both values."""
    if isinstance(held, Mapping) and isinstance(wanted, Mapping):
        names = sorted(set(held) | set(wanted))
        return [
            line for name in names for line in _differences(held.get(name), wanted.get(name), f"{prefix}{name}.")
        ]
    if held == wanted:
        return []
    return [f"{prefix.rstrip('.')} is {held!r} there and {wanted!r} here"]
