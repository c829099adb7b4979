"""Numbers by name, so that a paper quotes them by reference: LaTeX macros, Typst bindings, JSON.

Names hold letters only (LaTeX allows nothing else) and are unique: ``\\TransferMean`` is the mean penalty over
datasets, ``\\TransferMeanCI`` its interval, ``\\TransferWikitextMean`` the same for one dataset.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import singledispatch

import numpy as np

from transferstats.reporting import formats, wording
from transferstats.reporting.renderers import escape_latex, typst_string
from transferstats.reporting.sentences import headline_claims, scalar_terms
from transferstats.results import Claim, DatasetEvidence, Estimate, Estimates, Evidence
from transferstats.results.decay import DecayFit, DecayFits

PREFIX = "Transfer"

HEADLINES = frozenset({"mean", "forward", "backward", "asymmetry", "ratio", "slope"})
"""Terms that a paper quotes without naming a claim; other claims (a worst layer, say) go by their number."""

DIGITS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")


@dataclass(frozen=True, slots=True)
class NamedNumber:
    """One number of a paper: the text to print, the value behind it (NaN for words), what it is."""

    text: str
    value: float
    meaning: str


@dataclass(frozen=True, slots=True)
class Numbers:
    """Numbers by macro name, in order of first mention."""

    entries: Mapping[str, NamedNumber]

    def __getitem__(self, name: str) -> str:
        return self.entries[name].text

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def tex(self) -> str:
        """LaTeX: one ``\\newcommand`` a number, safe in text mode; ``\\input`` the file in the preamble."""
        lines = [
            f"\\newcommand{{\\{name}}}{{{escape_latex(entry.text)}}}% {_comment(entry.meaning)}"
            for name, entry in self.entries.items()
        ]
        return "\n".join(["% Written by transferstats. Input in the preamble.", *lines]) + "\n"

    def json(self) -> str:
        """JSON: name -> text, value (null for words), meaning."""
        body = {
            name: {
                "text": entry.text,
                "value": entry.value if math.isfinite(entry.value) else None,
                "meaning": formats.legible(entry.meaning),
            }
            for name, entry in self.entries.items()
        }
        return json.dumps(body, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"

    @staticmethod
    def collected(pairs: Iterator[tuple[str, NamedNumber]]) -> Numbers:
        """Numbers from (name without prefix, number), names made unique."""
        return _collected(pairs)

    def typ(self) -> str:
        """Typst: one ``#let`` a number, as text."""
        lines = [f"#let {name} = {typst_string(entry.text)}" for name, entry in self.entries.items()]
        return "\n".join(["// Written by transferstats.", *lines]) + "\n"


Pair = tuple[str, NamedNumber]


def _comment(text: str) -> str:
    """A LaTeX comment: one line, ascii, so that no encoding can end it early."""
    return formats.legible(text).replace("\u00a0", " ").encode("ascii", "replace").decode()


@singledispatch
def numbers(x: object) -> Numbers:
    """The numbers of a result, by names that a paper can use.

    Raises
    ------
    TypeError: x has no named numbers.

    Examples
    --------
    >>> import transferstats as ts
    >>> grid = ts.simulate_grid(n_seeds=4, n_units=40, rng=1).grid
    >>> list(ts.numbers(ts.estimate(grid, "mean")))[:2]
    ['TransferMean', 'TransferMeanCI']
    """
    raise TypeError(f"no numbers for {type(x).__name__}; pass a result of transferstats")


@numbers.register
def _estimate(x: Estimate) -> Numbers:
    return _collected(_of_estimates([x], ""))


@numbers.register
def _estimates(x: Estimates) -> Numbers:
    return _collected(pair for one in x for pair in _of_estimates([one], _dataset_part(one.dataset, len(x))))


@numbers.register
def _decay(x: DecayFit) -> Numbers:
    return _collected(_of_estimates(x.estimates, camel(x.family)))


@numbers.register
def _decays(x: DecayFits) -> Numbers:
    return _collected(
        pair
        for fit in x
        for pair in _of_estimates(fit.estimates, _dataset_part(fit.dataset, len(x)) + camel(fit.family))
    )


@numbers.register
def _claim(x: Claim) -> Numbers:
    return _collected(claim_numbers(x, ""))


@numbers.register
def _dataset(x: DatasetEvidence) -> Numbers:
    return _collected(_of_dataset(x, ""))


@numbers.register
def _evidence(x: Evidence) -> Numbers:
    return _collected(_of_evidence(x))


def _of_evidence(x: Evidence) -> Iterator[Pair]:
    yield "Layers", _count(len(x.layers), "layers")
    yield "Datasets", _count(len(x.datasets), "datasets")
    yield (
        "Smallest",
        NamedNumber(formats.trimmed(x.smallest), x.smallest, f"smallest penalty of interest, {x.unit}"),
    )
    yield "Level", NamedNumber(formats.level(x.conf_level), x.conf_level, "confidence level")
    headline = headline_claims(x)
    for claim in headline:
        yield from claim_numbers(claim, "")
    yield from _headline_terms(headline)
    single = len(x.datasets) == 1
    for data in x.datasets:
        part = camel(data.dataset)
        for claim in x.claims:
            if claim.dataset == data.dataset and not single:
                yield from claim_numbers(claim, part)
        yield from _of_dataset(data, "" if single else part)


def _headline_terms(claims: list[Claim]) -> Iterator[Pair]:
    """The usual statistics behind headline claims under their own names, each from the first claim that has it."""
    seen: set[str] = set()
    for claim in claims:
        if claim.estimate is None or claim.estimate.terms[0] not in HEADLINES:
            continue
        if claim.estimate.terms[0] not in seen:
            seen.add(claim.estimate.terms[0])
            yield from _of_estimates([claim.estimate], "")


def claim_numbers(claim: Claim, part: str) -> Iterator[Pair]:
    """Verdict, estimate and p-values of a claim; ``part`` goes before the name."""
    name = f"{part}Claim{camel(claim.key)}"
    where = f"{claim.key}, {wording.dataset_phrase(claim.dataset)}"
    yield f"{name}Verdict", NamedNumber(claim.verdict, math.nan, f"verdict on {where}")
    if claim.estimate is not None:
        yield from _of_one(claim.estimate, name, where)
        yield f"{name}PClaim", _p(claim.p_value, f"p of the test behind {where}")
        yield f"{name}PAdjusted", _p(claim.p_adjusted, f"Holm-adjusted p of {where}")


def _of_dataset(data: DatasetEvidence, part: str) -> Iterator[Pair]:
    where = wording.dataset_phrase(data.dataset)
    yield f"{part}Seeds", _count(data.n_seeds, f"seeds, {where}")
    yield f"{part}Units", _count(data.n_units, f"units, {where}")
    yield f"{part}Tokens", _count(data.tokens, f"tokens scored, {where}")
    yield from _of_estimates(scalar_terms(data.summary), part)
    counted = data.extras.get("disagreement")
    if isinstance(counted, Estimate):
        yield from _of_estimates(scalar_terms(counted), f"{part}Disagreement")
    for family, fit in data.fits.items():
        if isinstance(fit, DecayFit):
            yield from _of_estimates(fit.estimates, part + camel(family))


def _of_estimates(estimates: list[Estimate] | tuple[Estimate, ...], part: str) -> Iterator[Pair]:
    for estimate in estimates:
        for one in scalar_terms(estimate):
            where = f"{one.terms[0]}, {wording.dataset_phrase(one.dataset) or 'all'}"
            yield from _of_one(one, part + camel(one.terms[0]), where)


def estimate_numbers(one: Estimate, owner: str, name: str) -> Iterator[Pair]:
    """Numbers of a scalar estimate that belongs to a named owner, such as a subject."""
    yield from _of_one(one, camel(owner) + camel(name), f"{name}, {formats.legible(owner)}")


def _of_one(one: Estimate, name: str, where: str) -> Iterator[Pair]:
    value, low, high, p, df = (
        float(np.atleast_1d(v)[0]) for v in (one.estimate, one.conf_low, one.conf_high, one.p_value, one.df)
    )
    shown, limits = formats.with_interval(value, low, high)
    yield name, NamedNumber(shown, value, f"{where}, {one.unit}")
    yield f"{name}CI", NamedNumber(limits, math.nan, f"{formats.level(one.conf_level)} interval of {where}")
    yield f"{name}Low", NamedNumber(limits.strip("[]").split(", ")[0], low, f"lower limit of {where}")
    yield f"{name}High", NamedNumber(limits.strip("[]").split(", ")[-1], high, f"upper limit of {where}")
    yield f"{name}P", _p(p, f"two-sided p against 0 of {where}")
    yield f"{name}DF", NamedNumber(formats.degrees(df), df, f"effective degrees of freedom of {where}")


def _p(p: float, meaning: str) -> NamedNumber:
    return NamedNumber(formats.p_number(p), p, meaning)


def _count(value: float, meaning: str) -> NamedNumber:
    return NamedNumber(formats.count(value), float(value), meaning)


def _dataset_part(dataset: str, how_many: int) -> str:
    return "" if how_many == 1 else camel(dataset)


def camel(text: str) -> str:
    """Letters only: words capitalised, digits spelt out, everything else dropped."""
    words: list[str] = []
    fresh = True
    for character in text:
        if character.isascii() and character.isalpha():
            words.append(character.upper() if fresh else character)
            fresh = False
        else:
            words += [DIGITS[int(character)]] if character.isascii() and character.isdigit() else []
            fresh = True
    return "".join(words) or "Unnamed"


def _collected(pairs: Iterator[Pair]) -> Numbers:
    """Names made unique: a name that is taken by another number gets a letter behind it."""
    entries: dict[str, NamedNumber] = {}
    for name, entry in pairs:
        full = PREFIX + name
        if entries.get(full) == entry:
            continue
        free = (full + suffix for suffix in ("", *_letters()))
        entries[next(candidate for candidate in free if candidate not in entries)] = entry
    return Numbers(entries)


def _letters() -> Iterator[str]:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    yield from ("X" + letter for letter in alphabet)
    yield from ("X" + first + second for first in alphabet for second in alphabet)
