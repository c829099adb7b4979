"""Evaluations by tuned-lens 0.2.0 with ``--layer_transfer``: aggregate_metrics.json, or batches.jsonl beside it.

Layout of both, all values in bits per byte; batches.jsonl holds a list of such objects, one a batch:

    {"tuned": {"ce": {"layer_0": 1.0, ...}, "kl": ..., "entropy": ...,
               "layer_transfer": {"ce": {"layer_<lens>": {"layer_<state>": 1.0}}, "kl": ...}},
     "logit": ..., "baseline": {"ce": {"final": 0.9}, ...}}

``layer_transfer.kl`` is KL(own lens || transferred lens), not a loss against the final distribution, so the
cross-entropy is what can be read. The aggregate holds means over all batches and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transferstats.arrays import FloatArray
from transferstats.errors import DataError
from transferstats.foreign.conversion import PER_BYTE, Conversion
from transferstats.foreign.files import decoded, records_of, unpacked
from transferstats.grid import DatasetLosses, TransferGrid

LENS = "tuned"
DATASET = "data"

SAME_LOSS = 1e-3
"""Relative difference of the final model's loss up to which two files were scored on the same batches."""

MEANS = (
    "the file holds means over all batches: nothing is known about how they would vary with other text, so no "
    "interval, test or verdict can be had; batches.jsonl, which tuned-lens writes beside it, has the batches"
)
BATCHES = (
    "units are batches of text in the order of evaluation: documents are cut and joined in them, so neighbouring "
    "batches may depend on each other"
)
ONE_RUN = "one run of lenses: intervals are conditional on these lenses; give the files of several runs as a list"
NOT_READ = (
    "layer_transfer.kl of the file is KL(own lens || transferred lens), which is no loss against the final "
    "distribution: only the cross-entropy is read"
)


def read_tuned_lens(
    paths: Sequence[Path], conversion: Conversion, *, loss: str | None, subject: str
) -> TransferGrid:
    """Transfer losses of one or several runs of lenses, one file a run.

    Parameters
    ----------
    paths: aggregate_metrics.json files (one unit: the mean), or batches.jsonl files (one unit a batch); each
        is one seed. Files of several runs must come from the same batches, in the same order.
    conversion: bytes_per_token turns bits per byte into nats per token. loss: "ce" or None.

    Raises
    ------
    DataError: no readable file, no ``layer_transfer``, files that were scored on other batches.
    """
    if conversion.score is not None:
        raise DataError("score= is for tables and matrices of scores; tuned-lens writes losses")
    if loss not in (None, "ce"):
        raise DataError(f"no {loss!r} here: {NOT_READ}")
    conversion = conversion.with_unit(PER_BYTE)
    factor, unit = conversion.factor()
    runs = [_records(path) for path in paths]
    sizes = [len(run) for run in runs]
    if len(set(sizes)) > 1:
        raise DataError(
            f"the files hold {', '.join(map(str, sizes))} batches: runs are compared on the same batches, so "
            "evaluate them with the same data, tokens and seed, and give files of one kind"
        )
    final = np.array([[_value(one, "baseline", "ce", "final") for one in run] for run in runs])
    _refuse_other_batches(final, paths)
    n_layers = len(_part(runs[0][0], LENS, "ce"))
    losses = np.array([[_transfer(one, n_layers) for one in run] for run in runs])
    means = sizes[0] == 1
    data = DatasetLosses(
        name=DATASET,
        seeds=tuple(str(index) for index in range(len(runs))),
        units=("all batches",) if means else tuple(f"batch {index}" for index in range(sizes[0])),
        clusters=("all batches",) if means else tuple(f"batch {index}" for index in range(sizes[0])),
        tokens=np.ones(sizes[0]),
        losses={"ce": factor * losses},
        readouts=_logit(runs, n_layers, factor),
        baselines={"final_ce": factor * final.mean(axis=0)},
    )
    caveats = [
        *conversion.caveats(),
        MEANS if means else BATCHES,
        *([ONE_RUN] if len(runs) == 1 else []),
        NOT_READ,
    ]
    layers = tuple(f"layer_{index}" for index in range(n_layers))
    provenance = {"source": "tuned-lens evaluation", "files": [path.name for path in paths], "caveats": caveats}
    return TransferGrid(subject, layers, (data,), "ce", unit, provenance=provenance)


def _records(path: Path) -> list[dict[str, Any]]:
    """The batches of a file; an aggregate is one record. batches.jsonl is one JSON list, or one object a line."""
    name, content = unpacked(path)
    records = records_of(path.name, decoded(name, content)[0])
    if not records or not all(isinstance(one, dict) for one in records):
        raise DataError(
            f"{path.name} holds no evaluation by tuned-lens: an object, or a list of them, is expected"
        )
    for one in records:
        if LENS not in one or "layer_transfer" not in one[LENS]:
            present = ", ".join(map(str, one)) or "nothing"
            raise DataError(
                f"{path.name} has no layer_transfer of a tuned lens (it has {present}): evaluate again with "
                "--lens_types tuned --layer_transfer"
            )
    return records


def _part(record: Mapping[str, Any], *keys: str) -> Any:
    for depth, key in enumerate(keys):
        if not isinstance(record, Mapping) or key not in record:
            raise DataError(
                f"the file lacks {'.'.join(keys[: depth + 1])}: it was cut, or another version wrote it"
            )
        record = record[key]
    return record


def _value(record: Mapping[str, Any], *keys: str) -> float:
    value = _part(record, *keys)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{'.'.join(keys)} is {value!r} where a number belongs")
    return float(value)


def _transfer(record: Mapping[str, Any], n_layers: int) -> FloatArray:
    """(L, L) cross-entropy of lens s on the state of layer t."""
    names = [f"layer_{index}" for index in range(n_layers)]
    table = [[_value(record, LENS, "layer_transfer", "ce", s, t) for t in names] for s in names]
    return np.asarray(table, dtype=np.float64)


def _logit(
    runs: Sequence[Sequence[Mapping[str, Any]]], n_layers: int, factor: float
) -> dict[str, dict[str, FloatArray]]:
    """Loss of the logit lens, (K, N, L), where it was evaluated."""
    if any("logit" not in one for run in runs for one in run):
        return {}
    names = [f"layer_{index}" for index in range(n_layers)]
    found = [[[_value(one, "logit", "ce", name) for name in names] for one in run] for run in runs]
    return {"logit": {"ce": factor * np.array(found)}}


def _refuse_other_batches(final: FloatArray, paths: Sequence[Path]) -> None:
    """The final model's loss does not depend on the lens, so it tells whether the text was the same."""
    apart = np.abs(final - final[0]) > SAME_LOSS * np.abs(final[0])
    if apart.any():
        run, batch = (int(index) for index in np.argwhere(apart)[0])
        raise DataError(
            f"{paths[run].name} (file {run + 1}) was scored on other text than the first file: the final model's "
            f"loss is {final[run, batch]:.4g} there and {final[0, batch]:.4g} in the first. Evaluate all runs "
            "with the same data, tokens and seed."
        )
