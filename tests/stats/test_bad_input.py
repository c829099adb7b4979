"""Bad input: an error that names the fix, or a NaN with its reason; never a silent 0 or infinity."""

from __future__ import annotations

import numpy as np
import pytest
from stats_data import make_losses

from transferstats.errors import DataError, DesignError
from transferstats.results.estimate import Estimate
from transferstats.stats.bootstrap import KINDS, Bootstrap, bootstrap_estimate
from transferstats.stats.crossed import crossed_estimate
from transferstats.stats.null import paired_null_estimate
from transferstats.stats.relevance import relevance_test, verdict

UNCERTAINTY = ("std_error", "conf_low", "conf_high", "p_value", "statistic")


def undefined(found: Estimate) -> bool:
    return all(np.isnan(getattr(found, name)).all() for name in UNCERTAINTY)


@pytest.mark.parametrize("value", [0.0, 1.0, 1e-12, 1e6, 0.1])
@pytest.mark.parametrize("name", ["mean", "cells", "slope"])
def test_constant_data_has_unknown_uncertainty(value: float, name: str) -> None:
    losses = np.broadcast_to(value * np.arange(1.0, 10.0).reshape(3, 3), (3, 7, 3, 3))
    found = crossed_estimate(losses, name)
    assert undefined(found)
    assert "no variation" in found.note
    assert np.isfinite(found.estimate).all()


@pytest.mark.parametrize("kind", KINDS)
def test_constant_data_has_unknown_uncertainty_in_every_bootstrap(kind: str) -> None:
    losses = np.broadcast_to(0.1 * np.arange(1.0, 10.0).reshape(3, 3), (3, 7, 3, 3))
    found = bootstrap_estimate(losses, "mean", Bootstrap(200, kind, rng=0))
    assert undefined(found)
    assert "no variation" in found.note


def test_losses_constant_up_to_rounding_are_constant() -> None:
    """The penalty is the same everywhere, but large losses leave its last digits to chance."""
    own = 1e3 * np.random.default_rng(0).normal(size=(3, 20, 1, 3))
    losses = own + 0.1 * np.arange(1.0, 10.0).reshape(3, 3)
    assert undefined(crossed_estimate(losses, "mean"))


def test_one_seed_is_conditional() -> None:
    found = crossed_estimate(make_losses(1, 20), "mean")
    assert "conditional on this lens set" in found.note
    assert found.part_names == ("units",)
    assert float(found.conf_low) < float(found.estimate) < float(found.conf_high)


def test_two_seeds_are_warned_about_in_words() -> None:
    found = crossed_estimate(make_losses(2, 20), "mean")
    assert "4 to 5 times wider" in found.note
    assert np.isfinite(found.conf_low)


@pytest.mark.parametrize("n_seeds", [1, 4])
@pytest.mark.parametrize("kind", ["crossed", "two_term", "percentile", "bca", "studentized"])
def test_one_unit_has_no_interval(n_seeds: int, kind: str) -> None:
    losses = make_losses(n_seeds, 1)
    if kind == "crossed":
        found = crossed_estimate(losses, "mean")
    else:
        found = bootstrap_estimate(losses, "mean", Bootstrap(200, kind, rng=0))
    assert undefined(found)
    assert "1 unit" in found.note


def test_two_layers_have_one_distance() -> None:
    losses = make_losses(n_layers=2)
    with pytest.raises(DesignError, match="at least 2 different distances"):
        crossed_estimate(losses, "slope")
    assert crossed_estimate(losses, "distance").terms == ("distance 1",)
    assert np.isfinite(crossed_estimate(losses, "asymmetry").conf_low)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_losses_that_are_not_finite_are_located(bad: float) -> None:
    losses = make_losses()
    losses[:, :, 2, 1] = bad
    with pytest.raises(DataError, match="seed 0, unit 0, source 2, target 1"):
        crossed_estimate(losses, "mean")
    with pytest.raises(DataError, match="48 losses are NaN or infinite"):
        bootstrap_estimate(losses, "mean", Bootstrap(200, rng=0))


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        (np.ones((3, 4, 4)), "must have 4 axes"),
        (np.ones((3, 5, 4, 3)), "not square: 4 sources, 3 targets"),
        (np.ones((3, 0, 4, 4)), "at least 1 seed, 1 unit"),
        (np.ones((3, 5, 1, 1)), "2 layers"),
    ],
)
def test_malformed_losses_are_refused(losses: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        crossed_estimate(losses, "mean")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0, 0.0])
def test_weights_must_be_positive(bad: float) -> None:
    weights = np.ones(12)
    weights[3] = bad
    with pytest.raises(DataError, match="unit 3 has"):
        crossed_estimate(make_losses(), "mean", weights=weights)


def test_weights_must_be_one_a_unit() -> None:
    with pytest.raises(DataError, match=r"shape \(12,\)"):
        crossed_estimate(make_losses(), "mean", weights=np.ones(4))


@pytest.mark.parametrize("level", [0, 1, 1.5, -0.1, 95])
def test_levels_outside_0_1_are_refused_everywhere(level: float) -> None:
    losses = make_losses()
    for call in (
        lambda: crossed_estimate(losses, "mean", conf_level=level),
        lambda: bootstrap_estimate(losses, "mean", Bootstrap(200, rng=0), conf_level=level),
        lambda: paired_null_estimate(losses, losses, "mean", conf_level=level),
        lambda: verdict(0.1, [1.0], [3], smallest=0.1, conf_level=level),
    ):
        with pytest.raises(DesignError, match="between 0 and 1"):
            call()


@pytest.mark.parametrize("smallest", [0.0, -0.1, float("nan"), float("inf"), (0.1, 0.2), (-0.1, 0.0), (1, 2, 3)])
def test_smallest_must_be_a_region_around_0(smallest: object) -> None:
    found = crossed_estimate(make_losses(), "mean")
    with pytest.raises(DesignError, match=r"smallest (is one number|must be)"):
        relevance_test(found, smallest=smallest)  # type: ignore[arg-type]


def test_smallest_has_no_default() -> None:
    with pytest.raises(TypeError, match="smallest"):
        relevance_test(crossed_estimate(make_losses(), "mean"))  # type: ignore[call-arg]


def test_a_statistic_that_is_nan_is_flagged() -> None:
    found = crossed_estimate(make_losses(), lambda matrix: np.array([matrix[0, 1], np.nan]))
    assert np.isfinite(found.conf_low[0])
    assert np.isnan([found.estimate[1], found.conf_low[1], found.p_value[1], found.std_error[1]]).all()
    assert "not finite at the observed matrix (1 of 2 terms" in found.note


def test_a_statistic_with_an_undefined_derivative_is_flagged() -> None:
    losses = make_losses()
    centre = crossed_estimate(losses, "cells").estimate[0]

    def edge(matrix: np.ndarray) -> float:
        return matrix[0, 1] if matrix[0, 1] <= centre else np.nan

    found = crossed_estimate(losses, edge)
    assert undefined(found)
    assert "gradient is not finite" in found.note


def test_a_statistic_that_changes_length_is_refused() -> None:
    losses = make_losses()
    centre = crossed_estimate(losses, "cells").estimate[0]

    def unsteady(matrix: np.ndarray) -> np.ndarray:
        return np.ones(2 if matrix[0, 1] > centre else 3)

    with pytest.raises(DataError, match="same number of values"):
        crossed_estimate(losses, unsteady)
    with pytest.raises(DataError, match="same number of values"):
        bootstrap_estimate(losses, unsteady, Bootstrap(200, rng=0))


def test_negative_values_have_no_log_interval() -> None:
    found = crossed_estimate(make_losses() * -1, "mean", scale="log")
    assert np.isnan([found.conf_low, found.conf_high]).all()
    assert float(found.estimate) < 0
    assert "not positive" in found.note
    with pytest.raises(DesignError, match="unknown scale"):
        crossed_estimate(make_losses(), "mean", scale="sqrt")


def test_null_worlds_must_match() -> None:
    losses = make_losses()
    with pytest.raises(DataError, match="12 units, null losses 11"):
        paired_null_estimate(losses, losses[:, :11], "mean")
    with pytest.raises(DataError, match="same layers"):
        paired_null_estimate(losses, losses[:, :, :3, :3], "cells")
    single = paired_null_estimate(losses, losses[:1], "mean")
    assert undefined(single)
    assert "1 null replicate" in single.note


def test_plans_are_checked() -> None:
    with pytest.raises(DesignError, match="unknown bootstrap kind 'bayes'"):
        Bootstrap(kind="bayes")
    with pytest.raises(DesignError, match="at least 200 replicates"):
        Bootstrap(replicates=20)
