"""Evidence: the standard claims about one subject, and everything that the report shows beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pandas as pd

from transferstats.arrays import FloatArray
from transferstats.results.base import Result, tidy_frame
from transferstats.results.estimate import Estimate

VERDICTS: tuple[str, ...] = (
    "exceeds",
    "within",
    "inconclusive",
    "supported",
    "contradicted",
    "not tested",
)
"""exceeds/within/inconclusive: against a smallest value of interest. supported/contradicted/inconclusive:
a directional claim. not tested: the study lacks what the claim needs; a caveat says what."""


JUDGED: tuple[str, ...] = ("own", "shared", "generator")
"""Readouts whose lenses the claims rest on; other rungs of the ladder are only shown."""


LIMITED_GAP = 0.2
"""A lens is limited by its data where its training kl lies further below its held-out kl than this share of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim(Result):
    """One claim about one dataset (or their average), its estimate and its verdict.

    Attributes
    ----------
    key: "C1" ... "C8". title: the claim in words. estimand: what the number estimates.
    dataset: name, or "average" over datasets as fixed strata.
    estimate: the scalar estimate behind the verdict, or None when not tested.
    smallest: bounds of the region "too small to matter", in the estimate's unit, or None.
    p_value: of the test that the verdict rests on (one-sided where the claim has a direction).
    p_adjusted: Holm over the claims of one dataset (or of the average) and one start of own lenses.
    verdict: one of :data:`VERDICTS`. reason: why this verdict, in one sentence.
    caveats: what weakens it (lenses that did not converge, few seeds, ...).
    """

    key: str
    title: str
    estimand: str
    dataset: str
    estimate: Estimate | None
    smallest: tuple[float, float] | None
    p_value: float
    p_adjusted: float
    verdict: str
    reason: str
    caveats: tuple[str, ...] = ()

    kind: ClassVar[str] = "claim"

    def row(self) -> dict[str, Any]:
        """The shared columns of the estimate, with the claim's own columns after them."""
        base: dict[str, Any] = {"term": self.key, "dataset": self.dataset}
        if self.estimate is not None:
            base = {**next(self.estimate.rows()), "term": self.key, "dataset": self.dataset}
            base = {name: value for name, value in base.items() if not name.startswith("share_")}
        low, high = self.smallest if self.smallest is not None else (float("nan"), float("nan"))
        return {
            **base,
            "claim": self.title,
            "estimand": self.estimand,
            "verdict": self.verdict,
            "reason": self.reason,
            "smallest_low": low,
            "smallest_high": high,
            "p_claim": self.p_value,
            "p_adjusted": self.p_adjusted,
            "caveats": "; ".join(self.caveats),
        }

    def tidy(self) -> pd.DataFrame:
        """One row."""
        return tidy_frame([self.row()])

    def glance(self) -> pd.DataFrame:
        """One row: the claim, its dataset, verdict and adjusted p."""
        return pd.DataFrame(
            [{"claim": self.key, "dataset": self.dataset, "verdict": self.verdict, "p_adjusted": self.p_adjusted}]
        )


@dataclass(frozen=True, slots=True)
class DatasetEvidence:
    """What one dataset shows, beside the claims.

    Attributes
    ----------
    dataset: name. n_seeds, n_units, n_clusters, tokens: size of the design (tokens scored in all).
    matrix: (L, L) mean penalty, zero diagonal, nats. cells: its L(L-1) off-diagonal estimates ("s->t").
    summary: mean, forward, backward, asymmetry, slope. distances: mean penalty at each distance.
    depth: own-lens loss by layer, nats. references: other losses by layer or constant:
        "logit" (L,), "final" (), "prior" (), ... in the grid's loss, nats.
    fits: decay fits by family (results of ``stats.decay``). comparison: their comparison, or None.
    extras: further results by name (null test, shared-lens test, regression, ...).
    """

    dataset: str
    n_seeds: int
    n_units: int
    n_clusters: int
    tokens: float
    matrix: FloatArray
    cells: Estimate
    summary: Estimate
    distances: Estimate
    depth: Estimate
    references: Mapping[str, FloatArray]
    fits: Mapping[str, Any] = field(default_factory=dict)
    comparison: Any = None
    extras: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Evidence(Result):
    """The standard claims on one subject, with the numbers that its report shows.

    Attributes
    ----------
    subject, layers, loss, unit: of the grid. smallest: smallest penalty of interest, nats.
    conf_level: of every interval. claims: per claim, the average over datasets first, then each dataset.
    datasets: one :class:`DatasetEvidence` each. certificates: one row a lens. provenance: of the grid.
    """

    subject: str
    layers: tuple[str, ...]
    loss: str
    unit: str
    smallest: float
    conf_level: float
    claims: tuple[Claim, ...]
    datasets: tuple[DatasetEvidence, ...]
    certificates: pd.DataFrame
    provenance: Mapping[str, Any]

    kind: ClassVar[str] = "evidence"

    def tidy(self) -> pd.DataFrame:
        """One row a claim and dataset."""
        return tidy_frame(claim.row() for claim in self.claims)

    def glance(self) -> pd.DataFrame:
        """One row: the design and how many claims got which verdict."""
        row: dict[str, Any] = {
            "subject": self.subject,
            "loss": self.loss,
            "unit": self.unit,
            "n_layers": len(self.layers),
            "n_datasets": len(self.datasets),
            "smallest": self.smallest,
            "conf_level": self.conf_level,
        }
        for verdict in VERDICTS:
            row[verdict.replace(" ", "_")] = sum(claim.verdict == verdict for claim in self.claims)
        return pd.DataFrame([row])
