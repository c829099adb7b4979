"""Datasets as fixed strata, for statistics that differ between datasets (own regressors, own similarities)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from transferstats.results.estimate import Estimate
from transferstats.results.estimates import AVERAGE
from transferstats.stats.crossed import Labels, VarianceParts, assemble


def average_estimates(members: Sequence[Estimate]) -> Estimate:
    """Equal-weight average of independent estimates of the same terms, on the identity scale.

    Every variance part is divided by the squared number of datasets and keeps its own degrees of freedom: each
    dataset has its own lenses and its own units.
    """
    count, first = len(members), members[0]
    scalar = not np.ndim(first.estimate)

    def column(values: np.ndarray) -> np.ndarray:
        return np.asarray(values)[..., None] if scalar else np.asarray(values)

    parts = VarianceParts(
        variances=np.concatenate([column(one.parts) for one in members]) / count**2,
        dfs=np.concatenate([one.dfs for one in members]),
        names=tuple(name for one in members for name in one.part_names),
        residual=np.sum([column(one.residual) for one in members], axis=0) / count**2,
    )
    labels = Labels(
        terms=first.terms,
        scalar=scalar,
        n_seeds=min(one.n_seeds for one in members),
        n_units=sum(one.n_units for one in members),
        unit=first.unit,
        method=first.method,
        dataset=AVERAGE,
    )
    centre = np.mean([column(one.estimate) for one in members], axis=0)
    return assemble(centre, parts, labels, conf_level=first.conf_level)
