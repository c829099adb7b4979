"""Sentences of fits and tests: relevance, decay, null, permutation, regression, comparison, planning."""

from __future__ import annotations

import math

import numpy as np

from transferstats.reporting import formats, wording
from transferstats.reporting.sentences import (
    ended,
    evidence_phrase,
    note_phrase,
    quantity,
    sentence,
)
from transferstats.results import (
    Comparison,
    DecayComparison,
    DecayComparisons,
    DecayFit,
    DecayFits,
    Description,
    MetaAnalysis,
    MixedSlope,
    NullTest,
    QapResult,
    RegressionFit,
    RelevanceTest,
    Reliability,
    SharedLensTest,
    StudyPlan,
    StudySize,
    TrainingPath,
)

__all__ = ["sentence"]


@sentence.register
def _relevance(x: RelevanceTest) -> str:
    estimate, verdict = x.estimates[-1], x.verdicts[-1]
    region = wording.in_unit(wording.bounds(x.smallest), estimate.unit)
    words = np.atleast_1d(verdict.verdict)
    if words.size > 1:
        counts = [f"{int((words == word).sum())} {word}" for word in dict.fromkeys(str(word) for word in words)]
        return f"Against bounds of {region}, of {words.size} terms: {', '.join(counts)}. {sentence(estimate)}"
    word = str(words[0])
    p = {"exceeds": verdict.p_exceeds, "within": verdict.p_within}.get(word)
    test = f", {formats.p_value(float(np.atleast_1d(p)[0]))}" if p is not None else ""
    meaning = wording.VERDICT_MEANINGS.get(word, "no interval could be formed")
    return f"{sentence(estimate)} Against bounds of {region}: {word}{test} ({meaning})."


@sentence.register
def _decay_fit(x: DecayFit) -> str:
    where = f" of dataset {formats.legible(x.dataset)}" if x.dataset else ""
    sides = "one curve for both directions" if x.direction == "both" else "separate curves forward and backward"
    terms = [
        f"{formats.legible(one.terms[0])} = {quantity(one)}, {formats.level(one.conf_level)} CI "
        f"{formats.interval(float(one.conf_low), float(one.conf_high))}"
        for one in x.estimates
    ]
    text = (
        f"A {x.family.replace('_', '-')} curve ({formats.legible(x.label)}; {sides}) was fitted to "
        f"{formats.plural(x.n_cells, 'cell')} at {formats.plural(x.n_distances, 'distance')}{where}"
    )
    return f"{text}: {'; '.join(terms)}." + note_phrase("; ".join(x.flags)) if terms else text + "."


@sentence.register
def _decay_fits(x: DecayFits) -> str:
    return " ".join(sentence(fit) for fit in x.fits)


@sentence.register(DecayComparison)
@sentence.register(DecayComparisons)
def _comparison(x: DecayComparison | DecayComparisons) -> str:
    return ended(x.conclusion)


@sentence.register
def _qap(x: QapResult) -> str:
    terms = [
        f"{formats.legible(term)}: {verdict}, {formats.p_value(float(p))} "
        f"(smallest possible {formats.number(float(floor))})"
        for term, verdict, p, floor in zip(x.terms, x.verdicts(), x.p_value, x.floor, strict=True)
    ]
    number = formats.count(x.n_permutations)
    many = f"all {number}" if x.exact else f"{number} random"
    return (
        f"Permutation test over {many} relabellings of {x.n_layers} layers "
        f"({formats.legible(x.question)}): {'; '.join(terms)}." + note_phrase("; ".join(x.notes))
    )


@sentence.register
def _regression(x: RegressionFit) -> str:
    head = x.headline
    terms = [
        f"{formats.legible(term)}: {quantity(head, index)}, {evidence_phrase(head, index)}"
        for index, term in enumerate(head.terms)
    ]
    cells = formats.plural(x.n_cells, "cell")
    return f"Least squares over {cells}, {formats.legible(x.formula)}. {'. '.join(terms)}."


@sentence.register
def _null(x: NullTest) -> str:
    excess, observed, null, share = (one.headline for one in (x.excess, x.observed, x.null, x.share))
    if len(excess.terms) > 1:
        return sentence(excess)
    p = float(np.atleast_1d(x.p_greater[-1])[0])
    explained = ""
    if math.isfinite(float(share.estimate)):
        limits = formats.interval(100 * float(share.conf_low), 100 * float(share.conf_high))
        known = f", {formats.level(share.conf_level)} CI {limits}" if math.isfinite(float(share.conf_low)) else ""
        explained = f" The null accounts for {formats.percent(float(share.estimate))}{known} of it."
    return (
        f"The penalty beyond the shared-lens null was {quantity(excess)}, "
        f"{evidence_phrase(excess, with_p=False)}, "
        f"one-sided {formats.p_value(p)} (observed {quantity(observed)}; "
        f"{formats.plural(x.n_null, 'null replicate')}: "
        f"{quantity(null)}).{explained}" + note_phrase(excess.note)
    )


@sentence.register
def _shared_lens(x: SharedLensTest) -> str:
    judged = x.test.estimates[-1]
    kind = "beyond the shared-lens null" if x.over_null else "raw, biased down by the own lenses' own error"
    p = x.p_within if x.verdict == "within" else x.p_exceeds
    return (
        f"Shared-lens excess ({kind}) over {formats.plural(len(judged.terms), 'layer')} against bounds of "
        f"{wording.in_unit(wording.bounds(x.test.smallest), judged.unit)}: {x.verdict}, {formats.p_value(p)} "
        f"(Holm-adjusted over layers; {wording.VERDICT_MEANINGS.get(x.verdict, 'see the table')}). "
        f"{sentence(judged)}"
    )


@sentence.register
def _compared(x: Comparison) -> str:
    one, first, second = x.difference.headline, x.first.headline, x.second.headline
    if len(one.terms) > 1:
        return sentence(one)
    what = "ratio" if one.scale == "log" else "difference"
    names = [formats.legible(name) for name in x.subjects]
    return (
        f"{wording.term_name(one.terms[0])} was {quantity(first)} in {names[0]} and {quantity(second)} in "
        f"{names[1]}; "
        f"{what} {quantity(one)}, {evidence_phrase(one)}." + note_phrase(one.note)
    )


@sentence.register
def _combined(x: MetaAnalysis) -> str:
    value, low, high = float(x.estimate[0]), float(x.conf_low[0]), float(x.conf_high[0])
    shown, limits = formats.with_interval(value, low, high)
    return (
        f"Over {formats.plural(len(x.subjects), 'subject')}, the random-effects estimate was "
        f"{wording.in_unit(shown, x.members[0].unit)}, {formats.level(x.conf_level)} CI {limits}, "
        f"{formats.p_value(float(x.p_value[0]))}; between-subject share of the variance "
        f"{formats.percent(float(x.i2))}, heterogeneity {formats.p_value(float(x.q_p))}." + note_phrase(x.note)
    )


@sentence.register
def _plan(x: StudyPlan) -> str:
    best = int(np.argmin(x.half_width))
    return (
        f"From a pilot of {wording.plan_size(x.estimate, x.pilot_seeds, x.pilot_units)}, the expected "
        "half-width "
        f"falls to {wording.in_unit(formats.number(float(x.half_width[best])), x.estimate.unit)} with "
        f"{wording.plan_size(x.estimate, x.seeds[best], x.units[best])}; doubling the seeds "
        "alone would "
        f"multiply it by {formats.number(x.gain_seeds, 2)}, doubling the units alone by "
        f"{formats.number(x.gain_units, 2)}." + note_phrase(x.note)
    )


@sentence.register
def _size(x: StudySize) -> str:
    nouns = wording.sampled_nouns(x.estimate.unit, x.estimate.note)
    wanted = wording.in_unit(formats.trimmed(x.target), x.estimate.unit)
    enough = [
        f"{formats.plural(int(seeds), 'seed')} with {formats.count(int(units))} {nouns} a dataset"
        for seeds, units in zip(x.seeds, x.units, strict=True)
        if math.isfinite(units)
    ]
    short = [int(seeds) for seeds, units in zip(x.seeds, x.units, strict=True) if not math.isfinite(units)]
    text = f"For an expected half-width of {wanted} ({wording.term_name(x.estimate.terms[0]).lower()}): "
    text += "; or ".join(enough) if enough else "none of these numbers of seeds is enough"
    if short:
        floor = formats.number(float(x.floor[list(x.seeds).index(short[-1])]))
        text += (
            f". With {formats.plural(short[-1], 'seed')} or fewer no number of {nouns} is enough: seeds alone "
            f"leave a half-width of {floor}"
        )
    return f"{text}." + note_phrase(x.note)


@sentence.register
def _description(x: Description) -> str:
    sizes = [
        f"{formats.legible(name)} ({wording.sample_size(seeds, units, x.unit)})"
        for name, seeds, units, _ in x.datasets
    ]
    why = "; ".join(f"{what} ({reason})" for what, reason in x.unsupported)
    cannot = f" These data cannot support: {why}." if why else ""
    return (
        f"{formats.legible(x.subject)}: {formats.plural(len(x.layers), 'layer')}, {formats.joined(sizes)}, "
        f"{wording.loss_phrase(x.loss, x.unit)}. "
        f"{sentence(x.summary[0])}{cannot}"
    )


@sentence.register
def _reliability(x: Reliability) -> str:
    parts = []
    for one in x.coefficients:
        shown, limits = formats.with_interval(one.estimate, one.conf_low, one.conf_high)
        known = math.isfinite(one.conf_low)
        parts.append(f"{wording.term_name(one.term)} {shown}" + (f" {limits}" if known else ""))
    return f"Agreement about the pattern of cells, dataset {formats.legible(x.dataset)}: {'; '.join(parts)}."


@sentence.register
def _mixed(x: MixedSlope) -> str:
    shown, limits = formats.with_interval(x.estimate, x.conf_low, x.conf_high)
    return (
        f"Sensitivity check by a mixed model: slope {wording.in_unit(shown, x.unit)}, "
        f"{formats.level(x.conf_level)} "
        f"CI {limits}, {formats.p_value(x.p_value)}." + note_phrase("; ".join(x.messages))
    )


@sentence.register
def _path(x: TrainingPath) -> str:
    lines = "; ".join(_along(x, anchor) for anchor in x.starts)
    where = wording.dataset_phrase(x.dataset)
    size = wording.sample_size(x.penalty.n_seeds, x.penalty.n_units, x.penalty.unit, x.penalty.note)
    return f"Along the training of own lenses ({where}, {size}), {lines}. {wording.standing(x)}"


def _along(x: TrainingPath, anchor: str) -> str:
    """Held-out kl and penalty at both ends of one line."""
    first, last = (x.moments(anchor)[end] for end in (0, -1))
    kl = [formats.number(float(x.held_out_kl[index])) for index in (first, last)]
    end = x.penalty.pick(last)
    value, limits = formats.with_interval(float(end.estimate), float(end.conf_low), float(end.conf_high))
    steps = formats.plural(int(x.steps[last]), "step")
    return (
        f"from {wording.start_name(anchor)}, held-out kl went from {kl[0]} to {kl[1]} in {steps}, and the penalty "
        f"from {quantity(x.penalty, first)} to {value} {formats.legible(x.penalty.unit)}, "
        f"{formats.level(end.conf_level)} CI {limits}"
    )
