"""Results of tests against the shared-lens null."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from transferstats.arrays import FloatArray
from transferstats.results.base import Result, tidy_frame
from transferstats.results.estimate import Estimate
from transferstats.results.estimates import Estimates
from transferstats.results.relevance import RelevanceTest


@dataclass(frozen=True, slots=True)
class NullTest(Result):
    """A statistic of the penalty against the same statistic in the world where one lens is exactly right.

    ``S`` below is ``()`` for a scalar statistic and ``(m,)`` for a vector.

    Attributes
    ----------
    excess: T(P) - T(P0), one member a dataset and last their average; two-sided p against 0.
    observed, null: T(P) and T(P0) alone, members as in ``excess``.
    share: T(P0) / T(P), the share of the penalty that the null explains, with Fieller limits; no unit.
    p_greater: one array S a member, one-sided p of T(P) > T(P0).
    seed_values, null_values: one array (K, *S) and (R, *S) a dataset (not the average), T by seed and by null
        replicate.
    n_null: R, the fewest null replicates of any dataset.
    """

    excess: Estimates
    observed: Estimates
    null: Estimates
    share: Estimates
    p_greater: tuple[FloatArray, ...]
    seed_values: tuple[FloatArray, ...]
    null_values: tuple[FloatArray, ...]
    n_null: int

    kind: ClassVar[str] = "null_test"

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows of the excess, with what it was made of."""
        members = zip(self.excess, self.observed, self.null, self.share, self.p_greater, strict=True)
        for excess, observed, null, share, p_greater in members:
            for index, row in enumerate(excess.rows()):
                row.update(
                    p_greater=float(np.atleast_1d(p_greater)[index]),
                    observed=float(np.atleast_1d(observed.estimate)[index]),
                    null=float(np.atleast_1d(null.estimate)[index]),
                    share_explained=float(np.atleast_1d(share.estimate)[index]),
                    share_explained_low=float(np.atleast_1d(share.conf_low)[index]),
                    share_explained_high=float(np.atleast_1d(share.conf_high)[index]),
                    n_null=self.n_null,
                )
                yield row

    def tidy(self) -> pd.DataFrame:
        """One row a dataset and term: the excess; extra columns p_greater, observed, null, share_explained."""
        return tidy_frame(self.rows())

    def glance(self) -> pd.DataFrame:
        """One row: the headline's, with the number of null replicates."""
        row = self.excess.glance()
        row.insert(1, "n_null", self.n_null)
        return row


@dataclass(frozen=True, slots=True)
class SharedLensTest(Result):
    """Does one lens serve every layer? Shared-lens excess per layer against a smallest excess of interest.

    Attributes
    ----------
    test: verdict per layer with Holm-adjusted p-values, on S - S0 where there are null replicates
        (``over_null``), otherwise on S.
    excess: S[t] = loss(shared lens on t) - loss(own lens on t), raw; biased down by the own lenses' own error.
    over_null: whether ``test`` judges S - S0.
    verdict: "within" (at every layer), "exceeds" (above, at some layer) or "inconclusive", simultaneously over
        layers.
    p_within, p_exceeds: of the whole claim: the largest adjusted p_within, the smallest adjusted p_exceeds.
    largest: the largest excess over layers of the headline. It was picked, so its limits are those of the largest
        true excess, whichever layer has it: the largest lower Bonferroni limit, which lies above ``smallest``
        where the verdict is "exceeds", and the largest upper limit.
    """

    test: RelevanceTest
    excess: Estimates
    over_null: bool
    verdict: str
    p_within: float
    p_exceeds: float
    largest: Estimate

    kind: ClassVar[str] = "shared_lens_test"

    def tidy(self) -> pd.DataFrame:
        """One row a dataset and layer; extra columns: verdict, adjusted p-values, and the raw excess S."""
        frame = self.test.tidy()
        raw = self.excess.tidy()
        frame["excess"] = raw["estimate"]
        frame["excess_low"] = raw["conf_low"]
        frame["excess_high"] = raw["conf_high"]
        return frame

    def glance(self) -> pd.DataFrame:
        """One row: the simultaneous verdict of the headline."""
        row = self.test.glance()
        row.insert(0, "verdict", self.verdict)
        return row.assign(p_within=self.p_within, p_exceeds=self.p_exceeds, over_null=self.over_null)
