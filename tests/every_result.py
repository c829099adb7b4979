"""One result of every class, from one simulated grid: what tests of views and of R go through."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

import transferstats as ts
from transferstats.grid import DatasetLosses, TransferGrid
from transferstats.path_losses import PathLosses
from transferstats.results import Result

# Names that break CSV, quoting or R's guesses about types, in what comes from users.
DATASETS = ('T, "quoted"', "\u00e9t\u00e9 \u2192 1")


@cache
def grid(rng: int = 11) -> TransferGrid:
    """Two datasets, null replicates, a shared lens."""
    return ts.simulate_grid(n_seeds=3, n_units=20, n_null=3, datasets=DATASETS, rng=rng).grid


def with_paths(data: TransferGrid) -> TransferGrid:
    """The grid with a path a dataset, in which penalties rise from 0 at two starts and fall from the third."""
    paths = {one.name: _path(one, len(data.layers)) for one in data.datasets}
    return replace(data, paths=paths)


def _path(data: DatasetLosses, n_layers: int) -> PathLosses:
    anchors, steps = np.repeat(["identity", "ridge", "shared"], 4), np.tile([0.0, 4.0, 8.0, 16.0], 3)
    kl = np.repeat([6.0, 2.5, 2.0], 4) - 0.05 * steps
    rise = np.where(anchors == "ridge", 0.4 - 0.01 * steps, 0.02 * steps)
    scatter = np.random.default_rng(5).normal(1, 0.2, len(data.units))
    penalty, own = rise[:, None] * scatter, kl[:, None] * scatter
    return PathLosses(
        seed=data.seeds[0],
        anchor="ridge",
        anchors=tuple(map(str, anchors)),
        steps=steps,
        held_out_kl=np.repeat(kl[:, None], n_layers, axis=1),
        own={"kl": own, "ce": own},
        penalty={"kl": penalty, "ce": penalty},
    )


def with_parts(data: TransferGrid) -> TransferGrid:
    """The grid with lenses of a half and a quarter of the training rows, which lose more."""
    return replace(data, datasets=tuple(_in_parts(one) for one in data.datasets))


def _in_parts(data: DatasetLosses) -> DatasetLosses:
    whole = replace(data, training_rows=(960.0,) * len(data.seeds))
    parts = {
        name: replace(
            whole,
            null=None,
            training_rows=(960.0 * share,) * len(data.seeds),
            losses={loss: (1 + 0.1 / share) * values for loss, values in data.losses.items()},
        )
        for name, share in (("1/2", 0.5), ("1/4", 0.25))
    }
    return replace(whole, sets=parts)


def every_result() -> dict[str, Result]:
    """Results by the name of their class."""
    data, other = grid(), grid(12)
    mean, decay = ts.estimate(data, "mean"), ts.fit_decay(data, "saturating", direction="separate")
    families = ts.compare_decay(data, ("linear", "saturating"))
    evidence = ts.evaluate(data, 0.05)
    null = ts.null_test(data, "mean")
    found: list[Result] = [
        evidence.claims[0],
        ts.compare(data, other),
        families,
        families[0],
        decay,
        decay[0],
        mean.headline,
        mean,
        evidence,
        ts.meta_analysis([mean.headline, ts.estimate(other, "mean").headline], subjects=["one", "two"]),
        ts.mixed_slope(data, DATASETS[0]),
        null,
        ts.order_test(data, DATASETS[0]),
        ts.regress("penalty ~ distance * direction", data),
        ts.relevance_test(null, smallest=0.05),
        ts.reliability(data, DATASETS[0], rng=1),
        ts.shared_lens_test(data, 0.05),
        ts.plan_study(data, seeds=[3, 5], units=[50], smallest=0.05),
        ts.size_study(data, half_width=0.1, seeds=[3, 5]),
        ts.describe(data),
        ts.compare_subjects([data, replace(other, subject="another")], smallest=0.05),
        ts.training_path(with_paths(data), DATASETS[0]),
        ts.learning_curve(with_parts(data)),
        ts.null_calibration(data),
    ]
    return {type(one).__name__: one for one in found}
