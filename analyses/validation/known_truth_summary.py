"""One study of known truth as a row a set of own lenses: estimates, p-values and verdicts, as JSON values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from transferstats.grid import DatasetLosses, TransferGrid
from transferstats.lens_sets import BESIDE
from transferstats.results import Estimate
from transferstats.stats.calibration import null_calibration
from transferstats.stats.intervals import p_greater
from transferstats.stats.learning_curve import learning_curve
from transferstats.stats.multiplicity import adjusted_p
from transferstats.stats.null import null_test, shared_lens_test
from transferstats.stats.relevance import relevance_test

SMALLEST = 0.01  # nats; the smallest penalty of interest in this study
ANCHORS: Mapping[str, str] = {"ridge": "", "shared": BESIDE}
"""Anchor -> set of lenses."""


def summarise(data: DatasetLosses, certificates: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row an anchor."""
    layers = tuple(str(layer) for layer in range(data.n_layers))
    grid = TransferGrid("known truth", layers, (data,))
    return [
        {"anchor": anchor, **judged(grid.with_set(name) if name else grid), **adequacy(certificates, name)}
        for anchor, name in ANCHORS.items()
    ]


def judged(grid: TransferGrid) -> dict[str, Any]:
    """What a report says of one set of own lenses."""
    raw, slope = null_test(grid, "mean"), null_test(grid, "slope")
    shared = shared_lens_test(grid, SMALLEST)
    beyond = shared.test.estimates[-1]
    check, shared_check = null_calibration(grid, "mean"), null_calibration(grid, readout="shared")
    return {
        **interval("penalty", raw.observed.headline),
        **interval("null_penalty", raw.null.headline),
        **interval("excess", raw.excess.headline),
        "p_excess": float(raw.p_greater[-1]),
        "p_slope": float(slope.p_greater[-1]),
        "verdict": str(relevance_test(raw, smallest=SMALLEST).verdict),
        **interval("shared_largest", shared.largest),
        "shared_raw": [float(value) for value in shared.excess.headline.estimate],
        "shared_excess": [float(value) for value in beyond.estimate],
        "p_shared": float(
            np.nanmin(adjusted_p(p_greater(beyond.estimate, beyond.parts, beyond.dfs)), initial=1.0)
        ),
        "shared_verdict": shared.verdict,
        **interval("check", check.excess.headline),
        "shared_check": [float(value) for value in shared_check.excess.headline.estimate],
        "shared_check_p": p_smallest(shared_check.excess.headline),
        **curve(grid),
    }


def p_smallest(one: Estimate) -> float:
    """Two-sided p of the most striking term, Holm over terms."""
    return float(np.nanmin(adjusted_p(one.p_value), initial=1.0))


def curve(grid: TransferGrid) -> dict[str, Any]:
    """Penalties of lenses of a quarter, a half and the whole of each fold; nothing where there are none."""
    if "1/2" not in grid.lens_sets:
        return {}
    found = learning_curve(grid, "mean")
    points = {
        f"penalty_{share}": float(one.headline.estimate)
        for share, one in zip(found.shares, found.points, strict=True)
    }
    p_departure = float(found.departure.headline.p_value) if found.departure is not None else float("nan")
    return {**points, **interval("unlimited", found.unlimited.headline), "p_departure": p_departure}


def adequacy(certificates: Sequence[Mapping[str, Any]], lens_set: str) -> dict[str, Any]:
    """Held-out and training kl of the own lenses of the observed world, and how many lenses are certified."""
    own = f"own|{lens_set}" if lens_set else "own"
    mine = [row for row in certificates if row["world"] == "observed" and row["readout"] == own]
    judged = [row for row in certificates if row["readout"] in (own, "shared", "generator")]
    return {
        "own_train": float(np.mean([row["train_kl"] for row in mine])),
        "own_held_out": float(np.mean([row["held_out_kl"] for row in mine])),
        "converged": float(np.mean([row["converged"] for row in judged])),
    }


def interval(name: str, one: Estimate) -> dict[str, float]:
    """An estimate with its limits as JSON values."""
    values = {"": one.estimate, "_low": one.conf_low, "_high": one.conf_high}
    return {name + ending: float(value) for ending, value in values.items()}
