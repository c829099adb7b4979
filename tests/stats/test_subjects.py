"""Several subjects: the differences are those of ``compare``, verdicts follow intervals, Holm counts them all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from transferstats.errors import DesignError
from transferstats.grid import TransferGrid
from transferstats.readers import read_grid
from transferstats.simulation import simulate_grid, true_penalty
from transferstats.stats.comparison import compare
from transferstats.stats.estimation import estimate
from transferstats.stats.multiplicity import adjusted_p
from transferstats.stats.subjects import NOT_ADJUSTED, compare_subjects


def network(name: str, *, rng: int, layers: int = 5, scale: float = 1.0, **options: object) -> TransferGrid:
    truth = scale * true_penalty(layers)
    grid = simulate_grid(truth, n_seeds=5, n_units=40, datasets=("one", "two"), rng=rng, **options).grid  # type: ignore[arg-type]
    return replace(grid, subject=name)


@pytest.fixture(scope="module")
def three() -> list[TransferGrid]:
    """Two alike, and a deeper one whose penalties are three times as large."""
    return [network("a", rng=1), network("b", rng=2), network("deep", rng=3, layers=7, scale=3.0)]


def test_every_pair_and_statistic_is_compared_once(three: list[TransferGrid]) -> None:
    found = compare_subjects(three, smallest=0.1)
    assert [claim.key for claim in found.claims if claim.dataset == "average"] == [f"D{i}" for i in range(1, 10)]
    assert len(found.tidy()) == 9 * 3
    assert found.glance()["n_subjects"][0] == 3


def test_differences_are_those_of_compare(three: list[TransferGrid]) -> None:
    found = compare_subjects(three, smallest=0.1)
    means = {claim.title: claim for claim in found.claims if claim.dataset == "average"}
    claim = means["Mean penalty differs between a and deep"]
    expected = compare(three[0], three[2]).difference.headline
    assert claim.estimate is not None
    assert claim.estimate.estimate == expected.estimate
    assert claim.estimate.conf_low == expected.conf_low
    slope = means["Growth with distance differs between a and deep"].estimate
    assert slope is not None
    by_depth = compare(three[0], three[2], statistic="slope", distance="depth").difference.headline
    assert slope.estimate == by_depth.estimate
    assert slope.unit == "nats/token over the whole depth"
    one = found.subjects[2].statistics["mean"]["one"]
    assert one.estimate == estimate(three[2], "mean")["one"].estimate


def test_verdicts_find_the_one_that_differs(three: list[TransferGrid]) -> None:
    found = compare_subjects(three, smallest=0.1)
    verdicts = {c.title: c.verdict for c in found.claims if c.dataset == "average"}
    assert verdicts["Mean penalty differs between a and b"] == "within"
    assert verdicts["Mean penalty differs between a and deep"] == "exceeds"
    assert verdicts["Mean penalty differs between b and deep"] == "exceeds"
    assert verdicts["Growth with distance differs between a and deep"] == "supported"
    for claim in found.claims:
        assert claim.estimate is not None
        low, high = float(claim.estimate.conf_low), float(claim.estimate.conf_high)
        if claim.verdict == "exceeds":
            assert low > 0.1 or high < -0.1
        if claim.verdict == "supported":
            assert low > 0 or high < 0
        if claim.verdict == "inconclusive" and claim.smallest is None:
            assert low <= 0 <= high


def test_holm_counts_the_differences_of_each_dataset(three: list[TransferGrid]) -> None:
    found = compare_subjects(three, smallest=0.1)
    for dataset in ("one", "two", "average"):
        claims = [claim for claim in found.claims if claim.dataset == dataset]
        expected = adjusted_p([claim.p_value for claim in claims])
        assert [claim.p_adjusted for claim in claims] == pytest.approx(list(expected))
    for claim in found.claims:
        rate = 0.025 if claim.verdict == "exceeds" else 0.05
        lost = claim.verdict != "inconclusive" and claim.p_adjusted >= rate
        assert (NOT_ADJUSTED in claim.caveats) == lost


def test_swapping_two_subjects_changes_the_sign_only(three: list[TransferGrid]) -> None:
    one = compare_subjects(three[:2], smallest=0.1).claims[0]
    other = compare_subjects(three[1::-1], smallest=0.1).claims[0]
    assert one.estimate is not None
    assert other.estimate is not None
    assert float(one.estimate.estimate) == pytest.approx(-float(other.estimate.estimate), rel=1e-12)
    assert one.verdict == other.verdict
    assert one.p_value == pytest.approx(other.p_value, rel=1e-9)


def test_only_shared_datasets_are_compared(three: list[TransferGrid]) -> None:
    found = compare_subjects([three[0], three[1].with_datasets(["two"])], smallest=0.1)
    assert {claim.dataset for claim in found.claims} == {"two"}
    assert [size[0] for size in found.subjects[0].sizes] == ["two"]


def test_what_weakens_a_comparison_is_said(three: list[TransferGrid]) -> None:
    few = replace(simulate_grid(true_penalty(5), n_seeds=3, n_units=40, rng=9).grid, subject="few")
    claim = compare_subjects([three[0].with_datasets(["one"]), few], smallest=0.1).claims[0]
    text = "; ".join(claim.caveats)
    assert "3 seeds: valid, but wide" in text
    assert "were scored on other units" in text
    assert "lenses carry no convergence certificate" in text
    table = pd.DataFrame({"converged": [True, False]})
    noted = compare_subjects([three[0], replace(three[1], certificates=table)], smallest=0.1).claims[0].caveats
    assert "some lenses of b had not converged" in noted
    assert "lenses carry no convergence certificate (a)" in noted


def own_lenses(name: str, rng: int) -> TransferGrid:
    """Twelve units with lenses of their own."""
    losses = np.random.default_rng(rng).gamma(2.0, size=(12, 4, 4))
    index = np.indices(losses.shape).reshape(3, -1)
    frame = pd.DataFrame(index.T, columns=["replicate", "source", "target"]).assign(ce=losses.ravel())
    return read_grid(frame, subject=name)


def test_subjects_whose_units_have_lenses_of_their_own_compare_as_a_paired_t_test() -> None:
    one, other = own_lenses("a", 1), own_lenses("b", 2)
    claim = compare_subjects([one, other], smallest=0.1).claims[0]
    off = ~np.eye(4, dtype=bool)
    means = [grid.datasets[0].penalty("ce")[0][:, off].mean(axis=1) for grid in (one, other)]
    expected = scipy_stats.ttest_rel(*means)
    assert claim.estimate is not None
    assert float(claim.estimate.p_value) == pytest.approx(float(expected.pvalue), rel=1e-8)
    limits = expected.confidence_interval(0.95)
    assert (float(claim.estimate.conf_low), float(claim.estimate.conf_high)) == pytest.approx(
        tuple(limits), rel=1e-8
    )
    assert "conditional" not in claim.estimate.note


def means(grid: TransferGrid) -> pd.DataFrame:
    return grid.to_frame().groupby(["dataset", "seed", "source", "target"], as_index=False)[["kl", "ce"]].mean()


def test_comparisons_that_mean_nothing_are_refused(three: list[TransferGrid]) -> None:
    a, b, _ = three
    single = simulate_grid(true_penalty(5), n_seeds=1, n_units=40, datasets=("one",), rng=9).grid
    for grids, words in (
        ([a], "at least 2 subjects, got 1"),
        ([a, a], "need different names"),
        ([a, replace(b, unit="nats/image")], "one loss and unit"),
        ([a, b.with_loss("ce")], "one loss and unit"),
        ([a, replace(single, subject="single")], "dataset 'one' has 1 seed"),
        ([a, replace(read_grid(means(a)), subject="m", loss="kl")], r"m: dataset 'one' has one unit \(means\)"),
        ([a.with_datasets(["one"]), network("two", rng=4, layers=2)], "2 layers have one distance"),
        (
            [a, replace(b, datasets=tuple(replace(d, name=f"other {d.name}") for d in b.datasets))],
            "share no dataset",
        ),
    ):
        with pytest.raises(DesignError, match=words):
            compare_subjects(grids, smallest=0.1)
    for smallest in (0.0, -1.0, np.nan):
        with pytest.raises(DesignError, match="smallest must be a positive number"):
            compare_subjects([a, b], smallest=smallest)
