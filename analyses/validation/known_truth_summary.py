"""One study of known truth as a row a set of own lenses: estimates, p-values and verdicts, as JSON values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from transferstats.claims import Ask, exceeds_null, penalties_matter, shared_lens_serves
from transferstats.grid import DatasetLosses, TransferGrid
from transferstats.lens_sets import BESIDE
from transferstats.results import Estimate
from transferstats.stats.calibration import null_calibration
from transferstats.stats.intervals import p_greater
from transferstats.stats.learning_curve import learning_curve
from transferstats.stats.multiplicity import adjusted_p
from transferstats.stats.null import null_test, shared_lens_test

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
    """What a report says of one set of own lenses, and what its gate rests on."""
    ask = Ask(grid, SMALLEST, 0.95)
    answers = {"c3": exceeds_null(ask), "c4": penalties_matter(ask), "c7": shared_lens_serves(ask)}
    test, shared = null_test(grid, "mean"), shared_lens_test(grid, SMALLEST)
    beyond = shared.test.estimates[-1]
    check, shared_check = null_calibration(grid, "mean"), null_calibration(grid, readout="shared")
    return {
        **{name: next(iter(found)).verdict for name, found in answers.items()},
        **interval("penalty", test.observed.headline),
        **interval("null_penalty", test.null.headline),
        **interval("excess", test.excess.headline),
        "p_excess": float(test.p_greater[-1]),
        "p_shared": float(
            np.nanmin(adjusted_p(p_greater(beyond.estimate, beyond.parts, beyond.dfs)), initial=1.0)
        ),
        **interval("shared_largest", shared.largest),
        **interval("check", check.excess.headline),
        "p_shared_check": p_smallest(shared_check.excess.headline),
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
    return {
        "rows": next(iter(found.rows_of.values()))[-1],
        **points,
        **interval("unlimited", found.unlimited.headline),
        "p_departure": p_departure,
    }


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
