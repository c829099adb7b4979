"""Which reader a file is for: by its name, and by what it holds where names do not tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from transferstats.errors import DataError
from transferstats.foreign.conversion import Conversion
from transferstats.foreign.files import read_records, read_table, table_stem, table_suffix
from transferstats.foreign.generalization import read_matrices
from transferstats.foreign.tables import grid_from_table
from transferstats.foreign.tuned_lens import read_tuned_lens
from transferstats.grid import TransferGrid

JSON: tuple[str, ...] = (".json", ".jsonl", ".ndjson")
"""Files of tuned-lens, or long tables."""

MATRICES = ".npy"


def read_foreign(
    paths: Sequence[Path],
    columns: Mapping[str, str],
    conversion: Conversion,
    *,
    loss: str | None,
    subject: str | None,
    balanced_subset: bool,
) -> TransferGrid:
    """Other people's file, or several of tuned-lens, as a grid; parameters and errors as in ``read_grid``."""
    path = paths[0]
    suffix, name = table_suffix(path), subject or table_stem(path)
    if suffix == MATRICES:
        if balanced_subset:
            raise DataError(f"{path.name} has no units to leave out: balanced_subset is for tables")
        return read_matrices(path, conversion, axes=columns, loss=loss, subject=name)
    if suffix in JSON:
        table = read_records(path, columns, conversion.score) if len(paths) == 1 else None
        if table is None and (columns or balanced_subset):
            raise DataError(f"{path.name} has no columns: columns and balanced_subset are for tables")
        if table is None:
            return read_tuned_lens(paths, conversion, loss=loss, subject=subject or path.parent.name or path.stem)
    else:
        table = read_table(path, columns, conversion.score)
    return grid_from_table(table, conversion, loss=loss, subject=name, balanced_subset=balanced_subset)
