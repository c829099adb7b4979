"""Is it more than what a single shared lens would show? Statistics against their shared-lens null.

The null replicates are scored on the same units as the observed lenses, so

    D = T(P) - T(P0),   d_i = influence of unit i on T(P), mean over seeds, minus that on T(P0), over replicates
    half-width^2 = t_{K-1}^2 A_obs + t_{R-1}^2 A_null + t_{N-1}^2 max(var(d_i) / N - E_obs - E_null, 0)

Ranking T among the R replicates is not offered: it ignores the units and cannot reject at 5 % for R < 19.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from transferstats.arrays import FloatArray
from transferstats.distance import Distance
from transferstats.errors import DataError
from transferstats.grid import TransferGrid
from transferstats.results.estimate import Estimate
from transferstats.results.estimates import Estimates
from transferstats.results.null import NullTest, SharedLensTest
from transferstats.results.relevance import RelevanceTest
from transferstats.stats.crossed import Labels, Piece, VarianceParts, average_pieces, labels_of, variance_parts
from transferstats.stats.estimation import with_average
from transferstats.stats.fieller import share_limits, share_parts
from transferstats.stats.influence import (
    Influence,
    check_losses,
    check_weights,
    excess_influence,
    influence_table,
    mean_penalty,
    penalties,
)
from transferstats.stats.intervals import check_conf_level, interval_from_parts, p_greater
from transferstats.stats.multiplicity import adjusted_p
from transferstats.stats.paired import paired_parts
from transferstats.stats.relevance import Smallest, check_smallest, relevance_test
from transferstats.stats.samples import LossSample, excess_sample, layer_terms, loss_sample, null_sample
from transferstats.stats.statistics import StatisticLike, as_statistic

METHOD = "paired shared-lens null, crossed three-term t"

MOST_SUBSETS = 500
"""Beyond this many subsets of replicates a balanced set of cyclic windows is averaged instead."""

FEW_REPLICATES = 5
"""Below this many null replicates the test is valid but weak, and a note says so."""


@dataclass(frozen=True, slots=True)
class Paired:
    """Observed and null influence tables of one dataset, on the same units.

    Attributes
    ----------
    observed, null: tables (m, K, N) and (m, R, N); ``null.estimate`` already matched to K replicates.
    dataset: its name. note: in words, what was done to the sample.
    """

    observed: Influence
    null: Influence
    dataset: str = ""
    note: str = ""

    def difference(self) -> Piece:
        """T(P) - T(P0) with its variance parts."""
        n_null = self.null.table.shape[1]
        notes = [self.note]
        if n_null == 1:
            notes.append("1 null replicate: its own variation is unknown, so there is no interval")
        elif n_null < FEW_REPLICATES:
            notes.append(f"{n_null} null replicates: valid, but 5 or more give a shorter interval")
        labels = labels_of(self.observed, "; ".join(filter(None, notes)), method=METHOD, dataset=self.dataset)
        parts = paired_parts(self.observed.table, self.null.table, second_name="null replicates")
        return Piece(self.observed.estimate - self.null.estimate, parts, labels)

    def side(self, which: str) -> Piece:
        """One side alone ("observed" or "null") with its own crossed variance parts."""
        one = self.observed if which == "observed" else self.null
        return Piece(one.estimate, variance_parts(one.table), labels_of(one, self.note, dataset=self.dataset))


def paired_null_estimate(
    loss: npt.ArrayLike,
    null_loss: npt.ArrayLike,
    statistic: StatisticLike,
    *,
    conf_level: float = 0.95,
    weights: npt.ArrayLike | None = None,
    distance: Distance | None = None,
    unit: str = "nats/token",
) -> Estimate:
    """Excess T(P) - T(P0) of a statistic over its shared-lens null, for new seeds, replicates and units.

    Parameters
    ----------
    loss: (K, N, L, L) losses of the observed lenses. null_loss: (R, N, L, L) losses of the null replicates on
        the same units in the same order. The others as in ``crossed_estimate``.

    Returns
    -------
    Estimate with parts "seeds", "null replicates", "units". R = 1: NaN with the reason. K = 1: conditional on
    this lens set.

    Raises
    ------
    DataError: shapes that do not match, losses that are not finite.
    """
    check_conf_level(conf_level)
    pair = pair_losses(loss, null_loss, statistic, weights=weights, distance=distance, unit=unit)
    return pair.difference().interval(conf_level=conf_level)


def pair_losses(
    loss: npt.ArrayLike,
    null_loss: npt.ArrayLike,
    statistic: StatisticLike,
    *,
    weights: npt.ArrayLike | None = None,
    distance: Distance | None = None,
    unit: str = "nats/token",
) -> Paired:
    """Influence tables of both worlds; a nonlinear T is evaluated on equally many seeds and replicates."""
    observed = influence_table(loss, statistic, weights=weights, distance=distance, unit=unit)
    null = influence_table(null_loss, statistic, weights=weights, distance=distance, unit=unit)
    pair = Paired(observed, null)
    _check_pair(pair)
    n_seeds, n_null = observed.table.shape[1], null.table.shape[1]
    if observed.linear or n_seeds == n_null:
        return pair
    size = min(n_seeds, n_null)
    note = f"T averaged over sets of {size} lenses on both sides, because T is not linear"
    matched = [
        replace(one, estimate=matched_value(data, statistic, size, weights=weights, distance=distance))
        for one, data in ((observed, loss), (null, null_loss))
    ]
    return Paired(matched[0], matched[1], note=note)


def matched_value(
    loss: npt.ArrayLike,
    statistic: StatisticLike,
    size: int,
    *,
    weights: npt.ArrayLike | None = None,
    distance: Distance | None = None,
) -> FloatArray:
    """(m,) mean of T over sets of ``size`` seeds, so that the bias of a nonlinear T matches that of ``size``."""
    values = check_losses(loss)
    weight = check_weights(weights, values.shape[1])
    per_seed = np.stack([mean_penalty(penalties(seed[None]), weight) for seed in values])
    subsets = np.array(_subsets(len(values), size))
    means = per_seed[subsets].mean(axis=1)
    return np.asarray(as_statistic(statistic, distance=distance).batch(means).mean(axis=0))


def _subsets(count: int, size: int) -> list[tuple[int, ...]]:
    if math.comb(count, size) <= MOST_SUBSETS:
        return list(itertools.combinations(range(count), size))
    return [tuple((start + step) % count for step in range(size)) for start in range(count)]


def _check_pair(pair: Paired) -> None:
    if pair.observed.table.shape[2] != pair.null.table.shape[2]:
        raise DataError(
            f"observed losses have {pair.observed.table.shape[2]} units, null losses "
            f"{pair.null.table.shape[2]}; score both on the same units"
        )
    if pair.observed.terms != pair.null.terms:
        raise DataError(
            f"the statistic has terms {pair.observed.terms[:3]} on the observed losses and "
            f"{pair.null.terms[:3]} on the null losses; both need the same layers"
        )


def null_test(
    grid: TransferGrid,
    statistic: StatisticLike = "mean",
    *,
    loss: str | None = None,
    conf_level: float = 0.95,
    cluster: bool = True,
    distance: Distance | None = None,
) -> NullTest:
    """Test a statistic of the penalty against its shared-lens null, per dataset and averaged over datasets.

    The null replicates of the grid are the same pipeline in the world where one lens is exactly right at every
    layer; the excess T(P) - T(P0) is what that world does not explain. Parameters as in ``estimate``.

    Raises
    ------
    DesignError: a dataset without null replicates.
    """
    level, distance = check_conf_level(conf_level), grid.scale(distance)
    pairs: list[Paired] = []
    seed_values: list[FloatArray] = []
    null_values: list[FloatArray] = []
    for data in grid.datasets:
        sample = loss_sample(data, loss or grid.loss, cluster=cluster)
        null = null_sample(data, loss or grid.loss, cluster=cluster)
        pair = pair_losses(
            sample.losses,
            null.losses,
            statistic,
            weights=sample.weights,
            distance=distance,
            unit=grid.unit_of(loss),
        )
        note = "; ".join(filter(None, (sample.note, pair.note)))
        pairs.append(replace(pair, dataset=data.name, note=note))
        for one, values in ((sample, seed_values), (null, null_values)):
            values.append(pair.observed.shaped(_by_seed(one, statistic, distance)))
    return _summarise(pairs, seed_values, null_values, level)


def _by_seed(sample: LossSample, statistic: StatisticLike, distance: Distance | None) -> FloatArray:
    """(K, m) the statistic on each seed alone."""
    weight = check_weights(sample.weights, sample.losses.shape[1])
    chosen = as_statistic(statistic, distance=distance)
    return chosen.batch(np.stack([mean_penalty(penalties(seed[None]), weight) for seed in sample.losses]))


def _summarise(
    pairs: Sequence[Paired], seed_values: list[FloatArray], null_values: list[FloatArray], level: float
) -> NullTest:
    pieces = [pair.difference() for pair in pairs]
    excess = with_average(pieces, conf_level=level)
    return NullTest(
        excess=excess,
        observed=with_average([pair.side("observed") for pair in pairs], conf_level=level),
        null=with_average([pair.side("null") for pair in pairs], conf_level=level),
        share=_shares(pairs, level),
        p_greater=tuple(np.asarray(p_greater(member.estimate, member.parts, member.dfs)) for member in excess),
        seed_values=tuple(seed_values),
        null_values=tuple(null_values),
        n_null=min(pair.null.table.shape[1] for pair in pairs),
    )


def _shares(pairs: Sequence[Paired], level: float) -> Estimates:
    """T(P0) / T(P) of every dataset and of the average over datasets."""
    groups = [[pair] for pair in pairs] + ([list(pairs)] if len(pairs) > 1 else [])
    members = []
    for group in groups:
        labels = group[0].difference().labels
        if len(group) > 1:
            labels = average_pieces([pair.difference() for pair in group]).labels
        members.append(_share(group, replace(labels, unit="", method="Fieller interval"), level))
    return Estimates(tuple(members))


def _share(group: Sequence[Paired], labels: Labels, level: float) -> Estimate:
    observed = np.mean([pair.observed.estimate for pair in group], axis=0)
    null = np.mean([pair.null.estimate for pair in group], axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(observed == 0, np.nan, null / np.where(observed == 0, 1.0, observed))
    if any(min(pair.null.table.shape[1:]) < 2 for pair in group):
        undefined = np.full(ratio.shape, np.nan)
        parts = VarianceParts(undefined[None], np.array([1.0]), ("units",), undefined)
        return Piece(ratio, parts, labels).interval(conf_level=level)
    low, high, parts = share_limits(
        observed, null, [share_parts(pair.observed.table, pair.null.table) for pair in group], level
    )
    if np.isnan(low).any():
        reason = "the penalty is not clearly different from 0, so the share it explains has no bounds"
        labels = replace(labels, note="; ".join(filter(None, (labels.note, reason))))
    plain = Piece(ratio, parts, labels).interval(conf_level=level)
    undefined = np.full(np.shape(plain.estimate), np.nan)
    shape = np.shape(plain.estimate)
    return replace(
        plain, conf_low=low.reshape(shape), conf_high=high.reshape(shape), p_value=undefined, statistic=undefined
    )


def shared_lens_test(
    grid: TransferGrid,
    smallest: Smallest,
    *,
    loss: str | None = None,
    conf_level: float = 0.95,
    cluster: bool = True,
    readout: str = "shared",
) -> SharedLensTest:
    """Does one lens serve every layer? Shared-lens excess S[t] against ``smallest``, Holm over layers.

    S[t] = loss(shared lens on t) - loss(own lens on t) is biased down, because the own lenses carry their own
    estimation error; where every dataset has null replicates of the shared lens, S - S0 is judged instead,
    and both are reported.

    Parameters
    ----------
    smallest: smallest excess of interest, in the unit of the losses; (low, high) for asymmetric bounds.
    readout: name of the readout to test. The others as in ``estimate``.

    Raises
    ------
    DesignError: no such readout, no usable ``smallest``.
    """
    level = check_conf_level(conf_level)
    check_smallest(smallest)
    name = loss or grid.loss
    raw, differences = [], []
    for data in grid.datasets:
        sample = excess_sample(data, name, readout, cluster=cluster)
        layers = layer_terms(grid)
        observed = excess_influence(sample.losses, weights=sample.weights, unit=grid.unit_of(loss), layers=layers)
        pair = Paired(observed, observed, data.name, sample.note)
        raw.append(pair.side("observed"))
        if data.null is not None and readout in data.null.readouts:
            null = excess_sample(data.null, name, readout, cluster=cluster)
            zero = excess_influence(null.losses, weights=null.weights, unit=grid.unit_of(loss), layers=layers)
            differences.append(replace(pair, null=zero).difference())
    over_null = len(differences) == len(raw)
    judged = with_average(differences if over_null else raw, conf_level=level)
    return _simultaneous(relevance_test(judged, smallest=smallest), with_average(raw, conf_level=level), over_null)


def layers_verdict(estimate: Estimate, smallest: Smallest) -> str:
    """ "within" at every term of a vector estimate, "exceeds" at some term, or "inconclusive"; Holm over terms."""
    return _simultaneous(relevance_test(estimate, smallest=smallest), Estimates((estimate,)), True).verdict


def _simultaneous(test: RelevanceTest, raw: Estimates, over_null: bool) -> SharedLensTest:
    """Holm over layers, separately for the equivalence tests and for the minimum-effect tests."""
    alpha = 1 - test.estimates[-1].conf_level
    verdicts = []
    for one in test.verdicts:
        exceeds, below, within = (adjusted_p(values) for values in (one.p_exceeds, one.p_below, one.p_within))
        text = np.select(
            [np.isnan(exceeds), np.fmin(exceeds, below) < alpha / 2, within < alpha],
            ["undefined", "exceeds", "within"],
            default="inconclusive",
        )
        verdicts.append(replace(one, verdict=text, p_exceeds=exceeds, p_below=below, p_within=within))
    last = verdicts[-1]
    whole = "inconclusive"
    if (last.verdict == "within").all():
        whole = "within"
    elif (last.p_exceeds < alpha / 2).any():  # a shared lens that does better than own lenses serves
        whole = "exceeds"
    undefined = bool(np.isnan(last.p_within).any())
    return SharedLensTest(
        test=replace(test, verdicts=tuple(verdicts)),
        excess=raw,
        over_null=over_null,
        verdict=whole,
        p_within=float("nan") if undefined else float(np.max(last.p_within)),
        p_exceeds=float(np.nanmin(last.p_exceeds)) if np.isfinite(last.p_exceeds).any() else float("nan"),
        largest=largest_term(test.estimates[-1], "layers"),
    )


def largest_term(estimate: Estimate, noun: str) -> Estimate:
    """The largest term of a vector estimate, with limits that hold for the largest of the true values.

    Below: the largest of the lower limits of m intervals at 1 - alpha / m (Bonferroni), which all hold at once.
    Above: the largest of the upper limits of plain intervals, because it is no less than the upper limit of the
    term that truly is the largest, whichever was picked. No upper limit where a term has none.
    """
    count = len(estimate.terms)
    if np.isnan(estimate.estimate).all():
        return estimate.pick(0)
    index = int(np.nanargmax(estimate.estimate))
    picked = estimate.pick(
        index,
        f"largest of {count} {noun}, at {estimate.terms[index]}; limits hold for the largest (Bonferroni below)",
    )
    level = 1 - (1 - estimate.conf_level) / count
    every = interval_from_parts(estimate.estimate, estimate.parts, estimate.dfs, conf_level=level)
    if np.isnan(every.conf_low).all():
        return picked
    low, high = np.asarray(np.nanmax(every.conf_low)), np.asarray(np.max(estimate.conf_high))
    p_value = np.asarray(np.fmin(1.0, count * picked.p_value))
    method = f"{picked.method}, simultaneous over {noun}"
    return replace(picked, conf_low=low, conf_high=high, p_value=p_value, method=method)
