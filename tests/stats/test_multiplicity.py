"""Corrections: by hand, by statsmodels, with NaN."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from transferstats.errors import DesignError
from transferstats.stats.multiplicity import adjusted_p

P = np.array([0.01, 0.04, 0.03, 0.005])


def test_corrections_by_hand() -> None:
    np.testing.assert_allclose(adjusted_p(P, "holm"), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(adjusted_p(P, "bonferroni"), 4 * P)


@pytest.mark.parametrize("method", ["holm", "bonferroni"])
def test_corrections_agree_with_statsmodels(method: str) -> None:
    p_values = np.random.default_rng(0).uniform(size=50) ** 4
    p_values[7] = p_values[12]
    np.testing.assert_allclose(adjusted_p(p_values, method), multipletests(p_values, method=method)[1], rtol=1e-13)


def test_nan_is_not_a_test() -> None:
    np.testing.assert_allclose(adjusted_p([0.01, np.nan, 0.04]), [0.02, np.nan, 0.04])


def test_corrections_that_cannot_be_made_are_refused() -> None:
    with pytest.raises(DesignError, match="unknown correction 'sidak': use one of holm, bonferroni"):
        adjusted_p(P, "sidak")
    with pytest.raises(DesignError, match="between 0 and 1"):
        adjusted_p([0.1, 1.2])
