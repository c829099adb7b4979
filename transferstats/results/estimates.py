"""The same statistic on several datasets, with the average over them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd

from transferstats.results.base import Result, tidy_frame
from transferstats.results.estimate import Estimate

AVERAGE = "average"
"""Name of the equal-weight average over datasets, wherever a dataset is named."""


@dataclass(frozen=True, slots=True)
class Estimates(Result):
    """One :class:`Estimate` per dataset, and last, with more than one dataset, their equal-weight average.

    Datasets are fixed strata: the average is about these datasets, not about a population of datasets.

    Attributes
    ----------
    members: the estimates; ``members[-1]`` is the headline (the average, or the only dataset).
    """

    members: tuple[Estimate, ...]

    kind: ClassVar[str] = "estimates"

    @property
    def headline(self) -> Estimate:
        """The average over datasets, or the only dataset."""
        return self.members[-1]

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of the datasets, ``"average"`` last where there is one."""
        return tuple(member.dataset for member in self.members)

    def __len__(self) -> int:
        return len(self.members)

    def __iter__(self) -> Iterator[Estimate]:
        return iter(self.members)

    def __getitem__(self, key: int | str) -> Estimate:
        """By position, or by dataset name (``"average"`` for the average)."""
        if isinstance(key, str):
            if key not in self.datasets:
                raise KeyError(f"no dataset {key!r}; there are: {', '.join(self.datasets)}")
            return self.members[self.datasets.index(key)]
        return self.members[key]

    def rows(self) -> Iterator[dict[str, Any]]:
        """One mapping a dataset and term."""
        for member in self.members:
            yield from member.rows()

    def tidy(self) -> pd.DataFrame:
        """One row a dataset and term, the average last."""
        return tidy_frame(self.rows())

    def glance(self) -> pd.DataFrame:
        """One row: the headline's, with the number of datasets."""
        row = self.headline.glance()
        row.insert(0, "n_datasets", max(1, len(self.members) - 1))
        return row
