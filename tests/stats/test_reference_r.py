"""Every method that R has, compared with what R computed (``tests/reference/reference.R``).

The expected tables are committed; R is not needed to run this file. Where R and we differ on purpose, the test
states both numbers and why.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from transferstats.grid import DatasetLosses, TransferGrid
from transferstats.stats.bootstrap import Bootstrap, bootstrap_estimate
from transferstats.stats.comparison import meta_analysis
from transferstats.stats.crossed import crossed_estimate, interval_from_parts, p_greater
from transferstats.stats.curves import information_criterion
from transferstats.stats.decay import fit_curve
from transferstats.stats.mixed import mixed_slope
from transferstats.stats.multiplicity import adjusted_p
from transferstats.stats.permutation import qap
from transferstats.stats.regression import regress
from transferstats.stats.relevance import verdict
from transferstats.stats.reliability import intraclass

REFERENCE = Path(__file__).parents[1] / "reference"

# Linear algebra on the same numbers, written with 17 digits.
EXACT = 1e-9
# nlsLM stops on relative changes of 1e-15 in the residual sum of squares, which leaves the parameters, where
# the sum is flat, good to about its square root.
NLS = 1e-6
NLS_RSS = 1e-12
# psych::ICC goes through aov, we through an ANOVA of statsmodels.
ANOVA = 1e-8
# lme4 and statsmodels stop their optimisers at their own tolerances.
REML = 2e-3
# Both iterate tau squared to their own tolerance (statsmodels 1e-5 in Q).
TAU = 1e-5
# 20,000 random relabellings or resamples in R: four standard errors of a proportion of 1/2.
MONTE_CARLO = 4 * math.sqrt(0.25 / 20_000)
# Limits of two bootstraps of 20,000: four standard errors of a 2.5 % quantile, in standard errors of the mean.
QUANTILE = 4 * math.sqrt(0.025 * 0.975 / 20_000) / stats.norm.pdf(1.96)


def expected(name: str) -> pd.DataFrame:
    return pd.read_csv(REFERENCE / "expected" / f"{name}.csv")


def given(name: str) -> pd.DataFrame:
    return pd.read_csv(REFERENCE / "input" / f"{name}.csv")


def matrix(column: str) -> np.ndarray:
    cells = given("cells")
    values = np.zeros((6, 6))
    values[cells["source"], cells["target"]] = cells[column]
    return values


def grid(penalty: np.ndarray, similarity: np.ndarray | None = None) -> TransferGrid:
    k, n, size, _ = penalty.shape
    units = tuple(map(str, range(n)))
    data = DatasetLosses("d", tuple(map(str, range(k))), units, units, np.ones(n), {"kl": penalty})
    similarities = {} if similarity is None else {"d": {"similarity": similarity}}
    return TransferGrid("s", tuple(map(str, range(size))), (data,), similarities=similarities)


@pytest.fixture(scope="module")
def penalties() -> np.ndarray:
    table = given("penalties")
    values = np.zeros((4, 20, 6, 6))
    values[table["seed"], table["unit"], table["source"], table["target"]] = table["penalty"]
    return values


CURVES = [
    (curve, family, weighted)
    for curve, family, weighted in expected("curves")[["curve", "family", "weighted"]]
    .drop_duplicates()
    .itertuples(index=False)
    if family != "isotonic"
]


@pytest.mark.parametrize(("curve", "family", "weighted"), CURVES)
def test_curves(curve: str, family: str, weighted: bool) -> None:
    rows = expected("curves").query("curve == @curve and family == @family and weighted == @weighted")
    theirs = rows.set_index("term")["value"]
    points = given("curves").query("curve == @curve")
    fit = fit_curve(points["x"], points["y"], family, weights=points["weight"] if weighted else None)
    assert fit.rss == pytest.approx(theirs["rss"], rel=NLS_RSS)
    assert fit.aicc == pytest.approx(theirs["aicc"], rel=EXACT)
    for name, value in fit.parameters.items():
        assert value == pytest.approx(theirs[name], rel=NLS, abs=1e-12)


def test_every_curve_is_compared() -> None:
    """4 curves x 6 families x weighted or not: nlsLM converged everywhere from the starts it was given."""
    assert len(CURVES) == 48


@pytest.mark.parametrize("curve", ["rising", "power", "straight", "negative"])
def test_isotonic(curve: str) -> None:
    theirs = expected("curves").query("curve == @curve and family == 'isotonic'")["value"]
    points = given("curves").query("curve == @curve")
    np.testing.assert_allclose(fit_curve(points["x"], points["y"], "isotonic").fitted, theirs, rtol=1e-12)


def test_information_criterion_is_on_the_scale_of_r() -> None:
    theirs = expected("curves").query("curve == 'rising' and family == 'linear' and weighted == False")
    rss = float(theirs.set_index("term").loc["rss", "value"])
    assert information_criterion(rss, 11, 2) == pytest.approx(float(theirs.set_index("term").loc["aicc", "value"]))


NAMES = {
    "(Intercept)": "Intercept",
    "directionforward": "direction[T.forward]",
    "log(distance):directionforward": "log(distance):direction[T.forward]",
    "distance:directionforward": "distance:direction[T.forward]",
    **{f"factor(target){t}": f"C(target)[T.{t}]" for t in range(6)},
}


@pytest.mark.parametrize("formula", sorted(expected("regression")["formula"].unique()))
def test_regression(formula: str) -> None:
    rows = expected("regression").query("formula == @formula")
    penalty = np.stack([np.stack([matrix("penalty")] * 2)] * 2)
    fit = regress(formula, grid(penalty, matrix("similarity")))
    ours = dict(zip(fit.headline.terms, fit.headline.estimate, strict=True))
    assert len(ours) == len(rows)
    for term, estimate in zip(rows["term"], rows["estimate"], strict=True):
        assert ours[NAMES.get(term, term)] == pytest.approx(estimate, rel=EXACT, abs=1e-12)
    assert fit.r_squared[0] == pytest.approx(rows["r_squared"].iloc[0], rel=EXACT)


def test_direction_means_of_emmeans() -> None:
    theirs = expected("direction_means").set_index("direction")["mean"]
    penalty = np.stack([np.stack([matrix("penalty")] * 2)] * 2)
    for name in ("forward", "backward"):
        assert float(crossed_estimate(penalty, name).estimate) == pytest.approx(theirs[name], rel=EXACT)


def permutation(test: str, term: str = "x1") -> pd.Series:
    return expected("permutation").query("test == @test and term == @term").set_index("statistic")["value"]


def symmetric(values: np.ndarray) -> np.ndarray:
    return (values + values.T) / 2


@pytest.mark.parametrize("package", ["vegan_mantel", "ecodist_mantel"])
def test_mantel(package: str) -> None:
    theirs = permutation(package)
    ours = qap(symmetric(matrix("penalty")), matrix("distance"), method="mantel", alternative="greater")
    assert ours.estimate[0] == pytest.approx(theirs["r"], rel=EXACT)
    if package == "vegan_mantel":
        # vegan enumerates all 719 other relabellings and adds the identity: the same exact fraction.
        assert theirs["n"] == 719
        assert ours.p_value[0] == pytest.approx(theirs["p_greater"], rel=EXACT)
    else:
        assert ours.p_value[0] == pytest.approx(theirs["p_greater"], abs=MONTE_CARLO)


def test_mantel_on_ranks() -> None:
    theirs = permutation("vegan_mantel_rank")
    ours = qap(
        symmetric(matrix("penalty")), symmetric(matrix("similarity")), method="mantel_rank", alternative="greater"
    )
    assert ours.estimate[0] == pytest.approx(theirs["r"], rel=EXACT)
    assert ours.p_value[0] == pytest.approx(theirs["p_greater"], rel=EXACT)


@pytest.mark.parametrize(("null", "method"), [("sna_qap", "dsp"), ("sna_qapy", "y")])
@pytest.mark.parametrize("index", [0, 1])
def test_mrqap_of_sna(null: str, method: str, index: int) -> None:
    """Statistics are equal. p-values: sna loses ties to rounding, so its p can lie below what is possible.

    |s - t| and direction reproduce |t| exactly in reversed order, and t itself under the identity; sna compares
    recomputed t values with >= and no tolerance, so such relabellings count or not by the last bit. Its p of 0
    for direction is below the floor of 2 / 720. Ours lies between sna's p and sna's p plus the floor.
    """
    term = ("distance", "forward")[index]
    theirs = permutation(null, term)
    ours = qap(
        matrix("penalty"), {"distance": matrix("distance"), "forward": np.triu(np.ones((6, 6)), 1)}, method=method
    )
    assert ours.estimate[index] == pytest.approx(theirs["estimate"], rel=EXACT)
    assert ours.statistic[index] == pytest.approx(theirs["t"], rel=EXACT)
    assert (
        theirs["p_two"] - MONTE_CARLO <= ours.p_value[index] <= theirs["p_two"] + ours.floor[index] + MONTE_CARLO
    )
    assert ours.floor[index] == pytest.approx(2 / 720)


@pytest.mark.parametrize("index", [0, 1])
def test_mrqap_without_ties(index: int) -> None:
    """With an irregular covariate the floor is 1/720, and p-values agree within Monte-Carlo error."""
    term = ("distance", "similarity")[index]
    theirs = permutation("sna_similarity", term)
    ours = qap(matrix("penalty"), {"distance": matrix("distance"), "similarity": matrix("similarity")})
    assert ours.statistic[index] == pytest.approx(theirs["t"], rel=1e-8)
    assert ours.p_value[index] == pytest.approx(theirs["p_two"], abs=MONTE_CARLO)


def test_icc_of_psych() -> None:
    theirs = expected("icc").set_index("type")
    table = given("seed_cells")
    cells = table.pivot_table(index="seed", columns="cell", values="penalty").to_numpy()
    for ours, name in zip(intraclass(cells), ("ICC2", "ICC3", "ICC3k"), strict=True):
        row = theirs.loc[name]
        assert ours.estimate == pytest.approx(row["icc"], rel=ANOVA)
        assert ours.statistic == pytest.approx(row["F"], rel=ANOVA)
        assert (ours.conf_low, ours.conf_high) == (
            pytest.approx(row["low"], rel=ANOVA),
            pytest.approx(row["high"], rel=ANOVA),
        )
        assert ours.p_value == pytest.approx(row["p"], rel=1e-5)


def test_mixed_model_of_lme4(penalties: np.ndarray) -> None:
    """Slopes with crossed random intercepts: lme4 and statsmodels are the same REML, and so is the cell model.

    The model with random intercepts only, which is never offered here, has a standard error 5 times smaller.
    """
    theirs = expected("mixed").set_index("model")
    ours = mixed_slope(grid(penalties))
    assert ours.estimate == pytest.approx(theirs.loc["slopes", "estimate"], rel=EXACT)
    assert ours.std_error == pytest.approx(theirs.loc["slopes", "std_error"], rel=REML)
    assert ours.seed_variance == pytest.approx(theirs.loc["slopes", "seed"], rel=10 * REML)
    assert ours.unit_variance == pytest.approx(theirs.loc["slopes", "unit"], rel=10 * REML)
    assert ours.residual_variance == pytest.approx(theirs.loc["slopes", "residual"], rel=10 * REML)
    # The cell-level crossed random slopes differ only in where the residual of cells goes.
    assert ours.std_error == pytest.approx(theirs.loc["cells", "std_error"], rel=0.02)
    assert theirs.loc["intercepts", "std_error"] < ours.std_error / 4
    crossed = crossed_estimate(penalties, "slope")
    assert float(crossed.std_error) == pytest.approx(theirs.loc["slopes", "std_error"], rel=1e-4)


def test_one_factor_is_clubsandwich(penalties: np.ndarray) -> None:
    """One unit's worth of data per seed: A is the CR2 variance and K - 1 its Satterthwaite df."""
    theirs = expected("clubsandwich").set_index("term").loc["slope"]
    crossed = crossed_estimate(penalties, "slope")
    assert float(crossed.estimate) == pytest.approx(theirs["estimate"], rel=EXACT)
    assert math.sqrt(float(crossed.seed_variance)) == pytest.approx(theirs["std_error"], rel=EXACT)
    assert crossed.dfs[0] == pytest.approx(theirs["df"], rel=EXACT)
    seeds_only = interval_from_parts(crossed.estimate, crossed.parts[:1], crossed.dfs[:1], conf_level=0.95)
    assert seeds_only.conf_low == pytest.approx(theirs["conf_low"], rel=EXACT)
    assert seeds_only.conf_high == pytest.approx(theirs["conf_high"], rel=EXACT)


def test_equivalence_of_base_r_and_emmeans() -> None:
    row = expected("equivalence").iloc[0]
    value = given("samples")["value"].to_numpy()
    mean, parts, dfs = value.mean(), np.array([value.var(ddof=1) / len(value)]), np.array([len(value) - 1.0])
    found = verdict(mean, parts, dfs, smallest=0.05)
    assert (mean, math.sqrt(parts[0])) == (pytest.approx(row["estimate"]), pytest.approx(row["std_error"]))
    assert float(found.p_within) == pytest.approx(max(row["p_upper"], row["p_lower"]), rel=EXACT)
    assert float(found.p_within) == pytest.approx(row["p_tost_emmeans"], rel=EXACT)
    assert float(found.p_exceeds) == pytest.approx(row["p_exceeds"], rel=EXACT)
    assert (float(found.conf_low), float(found.conf_high)) == (
        pytest.approx(row["conf_low"], rel=EXACT),
        pytest.approx(row["conf_high"], rel=EXACT),
    )
    assert (float(found.within_low), float(found.within_high)) == (
        pytest.approx(row["inner_low"], rel=EXACT),
        pytest.approx(row["inner_high"], rel=EXACT),
    )
    assert str(found.verdict) == "within"
    assert 2 * float(p_greater(mean, parts, dfs)) == pytest.approx(row["p_zero"], rel=EXACT)


@pytest.mark.parametrize("method", ["holm", "bonferroni"])
def test_p_adjust(method: str) -> None:
    table = expected("p_adjust")
    np.testing.assert_allclose(adjusted_p(table["p"], method), table[method], rtol=1e-12)


def test_meta_analysis_of_metafor() -> None:
    """Paule-Mandel with the Hartung-Knapp interval, and the common effect.

    I squared differs by definition: metafor derives it from tau squared of the method, statsmodels (and so we)
    from Q, which is metafor's number under DL.
    """
    theirs = expected("meta").set_index("method")
    table = given("effects")
    some = crossed_estimate(np.random.default_rng(0).standard_normal((2, 4, 3, 3)), "mean")
    members = [
        replace(some, estimate=np.asarray(effect), std_error=np.asarray(math.sqrt(variance)))
        for effect, variance in zip(table["effect"], table["variance"], strict=True)
    ]
    found = meta_analysis(members, subjects=[f"s{index}" for index in range(len(members))])
    for index, method in enumerate(("PM", "FE")):
        row = theirs.loc[method]
        for name in ("estimate", "std_error", "conf_low", "conf_high"):
            assert getattr(found, name)[index] == pytest.approx(row[name], rel=TAU)
    assert found.p_value[0] == pytest.approx(theirs.loc["PM", "p"], rel=TAU)
    assert found.tau2 == pytest.approx(theirs.loc["PM", "tau2"], rel=TAU)
    assert found.q == pytest.approx(theirs.loc["PM", "q"], rel=EXACT)
    assert 100 * found.i2 == pytest.approx(theirs.loc["DL", "i2"], rel=EXACT)
    assert 100 * found.i2 != pytest.approx(theirs.loc["PM", "i2"], rel=0.05)


@pytest.mark.parametrize("kind", ["percentile", "basic", "bca"])
def test_one_factor_bootstrap_of_boot(kind: str) -> None:
    """One seed: resampling units only is the ordinary bootstrap of a mean, as in R's boot."""
    value = given("samples")["value"].to_numpy()
    losses = np.zeros((1, len(value), 2, 2))
    losses[0, :, 0, 1] = losses[0, :, 1, 0] = value
    plan = Bootstrap(replicates=20_000, kind=kind, rng=1)
    ours = bootstrap_estimate(losses, "mean", plan)
    row = expected("boot").set_index("kind").loc[kind]
    tolerance = 2 * QUANTILE * value.std() / math.sqrt(len(value))
    assert float(ours.conf_low) == pytest.approx(row["low"], abs=tolerance)
    assert float(ours.conf_high) == pytest.approx(row["high"], abs=tolerance)
