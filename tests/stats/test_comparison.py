"""Two subjects compared, several combined."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats as scipy_stats
from stats_data import make_losses

from transferstats.errors import DesignError
from transferstats.grid import DatasetLosses, TransferGrid
from transferstats.results import COLUMNS
from transferstats.stats.comparison import compare, meta_analysis
from transferstats.stats.crossed import crossed_estimate
from transferstats.stats.estimation import estimate
from transferstats.stats.paired import pair_units, paired_parts


def dataset(losses: np.ndarray, name: str = "prose", first_unit: int = 0) -> DatasetLosses:
    units = tuple(f"unit {first_unit + index}" for index in range(losses.shape[1]))
    return DatasetLosses(
        name=name,
        seeds=tuple(map(str, range(len(losses)))),
        units=units,
        clusters=units,
        tokens=np.ones(len(units)),
        losses={"kl": losses},
    )


def subject(*datasets: DatasetLosses, name: str = "one", unit: str = "nats/token") -> TransferGrid:
    layers = tuple(map(str, range(datasets[0].n_layers)))
    return TransferGrid(name, layers, datasets, unit=unit)


def test_disjoint_units_add_like_independent_samples() -> None:
    left, right = make_losses(4, 12, rng=1), make_losses(3, 20, rng=2)
    found = compare(subject(dataset(left)), subject(dataset(right, first_unit=100))).difference.headline
    one, other = crossed_estimate(left, "mean"), crossed_estimate(right, "mean")
    assert float(found.estimate) == pytest.approx(float(one.estimate - other.estimate), rel=1e-12)
    np.testing.assert_allclose(sorted(found.parts), sorted([*one.parts, *other.parts]), rtol=1e-10)
    assert sorted(found.dfs) == [2, 3, 11, 19]


def test_shared_units_enter_as_differences() -> None:
    left, right = make_losses(4, 12, rng=1), make_losses(3, 12, rng=2)
    hard = np.random.default_rng(5).normal(size=(1, 12, 1, 1)) * (1 - np.eye(4))
    paired = compare(subject(dataset(left + hard)), subject(dataset(right + hard))).difference.headline
    plain = compare(subject(dataset(left)), subject(dataset(right))).difference.headline
    np.testing.assert_allclose(paired.parts, plain.parts, rtol=1e-9)
    apart = compare(subject(dataset(left + hard)), subject(dataset(right + hard, first_unit=50)))
    assert float(apart.difference.headline.std_error) > 1.5 * float(paired.std_error)
    assert "12 units shared" in paired.note


def test_partly_shared_units_have_the_variance_of_the_difference() -> None:
    """Against the covariance written out: var(a) + var(b) - 2 cov over the shared units."""
    rng = np.random.default_rng(0)
    n_first, n_second, n_shared = 400, 300, 200
    common = rng.normal(size=n_shared)
    first = np.concatenate([common, rng.normal(size=n_first - n_shared)]) + 0.1 * rng.normal(size=n_first)
    second = np.concatenate([common, rng.normal(size=n_second - n_shared)]) + 0.1 * rng.normal(size=n_second)
    tables = [np.stack([values, values])[None] for values in (first - first.mean(), second - second.mean())]
    pairing = pair_units(
        tuple(f"u{i}" for i in range(n_first)),
        tuple([f"u{i}" for i in range(n_shared)] + [f"v{i}" for i in range(n_second - n_shared)]),
    )
    parts = paired_parts(tables[0], tables[1], pairing=pairing)
    found = sum(v for v, name in zip(parts.variances[:, 0], parts.names, strict=True) if name == "units")
    covariance = np.cov(first[:n_shared], second[:n_shared])[0, 1]
    expected = first.var(ddof=1) / n_first + second.var(ddof=1) / n_second
    expected -= 2 * n_shared * covariance / (n_first * n_second)
    # Variances by subset differ from variances of the whole by their sampling error, 10 % at these sizes.
    assert found == pytest.approx(expected, rel=0.15)
    assert sorted(parts.dfs[-3:]) == [99, 199, 199]


def test_one_unit_left_over_is_given_the_spread_of_all() -> None:
    left, right = make_losses(3, 9, rng=1), make_losses(3, 8, rng=2)
    found = compare(subject(dataset(left)), subject(dataset(right))).difference.headline
    assert np.isfinite(found.conf_low)
    assert list(found.dfs) == [2, 2, 7, 8]


def test_ratio_on_the_log_scale() -> None:
    left, right = make_losses(4, 12, rng=1), make_losses(3, 12, rng=2)
    found = compare(subject(dataset(left)), subject(dataset(right)), scale="log").difference.headline
    mirrored = compare(subject(dataset(right)), subject(dataset(left)), scale="log").difference.headline
    assert float(found.estimate * mirrored.estimate) == pytest.approx(1, rel=1e-12)
    assert float(found.conf_low * mirrored.conf_high) == pytest.approx(1, rel=1e-10)
    assert float(found.p_value) == pytest.approx(float(mirrored.p_value), rel=1e-9)
    assert (found.conf_low > 1 or found.conf_high < 1) == (found.p_value < 0.05)
    assert "against a ratio of 1" in found.note


def test_a_subject_against_itself_is_zero() -> None:
    """Other seeds, same units: the difference is 0 up to seed noise, and units have cancelled."""
    losses = make_losses(8, 12)
    found = compare(subject(dataset(losses[:4])), subject(dataset(losses[4:])), statistic="slope")
    assert float(found.difference.headline.conf_low) < 0 < float(found.difference.headline.conf_high)
    frame = found.tidy()
    assert tuple(frame.columns[: len(COLUMNS)]) == COLUMNS
    assert frame.loc[0, "first_estimate"] - frame.loc[0, "second_estimate"] == pytest.approx(
        frame.loc[0, "estimate"]
    )


def test_datasets_are_matched_by_name() -> None:
    both = [dataset(make_losses(3, 8, rng=seed), name) for seed, name in ((1, "a"), (2, "b"))]
    other = [dataset(make_losses(3, 8, rng=seed), name) for seed, name in ((3, "b"), (4, "c"))]
    found = compare(subject(*both), subject(*other))
    assert found.difference.datasets == ("b",)
    assert compare(subject(both[0]), subject(other[1])).difference.headline.note.startswith("no units shared")
    with pytest.raises(DesignError, match="share no dataset"):
        compare(subject(*both), subject(replace(other[1]), replace(other[1], name="d")))


def test_comparisons_without_meaning() -> None:
    one = subject(dataset(make_losses()))
    with pytest.raises(DesignError, match="has no meaning"):
        compare(one, subject(dataset(make_losses()), unit="nats/image"))
    with pytest.raises(DesignError, match="12 terms on the first subject and 6"):
        compare(one, subject(dataset(make_losses(n_layers=3))), statistic="cells")


def test_meta_analysis_against_the_formulas() -> None:
    grids = [subject(dataset(make_losses(4, 15, rng=seed, level=1 + 0.3 * seed))) for seed in range(4)]
    estimates = [estimate(grid) for grid in grids]
    found = meta_analysis(estimates, subjects=["a", "b", "c", "d"])
    effect = np.array([float(one.headline.estimate) for one in estimates])
    variance = np.array([float(one.headline.std_error) ** 2 for one in estimates])
    # Paule-Mandel: the weighted residual sum of squares equals its degrees of freedom.
    weight = 1 / (variance + found.tau2)
    centre = (weight * effect).sum() / weight.sum()
    assert (weight * (effect - centre) ** 2).sum() == pytest.approx(3, rel=1e-4)
    assert found.estimate[0] == pytest.approx(centre, rel=1e-9)
    half = scipy_stats.t.isf(0.025, 3) / np.sqrt(weight.sum())
    assert found.conf_high[0] - centre == pytest.approx(half, rel=1e-4)
    common = (effect / variance).sum() / (1 / variance).sum()
    assert found.estimate[1] == pytest.approx(common, rel=1e-12)
    assert len(found.tidy()) == 6


def test_agreement_by_chance_does_not_shorten_the_interval() -> None:
    one = estimate(subject(dataset(make_losses(4, 15))))
    found = meta_analysis([one, one, one], subjects=["a", "b", "c"])
    assert found.std_error[0] == pytest.approx(found.std_error[1], rel=1e-9)
    assert found.conf_low[0] < found.conf_low[1]
    assert "kept at 1" in found.note


def test_what_cannot_be_combined() -> None:
    one = crossed_estimate(make_losses(), "mean")
    with pytest.raises(DesignError, match="at least 2 subjects"):
        meta_analysis([one], subjects=["a"])
    with pytest.raises(DesignError, match="scalar estimates"):
        meta_analysis([one, crossed_estimate(make_losses(), "cells")], subjects=["a", "b"])
    with pytest.raises(DesignError, match="b has no standard error"):
        meta_analysis([one, crossed_estimate(make_losses(3, 1), "mean")], subjects=["a", "b"])
    with pytest.raises(DesignError, match="different units"):
        meta_analysis([one, replace(one, unit="nats/image")], subjects=["a", "b"])
