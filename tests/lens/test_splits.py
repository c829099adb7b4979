"""Folds, held-out and evaluation units are disjoint in every design that is accepted, clusters included."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from transferstats.errors import DesignError
from transferstats.lens.splits import Split, split_units


@st.composite
def designs(draw: st.DrawFn) -> dict[str, object]:
    """Clusters of 1 to 6 units, in shuffled order, and a design that mostly fits."""
    sizes = draw(st.lists(st.integers(1, 6), min_size=24, max_size=60))
    labels = [f"cluster {index}" for index, size in enumerate(sizes) for _ in range(size)]
    order = np.random.default_rng(draw(st.integers(0, 99))).permutation(len(labels))
    return {
        "clusters": [labels[index] for index in order],
        "n_folds": draw(st.integers(1, 4)),
        "n_evaluation": max(2, round(draw(st.floats(0.05, 0.6)) * len(labels))),
        "held_out": draw(st.sampled_from([0.05, 0.2, 0.5, 0.9])),
        "seed": draw(st.integers(0, 2**32)),
    }


def split(design: dict[str, object]) -> Split:
    options = dict(design)
    rng = np.random.default_rng(options.pop("seed"))  # type: ignore[arg-type]
    return split_units(rng=rng, **options)  # type: ignore[arg-type]


def split_or_reject(design: dict[str, object]) -> Split:
    try:
        return split(design)
    except DesignError:
        assume(False)
        raise


def groups(made: Split) -> list[np.ndarray]:
    return [made.evaluation, *(part for fold in made.folds for part in (fold.train, fold.held_out))]


@given(designs())
def test_no_unit_is_used_twice(design: dict[str, object]) -> None:
    used = np.concatenate(groups(split_or_reject(design)))
    assert len(np.unique(used)) == len(used)
    assert used.min() >= 0
    assert used.max() < len(design["clusters"])  # type: ignore[arg-type]


@given(designs())
def test_no_cluster_is_divided(design: dict[str, object]) -> None:
    labels = np.asarray(design["clusters"])
    seen: set[str] = set()
    for members in groups(split_or_reject(design)):
        mine = set(labels[members])
        assert not mine & seen
        seen |= mine


@given(designs())
def test_every_group_has_units_and_the_evaluation_its_size(design: dict[str, object]) -> None:
    made = split_or_reject(design)
    assert all(len(members) for members in groups(made))
    wanted = design["n_evaluation"]
    assert 0.8 * wanted <= len(made.evaluation) <= wanted  # type: ignore[operator]
    assert len(made.folds) == design["n_folds"]


@given(designs())
def test_folds_are_equal_up_to_the_size_of_a_cluster(design: dict[str, object]) -> None:
    made = split_or_reject(design)
    sizes = [len(fold.train) + len(fold.held_out) for fold in made.folds]
    _, counts = np.unique(np.asarray(design["clusters"]), return_counts=True)
    assert max(sizes) - min(sizes) <= counts.max()


@given(st.integers(1, 6), st.integers(2, 40), st.integers(0, 9))
def test_independent_units_can_always_be_split(n_folds: int, n_evaluation: int, seed: int) -> None:
    """2 units a fold are enough, and the evaluation units are exactly as many as asked for."""
    labels = [str(index) for index in range(n_evaluation + 2 * n_folds)]
    made = split_units(labels, n_folds=n_folds, n_evaluation=n_evaluation, rng=np.random.default_rng(seed))
    assert len(made.evaluation) == n_evaluation
    assert [(len(fold.train), len(fold.held_out)) for fold in made.folds] == [(1, 1)] * n_folds


@given(designs())
def test_the_same_design_gives_the_same_split(design: dict[str, object]) -> None:
    one, two = groups(split_or_reject(design)), groups(split(design))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def test_the_seed_decides_between_clusters_of_equal_size() -> None:
    labels = [str(index) for index in range(100)]
    one, two = (
        split_units(labels, n_folds=2, n_evaluation=30, rng=np.random.default_rng(seed)) for seed in (0, 1)
    )
    assert not np.array_equal(one.evaluation, two.evaluation)


def test_held_out_share_is_near_its_target() -> None:
    labels = [str(index) for index in range(300)]
    made = split_units(labels, n_folds=3, n_evaluation=60, held_out=0.25, rng=np.random.default_rng(0))
    assert [len(fold.held_out) for fold in made.folds] == [20] * 3


@pytest.mark.parametrize(
    ("clusters", "options", "words"),
    [
        (10, {"n_folds": 3, "n_evaluation": 6}, "bring more documents"),
        (10, {"n_folds": 0, "n_evaluation": 4}, "1 fold"),
        (10, {"n_folds": 2, "n_evaluation": 0}, "2 evaluation"),
        (10, {"n_folds": 2, "n_evaluation": 4, "held_out": 0.0}, "share between 0 and 1"),
        (10, {"n_folds": 2, "n_evaluation": 4, "held_out": 1.0}, "share between 0 and 1"),
        (10, {"n_folds": 2, "n_evaluation": 40}, "bring more documents"),
        (["a"] * 20 + ["b"] * 20, {"n_folds": 2, "n_evaluation": 10}, "clusters"),
        (["a"] * 90 + [str(index) for index in range(10)], {"n_folds": 2, "n_evaluation": 20}, "finer clusters"),
    ],
)
def test_an_impossible_design_is_refused_with_a_way_out(clusters: object, options: dict, words: str) -> None:
    labels = [str(index) for index in range(clusters)] if isinstance(clusters, int) else clusters
    with pytest.raises(DesignError, match=words):
        split_units(labels, rng=np.random.default_rng(0), **options)  # type: ignore[arg-type]
