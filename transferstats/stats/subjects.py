"""Several subjects compared: every difference between two of them, with a verdict and Holm's correction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from transferstats.errors import DesignError
from transferstats.grid import TransferGrid
from transferstats.results import Claim, Estimate, Estimates
from transferstats.results.subjects import SubjectComparison, SubjectSummary
from transferstats.stats.comparison import compare, matched_datasets
from transferstats.stats.depth import depth_profile
from transferstats.stats.estimation import estimate
from transferstats.stats.influence import mean_penalty
from transferstats.stats.intervals import FEW_SEEDS, check_conf_level
from transferstats.stats.multiplicity import adjusted_p
from transferstats.stats.relevance import check_smallest, relevance_test

NOT_ADJUSTED = "not after Holm's correction for the number of differences"


@dataclass(frozen=True, slots=True)
class Compared:
    """A statistic that means the same on networks of different depth.

    Attributes
    ----------
    name: of the statistic. title, estimand: with places for two subjects. sized: judged against the smallest
        difference of interest; else against 0.
    """

    name: str
    title: str
    estimand: str
    sized: bool


COMPARED: tuple[Compared, ...] = (
    Compared("mean", "Mean penalty differs between {} and {}", "mean penalty of {} minus that of {}", True),
    Compared(
        "asymmetry",
        "Forward minus backward penalty differs between {} and {}",
        "forward minus backward penalty of {} minus that of {}",
        True,
    ),
    Compared(
        "slope",
        "Growth with distance differs between {} and {}",
        "slope of penalty on relative depth of {} minus that of {}",
        False,
    ),
)


def compare_subjects(
    grids: Sequence[TransferGrid], *, smallest: float, conf_level: float = 0.95
) -> SubjectComparison:
    """Compare two or more subjects on the datasets that they share.

    Distances are relative depth, |s - t| / (L - 1), so that networks of different depth can be compared. Units
    with the same label in the same dataset are paired (see ``compare``); seeds of different subjects are
    independent. p-values are Holm-adjusted over all differences of one dataset.

    Parameters
    ----------
    grids: one a subject, with different names, the same loss and the same unit, sharing a dataset.
    smallest: smallest difference of interest, in the unit of the losses. conf_level: of every interval.

    Raises
    ------
    DesignError: fewer than 2 subjects, equal names, other losses or units, no dataset in common, 1 seed.

    Examples
    --------
    >>> import transferstats as ts
    >>> from dataclasses import replace
    >>> a, b = (replace(ts.simulate_grid(n_seeds=4, n_units=30, rng=n).grid, subject=f"net {n}") for n in (1, 2))
    >>> found = ts.compare_subjects([a, b], smallest=0.1)
    >>> [claim.key for claim in found.claims]
    ['D1', 'D2', 'D3']
    """
    level = check_conf_level(conf_level)
    check_smallest(smallest)
    _check(grids)
    names = _shared(grids)
    aligned = [_restricted(grid, names[grid.subject]) for grid in grids]
    rows = [
        row
        for number, (pair, what) in enumerate(
            ((pair, what) for pair in combinations(aligned, 2) for what in COMPARED), start=1
        )
        for row in _claims(f"D{number}", pair, what, smallest, level)
    ]
    return SubjectComparison(
        subjects=tuple(_summary(grid, level) for grid in aligned),
        loss=grids[0].loss,
        unit=grids[0].loss_unit,
        smallest=float(smallest),
        conf_level=level,
        claims=tuple(_adjusted(rows, level)),
        provenance={grid.subject: grid.described_provenance for grid in grids},
    )


def _check(grids: Sequence[TransferGrid]) -> None:
    names = [grid.subject for grid in grids]
    if len(grids) < 2:
        raise DesignError(f"a comparison needs at least 2 subjects, got {len(grids)}")
    if len(set(names)) < len(names):
        raise DesignError(f"subjects need different names, got {names}; read them with subject='...'")
    first = grids[0]
    for grid in grids[1:]:
        if (grid.loss, grid.loss_unit) != (first.loss, first.loss_unit):
            raise DesignError(
                f"{first.subject} is in {first.loss}, {first.loss_unit}, and {grid.subject} in {grid.loss}, "
                f"{grid.loss_unit}: differences need one loss and unit; compare ratios two by two with "
                "compare(a, b, scale='log')"
            )
    for grid in grids:
        bare = [data.name for data in grid.datasets if len(set(data.clusters)) < 2]
        if bare:
            raise DesignError(
                f"{grid.subject}: dataset {bare[0]!r} has one unit (means), so no difference has an interval; "
                "describe(grid) lists what it supports"
            )
        few = [data.name for data in grid.datasets if len(data.seeds) < 2 and not data.own_lenses]
        if few or grid.n_layers < 3:
            lack = f"dataset {few[0]!r} has 1 seed" if few else f"{grid.n_layers} layers have one distance"
            raise DesignError(f"{grid.subject}: {lack}; a comparison needs at least 2 seeds and 3 layers")


def _shared(grids: Sequence[TransferGrid]) -> dict[str, list[str]]:
    """Datasets of each subject that all of them have: by name, or the only one there is."""
    common = [data.name for data in grids[0].datasets]
    common = [name for name in common if all(name in {data.name for data in grid.datasets} for grid in grids)]
    if common:
        return {grid.subject: common for grid in grids}
    for other in grids[1:]:
        matched_datasets(grids[0], other)  # says which two share nothing
    return {grid.subject: [grid.datasets[0].name] for grid in grids}


def _restricted(grid: TransferGrid, names: Sequence[str]) -> TransferGrid:
    return grid.with_datasets(names)


def _claims(
    key: str, pair: tuple[TransferGrid, TransferGrid], what: Compared, smallest: float, level: float
) -> Iterator[Claim]:
    """One claim a dataset, the average last, before adjustment."""
    first, second = pair
    distance = "depth" if what.name == "slope" else None
    found = compare(first, second, statistic=what.name, conf_level=level, distance=distance)
    test = relevance_test(found.difference, smallest=smallest)
    for one, judged in zip(found.difference, test.verdicts, strict=True):
        named = replace(one, terms=(f"difference in {what.name}",))
        scaled = _over_depth(named) if what.name == "slope" else named
        if what.sized:
            verdict, p_value = _sized(str(judged.verdict), judged)
            reason = _reason_sized(verdict, smallest, one)
        else:
            p_value = float(one.p_value)
            verdict = "supported" if p_value < 1 - level else "inconclusive"
            reason = _reason_directed(verdict, one)
        yield Claim(
            key=key,
            title=what.title.format(first.subject, second.subject),
            estimand=what.estimand.format(first.subject, second.subject),
            dataset=one.dataset,
            estimate=scaled,
            smallest=(-smallest, smallest) if what.sized else None,
            p_value=p_value,
            p_adjusted=float("nan"),
            verdict=verdict,
            reason=reason,
            caveats=tuple(_caveats(pair, one)),
        )


def _sized(text: str, judged: object) -> tuple[str, float]:
    p_within, p_exceeds, p_below = (float(getattr(judged, f"p_{name}")) for name in ("within", "exceeds", "below"))
    if text == "within":
        return text, p_within
    return (text if text == "exceeds" else "inconclusive"), float(np.fmin(p_exceeds, p_below))


def _reason_sized(verdict: str, smallest: float, one: Estimate) -> str:
    if np.isnan(one.conf_low):
        return one.note or "the uncertainty is not defined"
    return {
        "exceeds": f"the whole interval of the difference lies beyond \u00b1{smallest:g}",
        "within": f"both one-sided tests put the difference inside \u00b1{smallest:g}",
        "inconclusive": f"the interval of the difference reaches both sides of \u00b1{smallest:g}",
    }[verdict]


def _reason_directed(verdict: str, one: Estimate) -> str:
    if np.isnan(one.conf_low):
        return one.note or "the uncertainty is not defined"
    inside = "excludes" if verdict == "supported" else "includes"
    return f"the {100 * one.conf_level:g} % interval of the difference {inside} 0"


def _caveats(pair: tuple[TransferGrid, TransferGrid], one: Estimate) -> Iterator[str]:
    if "no units shared" in one.note:
        yield "the two were scored on other units, so nothing that a unit does to both cancels"
    sizes = [len(data.seeds) for grid in pair for data in grid.datasets if not data.own_lenses]
    if sizes and min(sizes) < FEW_SEEDS:
        yield f"{min(sizes)} seeds: valid, but wide"
    bare = [grid.subject for grid in pair if not len(grid.certificates)]
    if bare:
        yield "lenses carry no convergence certificate" + ("" if len(bare) == 2 else f" ({bare[0]})")
    for grid in pair:
        if len(grid.certificates) and not grid.certificates["converged"].astype(bool).all():
            yield f"some lenses of {grid.subject} had not converged"


def _adjusted(claims: Sequence[Claim], level: float) -> Iterator[Claim]:
    """Holm over the differences of each dataset, and of the average."""
    values: dict[int, float] = {}
    for dataset in dict.fromkeys(claim.dataset for claim in claims):
        places = [index for index, claim in enumerate(claims) if claim.dataset == dataset]
        adjusted = adjusted_p([claims[index].p_value for index in places])
        values |= {index: float(p) for index, p in zip(places, adjusted, strict=True)}
    for index, claim in enumerate(claims):
        # A two-sided test and an equivalence test have the whole error rate, one side of an interval half of it.
        rate = (1 - level) / (2 if claim.verdict == "exceeds" else 1)
        lost = claim.verdict != "inconclusive" and values[index] >= rate
        caveats = (NOT_ADJUSTED, *claim.caveats) if lost else claim.caveats
        yield replace(claim, p_adjusted=values[index], caveats=caveats)


def _over_depth(one: Estimate) -> Estimate:
    """A slope on relative depth is what the penalty gains from one end of the network to the other."""
    return replace(one, unit=f"{one.unit.split(' per ')[0]} over the whole depth")


def _summary(grid: TransferGrid, level: float) -> SubjectSummary:
    statistics = {
        name: estimate(grid, name, conf_level=level) for name in ("mean", "forward", "backward", "asymmetry")
    }
    slopes = estimate(grid, "slope", conf_level=level, distance="depth")
    statistics["slope"] = Estimates(tuple(_over_depth(one) for one in slopes))
    matrices = [mean_penalty(data.penalty(grid.loss), data.tokens / data.tokens.mean()) for data in grid.datasets]
    return SubjectSummary(
        subject=grid.subject,
        layers=grid.layers,
        sizes=tuple(
            (data.name, len(data.seeds), len(data.units), len(set(data.clusters)), float(data.tokens.sum()))
            for data in grid.datasets
        ),
        matrix=np.mean(matrices, axis=0),
        statistics=statistics,
        distances=estimate(grid, "distance", conf_level=level).headline,
        depth=depth_profile(grid, conf_level=level).headline,
    )
