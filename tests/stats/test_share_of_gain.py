"""A penalty beyond all that lenses gain over the prior: the sentence that says so, on both sides of 100 %."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import transferstats as ts
from transferstats.grid import DatasetLosses, TransferGrid
from transferstats.reporting.documents import report_files
from transferstats.results.gain import NOTHING, worse_than_prior
from transferstats.simulation import simulate_grid, true_penalty
from transferstats.stats.architectures import compare_shares
from transferstats.stats.depth import penalty_share

WORDS = "on average a transferred lens is worse than knowing nothing (than the prior)"
DOUBT = ", though the interval includes 100 %"


def network(*shares: float, n_seeds: int = 4, rng: int = 3) -> TransferGrid:
    """One dataset a share; the prior is moved to where the mean penalty is that share of the gain."""
    names = tuple(f"data {index}" for index in range(len(shares)))
    truth = true_penalty(5, level=0.5)
    grid = simulate_grid(truth, n_seeds=n_seeds, n_units=40, datasets=names, rng=rng).grid
    moved = zip(grid.datasets, shares, strict=True)
    return replace(grid, datasets=tuple(_with_share(data, share) for data, share in moved))


def _with_share(data: DatasetLosses, share: float) -> DatasetLosses:
    own = np.diagonal(data.loss("kl"), axis1=2, axis2=3).mean(axis=(0, 2))
    off = ~np.eye(data.n_layers, dtype=bool)
    penalty = float(np.average(data.penalty("kl")[:, :, off].mean(axis=(0, 2)), weights=data.tokens))
    return replace(data, baselines={**data.baselines, "prior_kl": own + penalty / share})


def beyond(grid: TransferGrid) -> float:
    """Mean transferred loss minus the prior's."""
    (data,) = grid.datasets
    off = ~np.eye(data.n_layers, dtype=bool)
    transferred = data.loss("kl")[:, :, off].mean(axis=(0, 2))
    return float(np.average(transferred - data.baselines["prior_kl"], weights=data.tokens))


@pytest.mark.parametrize(("share", "worse"), [(0.4, False), (0.99, False), (1.01, True), (1.65, True)])
def test_beyond_the_gain_is_worse_than_the_prior(share: float, worse: bool) -> None:
    grid = network(share)
    found = penalty_share(grid).headline
    assert float(found.estimate) == pytest.approx(share)
    assert (beyond(grid) > 0) == worse
    assert (NOTHING in found.note) == worse
    assert (WORDS in ts.sentence(found)) == worse
    assert (WORDS[1:] in ts.table(found).markdown()) == worse
    labels = ts.figure(found).axes[0].get_xlabel()
    assert (WORDS in labels) == worse
    assert (WORDS in found.tidy()["note"][0]) == worse


def test_exactly_all_of_the_gain_is_not_yet_worse() -> None:
    one = penalty_share(network(1.65)).headline
    assert worse_than_prior(replace(one, estimate=np.asarray(1.0), note="")) == ""


def test_an_interval_that_includes_the_gain_is_said_to() -> None:
    one = penalty_share(network(1.65)).headline
    assert float(one.conf_low) > 1
    assert worse_than_prior(one) == WORDS
    assert worse_than_prior(replace(one, conf_low=np.asarray(0.9))) == WORDS + DOUBT
    assert worse_than_prior(replace(one, conf_low=np.asarray(np.nan))) == WORDS


@pytest.mark.parametrize(("share", "worse"), [(0.8, False), (1.65, True)])
def test_verdict_and_report_say_so(share: float, worse: bool) -> None:
    evidence = ts.evaluate(network(share), 0.05)
    (claim,) = (one for one in evidence.claims if one.key == "C4")
    assert f"of the lenses' gain over the prior{': ' + WORDS if worse else ''}" in claim.reason
    assert claim.reason.endswith(WORDS if worse else "gain over the prior")
    assert (WORDS in ts.sentence(evidence)) == worse
    assert (NOTHING in ts.numbers(evidence).json()) is False
    files = report_files(evidence)
    for name in (
        "report.md",
        "index.html",
        "tables/penalty-share-1-data-0.csv",
        "tables/penalty-share-1-data-0.tex",
    ):
        assert (NOTHING in files[name].decode()) == worse, name


def test_every_dataset_is_judged_by_its_own_share() -> None:
    grid = network(0.7, 1.65)
    found = penalty_share(grid)
    assert [NOTHING in one.note for one in found] == [False, True, float(found.headline.estimate) > 1]
    reasons = {one.dataset: one.reason for one in ts.evaluate(grid, 0.05).claims if one.key == "C4"}
    assert {name: NOTHING in reason for name, reason in reasons.items()} == {
        one.dataset: NOTHING in one.note for one in found
    }
    note = ts.table(found).note
    assert f"Data 1: {WORDS}" in note
    assert "ata 0:" not in note


def test_a_difference_of_shares_names_the_network_that_is_worse() -> None:
    first, second = (
        replace(network(share, rng=rng), subject=f"net {rng}") for share, rng in ((0.7, 3), (1.65, 4))
    )
    note = compare_shares(first, second).note
    assert f"net 4: {WORDS}" in note
    assert "net 3:" not in note
