"""The words that all views share: what a term is called, what is sampled, what a verdict means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from transferstats.distance import layer_positions
from transferstats.lens_sets import BESIDE, split_name
from transferstats.reporting.formats import count, legible, number, plural, trimmed, with_interval
from transferstats.results import AVERAGE, DatasetEvidence, Estimate, SubjectSummary, TrainingPath
from transferstats.results.gain import NOTHING

TERMS: Mapping[str, str] = MappingProxyType(
    {
        "mean": "Mean transfer penalty",
        "forward": "Mean forward penalty",
        "backward": "Mean backward penalty",
        "asymmetry": "Forward minus backward penalty",
        "ratio": "Backward over forward penalty",
        "slope": "Slope of penalty on layer distance",
        "icc_agreement": "ICC(A,1), one seed",
        "icc_consistency": "ICC(C,1), one seed up to shifts",
        "icc_mean": "ICC(C,k), mean over seeds",
        "split_half_units": "Split halves of units",
        "split_half_seeds": "Split halves of seeds",
        "a": "Asymptote or scale a",
        "b": "Slope or exponent b",
        "tau": "Distance constant \u03c4",
        "half_distance": "Half-distance",
        "initial_slope": "Initial slope",
    }
)
"""Readable names of the usual statistics."""

VERDICT_MARKS: Mapping[str, str] = MappingProxyType(
    {
        "exceeds": "\u25b2",
        "within": "\u25c6",
        "inconclusive": "\u25cb",
        "supported": "\u25cf",
        "contradicted": "\u00d7",
        "not tested": "\u2013",
    }
)
"""A shape for each verdict, so that none rests on colour alone."""

VERDICT_MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        "exceeds": "the whole interval lies beyond the smallest value of interest",
        "within": "both one-sided tests place the value inside the bounds of what is too small to matter",
        "inconclusive": "the interval reaches both values that would matter and values that would not; "
        "this is not evidence of absence",
        "supported": "the interval lies on the side that the claim names",
        "contradicted": "the interval lies on the side opposite to the claim",
        "not tested": "the study lacks what the claim needs",
    }
)
"""What each verdict says."""

LOSSES: Mapping[str, str] = MappingProxyType(
    {
        "kl": "KL divergence of the lens distribution from the final distribution (kl)",
        "ce": "cross-entropy with the true next token or label (ce)",
        "disagreement": "disagreement of the most likely output of the lens with the network's (disagreement)",
        "error": "one minus the score (error)",
    }
)

REFERENCES: Mapping[str, str] = MappingProxyType(
    {
        "logit": "logit lens (no training)",
        "shared": "shared lens",
        "final": "final model",
        "prior": "prior (no context)",
    }
)
"""Readable names of reference losses."""


STARTS: Mapping[str, str] = MappingProxyType(
    {"identity": "the identity (logit lens)", "ridge": "ridge to the final state", "shared": "the shared lens"}
)
"""Readable names of where lenses start."""


def start_name(anchor: str) -> str:
    """Where lenses start, in words."""
    return STARTS.get(anchor, legible(anchor))


def standing(x: TrainingPath) -> str:
    """On which point of a path the claims of its study stand, as a sentence."""
    text = f"The claims stand on lenses from {start_name(x.anchor)}, each after the steps at which it was kept"
    if x.kept is None:
        return f"{text}."
    low, high = float(x.kept.conf_low), float(x.kept.conf_high)
    value, limits = with_interval(float(x.kept.estimate), low, high)
    return (
        f"{text}: on this fold, at a mean held-out kl of {number(x.kept_kl)}, their mean penalty was {value} "
        f"{legible(x.kept.unit)} {limits}."
    )


def distances_of(means: Estimate) -> list[float]:
    """Layer distances that the terms of means by distance name: "distance 4"."""
    return [float(term.removeprefix("distance ")) for term in means.terms]


def relative_depths(one: SubjectSummary, name: str) -> npt.NDArray[np.float64]:
    """What stands on the axis of "distance" or "depth": as a share of the whole depth, first layer 0, last 1."""
    places = np.asarray(layer_positions(one.layers))
    if name == "distance":
        return np.asarray(np.asarray(distances_of(one.distances)) / np.ptp(places))
    return np.asarray((places - places[0]) / (places[-1] - places[0]))


def term_name(term: str) -> str:
    """Readable name of a term; unknown terms as they are, underscores as spaces."""
    return TERMS.get(term, legible(term).replace("_", " "))


def reference_name(name: str) -> str:
    """Readable name of a reference loss."""
    return REFERENCES.get(name, legible(name))


SHARE = "share of "
"""How the unit of a loss begins that is counted: no unit of measurement, so it stands in brackets."""


def in_unit(number: str, unit: str) -> str:
    """A number with its unit: "0.031 nats/token", "0.031 (share of tokens)"."""
    shown = legible(unit)
    return f"{number} ({shown})" if shown.startswith(SHARE) else f"{number} {shown}".strip()


def loss_phrase(loss: str, unit: str) -> str:
    """A loss and its unit in words: "cross-entropy ..., in nats/token", or "..., as a share of tokens"."""
    shown = legible(unit)
    return f"{LOSSES.get(loss, legible(loss))}, {'as a' if shown.startswith(SHARE) else 'in'} {shown}"


def disagreement(unit: str) -> str:
    """What the loss beside the one that claims are about is."""
    return (
        f"{legible(unit)} for which the most likely output of a lens is not the network's, shown beside the loss "
        "because it is bounded: its penalty lies between -1 and 1, however far a transferred lens extrapolates"
    )


def readout_name(stored: str) -> str:
    """Readable name of a readout of a store: "own", "own, other start", "own, 1/2 of the rows"."""
    readout, lens_set = split_name(stored)
    if lens_set == BESIDE:
        return f"{legible(readout)}, other start"
    return f"{legible(readout)}, {legible(lens_set)} of the rows" if lens_set else legible(readout)


def units_noun(unit: str) -> str:
    """What a unit of the sample is, judged by the unit of the loss: document, image or unit."""
    if "image" in unit:
        return "image"
    return "document" if "token" in unit else "unit"


OWN_LENSES = "each unit has lenses of its own"
"""What the note of an estimate says whose units were not scored with the same lenses."""

CLUSTERED = "clusters are what is sampled"
"""What the note of an estimate says whose ``n_units`` counts clusters of dependent units."""


def worse_than_prior(note: str) -> str:
    """What a note says about a penalty beyond all that lenses gain over the prior; "" where there is none."""
    return legible(next((part for part in note.split("; ") if NOTHING in part), ""))


def sample_size(n_seeds: int, n_units: int, unit: str, note: str = "") -> str:
    """Size of the sample: "5 seeds \u00d7 120 documents", or clusters of documents where the note says so."""
    noun = units_noun(unit)
    if OWN_LENSES in note:
        return f"{plural(n_units, noun)}, each with lenses of its own"
    if CLUSTERED in note:
        return f"{plural(n_seeds, 'seed')} \u00d7 {plural(n_units, 'cluster')} of {noun}s"
    return f"{plural(n_seeds, 'seed')} \u00d7 {plural(n_units, noun)}"


def sampled_nouns(unit: str, note: str) -> str:
    """What is sampled beside seeds, in the plural, where the note of an estimate says what that is."""
    return f"clusters of {units_noun(unit)}s" if CLUSTERED in note else f"{units_noun(unit)}s"


def plan_size(pilot: Estimate, n_seeds: float, n_units: float) -> str:
    """Size of a planned study, in what the pilot sampled."""
    return sample_size(int(n_seeds), int(n_units), pilot.unit, pilot.note)


def pooled_size(n_seeds: int, n_units: int, unit: str, note: str = "") -> str:
    """Size of the sample behind an average over datasets, whose units are counted together."""
    noun = units_noun(unit)
    if OWN_LENSES in note:
        return f"{plural(n_units, noun)} in all, each with lenses of its own"
    units = f"{plural(n_units, 'cluster')} of {noun}s" if CLUSTERED in note else plural(n_units, noun)
    return f"{plural(n_seeds, 'seed')} a dataset, {units} in all"


def design_size(data: DatasetEvidence, unit: str) -> str:
    """Size of the design of one dataset, with its clusters where units are dependent."""
    clusters = f" in {plural(data.n_clusters, 'cluster')}" if data.n_clusters < data.n_units else ""
    return sample_size(data.n_seeds, data.n_units, unit) + clusters


def sampled(datasets: Iterable[DatasetEvidence], unit: str) -> str:
    """What is sampled beside seeds, in the plural: "documents", or "clusters of documents"."""
    noun = f"{units_noun(unit)}s"
    return f"clusters of {noun}" if any(one.n_clusters < one.n_units for one in datasets) else noun


def dataset_phrase(dataset: str) -> str:
    """Where a number comes from: "dataset wikitext", "average over datasets", or nothing."""
    if not dataset:
        return ""
    return "average over datasets" if dataset == AVERAGE else f"dataset {legible(dataset)}"


def bounds(smallest: tuple[float, float]) -> str:
    """Region too small to matter: "\u00b1 0.05", or "-0.02 to 0.05"."""
    low, high = smallest
    if low == -high:
        return f"\u00b1\u00a0{trimmed(high)}"
    return f"{trimmed(low)} to {trimmed(high)}"


def layer_list(layers: tuple[str, ...]) -> str:
    """Layers of the network in words: all of up to 6, else first, last and how many."""
    names = [legible(layer, 40) for layer in layers]
    if len(names) <= 6:
        return ", ".join(names)
    return f"{names[0]} to {names[-1]} ({count(len(names))} layers)"


def short_layers(layers: tuple[str, ...], limit: int = 14) -> list[str]:
    """Layer names for an axis: a beginning that all of them share ("layer ", "blocks.") is left away."""
    names = [legible(layer) for layer in layers]
    shared = names[0][: next((i for i, at in enumerate(zip(*names, strict=False)) if len(set(at)) > 1), 0)]
    cut = max((shared.rfind(mark) + 1 for mark in (" ", ".", "_", "/", ":", "-")), default=0)
    if len(names) > 1 and all(len(name) > cut for name in names):
        names = [name[cut:] for name in names]
    return [legible(name, limit) for name in names]


def main_term(estimate: Estimate) -> str:
    """Term of a scalar estimate."""
    return estimate.terms[0]
