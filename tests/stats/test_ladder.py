"""Share of the gap from logit lens to own lens that a simpler readout closes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import transferstats as ts
from transferstats.errors import DesignError
from transferstats.grid import DatasetLosses, TransferGrid
from transferstats.simulation import simulate_grid, true_penalty
from transferstats.stats.crossed import crossed_estimate
from transferstats.stats.depth import depth_profile
from transferstats.stats.ladder import gap_closed, rungs_of
from transferstats.stats.null import shared_lens_test

LAYERS = 4
SHARES = np.array([0.9, 0.7, 0.5, -0.5])  # what the tied readout closes, by layer


def ladder_grid(*, gap: float = 1.0, noise: float = 0.1, seeds: int = 4, rng: int = 0) -> TransferGrid:
    """A grid whose tied readout closes known shares of a gap of ``gap`` nats."""
    grid = simulate_grid(true_penalty(LAYERS), n_seeds=seeds, n_units=50, rng=rng).grid
    draw = np.random.default_rng(rng)

    def with_ladder(data: DatasetLosses) -> DatasetLosses:
        own = np.diagonal(data.loss("kl"), axis1=2, axis2=3)
        logit = own + gap + noise * draw.standard_normal(own.shape)
        by_seed = noise * draw.standard_normal((len(own), 1, LAYERS))
        tied = own + (1 - SHARES) * gap + by_seed + noise * draw.standard_normal(own.shape)
        return replace(data, readouts={**data.readouts, "logit": {"kl": logit}, "tied": {"kl": tied}})

    return replace(grid, datasets=tuple(with_ladder(data) for data in grid.datasets))


def test_shares_and_intervals_follow_the_truth() -> None:
    """40 studies, 4 layers: misses of a 95 % interval stay below what chance gives once in a thousand."""
    missed = 0
    for rng in range(40):
        found = gap_closed(ladder_grid(rng=rng), "tied").headline
        missed += int(((found.conf_low > SHARES) | (found.conf_high < SHARES)).sum())
    assert missed <= 18  # binomial(160, .05): P(> 18) < .001


def test_the_interval_is_the_crossed_one_of_numerator_minus_share_times_denominator() -> None:
    """Fieller: at a limit, zero is just on the edge of the crossed interval of that difference."""
    grid = ladder_grid(noise=0.3)
    data = grid.datasets[0]
    found = gap_closed(grid, "tied").headline
    own = np.diagonal(data.loss("kl"), axis1=2, axis2=3)
    top, bottom = (data.readouts["logit"]["kl"] - other for other in (data.readouts["tied"]["kl"], own))
    for layer in range(LAYERS):
        for limit, end in ((found.conf_low[layer], "conf_low"), (found.conf_high[layer], "conf_high")):
            difference = (top - limit * bottom)[:, :, layer]
            losses = np.zeros((*difference.shape, 2, 2))
            losses[:, :, 0, 1] = difference
            one = crossed_estimate(losses, lambda m: m[0, 1], weights=data.tokens)
            other = "conf_high" if end == "conf_low" else "conf_low"
            assert min(abs(float(getattr(one, name))) for name in (end, other)) < 1e-9


def test_no_gap_no_bounds() -> None:
    found = gap_closed(ladder_grid(gap=0.0), "tied").headline
    assert np.isnan(found.conf_low).all()
    assert "do not clearly differ" in found.note


def test_layers_are_called_by_their_names() -> None:
    """Of every fourth layer, the second is layer 4, not layer 1."""
    grid = ladder_grid()
    numbered = replace(grid, layers=tuple(str(4 * index) for index in range(grid.n_layers)))
    named = replace(grid, layers=tuple(f"mixed {letter}" for letter in "abcdefgh"[: grid.n_layers]))
    for one, second in ((numbered, "layer 4"), (named, "mixed b")):
        shared = shared_lens_test(one, 0.05, readout="tied")
        for found in (
            depth_profile(one)[0],
            gap_closed(one, "tied")[0],
            shared.excess[0],
            shared.test.estimates[0],
        ):
            assert found.terms[1] == second


def test_evidence_holds_every_rung_and_says_which_is_missing() -> None:
    grid = ladder_grid()
    extras = ts.evaluate(grid, smallest=0.05).datasets[0].extras
    np.testing.assert_array_equal(extras["gap_tied"].estimate, gap_closed(grid, "tied").headline.estimate)
    assert extras["gap_tied"].terms[0] == "layer 0"
    assert set(rungs_of(grid.datasets[0], "kl")) == {"shared", "tied"}
    without = replace(grid, datasets=tuple(replace(data, readouts={}) for data in grid.datasets))
    assert rungs_of(without.datasets[0], "kl") == ()
    with pytest.raises(DesignError, match="readout 'logit'"):
        gap_closed(without)
