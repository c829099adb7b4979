"""Lenses of a part of a fold: which rows they see, and what the sets of lenses are called."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from transferstats.known_truth import KnownTruth, simulate_subject
from transferstats.lens.arrays import ArraySubject, array_subject
from transferstats.lens.plan import FitPlan
from transferstats.lens.states import States
from transferstats.lens.study import World, sample_of
from transferstats.lens.translator import moments
from transferstats.lens_sets import BESIDE, share_name, split_name, stored_name

SHARES = (0.125, 0.25, 0.5)
TRUTH = KnownTruth("iterative", n_layers=3, width=12, n_classes=24, n_units=60, tokens=10, trap_width=4)


def subject(clusters: list[int]) -> ArraySubject:
    """A subject whose documents belong to these clusters."""
    arrays = simulate_subject(replace(TRUTH, n_units=len(clusters)), rng=np.random.default_rng(0))
    return array_subject(replace(arrays, clusters=tuple(f"cluster {one}" for one in clusters)))


def world(made: ArraySubject, states: States, plan: FitPlan | None = None) -> World:
    draw = torch.Generator().manual_seed(0)
    stats = moments(states.hidden, states.final[None])
    return World(made, plan or FitPlan(), stats, draw, lambda stage, done: None)


CLUSTERS = {
    "one document each": list(range(60)),
    "of one size": [index // 3 for index in range(60)],
    "of all sizes": [int(np.sqrt(index)) for index in range(60)],
}


@pytest.mark.parametrize("kind", CLUSTERS)
def test_parts_are_nested_whole_clusters_of_about_their_share(kind: str) -> None:
    made = subject(CLUSTERS[kind])
    states = made.capture(list(range(7, 60)))  # a fold does not hold the first documents
    member = np.array([CLUSTERS[kind][7 + int(one)] for one in states.unit])
    sizes = np.bincount(member) / len(member)
    before: set[int] = set()
    for share in SHARES:
        rows = world(made, states).nested_rows(states, share).tolist()
        kept = set(member[rows])
        assert set(rows) == set(np.flatnonzero(np.isin(member, list(kept))).tolist())
        assert before <= set(rows)
        assert len(rows) <= share * len(member) or len(kept) == 1
        assert len(rows) / len(member) > share - sizes.max()
        before = set(rows)


def test_a_part_of_equal_clusters_is_its_share() -> None:
    made = subject(CLUSTERS["one document each"])
    states = made.capture(list(range(40)))
    assert [len(world(made, states).nested_rows(states, share)) for share in SHARES] == [50, 100, 200]


def test_a_part_is_never_empty() -> None:
    """The first cluster is taken though it is larger than the share: lenses need rows."""
    made = subject([0] * 8)
    states = made.capture(list(range(8)))
    assert len(world(made, states).nested_rows(states, 0.25)) == states.n_rows


def test_the_same_part_is_taken_whatever_was_drawn_before() -> None:
    made = subject(CLUSTERS["of all sizes"])
    states = made.capture(list(range(60)))
    one = world(made, states)
    first = one.nested_rows(states, 0.5)
    torch.rand(5, generator=one.draw)
    assert torch.equal(first, one.nested_rows(states, 0.5))


def test_lenses_of_a_part_see_its_rows_and_take_its_share_of_the_steps() -> None:
    made = subject(CLUSTERS["one document each"])
    samples = [sample_of(made, made.capture(list(range(at, at + 20)))) for at in (0, 20, 40)]
    states = made.capture(list(range(20)))
    plan = FitPlan(batch=32, max_steps=16, settle=16, strengths=(1e-1,))
    fitting = world(made, states, plan)
    rows = fitting.nested_rows(states, 0.5)
    fitted = fitting.fit_part(samples, rows, 0.5)
    assert set(fitted) == {"own|1/2", "shared|1/2"}
    for name, count in (("own|1/2", 100), ("shared|1/2", 300)):  # a shared lens sees the rows of three layers
        certificate = fitted[name].certificate
        assert set(certificate.rows.tolist()) == {float(count)}
        assert bool((certificate.steps <= 8).all())
    # Only those rows matter: the others may be anything.
    others = torch.ones(samples[0].hidden.shape[1], dtype=torch.bool).index_fill(0, rows, value=False)
    spoiled = replace(samples[0], hidden=samples[0].hidden.masked_fill(others[None, :, None], torch.nan))
    again = world(made, states, plan).fit_part([spoiled, *samples[1:]], rows, 0.5)
    first = world(made, states, plan).fit_part(samples, rows, 0.5)
    assert torch.equal(again["own|1/2"].lenses.weight, first["own|1/2"].lenses.weight)


@pytest.mark.parametrize(
    ("share", "name"),
    [(0.5, "1/2"), (0.25, "1/4"), (1 / 3, "1/3"), (0.3, "3/10"), (0.1234, "0.1234"), (1 / 64, "1/64")],
)
def test_a_share_has_a_plain_name(share: float, name: str) -> None:
    assert share_name(share) == name


@pytest.mark.parametrize("lens_set", [BESIDE, "1/2", "0.1234"])
@pytest.mark.parametrize("readout", ["lens", "shared", "own"])
def test_names_in_a_store_are_taken_apart_again(readout: str, lens_set: str) -> None:
    assert split_name(stored_name(readout, lens_set)) == (readout, lens_set)
    assert split_name(readout) == (readout, "")
