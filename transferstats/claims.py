"""The standard claims C1 to C8: one function a question, each answered per dataset and for their average.

A verdict never says more than its interval: directional claims are supported, contradicted or inconclusive at
the level of the interval; claims about size exceed, stay within, or are inconclusive against the smallest
penalty of interest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from transferstats.errors import DataError, DesignError
from transferstats.grid import SIMILARITY, TransferGrid
from transferstats.lens_sets import BESIDE
from transferstats.results import Estimate, Estimates
from transferstats.results.gain import worse_than_prior
from transferstats.stats.depth import depth_trend, gains_over_prior, penalty_share
from transferstats.stats.estimation import estimate
from transferstats.stats.gate import Gate, Judge, gate
from transferstats.stats.intervals import p_greater
from transferstats.stats.null import layers_verdict, null_test, shared_lens_test
from transferstats.stats.regression import regress
from transferstats.stats.relevance import relevance_test

NO_NULL = "the study has no shared-lens null replicates"
NO_CHECK = (
    "nothing tells whether the null is right on this network, because no null was made of a null replicate: "
    "sweep the study with this version"
)
NO_SHARED = "the study has no shared lens"
RAW_EXCESS = "no null subtracted: own lenses carry their own estimation error, so the raw excess is biased down"
ONE_DISTANCE = "two layers have only one distance"
NO_SIMILARITY = "the study recorded no layer similarities"
PRINCIPLE = (
    "any network whose layers build better features would show it; by itself it shows nothing about transfer"
)


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked of the grid: smallest penalty of interest (nats) and the level of every interval.

    shapes: dataset -> in words, the shape of its penalty against distance; empty where there are too few layers.
    """

    grid: TransferGrid
    smallest: float
    conf_level: float
    shapes: Mapping[str, str] = field(default_factory=dict)

    @property
    def alpha(self) -> float:
        """Two-sided error rate of the interval."""
        return 1 - self.conf_level


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A claim about one dataset before adjustment for the number of claims.

    beside: about the second set of own lenses, with another start.
    """

    key: str
    title: str
    estimand: str
    dataset: str
    estimate: Estimate | None
    p_value: float
    verdict: str
    reason: str
    smallest: tuple[float, float] | None = None
    caveats: tuple[str, ...] = ()
    beside: bool = False


Question = Callable[[Ask], Iterator[Answer]]


def _names(ask: Ask) -> tuple[str, ...]:
    datasets = tuple(data.name for data in ask.grid.datasets)
    return (*datasets, "average") if len(datasets) > 1 else datasets


Decided = tuple[float, str, str]
"""p of the test that decided, verdict, reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What is claimed, before anything is known: key, title, and what is estimated, in words."""

    key: str
    title: str
    estimand: str

    def answer(
        self,
        one: Estimate | None,
        decided: Decided,
        *,
        dataset: str = "",
        smallest: tuple[float, float] | None = None,
        caveats: tuple[str, ...] = (),
    ) -> Answer:
        """The answer about one dataset, that of the estimate unless named."""
        p_value, verdict, reason = decided
        return Answer(
            key=self.key,
            title=self.title,
            estimand=self.estimand,
            dataset=dataset or (one.dataset if one is not None else ""),
            estimate=one,
            p_value=p_value,
            verdict=verdict,
            reason=reason,
            smallest=smallest,
            caveats=caveats,
        )

    def untested(self, ask: Ask, reason: str) -> Iterator[Answer]:
        """No answer, one a dataset, with the reason."""
        for name in _names(ask):
            yield self.answer(None, (float("nan"), "not tested", reason), dataset=name)


def _directional(one: Estimate, ask: Ask, sign: int) -> Decided:
    """One-sided p of the test that decided, verdict, reason of "the estimate has this sign"."""
    p_value = float(p_greater(sign * one.estimate, one.parts, one.dfs))
    against = float(p_greater(-sign * one.estimate, one.parts, one.dfs))
    if np.isnan(p_value):
        return p_value, "inconclusive", one.note or "the uncertainty is not defined"
    level = f"{100 * one.conf_level:g} % interval"
    if p_value < ask.alpha / 2:
        return p_value, "supported", f"the {level} lies on the claimed side of 0"
    if against < ask.alpha / 2:
        return against, "contradicted", f"the {level} lies on the other side of 0"
    return p_value, "inconclusive", f"the {level} includes 0"


def _sized(estimates: Estimates, ask: Ask, *, signed: bool = False) -> Iterator[tuple[Estimate, Decided]]:
    """An estimate and what was decided about it against the smallest penalty of interest, one a dataset.

    ``signed``: an estimate below -smallest contradicts the claim, instead of exceeding on the other side.
    """
    test = relevance_test(estimates, smallest=ask.smallest)
    for one, verdict in zip(test.estimates, test.verdicts, strict=True):
        text = str(verdict.verdict)
        p_value = float(verdict.p_within if text == "within" else np.fmin(verdict.p_exceeds, verdict.p_below))
        reason = {
            "exceeds": f"the interval lies beyond {ask.smallest:g}",
            "within": f"both one-sided tests put it inside \u00b1{ask.smallest:g}",
            "inconclusive": f"the interval reaches both sides of {ask.smallest:g}",
        }.get(text, one.note)
        if signed and text == "exceeds" and int(verdict.direction) < 0:
            text, reason = "contradicted", f"the interval lies below -{ask.smallest:g}"
        yield one, (p_value, text if text != "undefined" else "inconclusive", reason)


def _refusal(found: Gate, name: str, one: Estimate, verdict: str, judge: Judge) -> str:
    """Why a verdict over the null is not given; empty where it stands whatever the null is seen to err by."""
    if name not in found.checks:
        return NO_CHECK
    if verdict == "inconclusive" or found.error(name).stands(one, judge):
        return ""
    term = found.worst(name)
    where = "" if term.terms[0] == "mean" else f" at {term.terms[0]}"
    size = f"{float(term.estimate):.3g} [{float(term.conf_low):.3g}, {float(term.conf_high):.3g}]"
    return (
        f"the null is not calibrated here: in a null replicate, where nothing is, it finds {size}{where}, and the "
        f"verdict ({verdict}) does not stand without it; more training tokens may help"
    )


def _doubt(found: Gate, name: str, one: Estimate, verdict: str, judge: Judge) -> tuple[str, ...]:
    """What the check of the null leaves open for a verdict that is given."""
    if verdict in ("inconclusive", "not tested") or found.error(name, seen=False).stands(one, judge):
        return ()
    return (
        "the check of the null shows no error, but does not exclude one with which this verdict would not stand: "
        "more null replicates would tell",
    )


def _over_null(found: Gate, one: Estimate, decided: Decided, judge: Judge) -> tuple[Decided, tuple[str, ...]]:
    """What was decided and its caveats, once the gate has seen it."""
    verdict = decided[1]
    refused = _refusal(found, one.dataset, one, verdict, judge)
    if refused:
        return (float("nan"), "not tested", refused), (refused,)
    return decided, _doubt(found, one.dataset, one, verdict, judge)


def loss_falls(ask: Ask) -> Iterator[Answer]:
    """C1: the own-lens loss falls with depth."""
    claim = Statement(
        key="C1",
        title="Own-lens loss falls with depth",
        estimand="least-squares slope of the own-lens loss on the layer number",
    )
    for one in depth_trend(ask.grid, conf_level=ask.conf_level):
        yield claim.answer(one, _directional(one, ask, -1), caveats=(PRINCIPLE,))


def penalties_nonzero(ask: Ask) -> Iterator[Answer]:
    """C2: the mean transfer penalty is above 0."""
    claim = Statement(
        key="C2", title="Transfer penalties are above zero", estimand="mean of the off-diagonal penalties"
    )
    without_null = ask.grid.datasets[0].null is None
    caveats = ("a shared lens would show penalties above 0 too",) if without_null else ()
    for one in estimate(ask.grid, "mean", conf_level=ask.conf_level):
        yield claim.answer(one, _directional(one, ask, 1), caveats=caveats)


def exceeds_null(ask: Ask) -> Iterator[Answer]:
    """C3: penalties exceed what the shared-lens null gives."""
    claim = Statement(
        key="C3",
        title="Penalties exceed those of a network with one right lens",
        estimand="mean penalty minus its mean under the shared-lens null",
    )
    if any(data.null is None for data in ask.grid.datasets):
        yield from claim.untested(ask, NO_NULL)
        return
    test = null_test(ask.grid, "mean", conf_level=ask.conf_level)
    checked = gate(ask.grid, conf_level=ask.conf_level)
    for one, share in zip(test.excess, test.share, strict=True):
        (p_value, verdict, reason), caveats = _over_null(
            checked, one, _directional(one, ask, 1), lambda moved: _directional(moved, ask, 1)[1]
        )
        if np.isfinite(share.estimate):
            reason += f"; the null accounts for {100 * float(share.estimate):.0f} % of the mean penalty"
        yield claim.answer(one, (p_value, verdict, reason), caveats=caveats)


def penalties_matter(ask: Ask) -> Iterator[Answer]:
    """C4: the penalty (over the null where there is one) against the smallest penalty of interest."""
    with_null = all(data.null is not None for data in ask.grid.datasets)
    if with_null:
        estimates = null_test(ask.grid, "mean", conf_level=ask.conf_level).excess
        estimand = "mean penalty minus its mean under the shared-lens null"
    else:
        estimates = estimate(ask.grid, "mean", conf_level=ask.conf_level)
        estimand = "mean of the off-diagonal penalties"
    claim = Statement(
        key="C4",
        title=f"Penalties are large enough to matter (smallest of interest {ask.smallest:g})",
        estimand=estimand,
    )
    shares = _shares(ask)
    checked = gate(ask.grid, conf_level=ask.conf_level)

    def judge(moved: Estimate) -> str:
        return next(_sized(Estimates((moved,)), ask, signed=True))[1][1]

    for one, decided in _sized(estimates, ask, signed=with_null):
        caveats: tuple[str, ...] = ("raw penalty: what a shared lens would show is not subtracted",)
        if with_null:
            decided, caveats = _over_null(checked, one, decided, judge)
        p_value, verdict, reason = decided
        if one.dataset in shares and np.isfinite(shares[one.dataset].conf_low):
            share = shares[one.dataset]
            reason += (
                f"; the raw penalty is {100 * float(share.estimate):.1f} % "
                f"[{100 * float(share.conf_low):.1f}, {100 * float(share.conf_high):.1f}] "
                "of the lenses' gain over the prior"
            )
            reason += f": {worse}" if (worse := worse_than_prior(share)) else ""
        elif all(f"prior_{ask.grid.loss}" in data.baselines for data in ask.grid.datasets):
            reason += "; no share of the lenses' gain over the prior, because there are lenses that gain nothing"
        bounds = (-ask.smallest, ask.smallest)
        yield claim.answer(one, (p_value, verdict, reason), smallest=bounds, caveats=caveats)


def _shares(ask: Ask) -> dict[str, Estimate]:
    """Penalty as a share of the gain over the prior, where lenses gain; of the average where all of them do."""
    gaining = [data.name for data in ask.grid.datasets if gains_over_prior(data, ask.grid.loss)]
    if not gaining:
        return {}
    found = penalty_share(ask.grid.with_datasets(gaining), conf_level=ask.conf_level)
    whole = len(gaining) == len(ask.grid.datasets)
    return {one.dataset: one for one in found if whole or one.dataset != "average"}


def grows_with_distance(ask: Ask) -> Iterator[Answer]:
    """C5: penalties grow with layer distance."""
    claim = Statement(
        key="C5",
        title="Penalties grow with layer distance",
        estimand="least-squares slope of the mean penalty on |source - target|",
    )
    if ask.grid.n_layers < 3:
        yield from claim.untested(ask, ONE_DISTANCE)
        return
    for one in estimate(ask.grid, "slope", conf_level=ask.conf_level):
        p_value, verdict, reason = _directional(one, ask, 1)
        if verdict == "supported" and ask.shapes:
            reason += f"; shape: {_shape(ask, one.dataset)}"
        yield claim.answer(one, (p_value, verdict, reason))


def _shape(ask: Ask, dataset: str) -> str:
    """Shape of one dataset, or of all of them for their average."""
    if dataset in ask.shapes:
        return ask.shapes[dataset]
    distinct = set(ask.shapes.values())
    if len(distinct) == 1:
        return distinct.pop()
    return "; ".join(f"{name}: {shape}" for name, shape in ask.shapes.items())


def direction_matters(ask: Ask) -> Iterator[Answer]:
    """C6: forward and backward penalties differ by more than the smallest penalty of interest, or do not."""
    claim = Statement(
        key="C6",
        title="Forward and backward transfer differ",
        estimand="mean forward penalty minus mean backward penalty",
    )
    for one, decided in _sized(estimate(ask.grid, "asymmetry", conf_level=ask.conf_level), ask):
        yield claim.answer(one, decided, smallest=(-ask.smallest, ask.smallest))


def shared_lens_serves(ask: Ask) -> Iterator[Answer]:
    """C7: one shared lens serves every layer within the smallest penalty of interest."""
    claim = Statement(
        key="C7",
        title="One shared lens serves every layer",
        estimand="largest shared-lens excess over layers (minus the null's where there is one)",
    )
    if any("shared" not in data.readouts for data in ask.grid.datasets):
        yield from claim.untested(ask, NO_SHARED)
        return
    for name in _names(ask):
        grid = ask.grid if name == "average" else ask.grid.with_datasets([name])
        test = shared_lens_test(grid, ask.smallest, conf_level=ask.conf_level)
        p_value = test.p_within if test.verdict == "within" else test.p_exceeds
        verdict = {"within": "supported", "exceeds": "contradicted"}.get(test.verdict, "inconclusive")
        reason = {
            "within": f"the excess is inside \u00b1{ask.smallest:g} at every layer (Holm over layers)",
            "exceeds": f"the excess is beyond {ask.smallest:g} at one layer at least (Holm over layers)",
        }.get(test.verdict, f"not inside \u00b1{ask.smallest:g} at every layer, nor clearly above it at any")
        decided: Decided = (p_value, verdict, reason)
        caveats: tuple[str, ...] = (RAW_EXCESS,)
        if test.over_null:
            excess = replace(test.test.estimates[-1], dataset=name)
            checked = gate(grid, conf_level=ask.conf_level, readout="shared")
            decided, caveats = _over_null(
                checked, excess, decided, lambda moved: layers_verdict(moved, ask.smallest)
            )
        bounds = (-ask.smallest, ask.smallest)
        yield claim.answer(test.largest, decided, dataset=name, smallest=bounds, caveats=caveats)


def distance_adds(ask: Ask) -> Iterator[Answer]:
    """C8: distance predicts the penalty beyond what the similarity of the layers predicts."""
    claim = Statement(
        key="C8",
        title="Distance adds to layer similarity",
        estimand="coefficient of distance in penalty ~ distance + covariance similarity + direction",
    )
    missing = any(SIMILARITY not in ask.grid.similarities.get(data.name, {}) for data in ask.grid.datasets)
    if missing or ask.grid.n_layers < 3:
        yield from claim.untested(ask, NO_SIMILARITY if missing else ONE_DISTANCE)
        return
    try:
        fit = regress(f"penalty ~ distance + {SIMILARITY} + direction", ask.grid, conf_level=ask.conf_level)
    except (DataError, DesignError) as refused:  # similarities that are no numbers, or follow from the distance
        yield from claim.untested(ask, f"distance and similarity cannot be told apart: {refused}")
        return
    for one in fit.estimates:
        picked = replace(one.pick("distance"), unit=f"{ask.grid.loss_unit} per layer")
        yield claim.answer(picked, _directional(picked, ask, 1))


def anchored(ask: Ask) -> Iterator[Answer]:
    """C2 to C6 again for lenses that start from the shared one: what the data of each layer insist on.

    Their keys end in "s". C1 and C7 are about own lenses that have only ever seen their layer.
    """
    beside = replace(ask, grid=ask.grid.with_set(BESIDE), shapes={})
    for question in (penalties_nonzero, exceeds_null, penalties_matter, grows_with_distance, direction_matters):
        for answer in question(beside):
            title = f"{answer.title} (shared start)"
            yield replace(answer, key=f"{answer.key}s", title=title, beside=True)


QUESTIONS: tuple[Question, ...] = (
    loss_falls,
    penalties_nonzero,
    exceeds_null,
    penalties_matter,
    grows_with_distance,
    direction_matters,
    shared_lens_serves,
    distance_adds,
)
