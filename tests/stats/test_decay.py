"""Decay of penalty with distance on grids: statistics, intervals, flags, comparison."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transferstats.errors import DataError, DesignError
from transferstats.grid import DatasetLosses, TransferGrid
from transferstats.results import COLUMNS
from transferstats.simulation import simulate_grid, true_penalty
from transferstats.stats.bootstrap import Bootstrap, bootstrap_estimate
from transferstats.stats.crossed import crossed_estimate
from transferstats.stats.decay import fit_curve, fit_decay
from transferstats.stats.decay_selection import compare_curves, compare_decay
from transferstats.stats.decay_terms import CurveStatistic, DecayStatistic
from transferstats.stats.families import FAMILIES

# Central differences with step 1e-6 on values of order 0.1.
DIFFERENCES = 1e-6
# The same arithmetic by two routes.
SAME = 1e-10
# Two-term bootstrap against crossed interval: same variance parts up to Monte-Carlo noise of 4000 replicates
# (2 % on a variance component of 4 seeds) and curvature.
BOOTSTRAP = 0.12


def smooth_matrix(size: int = 7, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    matrix = true_penalty(size, level=0.1, shape=2.5, asymmetry=1.2) + 0.003 * rng.standard_normal((size, size))
    return matrix * ~np.eye(size, dtype=bool)


@pytest.fixture(scope="module")
def grid() -> TransferGrid:
    return simulate_grid(true_penalty(7), n_seeds=4, n_units=40, rng=11, datasets=("wiki", "code")).grid


def grid_of(penalty: np.ndarray, unit: str = "nats/token") -> TransferGrid:
    """A grid with the given (K, N, L, L) penalties on top of own losses of 1."""
    k, n, size, _ = penalty.shape
    units = tuple(map(str, range(n)))
    data = DatasetLosses("d", tuple(map(str, range(k))), units, units, np.ones(n), {"kl": 1 + penalty})
    return TransferGrid("s", tuple(map(str, range(size))), (data,), unit=unit)


@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize("direction", ["both", "separate"])
@pytest.mark.parametrize("log", [False, True])
def test_gradient_of_terms(family: str, direction: str, log: bool) -> None:
    matrix = smooth_matrix()
    statistic = DecayStatistic(family, direction)
    if log:
        positive = [term.name for term in statistic.chosen(7) if term.monomial]
        if not positive:
            return
        statistic = statistic.only(*positive, log=True)
    exact = statistic.gradient(matrix)
    assert exact.shape == (len(statistic.terms(7)), 7, 7)
    assert (exact[:, np.eye(7, dtype=bool)] == 0).all()
    np.testing.assert_allclose(
        exact, central_differences(statistic, matrix), atol=DIFFERENCES * np.abs(exact).max()
    )


@pytest.mark.parametrize("family", list(FAMILIES))
def test_gradient_of_curve(family: str) -> None:
    matrix = smooth_matrix()
    at = np.arange(1.0, 7) if family == "isotonic" else np.linspace(1, 6, 5)
    curve = CurveStatistic(DecayStatistic(family, "separate"), 1, at)
    exact = curve.gradient(matrix)
    np.testing.assert_allclose(exact, central_differences(curve, matrix), atol=DIFFERENCES * np.abs(exact).max())


def central_differences(statistic: object, matrix: np.ndarray, step: float = 1e-6) -> np.ndarray:
    columns = np.zeros((np.size(statistic(matrix)), *matrix.shape))  # type: ignore[operator]
    for s, t in zip(*np.nonzero(~np.eye(len(matrix), dtype=bool)), strict=True):
        moved = np.zeros_like(matrix)
        moved[s, t] = step
        columns[:, s, t] = (statistic(matrix + moved) - statistic(matrix - moved)) / (2 * step)  # type: ignore[operator]
    return columns


def test_statistic_fits_unweighted_cells() -> None:
    matrix = smooth_matrix()
    off = ~np.eye(7, dtype=bool)
    distance = np.abs(np.subtract.outer(np.arange(7), np.arange(7)))
    direct = fit_curve(distance[off], matrix[off], "saturating")
    a, tau, half, slope = DecayStatistic("saturating")(matrix)
    assert a == pytest.approx(direct.parameters["a"], rel=SAME)
    assert tau == pytest.approx(direct.parameters["tau"], rel=SAME)
    assert half == pytest.approx(tau * np.log(2), rel=SAME)
    assert slope == pytest.approx(a / tau, rel=SAME)


def test_half_distance_is_where_half_the_asymptote_is() -> None:
    for family in ("saturating", "michaelis_menten"):
        statistic = DecayStatistic(family)
        a, _, half, _ = statistic(smooth_matrix())
        curve = CurveStatistic(statistic, 0, np.array([half]))
        assert curve(smooth_matrix())[0] == pytest.approx(a / 2, rel=1e-12)


def test_depth_and_index_measure_the_same_curve() -> None:
    index, depth = DecayStatistic("saturating"), DecayStatistic("saturating", distance="depth")
    matrix = smooth_matrix()
    assert depth(matrix)[1] == pytest.approx(index(matrix)[1] / 6, rel=1e-10)
    assert depth(matrix)[0] == pytest.approx(index(matrix)[0], rel=1e-10)


def test_user_distance_need_not_be_symmetric() -> None:
    rng = np.random.default_rng(2)
    distance = rng.uniform(0.5, 4, (6, 6))
    matrix = 0.3 * distance / (1.5 + distance) * ~np.eye(6, dtype=bool)
    a, c = DecayStatistic("michaelis_menten", distance=distance).only("a", "c")(matrix)
    assert (a, c) == (pytest.approx(0.3, rel=1e-9), pytest.approx(1.5, rel=1e-9))


def test_fit_recovers_truth_and_inverts_scales(grid: TransferGrid) -> None:
    fits = fit_decay(grid, "saturating")
    assert [fit.dataset for fit in fits] == ["wiki", "code"]
    for fit in fits:
        tau = fit["tau"]
        assert tau.conf_low < 2.0 < tau.conf_high
        # Symmetric on the log scale.
        assert np.log(tau.conf_high / tau.estimate) == pytest.approx(np.log(tau.estimate / tau.conf_low), rel=1e-9)
        assert fit["half_distance"].conf_low == pytest.approx(tau.conf_low * np.log(2), rel=1e-10)
        assert fit["a"].unit == "nats/token"
        assert tau.unit == "layers"
        assert fit["initial_slope"].unit == "nats/token per layers"
    table = fits.tidy()
    assert list(table.columns[: len(COLUMNS)]) == list(COLUMNS)
    assert list(table["dataset"].unique()) == ["wiki", "code", "average"]
    assert len(fits.glance()) == 1
    assert fits.csv().startswith("term,estimate")


def test_interval_equals_the_crossed_layer(grid: TransferGrid) -> None:
    data = grid.datasets[0]
    statistic = DecayStatistic("saturating").only("tau")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the identity-scale jackknife may disagree; not what is tested here
        direct = crossed_estimate(data.losses["kl"], statistic, scale="log", weights=data.tokens)
    ours = fit_decay(grid, "saturating")["wiki"]["tau"]
    np.testing.assert_allclose(
        [ours.estimate, ours.conf_low, ours.conf_high],
        [direct.estimate, direct.conf_low, direct.conf_high],
        rtol=SAME,
    )
    np.testing.assert_allclose(ours.parts, direct.parts, rtol=1e-9)
    assert ours.std_error == pytest.approx(float(direct.std_error), rel=1e-9)


def test_average_is_equal_weight_on_the_log_scale(grid: TransferGrid) -> None:
    fits = fit_decay(grid, "saturating")
    taus = [float(fit["tau"].estimate) for fit in fits]
    average = next(one for one in fits.average if one.terms == ("tau",))
    assert average.estimate == pytest.approx(np.sqrt(taus[0] * taus[1]), rel=1e-10)


def test_linear_family_is_the_slope(grid: TransferGrid) -> None:
    data = grid.datasets[0]
    slope = crossed_estimate(data.losses["kl"], "slope", weights=data.tokens)
    fit = fit_decay(grid, "linear")["wiki"]["b"]
    for name in ("estimate", "conf_low", "conf_high", "p_value"):
        assert getattr(fit, name) == pytest.approx(float(getattr(slope, name)), rel=1e-8)


def test_separate_directions_and_their_contrasts(grid: TransferGrid) -> None:
    fit = fit_decay(grid, "saturating", direction="separate")["wiki"]
    values = fit.parameters
    assert values["tau_ratio"] == pytest.approx(values["tau_backward"] / values["tau_forward"], rel=1e-10)
    assert 0 <= fit["tau_ratio"].p_value <= 1
    assert [curve.direction for curve in fit.curves] == ["forward", "backward"]
    frame = fit.frame()
    assert set(frame["part"]) == {"observed", "fitted"}
    inside = (frame["conf_low"] <= frame["estimate"]) & (frame["estimate"] <= frame["conf_high"])
    assert inside.all()


def test_bootstrap_agrees_with_crossed(grid: TransferGrid) -> None:
    single = grid.with_datasets(["wiki"])
    crossed = fit_decay(single, "saturating")[0]
    boot = fit_decay(single, "saturating", method=Bootstrap(replicates=4000, rng=3))[0]
    for term in ("a", "tau", "initial_slope"):
        ours = float(np.log(crossed[term].conf_high / crossed[term].conf_low))
        theirs = float(np.log(boot[term].conf_high / boot[term].conf_low))
        assert theirs == pytest.approx(ours, rel=BOOTSTRAP)


def test_statistic_goes_into_bootstrap_estimate(grid: TransferGrid) -> None:
    losses = grid.datasets[0].losses["kl"]
    one = bootstrap_estimate(losses, DecayStatistic("power").only("a", "b"), Bootstrap(replicates=300, rng=1))
    assert one.terms == ("a", "b")
    assert np.isfinite(one.conf_low).all()


def test_bound_has_no_interval_but_a_reason() -> None:
    rng = np.random.default_rng(1)
    distance = np.abs(np.subtract.outer(np.arange(6), np.arange(6))).astype(float)
    penalty = 0.02 * distance**1.4 + 0.001 * rng.standard_normal((3, 20, 6, 6)) * (distance > 0)
    fit = fit_decay(grid_of(penalty), "saturating")[0]
    assert any("upper bound" in flag for flag in fit.flags)
    assert np.isnan(fit["tau"].conf_low)
    assert "upper bound" in fit["tau"].note
    assert np.isnan(fit.curves[0].fitted.conf_low).all()
    assert np.isfinite(fit.curves[0].observed.conf_low).all()


def test_negative_amplitude_is_on_the_identity_scale() -> None:
    rng = np.random.default_rng(4)
    penalty = -true_penalty(6, level=0.2) + 0.01 * rng.standard_normal((3, 20, 6, 6))
    fit = fit_decay(grid_of(penalty), "saturating")[0]
    assert fit["a"].scale == "identity"
    assert "not positive" in fit["a"].note
    assert fit["a"].conf_high < 0
    assert fit["tau"].scale == "log"


@given(
    seed=st.integers(0, 1000), shift=st.floats(-5, 5), family=st.sampled_from(["saturating", "power", "linear"])
)
@settings(max_examples=10, deadline=None)
def test_invariances(seed: int, shift: float, family: str) -> None:
    """A constant per (seed, unit, target) changes nothing; nor do the orders of seeds and of units."""
    rng = np.random.default_rng(seed)
    base = grid_of(true_penalty(5) + 0.01 * rng.standard_normal((3, 8, 5, 5)))
    data = base.datasets[0]
    moved = data.losses["kl"] + shift * rng.standard_normal((3, 8, 1, 5))
    moved = moved[rng.permutation(3)][:, rng.permutation(8)]
    other = replace(base, datasets=(replace(data, losses={"kl": moved}),))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first, second = fit_decay(base, family)[0], fit_decay(other, family)[0]
    for one, two in zip(first.estimates, second.estimates, strict=True):
        np.testing.assert_allclose(
            [one.estimate, one.conf_low, one.conf_high], [two.estimate, two.conf_low, two.conf_high], rtol=1e-6
        )


@pytest.mark.parametrize("scale", [1e-12, 1e6])
def test_scales(scale: float) -> None:
    rng = np.random.default_rng(0)
    penalty = true_penalty(6) + 0.01 * rng.standard_normal((3, 20, 6, 6))
    losses = penalty - np.einsum("knss->kns", penalty)[:, :, None, :]
    plain = fit_decay(grid_of(losses), "saturating")[0]
    # Without own losses of 1, which would swallow a penalty of 1e-12.
    bare = grid_of(scale * losses)
    data = replace(bare.datasets[0], losses={"kl": scale * losses})
    scaled = fit_decay(replace(bare, datasets=(data,)), "saturating")[0]
    assert scaled["tau"].conf_high == pytest.approx(float(plain["tau"].conf_high), rel=1e-6)
    assert scaled["a"].conf_low == pytest.approx(scale * float(plain["a"].conf_low), rel=1e-6)


def test_constant_data_has_nan_and_a_reason() -> None:
    penalty = np.broadcast_to(true_penalty(5), (3, 6, 5, 5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a jackknife of nothing but rounding may disagree with a variance of 0
        fit = fit_decay(grid_of(penalty), "saturating")[0]
    assert fit["tau"].estimate == pytest.approx(2.0, rel=1e-6)
    assert np.isnan(fit["tau"].conf_low)
    assert "no variation" in fit["tau"].note
    assert np.isnan(fit.aicc)
    zero = fit_decay(grid_of(np.zeros((3, 6, 5, 5))), "saturating")[0]
    assert np.isnan(zero["a"].conf_low)
    assert any("bound" in flag for flag in zero.flags)


def test_two_layers_have_no_decay() -> None:
    with pytest.raises(DesignError, match="distinct distances; there are 1"):
        fit_decay(grid_of(np.zeros((3, 6, 2, 2))), "constant")
    with pytest.raises(DesignError, match="there are 1"):
        compare_decay(grid_of(np.zeros((3, 6, 2, 2))))


@pytest.mark.parametrize(
    "options",
    [{"family": "cubic"}, {"direction": "up"}, {"distance": "miles"}, {"scale": "sqrt"}, {"conf_level": 2}],
)
def test_unknown_options(grid: TransferGrid, options: dict[str, object]) -> None:
    with pytest.raises(DesignError):
        fit_decay(grid, **options)  # type: ignore[arg-type]


def test_unknown_terms() -> None:
    with pytest.raises(DesignError, match="has no term 'lambda'; it has: a, tau"):
        DecayStatistic("saturating").only("lambda")(smooth_matrix())
    fits = fit_decay(grid_of(true_penalty(5) + 0.01 * np.random.default_rng(0).standard_normal((3, 6, 5, 5))))
    with pytest.raises(KeyError, match="no dataset"):
        fits["x"]
    with pytest.raises(KeyError, match="no term"):
        fits[0]["x"]


def test_comparison_numbers(grid: TransferGrid) -> None:
    result = compare_decay(grid, method=Bootstrap(replicates=300, rng=1))
    assert len(result) == 2
    one = result[0]
    assert np.nanmin(one.delta_aicc) == 0
    assert one.selection.sum() == pytest.approx(1.0)
    assert one.n_replicates == 300
    assert (one.cv_error > 0).all()
    worst = one.families[int(np.nanargmax(one.delta_aicc))]
    assert worst == "constant"
    assert list(result.tidy().columns[: len(COLUMNS)]) == list(COLUMNS)
    assert len(result.glance()) == 1


def test_left_out_error_by_hand() -> None:
    """Constant family: predict the mean of the cells that do not touch the layer."""
    matrix = smooth_matrix(4)
    off = ~np.eye(4, dtype=bool)
    errors = []
    for layer in range(4):
        touched = np.zeros((4, 4), dtype=bool)
        touched[layer] = touched[:, layer] = True
        errors.append(matrix[off & touched] - matrix[off & ~touched].mean())
    expected = np.sqrt(np.mean(np.concatenate(errors) ** 2))
    found = compare_curves(matrix, ["constant", "linear"]).cv_error[0]
    assert found == pytest.approx(expected, rel=1e-12)


def test_selection_follows_the_replicates() -> None:
    rng = np.random.default_rng(5)
    straight = true_penalty(7, family="linear", level=0.05)
    bent = true_penalty(7, family="saturating", level=0.3, shape=1.0)
    noise = 0.002 * rng.standard_normal((40, 7, 7))
    replicates = np.concatenate([bent + noise[:30], straight + 0.05 + noise[30:]])
    result = compare_curves(bent + noise[0], ["linear", "saturating"], replicates=replicates)
    np.testing.assert_allclose(result.selection, [0.25, 0.75])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda d: 0.3 * (1 - np.exp(-d / 2)), "Saturating (levelling off) rather than linear"),
        (lambda d: 0.02 * d**2.2, "Accelerating rather than linear"),
        (lambda d: 0.2 + 0 * d, "No dependence on distance is needed"),
        (lambda d: 0.4 - 0.3 * (1 - np.exp(-d / 2)), "Penalties fall with distance"),
    ],
)
def test_conclusions_are_about_shape(make: object, words: str) -> None:
    distance = np.abs(np.subtract.outer(np.arange(8), np.arange(8))).astype(float)
    rng = np.random.default_rng(9)
    matrix = make(distance) + 0.002 * rng.standard_normal((8, 8))  # type: ignore[operator]
    assert words in compare_curves(matrix).conclusion


def test_close_families_are_named() -> None:
    rng = np.random.default_rng(1)
    matrix = true_penalty(6) + 0.02 * rng.standard_normal((6, 6))
    result = compare_curves(matrix)
    named = zip(result.families, result.delta_aicc, strict=True)
    close = [name.replace("_", "-") for name, gap in named if gap <= 2]
    assert "michaelis-menten" in close
    assert len(close) > 1
    assert f"Within 2 AICc of each other: {', '.join(close)}" in result.conclusion


def test_comparison_refuses() -> None:
    with pytest.raises(DesignError, match="once each"):
        compare_curves(smooth_matrix(), ["linear", "linear"])
    with pytest.raises(DataError, match="NaN"):
        compare_curves(np.full((5, 5), np.nan))
    with pytest.raises(DataError, match="square"):
        compare_curves(np.zeros((4, 5)))
    with pytest.raises(DataError, match="replicates"):
        compare_curves(smooth_matrix(), replicates=np.zeros((7, 7)))
    assert "nothing can be said" in compare_curves(np.zeros((6, 6))).conclusion
