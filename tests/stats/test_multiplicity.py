"""Corrections: by hand, with NaN, with a named family; the sup-t band."""

from __future__ import annotations

import numpy as np
import pytest
from stats_data import make_losses
from statsmodels.stats.multitest import multipletests

from transferstats.errors import DesignError
from transferstats.results import COLUMNS
from transferstats.stats.bootstrap import Bootstrap
from transferstats.stats.crossed import crossed_estimate
from transferstats.stats.multiplicity import adjust, adjusted_p, supt_band

P = np.array([0.01, 0.04, 0.03, 0.005])


def test_corrections_by_hand() -> None:
    np.testing.assert_allclose(adjusted_p(P, "holm"), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(adjusted_p(P, "bonferroni"), 4 * P)
    np.testing.assert_allclose(adjusted_p(P, "bh"), [0.02, 0.04, 0.04, 0.02])
    np.testing.assert_allclose(
        adjusted_p(P, "by"), np.array([0.02, 0.04, 0.04, 0.02]) * (1 + 1 / 2 + 1 / 3 + 1 / 4)
    )


@pytest.mark.parametrize(
    ("ours", "theirs"), [("holm", "holm"), ("bonferroni", "bonferroni"), ("bh", "fdr_bh"), ("by", "fdr_by")]
)
def test_corrections_agree_with_statsmodels(ours: str, theirs: str) -> None:
    p_values = np.random.default_rng(0).uniform(size=50) ** 4
    p_values[7] = p_values[12]
    np.testing.assert_allclose(adjusted_p(p_values, ours), multipletests(p_values, method=theirs)[1], rtol=1e-13)


def test_nan_is_not_a_test() -> None:
    found = adjust([0.01, np.nan, 0.04], "two claims")
    np.testing.assert_allclose(found.p_adjusted, [0.02, np.nan, 0.04])
    assert (found.n_tests, found.n_dropped) == (2, 1)
    assert list(found.reject) == [True, False, True]
    assert "1 undefined tests left out" in found.tidy().loc[0, "note"]


def test_family_of_estimates() -> None:
    estimates = [crossed_estimate(make_losses(), name) for name in ("mean", "slope", "distance")]
    found = adjust(estimates, "the summaries", method="bonferroni")
    assert found.terms == ("mean", "slope", "distance 1", "distance 2", "distance 3")
    np.testing.assert_allclose(found.p_adjusted, np.minimum(5 * found.p_values, 1))
    assert tuple(found.tidy().columns[: len(COLUMNS)]) == COLUMNS
    assert found.glance().loc[0, "family"] == "the summaries"


def test_questions_that_cannot_be_answered() -> None:
    with pytest.raises(DesignError, match="name the family"):
        adjust(P, " ")
    with pytest.raises(TypeError, match="family"):
        adjust(P)  # type: ignore[call-arg]
    with pytest.raises(DesignError, match="unknown correction 'sidak'"):
        adjust(P, "all", method="sidak")
    with pytest.raises(DesignError, match="all p-values are NaN"):
        adjust([np.nan, np.nan], "all")
    with pytest.raises(DesignError, match="between 0 and 1"):
        adjust([0.1, 1.2], "all")
    with pytest.raises(DesignError, match="4 p-values but 2 names"):
        adjust(P, "all", terms=["a", "b"])


def test_supt_band_needs_seeds() -> None:
    with pytest.raises(DesignError, match="at least 5 seeds, got 4"):
        supt_band(make_losses(4), "distance", Bootstrap(500, rng=0))


def test_supt_band_is_wider_than_pointwise_bootstrap_t() -> None:
    losses = make_losses(8, 30)
    plan = Bootstrap(4000, "studentized", rng=0)
    band = supt_band(losses, "distance", plan)
    half = band.conf_high - band.estimate
    deviations = np.abs(band.replicates)
    crossed = crossed_estimate(losses, "distance")
    # A + B, the residual in both, as in every replicate.
    scale = np.sqrt(crossed.parts.sum(axis=0) + crossed.residual)
    np.testing.assert_allclose(half, np.quantile(deviations.max(axis=1), 0.95) * scale, rtol=1e-9)
    pointwise = np.quantile(deviations, 0.95, axis=0) * scale
    assert (half >= pointwise).all()
    # Simultaneous p-values are those of the band.
    assert ((band.p_value < 0.05) == (np.abs(band.estimate) > half)).all()
    assert band.terms == ("distance 1", "distance 2", "distance 3")
