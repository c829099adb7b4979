"""Who trains, who decides when to stop, who is scored: disjoint units, whole clusters.

A seed is a disjoint fold of training units. If two folds shared a play, or the evaluation units did, their
lenses would look more alike than lenses trained on independent text, and intervals would be too short.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from transferstats.errors import DesignError

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Fold:
    """Unit indices of one seed: ``train`` fits the lens, ``held_out`` chooses lambda and stopping."""

    train: Indices
    held_out: Indices


@dataclass(frozen=True, slots=True)
class Split:
    """Unit indices of a dataset: one fold a seed, and the evaluation units that all seeds share."""

    folds: tuple[Fold, ...]
    evaluation: Indices


def split_units(
    clusters: Sequence[str],
    *,
    n_folds: int,
    n_evaluation: int,
    held_out: float = 0.2,
    rng: np.random.Generator,
) -> Split:
    """Split units into ``n_folds`` training folds and one evaluation set without splitting a cluster.

    Parameters
    ----------
    clusters: N cluster labels; give every unit its own label where units are independent.
    n_folds: number of seeds K (and of null replicates, which reuse the folds).
    n_evaluation: evaluation units wanted; where whole clusters bring more, a random subset is kept.
    held_out: fraction of each fold kept for lambda and early stopping.
    rng: decides between clusters of equal size.

    Raises
    ------
    DesignError: too few units or clusters for this design; the message says how many are needed.
    """
    labels = np.asarray(clusters)
    n_units = len(labels)
    if n_folds < 1 or n_evaluation < 2 or not 0 < held_out < 1:
        raise DesignError(
            f"{n_folds} folds, {n_evaluation} evaluation units, held-out share {held_out:g}: need 1 fold at "
            "least, 2 evaluation units and a share between 0 and 1"
        )
    per_fold = (n_units - n_evaluation) / n_folds
    if per_fold < 2:
        raise DesignError(
            f"{n_units} units cannot give {n_evaluation} evaluation units and {n_folds} folds of at least 2; "
            "bring more documents, fewer seeds or fewer evaluation units"
        )
    groups = _assign(labels, np.arange(n_units), [float(n_evaluation)] + [per_fold] * n_folds, rng)
    evaluation = groups[0]
    if len(evaluation) < 0.8 * n_evaluation:
        raise DesignError(
            f"whole clusters give only {len(evaluation)} of {n_evaluation} evaluation units: clusters are too "
            "few or too large; use finer clusters or ask for fewer evaluation units"
        )
    if len(evaluation) > n_evaluation:
        evaluation = np.sort(rng.choice(evaluation, n_evaluation, replace=False))
    folds = tuple(_fold(labels, members, held_out, rng, k) for k, members in enumerate(groups[1:]))
    return Split(folds, evaluation)


def _fold(
    labels: npt.NDArray[np.str_], members: Indices, held_out: float, rng: np.random.Generator, k: int
) -> Fold:
    if len(np.unique(labels[members])) < 2:
        raise DesignError(
            f"fold {k} holds {len(np.unique(labels[members]))} cluster(s) and needs 2, one of them held out; "
            "use fewer seeds or finer clusters"
        )
    train, held = _assign(labels, members, [len(members) * (1 - held_out), len(members) * held_out], rng)
    if not len(held):
        held, train = _smallest_cluster(labels, train)
    elif not len(train):
        train, held = _smallest_cluster(labels, held)
    return Fold(train, held)


def _smallest_cluster(labels: npt.NDArray[np.str_], members: Indices) -> tuple[Indices, Indices]:
    """(members of the smallest cluster, all others)."""
    names, counts = np.unique(labels[members], return_counts=True)
    chosen = labels[members] == names[np.argmin(counts)]
    return members[chosen], members[~chosen]


def _assign(
    labels: npt.NDArray[np.str_], members: Indices, targets: Sequence[float], rng: np.random.Generator
) -> list[Indices]:
    """Largest cluster first, each to the group with the largest unmet share of its target."""
    names, counts = np.unique(labels[members], return_counts=True)
    order = np.lexsort((rng.random(len(names)), -counts))
    filled = np.zeros(len(targets))
    goal = np.asarray(targets)
    group_of = {}
    for index in order:
        group = int(np.argmax(goal - filled))
        group_of[names[index]] = group
        filled[group] += counts[index]
    assigned = np.array([group_of[label] for label in labels[members]])
    return [members[assigned == group] for group in range(len(targets))]
