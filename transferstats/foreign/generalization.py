"""Temporal-generalisation matrices: decoders trained at one time of a recording and used at another.

Arrays as MNE-Python's ``GeneralizingEstimator`` scores them: [..., train time, test time].
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from transferstats.arrays import FloatArray
from transferstats.errors import DataError
from transferstats.foreign.conversion import Conversion, error_of
from transferstats.grid import DISAGREEMENT, SCORED, DatasetLosses, TransferGrid

MEANS = (
    "one matrix: nothing is known about how it would vary with other subjects, so no interval, test or verdict "
    "can be had; give one matrix a subject"
)
FOLDS = (
    "folds were averaged: their training sets overlap, so they are no independent replicates and have no valid "
    "variance of their own (Bengio & Grandvalet 2004)"
)
FOLD_AXIS: Mapping[str, str] = MappingProxyType({"axis 1": "fold"})
"""What says that the second axis of four holds folds, which is not to be guessed: it may hold conditions."""

NO_SEEDS = (
    "training and sampling of a decoder cannot be told apart: each subject has decoders of its own, so intervals "
    "are for new subjects with newly trained decoders, and no shares of variance are known"
)


def read_matrices(
    path: Path, conversion: Conversion, *, axes: Mapping[str, str], loss: str | None, subject: str
) -> TransferGrid:
    """Matrices from a .npy file as a grid whose units are subjects with decoders of their own.

    Parameters
    ----------
    path: array (T, T), one matrix; (subjects, T, T); or (subjects, folds, T, T), averaged over folds. Rows are
        training times, columns testing times. Folds of one subject: save ``scores[None]``.
    axes: {"axis 1": "fold"} where there are four axes.
    conversion: score names what the numbers are ("AUC", "accuracy"), or loss_unit does ("nats").

    Raises
    ------
    DataError: another shape, fewer than 2 times, numbers that nobody named, an axis that nobody named.
    """
    values = _array(path)
    _check_axes(path, values, axes)
    if conversion.score is None and conversion.loss_unit is None:
        raise DataError(
            f"{path.name} does not say what its numbers are: pass score='AUC' (or 'accuracy', ...) to analyse "
            "1 - score as a loss, or loss_unit='nats' where they are losses"
        )
    name = SCORED if conversion.score is not None else loss or "ce"
    if loss not in (None, name):
        raise DataError(f"loss={loss!r}: a score becomes the loss {SCORED!r}")
    if name == DISAGREEMENT:
        raise DataError(f"loss={name!r} is a share of tokens, which a .npy cannot say: use a long table")
    if conversion.score is not None:
        values, unit, caveats = error_of(values, conversion)
    else:
        factor, unit = conversion.factor()
        values, caveats = factor * values, conversion.caveats()
    if values.ndim == 4:
        values, caveats = values.mean(axis=1), [*caveats, FOLDS]
    single = values.ndim == 2
    stacked = values[None] if single else values
    caveats.append(MEANS if len(stacked) == 1 else NO_SEEDS)
    units = tuple(f"subject {index + 1}" for index in range(len(stacked)))
    data = DatasetLosses(
        name="data",
        seeds=("0",),
        units=units,
        clusters=units,
        tokens=np.ones(len(units)),
        losses={name: np.ascontiguousarray(stacked[None])},
        own_lenses=len(stacked) > 1,
    )
    layers = tuple(str(index) for index in range(stacked.shape[-1]))
    provenance = {"source": "temporal-generalisation matrices", "files": [path.name], "caveats": caveats}
    return TransferGrid(subject, layers, (data,), name, unit, provenance=provenance)


def _check_axes(path: Path, values: FloatArray, axes: Mapping[str, str]) -> None:
    """Folds are averaged, conditions must not be: four axes are read once somebody said what the second is."""
    if values.ndim == 4 and axes != FOLD_AXIS:
        raise DataError(
            f"{path.name} has shape {values.shape}: its second axis may hold folds or conditions. For folds, to "
            "be averaged, pass columns={'axis 1': 'fold'}; of conditions save one a file, such as scores[:, 0], "
            "and compare them with transferstats.compare, which pairs subjects"
        )
    if values.ndim < 4 and axes:
        raise DataError(f"{path.name} has shape {values.shape} and no columns: leave columns away")


def _array(path: Path) -> FloatArray:
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}; write it with numpy.save, without objects") from error
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu":
        raise DataError(f"{path.name} must hold real numbers, not {getattr(values, 'dtype', type(values))}")
    if values.ndim not in (2, 3, 4) or values.shape[-1] != values.shape[-2] or 0 in values.shape:
        raise DataError(
            f"{path.name} has shape {values.shape}; expected (T, T), (subjects, T, T) or (subjects, folds, T, T), "
            "training times first"
        )
    if values.shape[-1] < 2:
        raise DataError(f"{path.name} has one time; generalisation needs at least 2")
    return np.asarray(values, dtype=np.float64)
