"""Evidence: the standard claims about lens transfer, and the numbers that a report shows beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from transferstats.claims import QUESTIONS, Answer, Ask, anchored
from transferstats.distance import off_diagonal
from transferstats.errors import DesignError
from transferstats.grid import DISAGREEMENT, SIMILARITY, DatasetLosses, TransferGrid
from transferstats.lens_sets import BESIDE, stored_name
from transferstats.results import (
    JUDGED,
    LIMITED_GAP,
    Claim,
    DatasetEvidence,
    DecayComparison,
    Estimate,
    Evidence,
    StudyPlan,
)
from transferstats.results.estimate import stack
from transferstats.stats.bootstrap import Bootstrap
from transferstats.stats.calibration import has_null_of_null, null_calibration
from transferstats.stats.decay import fit_decay
from transferstats.stats.decay_selection import compare_decay
from transferstats.stats.depth import depth_profile, gains_over_prior, penalty_share
from transferstats.stats.description import FEWEST_DISTANCES, SUMMARY
from transferstats.stats.estimation import estimate
from transferstats.stats.influence import mean_penalty
from transferstats.stats.intervals import FEW_SEEDS
from transferstats.stats.ladder import gap_closed, rungs_of
from transferstats.stats.learning_curve import learning_curve, shares_of
from transferstats.stats.mixed import mixed_slope
from transferstats.stats.multiplicity import adjusted_p
from transferstats.stats.null import null_test, shared_lens_test
from transferstats.stats.path import training_path
from transferstats.stats.permutation import LARGEST_EXACT, order_test
from transferstats.stats.planning import plan_study
from transferstats.stats.relevance import check_smallest
from transferstats.stats.reliability import correlate_similarity, reliability

FAMILIES: tuple[str, ...] = ("linear", "saturating")
COMPARED: tuple[str, ...] = ("constant", "linear", "log", "power", "saturating", "michaelis_menten")
RESAMPLED = Bootstrap(replicates=2000, rng=20230314)
RELABELLINGS = 9999
RELABELLED = 20230314
"""Relabellings of more layers than can be relabelled in every way, and the seed of their random numbers."""
PLANNED_SEEDS: tuple[int, ...] = (3, 5, 10)
PLANNED_SHARES: tuple[float, ...] = (0.25, 0.5, 1, 2, 4, 8)
"""Numbers of units of a planned study, as shares of those that were scored."""

SHOWN: tuple[str, ...] = ("mean", "forward", "backward")
"""What is shown of the penalty in disagreement, where claims are about another loss."""


def evaluate(grid: TransferGrid, smallest: float, *, conf_level: float = 0.95) -> Evidence:
    """Evaluate the standard claims on a grid.

    Parameters
    ----------
    grid: losses of one subject.
    smallest: smallest penalty of interest, in ``grid.loss_unit``; a scientific statement, no default.
    conf_level: level of every interval; verdicts test at ``1 - conf_level``.

    Returns
    -------
    Evidence: claims C1 to C8, each for every dataset and their average, with Holm-adjusted p-values over the
    claims of one dataset; and what the report shows beside them. A claim that the study cannot answer is "not
    tested", with the reason.

    Raises
    ------
    DesignError: ``smallest`` not positive, fewer than 2 seeds, units or clusters. DataError: losses that
        cannot be analysed.
    """
    check_smallest(smallest)
    for data in grid.datasets:
        _check_design(data)
    compared = compare_decay(grid, COMPARED, method=RESAMPLED) if grid.n_layers > FEWEST_DISTANCES else ()
    comparisons = {one.dataset: one for one in compared}
    ask = Ask(grid, smallest, conf_level, {name: _in_words(one) for name, one in comparisons.items()})
    answers = [answer for question in QUESTIONS for answer in question(ask)]
    if BESIDE in grid.lens_sets:
        answers += anchored(ask)
    return Evidence(
        subject=grid.subject,
        layers=grid.layers,
        loss=grid.loss,
        unit=grid.loss_unit,
        smallest=smallest,
        conf_level=conf_level,
        claims=tuple(_claims(answers, grid, conf_level)),
        datasets=tuple(_describe(ask, data, comparisons.get(data.name)) for data in grid.datasets),
        certificates=grid.certificates,
        provenance=grid.described_provenance,
    )


def _check_design(data: DatasetLosses) -> None:
    """Refuse a dataset from which nothing can be inferred about new seeds or new units."""
    hint = "; describe(grid) lists what these data support"
    if len(data.seeds) < 2:
        raise DesignError(
            f"dataset {data.name!r} has 1 seed: evidence about new lenses needs at least 2, better 5{hint}"
        )
    if len(set(data.clusters)) < 2:
        kind = "unit" if len(data.units) == 1 else f"cluster ({len(data.units)} units of {data.clusters[0]!r})"
        raise DesignError(f"dataset {data.name!r} has 1 {kind}: evidence about new units needs at least 2{hint}")


def _claims(answers: Iterable[Answer], grid: TransferGrid, conf_level: float) -> Iterator[Claim]:
    """Holm over the tested claims of each dataset (or of the average), and the caveats that concern them all."""
    listed = list(answers)
    adjusted: dict[tuple[str, str], float] = {}
    # Lenses of another anchor answer the same questions again: a family of their own.
    for dataset, anchor in dict.fromkeys((answer.dataset, answer.beside) for answer in listed):
        family = [one for one in listed if one.dataset == dataset and one.beside == anchor]
        # Claims whose verdict was refused count in the number of tests: they are refused because of what they say.
        refused = [one.verdict == "not tested" and one.estimate is not None for one in family]
        values = adjusted_p([1.0 if no else one.p_value for one, no in zip(family, refused, strict=True)])
        values = np.where(refused, np.nan, values)
        adjusted |= {(dataset, one.key): float(p) for one, p in zip(family, values, strict=True)}
    for one in listed:
        p_adjusted = adjusted[one.dataset, one.key]
        caveats = (*one.caveats, *_caveats(one, grid, p_adjusted, conf_level))
        yield Claim(
            key=one.key,
            title=one.title,
            estimand=one.estimand,
            dataset=one.dataset,
            estimate=one.estimate,
            smallest=one.smallest,
            p_value=one.p_value,
            p_adjusted=p_adjusted,
            verdict=one.verdict,
            reason=one.reason,
            caveats=caveats,
        )


def _caveats(one: Answer, grid: TransferGrid, p_adjusted: float, conf_level: float) -> Iterator[str]:
    if one.verdict == "not tested":
        return
    decided = one.verdict != "inconclusive"
    # Two one-sided tests of equivalence have the whole error rate each, a claim with a direction half of it.
    equivalence = one.verdict == "within" or (one.key == "C7" and one.verdict == "supported")
    if decided and p_adjusted >= (1 - conf_level) / (1 if equivalence else 2):
        yield "not after Holm's correction for the number of claims"
    seeds = min(len(data.seeds) for data in grid.datasets)
    if seeds < FEW_SEEDS:
        yield f"{seeds} seeds: valid, but wide"
    yield from _certificate_caveats(one, grid)


def _certificate_caveats(one: Answer, grid: TransferGrid) -> Iterator[str]:
    """What lenses without a certificate weaken: every claim about penalties and excesses."""
    table = grid.certificates
    if not len(table):
        yield "lenses carry no convergence certificate"
        return
    if one.dataset != "average":
        table = table[table["dataset"] == one.dataset]
    if "readout" in table:
        judged = [stored_name("own", BESIDE) if one.beside and name == "own" else name for name in JUDGED]
        table = table[table["readout"].isin(judged)]
    failed = int((~table["converged"].astype(bool)).sum())
    if "limited" in table and (limited := int(table["limited"].sum())):
        yield (
            f"{limited} of {len(table)} lenses were limited by their data (training kl more than "
            f"{100 * LIMITED_GAP:.0f} % below held-out kl); more tokens would move penalties"
        )
    if failed:
        yield (
            f"{failed} of {len(table)} lenses had not converged; the penalty of such a lens is not comparable "
            "between layers, and an equivalence verdict is not to be trusted"
        )


def _in_words(comparison: DecayComparison) -> str:
    """The conclusion of a comparison as part of a sentence."""
    sentences = comparison.conclusion.rstrip(".").split(". ")
    return "; ".join(one[:1].lower() + one[1:] for one in sentences)


def _describe(ask: Ask, data: DatasetLosses, comparison: DecayComparison | None) -> DatasetEvidence:
    grid = ask.grid.with_datasets([data.name])
    level = ask.conf_level
    families = () if comparison is None else FAMILIES
    return DatasetEvidence(
        dataset=data.name,
        n_seeds=len(data.seeds),
        n_units=len(data.units),
        n_clusters=len(set(data.clusters)),
        tokens=float(data.tokens.sum()),
        matrix=mean_penalty(data.penalty(ask.grid.loss), data.tokens / data.tokens.mean()),
        cells=estimate(grid, "cells", conf_level=level).headline,
        summary=_summary(grid, level),
        distances=estimate(grid, "distance", conf_level=level).headline,
        depth=depth_profile(grid, conf_level=level).headline,
        references=_references(data, ask.grid.loss),
        fits={family: fit_decay(grid, family, conf_level=level)[0] for family in families},
        comparison=comparison,
        extras=_extras(ask, grid, data),
    )


def _plan(grid: TransferGrid, data: DatasetLosses, ask: Ask) -> StudyPlan:
    """What fewer and more seeds and units would have shown."""
    units = len(set(data.clusters))
    return plan_study(
        grid,
        seeds=sorted({*PLANNED_SEEDS, len(data.seeds)}),
        units=sorted({max(2, round(share * units)) for share in PLANNED_SHARES}),
        smallest=ask.smallest,
        conf_level=ask.conf_level,
    )


def _summary(grid: TransferGrid, level: float) -> Estimate:
    """Named scalars of one dataset as one table of estimates."""
    names = SUMMARY if grid.n_layers > 2 else SUMMARY[:-1]
    return stack([estimate(grid, name, conf_level=level).headline for name in names], names)


def _disagreement(grid: TransferGrid, level: float) -> dict[str, Estimate]:
    """The penalty in the bounded loss, beside the one that the claims are about: on average, and by cell."""
    means = [estimate(grid, name, conf_level=level).headline for name in SHOWN]
    cells = estimate(grid, "cells", conf_level=level).headline
    return {"disagreement": stack(means, SHOWN), "cells_disagreement": cells}


def _references(data: DatasetLosses, loss: str) -> Mapping[str, Any]:
    """Mean losses that own lenses are compared with: readouts (L,), final model and prior ()."""
    weights = data.tokens / data.tokens.sum()
    found: dict[str, Any] = {
        name: np.tensordot(weights, values[loss].mean(axis=0), axes=1)
        for name, values in data.readouts.items()
        if loss in values
    }
    for name, key in (("final", f"final_{loss}"), ("prior", f"prior_{loss}")):
        if key in data.baselines:
            found[name] = np.asarray(weights @ data.baselines[key])
    return found


def _extras(ask: Ask, grid: TransferGrid, data: DatasetLosses) -> dict[str, Any]:
    level, loss = ask.conf_level, ask.grid.loss
    extras: dict[str, Any] = {}
    mean = estimate(grid, "mean", conf_level=level).headline
    if np.isfinite(mean.conf_low):  # else there is nothing to plan from
        extras["plan"] = _plan(grid, data, ask)
    for rung in rungs_of(data, loss):
        extras[f"gap_{rung}"] = gap_closed(grid, rung, conf_level=level).headline
    if _can_be_ranked(grid, data):
        extras["similarity"] = correlate_similarity(grid, SIMILARITY, method=RESAMPLED, conf_level=level).headline
    if gains_over_prior(data, loss):
        extras["penalty_share"] = penalty_share(grid, conf_level=level).headline
    extras |= _of_data(grid, data, level)
    extras |= _by_other_methods(grid, data, level)
    if DISAGREEMENT in data.losses and loss != DISAGREEMENT:
        extras |= _disagreement(grid.with_loss(DISAGREEMENT), level)
    if data.null is not None:
        extras["null_test"] = null_test(grid, "mean", conf_level=level)
        extras["null_matrix"] = mean_penalty(data.null.penalty(loss), data.tokens / data.tokens.mean())
        extras["excess"] = null_test(grid, "cells", conf_level=level).excess.headline
    if "shared" in data.readouts:
        test = shared_lens_test(grid, ask.smallest, conf_level=level)
        extras["shared_test"] = test
        extras["shared"] = test.excess.headline
        if test.over_null:
            extras["shared_null"] = test.test.estimates[-1]
    return extras


def _can_be_ranked(grid: TransferGrid, data: DatasetLosses) -> bool:
    """Whether a rank correlation of penalties and similarity exists: both are numbers, and they differ."""
    similarity = grid.similarities.get(data.name, {}).get(SIMILARITY)
    if similarity is None or grid.n_layers < 3:
        return False
    matrix = mean_penalty(data.penalty(grid.loss), data.tokens / data.tokens.mean())
    cells = [np.asarray(one, np.float64)[off_diagonal(grid.n_layers)] for one in (similarity, matrix)]
    return all(np.isfinite(one).all() and np.ptp(one) > 0 for one in cells)


def _by_other_methods(grid: TransferGrid, data: DatasetLosses, level: float) -> dict[str, Any]:
    """Checks that no verdict rests on, of the one dataset of a grid: what reviewers ask for."""
    matrix = mean_penalty(data.penalty(grid.loss), data.tokens / data.tokens.mean())
    if grid.n_layers < 3 or not np.ptp(matrix[off_diagonal(grid.n_layers)]) > 0:
        return {}
    permutations = "exact" if grid.n_layers <= LARGEST_EXACT else RELABELLINGS
    return {
        "reliability": reliability(grid),
        "order_test": order_test(grid, permutations=permutations, rng=RELABELLED),
        "mixed_slope": mixed_slope(grid, conf_level=level),
    }


def _of_data(grid: TransferGrid, data: DatasetLosses, level: float) -> dict[str, Any]:
    """How penalty and shared excess depend on training rows and steps, and whether the null is right here."""
    found: dict[str, Any] = {}
    if shares_of(grid):
        found["learning_curve"] = learning_curve(grid, "mean", conf_level=level)
        if "shared" in data.readouts:
            found["shared_curve"] = learning_curve(grid, readout="shared", conf_level=level)
    if has_null_of_null(grid):
        found["null_calibration"] = null_calibration(grid, "mean", conf_level=level)
    if data.name in grid.paths:
        found["path"] = training_path(grid, data.name, conf_level=level)
    return found
