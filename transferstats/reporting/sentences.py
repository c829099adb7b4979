"""Results as sentences of a results section: estimate, interval, statistic, exact p, sample, verdict.

The words are descriptive. An interval that reaches 0 leaves a question open and is said to; it is never
called an absence, and nothing here is said to be the reason for anything else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import singledispatch

import numpy as np

from transferstats.reporting import formats, wording
from transferstats.results import AVERAGE, Claim, DatasetEvidence, Estimate, Estimates, Evidence

DIRECTED = frozenset({"slope", "asymmetry", "ratio"})
"""Terms whose sentence says which way they go, once their interval does."""


@singledispatch
def sentence(x: object) -> str:
    """A result in the words of a results section.

    Parameters
    ----------
    x: any result: Estimate, Claim, Evidence, DecayFit, DecayComparison, RelevanceTest, RegressionFit, ...

    Returns
    -------
    One or a few sentences of plain text (Unicode), rounded as the interval allows.

    Raises
    ------
    TypeError: x is not a result that has a sentence.

    Examples
    --------
    >>> import transferstats as ts
    >>> grid = ts.simulate_grid(n_seeds=4, n_units=40, rng=1).grid
    >>> ts.sentence(ts.estimate(grid, "slope")).startswith("Transfer penalties rose with layer distance, b = 0.0")
    True
    """
    raise TypeError(f"no sentence for {type(x).__name__}; pass a result of transferstats")


@sentence.register
def _estimate(x: Estimate) -> str:
    if len(x.terms) > 1:
        return _vector(x)
    return f"{_lead(x)}, {evidence_phrase(x)}." + note_phrase(x.note)


@sentence.register
def _estimates(x: Estimates) -> str:
    return sentence(x.headline)


def _lead(x: Estimate) -> str:
    value, low, high = float(x.estimate), float(x.conf_low), float(x.conf_high)
    shown = quantity(x)
    term = wording.main_term(x)
    if term == "slope":
        return _directed(
            (low, high, 0.0),
            f"Transfer penalties rose with layer distance, b = {shown}",
            f"Transfer penalties fell with layer distance, b = {shown}",
            f"These data do not settle whether transfer penalties rise or fall with layer distance, b = {shown}",
        )
    if term == "asymmetry":
        return _directed(
            (low, high, 0.0),
            f"Forward transfer carried the larger penalty, forward minus backward = {shown}",
            f"Backward transfer carried the larger penalty, forward minus backward = {shown}",
            f"These data do not settle which direction carries the larger penalty, "
            f"forward minus backward = {shown}",
        )
    if term == "ratio":
        return _directed(
            (low, high, 1.0),
            f"Backward penalties were the larger ones, backward over forward = {shown}",
            f"Forward penalties were the larger ones, backward over forward = {shown}",
            f"These data do not settle which direction carries the larger penalty, "
            f"backward over forward = {shown}",
        )
    if math.isnan(value):
        return f"{capital(wording.term_name(term))} is not available"
    return f"{capital(wording.term_name(term))} was {shown}"


def capital(text: str) -> str:
    """Text that begins with a capital letter."""
    return text[:1].upper() + text[1:]


def _directed(limits: tuple[float, float, float], above: str, below: str, open_: str) -> str:
    low, high, reference = limits
    return above if low > reference else below if high < reference else open_


def quantity(x: Estimate, index: int = 0) -> str:
    """One term's estimate with its unit: "0.031 nats/token"."""
    value, low, high = (float(np.atleast_1d(v)[index]) for v in (x.estimate, x.conf_low, x.conf_high))
    return wording.in_unit(formats.with_interval(value, low, high)[0], x.unit)


def evidence_phrase(x: Estimate, index: int = 0, *, with_p: bool = True) -> str:
    """Interval, statistic, p and sample of one term, separated by commas."""
    value, low, high, statistic, df, p = (
        float(np.atleast_1d(v)[index]) for v in (x.estimate, x.conf_low, x.conf_high, x.statistic, x.df, x.p_value)
    )
    parts = ["no interval could be formed"]
    if math.isfinite(low) and math.isfinite(high):
        parts = [f"{formats.level(x.conf_level)} CI {formats.with_interval(value, low, high)[1]}"]
        parts += [formats.t_statistic(statistic, df)]
        parts += [formats.p_value(p)] if with_p and math.isfinite(p) else []
    where = wording.dataset_phrase(x.dataset)
    size = wording.pooled_size if x.dataset == AVERAGE else wording.sample_size
    sample = size(x.n_seeds, x.n_units, x.unit, x.note)
    parts.append(f"{sample} ({where})" if where else sample)
    return ", ".join(part for part in parts if part)


def _vector(x: Estimate) -> str:
    defined = np.isfinite(x.conf_low) & np.isfinite(x.conf_high)
    clear = int((defined & ((x.conf_low > 0) | (x.conf_high < 0))).sum())
    values = x.estimate[np.isfinite(x.estimate)]
    if not values.size:
        return f"None of {len(x.terms)} terms could be estimated." + note_phrase(x.note)
    where = wording.dataset_phrase(x.dataset)
    text = (
        f"Over {len(x.terms)} terms, estimates ranged from {formats.number(values.min())} to "
        + wording.in_unit(formats.number(values.max()), x.unit)
        + f"; {clear} of {int(defined.sum())} {formats.level(x.conf_level)} CIs exclude 0 "
        f"(each term on its own, not adjusted for their number), "
        + wording.sample_size(x.n_seeds, x.n_units, x.unit, x.note)
    )
    return text + (f" ({where})." if where else ".") + note_phrase(x.note)


def note_phrase(note: str) -> str:
    """A note as a sentence of its own, or nothing."""
    return f" Note: {formats.legible(note).rstrip('.')}." if note else ""


@sentence.register
def _claim(x: Claim) -> str:
    return claim_sentence(x)


def claim_sentence(x: Claim, without: frozenset[str] = frozenset()) -> str:
    """Sentence of a claim, leaving out caveats that are stated elsewhere."""
    where = wording.dataset_phrase(x.dataset)
    head = f"{formats.legible(x.key)}{', ' + where if where else ''}. "
    verdict = (
        f"Verdict on \u201c{formats.legible(x.title).rstrip('.')}\u201d: {x.verdict}; {ended(_signed(x.reason))}"
    )
    said = [text for text in x.caveats if text not in without and text not in x.reason]
    caveats = note_phrase("; ".join(said))
    if x.estimate is None:
        return head + verdict + caveats
    one = x.estimate
    kind = "two one-sided tests" if x.verdict == "within" else "test of the claim"
    test = f"; {formats.p_value(x.p_value)} ({kind}), {formats.p_value(x.p_adjusted, 'Holm-adjusted p')}"
    test = "" if x.verdict == "not tested" else test
    region = ""
    if x.smallest is not None:
        region = f"; too small to matter: {wording.in_unit(wording.bounds(x.smallest), one.unit)}"
    lead = _lead(one) if one.terms[0] in DIRECTED else f"The {formats.legible(x.estimand)} was {quantity(one)}"
    return f"{head}{lead}, {evidence_phrase(one, with_p=False)}{test}{region}. {verdict}{caveats}"


def _signed(reason: str) -> str:
    """A reason with a real plus-minus sign before numbers."""
    return re.sub(r"\+-(?=\d)", "\u00b1", reason)


def shared_caveats(claims: Sequence[Claim]) -> tuple[str, ...]:
    """Caveats that hold for every tested claim, in order."""
    tested = [claim for claim in claims if claim.verdict != "not tested"]
    if len(tested) < 2:
        return ()
    common = set.intersection(*(set(claim.caveats) for claim in tested))
    return tuple(text for text in tested[0].caveats if text in common)


def ended(text: str) -> str:
    """Text that ends in exactly one full stop."""
    shown = formats.legible(text).strip().rstrip(".")
    return f"{shown}." if shown else "no reason was recorded."


@sentence.register
def _evidence(x: Evidence) -> str:
    return " ".join([design_sentence(x), *claim_sentences(x)])


def claim_sentences(x: Evidence) -> list[str]:
    """One sentence a headline claim; what weakens all of them is said once, at the end."""
    claims = headline_claims(x)
    common = shared_caveats(claims)
    told = [claim_sentence(_counted(claim, x), frozenset(common)) for claim in claims]
    return [*told, f"For all of these: {ended('; '.join(common))}"] if common else told


def _counted(claim: Claim, x: Evidence) -> Claim:
    """The claim, its estimate saying so where what it counts as units are clusters of the design."""
    if claim.estimate is None or wording.CLUSTERED in claim.estimate.note:
        return claim
    designs = [data for data in x.datasets if claim.dataset in (AVERAGE, data.dataset)]
    clusters, units = (sum(sizes) for sizes in zip(*((d.n_clusters, d.n_units) for d in designs), strict=True))
    if claim.estimate.n_units != clusters or clusters == units:
        return claim
    note = "; ".join(text for text in (claim.estimate.note, wording.CLUSTERED) if text)
    return replace(claim, estimate=replace(claim.estimate, note=note))


def headline_claims(x: Evidence) -> list[Claim]:
    """The claim rows that speak for the whole study: averages over datasets, or the only dataset's."""
    return headline_of(x.claims)


def headline_of(claims: Sequence[Claim]) -> list[Claim]:
    """Averages over datasets where there are any, else all of them."""
    averages = [claim for claim in claims if claim.dataset == AVERAGE]
    keys = {claim.key for claim in averages}
    return averages + [claim for claim in claims if claim.key not in keys] if averages else list(claims)


def design_sentence(x: Evidence) -> str:
    """What was measured, on what, how often."""
    sizes = [f"{formats.legible(data.dataset)} ({wording.design_size(data, x.unit)})" for data in x.datasets]
    return (
        f"Lenses of {formats.plural(len(x.layers), 'layer')} of {formats.legible(x.subject)} were trained and "
        f"scored on {formats.plural(len(x.datasets), 'dataset')}: {formats.joined(sizes)}; penalties are "
        f"differences of {wording.loss_phrase(x.loss, x.unit)}; the "
        f"smallest penalty of interest is {wording.in_unit(formats.trimmed(x.smallest), x.unit)}."
    )


@sentence.register
def _dataset_evidence(x: DatasetEvidence) -> str:
    told = [sentence(term) for term in scalar_terms(x.summary)]
    counted = x.extras.get("disagreement")
    if isinstance(counted, Estimate):
        told.append(f"In disagreement: {sentence(counted.pick(0))}")
    return " ".join(told)


def scalar_terms(x: Estimate) -> list[Estimate]:
    """A vector estimate as one scalar estimate a term."""
    return [_per_layer(x.pick(index)) for index in range(len(x.terms))]


def _per_layer(x: Estimate) -> Estimate:
    """A slope among other scalars of one table carries their unit; its own is per layer."""
    if x.terms[0] == "slope" and " per " not in x.unit:
        return replace(x, unit=f"{x.unit} per layer")
    return x
