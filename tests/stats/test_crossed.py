"""The crossed interval: against its formulas written out, an ANOVA table, and its invariants."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from stats_data import make_losses
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from transferstats.errors import UncertaintyWarning
from transferstats.stats.crossed import (
    crossed_estimate,
    jackknife_seed_variance,
    p_two_sided,
    variance_parts,
)
from transferstats.stats.samples import collapse_clusters
from transferstats.stats.statistics import named_statistic

# Sums of a few thousand products in another order.
ROUNDING = 1e-10
LINEAR = ("mean", "forward", "backward", "asymmetry", "slope", "distance", "cells", "source", "target")
sizes = st.tuples(st.integers(2, 6), st.integers(2, 15), st.integers(3, 5), st.integers(0, 10_000))


def test_formulas_written_out(losses: np.ndarray) -> None:
    """The interval of the mean penalty, cell by cell and sum by sum."""
    n_seeds, n_units, n_layers, _ = losses.shape
    y = np.zeros((n_seeds, n_units))
    for k in range(n_seeds):
        for i in range(n_units):
            cells = [
                losses[k, i, s, t] - losses[k, i, t, t] for s in range(n_layers) for t in range(n_layers) if s != t
            ]
            y[k, i] = np.mean(cells)
    z = y - y.mean()
    seeds, units = z.mean(axis=1), z.mean(axis=0)
    part_a = sum(seeds**2) / (n_seeds * (n_seeds - 1))
    part_b = sum(units**2) / (n_units * (n_units - 1))
    residual = sum((z[k, i] - seeds[k] - units[i]) ** 2 for k in range(n_seeds) for i in range(n_units)) / (
        n_seeds * n_units * (n_seeds - 1) * (n_units - 1)
    )
    half = np.sqrt(
        scipy_stats.t.isf(0.025, n_seeds - 1) ** 2 * part_a
        + scipy_stats.t.isf(0.025, n_units - 1) ** 2 * max(part_b - residual, 0)
    )
    found = crossed_estimate(losses, "mean")
    assert float(found.estimate) == pytest.approx(y.mean(), rel=ROUNDING)
    assert float(found.seed_variance) == pytest.approx(part_a, rel=ROUNDING)
    assert float(found.unit_variance) == pytest.approx(part_b - residual, rel=ROUNDING)
    assert float(found.residual) == pytest.approx(residual, rel=ROUNDING)
    assert float(found.conf_low) == pytest.approx(y.mean() - half, rel=ROUNDING)
    assert float(found.conf_high) == pytest.approx(y.mean() + half, rel=ROUNDING)
    assert list(found.dfs) == [n_seeds - 1, n_units - 1]


def test_parts_are_mean_squares_of_a_two_way_anova(losses: np.ndarray) -> None:
    table = penalty_means(losses)
    parts = variance_parts(table - table.mean())
    seed, unit = parts.variances
    k, i = np.indices(table.shape)
    frame = pd.DataFrame({"y": table.ravel(), "k": k.ravel(), "i": i.ravel()})
    squares = anova_lm(ols("y ~ C(k) + C(i)", frame).fit())["mean_sq"]
    assert seed == pytest.approx(squares["C(k)"] / table.size, rel=ROUNDING)
    assert parts.residual == pytest.approx(squares["Residual"] / table.size, rel=ROUNDING)
    assert unit == pytest.approx((squares["C(i)"] - squares["Residual"]) / table.size, rel=ROUNDING)


@given(sizes, st.sampled_from(LINEAR))
def test_a_is_the_jackknife_of_linear_statistics(size: tuple[int, int, int, int], name: str) -> None:
    data = make_losses(*size[:3], rng=size[3])
    found = crossed_estimate(data, name)
    jackknife = jackknife_seed_variance(data, name)
    np.testing.assert_allclose(np.atleast_1d(found.seed_variance), jackknife, rtol=ROUNDING)


@given(sizes, st.sampled_from([*LINEAR, "ratio"]))
def test_losses_common_to_a_target_change_nothing(size: tuple[int, int, int, int], name: str) -> None:
    """Adding c[k, i, t] to every source leaves penalties, and so everything, unchanged."""
    data = make_losses(*size[:3], rng=size[3])
    shift = 5 * np.random.default_rng(size[3]).normal(size=(*data.shape[:2], 1, data.shape[3]))
    one, other = _quiet(data, name), _quiet(data + shift, name)
    for field in ("estimate", "conf_low", "conf_high", "p_value"):
        np.testing.assert_allclose(getattr(one, field), getattr(other, field), rtol=1e-7, atol=1e-10)


@given(sizes, st.sampled_from([*LINEAR, "ratio"]))
def test_order_of_seeds_and_units_changes_nothing(size: tuple[int, int, int, int], name: str) -> None:
    data = make_losses(*size[:3], rng=size[3])
    rng = np.random.default_rng(size[3])
    shuffled = data[rng.permutation(len(data))][:, rng.permutation(data.shape[1])]
    one, other = _quiet(data, name), _quiet(shuffled, name)
    for field in ("estimate", "conf_low", "conf_high", "p_value"):
        np.testing.assert_allclose(getattr(one, field), getattr(other, field), rtol=1e-8, atol=1e-12)


@given(sizes, st.sampled_from([1e-12, 1e6]))
def test_units_of_measurement_do_not_matter(size: tuple[int, int, int, int], scale: float) -> None:
    """Limits scale with the losses, p-values and shares stay, at 1e-12 and at 1e6 nats."""
    data = make_losses(*size[:3], rng=size[3])
    one, other = crossed_estimate(data, "cells"), crossed_estimate(scale * data, "cells")
    np.testing.assert_allclose(other.conf_low, scale * one.conf_low, rtol=1e-9, atol=1e-12 * scale)
    np.testing.assert_allclose(other.p_value, one.p_value, rtol=1e-7)
    np.testing.assert_allclose(other.shares, one.shares, rtol=1e-8, atol=1e-12)


def test_half_width_without_unit_part_is_the_seed_t() -> None:
    losses = make_losses(3, 20)[:, :1] + np.zeros((1, 20, 1, 1))
    found = crossed_estimate(losses, "mean")
    assert float(found.unit_variance) == pytest.approx(0, abs=1e-25)
    half = scipy_stats.t.isf(0.025, 2) * np.sqrt(float(found.seed_variance))
    assert float(found.conf_high - found.estimate) == pytest.approx(half, rel=ROUNDING)


@pytest.mark.parametrize("name", LINEAR)
def test_a_callable_gives_what_the_name_gives(name: str, losses: np.ndarray) -> None:
    statistic = named_statistic(name)

    def plain(matrix: np.ndarray) -> np.ndarray:
        values = statistic.batch(matrix[None])[0]
        return values[0] if statistic.scalar else values

    one, other = crossed_estimate(losses, name), crossed_estimate(losses, plain)
    assert np.shape(one.estimate) == np.shape(other.estimate)
    np.testing.assert_allclose(one.conf_low, other.conf_low, rtol=1e-7)


def test_log_scale_is_the_delta_method(losses: np.ndarray) -> None:
    plain, log = crossed_estimate(losses, "mean"), crossed_estimate(losses, "mean", scale="log")
    relative = plain.parts / plain.estimate**2
    np.testing.assert_allclose(log.parts, relative, rtol=ROUNDING)
    half = np.sqrt(scipy_stats.t.isf(0.025, plain.dfs) ** 2 @ relative)
    assert float(np.log(log.conf_high)) == pytest.approx(float(np.log(plain.estimate)) + half, rel=ROUNDING)
    assert np.isnan(log.p_value)
    assert "no test against 0" in log.note
    ratio = crossed_estimate(losses, lambda matrix: np.log(named_statistic("mean")(matrix)))
    assert float(ratio.conf_low) == pytest.approx(float(np.log(log.conf_low)), rel=1e-6)


def test_weights_are_repetitions_in_the_limit(losses: np.ndarray) -> None:
    """The token-weighted mean, and its variance by the ratio influence, written out."""
    weights = np.random.default_rng(0).uniform(1, 9, size=losses.shape[1])
    found = crossed_estimate(losses, "mean", weights=weights)
    penalty = losses - np.diagonal(losses, axis1=2, axis2=3)[:, :, None, :]
    y = penalty.sum(axis=(2, 3)) / 12
    centre = (y.mean(axis=0) * weights).sum() / weights.sum()
    z = len(weights) * weights / weights.sum() * (y - centre)
    assert float(found.estimate) == pytest.approx(centre, rel=ROUNDING)
    assert float(found.seed_variance) == pytest.approx(
        float((z.mean(axis=1) ** 2).sum() / (len(z) * (len(z) - 1))), rel=ROUNDING
    )
    np.testing.assert_allclose(z.mean(), 0, atol=1e-14)
    doubled = crossed_estimate(losses, "mean", weights=1000 * weights)
    assert float(doubled.conf_low) == pytest.approx(float(found.conf_low), rel=1e-12)
    assert float(crossed_estimate(losses, "mean", weights=np.full(12, 7.0)).conf_low) == pytest.approx(
        float(crossed_estimate(losses, "mean").conf_low), rel=1e-12
    )


def test_clusters_collapse_to_weighted_means(losses: np.ndarray) -> None:
    weights = np.arange(1.0, 13.0)
    clusters = [f"play {index // 3}" for index in range(12)]
    collapsed, tokens, labels = collapse_clusters(losses, clusters, weights)
    assert labels == ("play 0", "play 1", "play 2", "play 3")
    np.testing.assert_allclose(tokens, [6, 15, 24, 33])
    np.testing.assert_allclose(
        collapsed[1, 2], (losses[1, 6:9] * weights[6:9, None, None]).sum(axis=0) / 24, rtol=1e-12
    )
    whole = crossed_estimate(losses, "slope", weights=weights)
    by_cluster = crossed_estimate(collapsed, "slope", weights=tokens)
    assert float(whole.estimate) == pytest.approx(float(by_cluster.estimate), rel=1e-12)
    assert by_cluster.n_units == 4


def test_duplicated_units_do_not_shrink_a_clustered_interval(losses: np.ndarray) -> None:
    twice = np.repeat(losses, 2, axis=1)
    clusters = [str(index // 2) for index in range(24)]
    collapsed, tokens, _ = collapse_clusters(twice, clusters, np.ones(24))
    once, folded = crossed_estimate(losses, "mean"), crossed_estimate(collapsed, "mean", weights=tokens)
    assert float(folded.conf_low) == pytest.approx(float(once.conf_low), rel=1e-12)
    naive = crossed_estimate(twice, "mean")
    assert float(naive.unit_variance) < 0.6 * float(folded.unit_variance)


def test_jackknife_disagreement_is_announced() -> None:
    data = make_losses(4, 10)

    def curved(matrix: np.ndarray) -> float:
        return float(np.exp(40 * matrix[0, 1]))

    with pytest.warns(UncertaintyWarning, match="far from linear"):
        found = crossed_estimate(data, curved)
    assert "prefer scale='log' or a bootstrap" in found.note

    # Without its first seed the mean of this cell is 1.5, without the others at most 1.
    steps = np.zeros((3, 5, 3, 3))
    steps[:, :, 0, 1] = np.arange(3.0)[:, None] + 0.01 * np.arange(5)
    with pytest.warns(UncertaintyWarning, match="no gradient here"):
        flat = crossed_estimate(steps, lambda matrix: float(matrix[0, 1] > 1.2))
    assert np.isnan(flat.conf_low)


def test_jackknife_agreement_is_silent(losses: np.ndarray) -> None:
    found = crossed_estimate(losses, lambda matrix: np.sqrt(matrix[0, 3]))
    assert found.note == ""
    jackknife = jackknife_seed_variance(losses, lambda matrix: np.sqrt(matrix[0, 3]))
    assert float(found.seed_variance) == pytest.approx(float(jackknife[0]), rel=0.1)


def test_p_value_inverts_the_interval(losses: np.ndarray) -> None:
    found = crossed_estimate(losses, "cells")
    at_limit = crossed_estimate(losses, "cells", conf_level=float(1 - found.p_value[0]))
    touching = at_limit.conf_low[0] if found.estimate[0] > 0 else at_limit.conf_high[0]
    assert touching == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(found.p_value, p_two_sided(found.estimate, found.parts, found.dfs))
    excludes_zero = (found.conf_low > 0) | (found.conf_high < 0)
    assert (excludes_zero == (found.p_value < 0.05)).all()


def test_identical_seeds_are_pointed_out(losses: np.ndarray) -> None:
    copies = np.repeat(losses[:1], 3, axis=0)
    found = crossed_estimate(copies, "mean")
    assert "same value for every seed" in found.note
    assert crossed_estimate(losses, "mean").note == ""


def penalty_means(data: np.ndarray) -> np.ndarray:
    """(K, N) mean off-diagonal penalty of every seed and unit."""
    n_layers = data.shape[-1]
    penalty = data - np.diagonal(data, axis1=2, axis2=3)[:, :, None, :]
    return penalty.sum(axis=(2, 3)) / (n_layers * (n_layers - 1))


def _quiet(data: np.ndarray, name: str):
    """Random ratios over 2 seeds may well be far from linear; that is not what is tested here."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UncertaintyWarning)
        return crossed_estimate(data, name)
