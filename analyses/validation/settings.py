"""Which simulated studies the coverage study runs: one setting is one file in the store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

SEEDS = (2, 3, 5, 10)
UNITS = (50, 300)
MAIN_REGIMES = ("seed", "balanced", "unit")
ALL_REGIMES = (*MAIN_REGIMES, "heavy", "skewed")


@dataclass(frozen=True, slots=True)
class Setting:
    """One simulated study, repeated ``n_sets`` times.

    ``study``: targets, bootstrap, slope_null, null_test, family, relevance, comparison or weights.
    """

    study: str
    regime: str
    n_seeds: int
    n_units: int
    n_sets: int
    n_null: int = 0

    @property
    def key(self) -> str:
        """File name of its result, the same for the same question."""
        return "-".join(
            [self.study, self.regime, f"K{self.n_seeds}", f"N{self.n_units}", f"R{self.n_null}", f"S{self.n_sets}"]
        )

    def row(self) -> dict[str, object]:
        """Its fields as columns."""
        return asdict(self)


def full(n_sets: int) -> Iterator[Setting]:
    """Every setting of the report; studies that bootstrap every data set have half as many of them."""
    for regime in ALL_REGIMES:
        for seeds in SEEDS:
            for units in UNITS:
                yield Setting("targets", regime, seeds, units, n_sets)
    for regime in ALL_REGIMES:
        for seeds in SEEDS:
            yield Setting("bootstrap", regime, seeds, 50, n_sets // 2)
    for regime in MAIN_REGIMES:
        yield from tests_of(regime, n_sets)


def tests_of(regime: str, n_sets: int) -> Iterator[Setting]:
    """Settings of the tests, comparisons and families in one regime."""
    for seeds in (3, 5, 10):
        yield Setting("slope_null", regime, seeds, 50, n_sets)
    for seeds in (2, 3, 5):
        for replicates in (5, 10):
            yield Setting("null_test", regime, seeds, 100, n_sets, replicates)
    for seeds in SEEDS:
        yield Setting("family", regime, seeds, 100, n_sets // 2)
        yield Setting("relevance", regime, seeds, 100, n_sets)
    for seeds in (2, 5):
        yield Setting("comparison", regime, seeds, 100, n_sets)
        yield Setting("weights", regime, seeds, 100, n_sets)


def quick(n_sets: int) -> Iterator[Setting]:
    """A few minutes: small studies, where coverage is hardest."""
    for setting in full(n_sets):
        small = setting.n_seeds in (2, 3, 5) and setting.n_units <= 100 and setting.n_null <= 5
        if small and setting.regime in ("seed", "balanced", "skewed"):
            yield setting
