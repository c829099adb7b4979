"""Subjects whose answer is known: networks of arrays for which one lens is, or is not, right at every layer.

A class y has a Zipf prior and a mean mu_y of fixed norm. Evidence x_j ~ N(snr mu_y, I), j = 0..L, arrives one
piece a layer; a document's difficulty multiplies snr. The state h_t = sum_{j<=t} snr x_j is sufficient, and with
the class means plus the log prior as head, softmax(head(h_t)) is the posterior given h_t for every t: the
identity is exactly the right lens at every layer. Topic-shifted priors, Gaussian final states or a normalised
decode would break this exactness.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import expm
from scipy.stats import ortho_group

from transferstats.arrays import FloatArray
from transferstats.errors import DesignError

KINDS: tuple[str, ...] = ("iterative", "trap", "pipeline")


@dataclass(frozen=True, slots=True)
class SubjectArrays:
    """States, decoder and labels of a subject given as arrays.

    Attributes
    ----------
    name: for people. hidden: (L, n, d), input of each layer. final: (n, d). labels: (n,) classes.
    unit: (n,) index of the unit of each row. weight: (V, d), bias: (V,) of the decoder; no norm.
    clusters: one label a unit.
    """

    name: str
    hidden: FloatArray
    final: FloatArray
    labels: npt.NDArray[np.int64]
    unit: npt.NDArray[np.int64]
    weight: FloatArray
    bias: FloatArray
    clusters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KnownTruth:
    """A kind of subject with a known answer.

    Attributes
    ----------
    kind: "iterative" (one lens exactly right), "trap" (one lens exactly right, but the first layer spans only
        ``trap_width`` directions), or "pipeline" (every layer rotated by its own random rotation).
    dial: root mean square rotation angle of the pipeline, radians; 0 is the iterative subject, inf rotates every
        layer by any rotation with the same chance.
    n_layers, width, n_classes: sizes. n_units, tokens: documents and rows of each.
    norm: of class means. snr: evidence a layer. difficulty: sd of the log of a document's factor on snr.
    """

    kind: str = "iterative"
    dial: float = 0.0
    n_layers: int = 8
    width: int = 48
    n_classes: int = 160
    n_units: int = 360
    tokens: int = 100
    trap_width: int = 6
    norm: float = 2.2
    snr: float = 0.5
    difficulty: float = 0.4

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise DesignError(f"unknown kind {self.kind!r}: use one of {', '.join(KINDS)}")
        if self.dial < 0 or (self.kind != "pipeline" and self.dial):
            raise DesignError("the dial is a rotation angle >= 0, and only the pipeline has one")


def simulate_subject(truth: KnownTruth, *, rng: np.random.Generator) -> SubjectArrays:
    """Draw a subject of a known kind with its documents."""
    means = _class_means(truth, rng)
    prior = 1.0 / np.arange(1, truth.n_classes + 1)
    prior /= prior.sum()
    n_rows = truth.n_units * truth.tokens
    unit = np.repeat(np.arange(truth.n_units), truth.tokens)
    snr = truth.snr * np.exp(truth.difficulty * rng.standard_normal(truth.n_units))[unit, None]
    labels = rng.choice(truth.n_classes, size=n_rows, p=prior)
    hidden = np.empty((truth.n_layers, n_rows, truth.width))
    state = np.zeros((n_rows, truth.width))
    for layer in range(truth.n_layers + 1):
        evidence = snr * means[labels] + rng.standard_normal(state.shape)
        if truth.kind == "trap" and layer == 0:
            evidence[:, truth.trap_width :] = 0.0
        state = state + snr * evidence
        if layer < truth.n_layers:
            hidden[layer] = state
    if truth.kind == "pipeline":
        for layer in range(truth.n_layers):
            hidden[layer] = hidden[layer] @ _rotation(truth, rng).T
    name = truth.kind if truth.kind != "pipeline" else f"pipeline {truth.dial:g}"
    clusters = tuple(f"document {index}" for index in range(truth.n_units))
    return SubjectArrays(name, hidden, state, labels, unit, means, np.log(prior), clusters)


def _class_means(truth: KnownTruth, rng: np.random.Generator) -> FloatArray:
    """(V, d) means of equal norm, also within the first ``trap_width`` directions.

    Were the norms within the trap's directions unequal, the posterior given the first layer would need a
    class-dependent bias, and the identity would no longer be right there.
    """
    means = rng.standard_normal((truth.n_classes, truth.width))
    for block in (slice(0, truth.trap_width), slice(truth.trap_width, truth.width)):
        share = (block.stop - block.start) / truth.width
        length = np.linalg.norm(means[:, block], axis=1, keepdims=True)
        means[:, block] *= truth.norm * np.sqrt(share) / length
    return means


def _rotation(truth: KnownTruth, rng: np.random.Generator) -> FloatArray:
    """Random rotation whose angles have root mean square ``dial``."""
    if np.isinf(truth.dial):
        return np.asarray(ortho_group.rvs(truth.width, random_state=rng))
    square = rng.standard_normal((truth.width, truth.width))
    skew = (square - square.T) / np.sqrt(2 * truth.width)
    return np.asarray(expm(truth.dial * skew))
