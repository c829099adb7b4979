"""Standard claims on grids of known truth: clear cases, small studies, verdicts that stay within their numbers."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import transferstats as ts
from transferstats.distance import layer_distance
from transferstats.errors import DesignError, TransferstatsError
from transferstats.grid import DatasetLosses, TransferGrid
from transferstats.results import COLUMNS, Claim, Evidence
from transferstats.simulation import simulate_grid, true_penalty

LAYERS = 5
SMALLEST = 0.05
ROUNDING = 1e-12  # between a p-value and the interval that it inverts


def make_grid(
    level: float = 0.3, *, rng: int = 0, n_null: int = 0, null_share: float = 0.3, **truth: object
) -> TransferGrid:
    """Five seeds and 80 units of one dataset."""
    penalty = true_penalty(LAYERS, level=level, **truth)  # type: ignore[arg-type]
    return simulate_grid(penalty, n_seeds=5, n_units=80, n_null=n_null, null_share=null_share, rng=rng).grid


def changed(grid: TransferGrid, change: object) -> TransferGrid:
    """The same grid with other losses."""
    return replace(grid, datasets=tuple(change(data) for data in grid.datasets))  # type: ignore[operator]


def with_certificates(grid: TransferGrid, failed: int = 0) -> TransferGrid:
    """One certificate a lens, the first ``failed`` of each dataset without convergence."""
    rows = [
        {"dataset": data.name, "world": "observed", "seed": seed, "layer": layer, "converged": index >= failed}
        for data in grid.datasets
        for index, (seed, layer) in enumerate((s, x) for s in data.seeds for x in grid.layers)
    ]
    return replace(grid, certificates=pd.DataFrame(rows))


def claims(evidence: Evidence) -> dict[tuple[str, str], Claim]:
    return {(claim.key, claim.dataset): claim for claim in evidence.claims}


def verdicts(grid: TransferGrid, smallest: float = SMALLEST, **options: float) -> dict[str, str]:
    """Verdict by claim, of the only dataset or the average."""
    found = ts.evaluate(grid, smallest, **options).claims
    last = found[-1].dataset if len(grid.datasets) == 1 else "average"
    return {claim.key: claim.verdict for claim in found if claim.dataset == last}


# --- clear cases ---


def test_large_growing_penalties() -> None:
    found = verdicts(make_grid(1.0, n_null=5, asymmetry=2.0))
    assert found["C1"] == "supported"
    assert found["C2"] == "supported"
    assert found["C3"] == "supported"
    assert found["C4"] == "exceeds"
    assert found["C5"] == "supported"
    assert found["C6"] == "exceeds"
    assert found["C7"] == "contradicted"
    assert found["C8"] == "supported"


def test_small_penalties_are_within() -> None:
    found = verdicts(make_grid(0.02), smallest=0.2)
    assert (found["C2"], found["C4"], found["C6"], found["C7"]) == ("supported", "within", "within", "supported")


def test_a_world_with_one_right_lens_does_not_exceed_its_null() -> None:
    """Clearly nonzero penalties that mean nothing: what the null is for."""
    found = verdicts(make_grid(0.3, n_null=5, null_share=1.0))
    assert found["C2"] == "supported"
    assert found["C3"] != "supported"
    assert found["C4"] != "exceeds"


def test_penalties_that_shrink_with_distance_contradict_growth() -> None:
    def turned(data: DatasetLosses) -> DatasetLosses:
        kl = data.losses["kl"]
        own = np.diagonal(kl, axis1=2, axis2=3)[:, :, None, :]
        distance = layer_distance(LAYERS)
        weight = np.where(distance > 0, LAYERS - distance, 0)
        return replace(data, losses={"kl": own + 0.1 * weight + 0.01 * (kl - own)})

    found = claims(ts.evaluate(changed(make_grid(), turned), SMALLEST))["C5", "simulated"]
    assert found.verdict == "contradicted"
    assert found.p_value < 0.025  # of the test that the verdict rests on
    assert float(found.estimate.conf_high) < 0  # type: ignore[union-attr]


def test_a_loss_that_rises_with_depth_contradicts_c1() -> None:
    def reversed_layers(data: DatasetLosses) -> DatasetLosses:
        return replace(data, losses={name: x[:, :, ::-1, ::-1].copy() for name, x in data.losses.items()})

    assert verdicts(changed(make_grid(), reversed_layers))["C1"] == "contradicted"


def test_negative_ce_penalties_are_neither_clipped_nor_refused() -> None:
    """Lenses minimise kl: in ce a lens of another layer may be better than the layer's own."""

    def negative(data: DatasetLosses) -> DatasetLosses:
        ce = data.losses["ce"]
        own = np.diagonal(ce, axis1=2, axis2=3)[:, :, None, :]
        return replace(data, losses={"kl": data.losses["kl"], "ce": own - 0.5 * (ce - own)})

    grid = changed(make_grid(), negative).with_loss("ce")
    found = claims(ts.evaluate(grid, SMALLEST))
    assert found["C2", "simulated"].verdict == "contradicted"
    assert float(found["C2", "simulated"].estimate.estimate) < 0  # type: ignore[union-attr]
    assert found["C4", "simulated"].verdict == "exceeds"  # below -0.05: it matters, the other way round


def test_distance_beyond_similarity() -> None:
    """With similarities in hand C8 is tested; noise as similarity leaves distance all its weight."""
    grid = make_grid(1.0)
    draw = np.random.default_rng(0).uniform(size=(LAYERS, LAYERS))
    grid = replace(grid, similarities={"simulated": {"covariance": (draw + draw.T) / 2}})
    assert verdicts(grid)["C8"] == "supported"


def test_without_similarities_c8_says_so() -> None:
    found = claims(ts.evaluate(replace(make_grid(), similarities={}), SMALLEST))["C8", "simulated"]
    assert (found.verdict, found.reason) == ("not tested", "the study recorded no layer similarities")


# --- small designs ---


@pytest.mark.parametrize("n_seeds", [2, 3])
@pytest.mark.parametrize("n_layers", [2, 3, 6])
@pytest.mark.parametrize("n_null", [0, 2])
@pytest.mark.parametrize("datasets", [("one",), ("one", "two")])
def test_every_small_design_is_answered(
    n_seeds: int, n_layers: int, n_null: int, datasets: tuple[str, ...]
) -> None:
    made = simulate_grid(
        true_penalty(n_layers), n_seeds=n_seeds, n_units=25, n_null=n_null, datasets=datasets, rng=1
    ).grid
    evidence = _fast_evidence(made)
    names = (*datasets, "average") if len(datasets) > 1 else datasets
    assert set(claims(evidence)) == {(f"C{number}", name) for number in range(1, 9) for name in names}
    for claim in evidence.claims:
        assert (claim.verdict == "not tested") == (claim.estimate is None)
        assert claim.reason
        if claim.verdict != "not tested":
            assert f"{n_seeds} seeds: valid, but wide" in claim.caveats
    untested = {claim.key for claim in evidence.claims if claim.verdict == "not tested"}
    assert untested == ({"C3"} if not n_null else set()) | ({"C5", "C8"} if n_layers == 2 else set())
    assert len(evidence.datasets) == len(datasets)
    assert list(evidence.tidy().columns[: len(COLUMNS)]) == list(COLUMNS)
    assert len(evidence.glance()) == 1


def _fast_evidence(grid: TransferGrid) -> Evidence:
    """Fewer bootstrap replicates: they decide no claim."""
    from transferstats import evidence as room

    before = room.RESAMPLED
    room.RESAMPLED = replace(before, replicates=200)  # type: ignore[misc]
    try:
        return ts.evaluate(grid, SMALLEST)
    finally:
        room.RESAMPLED = before  # type: ignore[misc]


def test_one_seed_is_refused_and_the_dataset_named() -> None:
    one = simulate_grid(true_penalty(3), n_seeds=1, n_units=20, rng=0).grid
    with pytest.raises(DesignError, match="'simulated' has 1 seed: evidence about new lenses needs at least 2"):
        ts.evaluate(one, SMALLEST)


@pytest.mark.parametrize("smallest", [0.0, -0.1, float("nan"), float("inf")])
def test_smallest_must_be_stated(smallest: float) -> None:
    with pytest.raises(DesignError, match="smallest must be a positive number"):
        ts.evaluate(make_grid(), smallest)
    with pytest.raises(TypeError):
        ts.evaluate(make_grid())  # type: ignore[call-arg]


@pytest.mark.parametrize("conf_level", [0.0, 1.0, 95.0, -0.5, float("nan")])
def test_an_impossible_level_is_refused(conf_level: float) -> None:
    with pytest.raises(TransferstatsError):
        ts.evaluate(make_grid(), SMALLEST, conf_level=conf_level)


# --- verdicts and their numbers ---


@cache
def many_evidences() -> tuple[Evidence, ...]:
    """Grids from clearly nothing to clearly much, three levels, in kl and ce."""
    made = []
    for index, level in enumerate((0.005, 0.04, 0.055, 0.07, 0.3)):
        for conf_level in (0.8, 0.95, 0.99):
            grid = simulate_grid(
                true_penalty(4, level=level, asymmetry=1.6),
                n_seeds=3,
                n_units=30,
                n_null=3,
                rng=index,
                datasets=("a", "b"),
            ).grid
            made.append(ts.evaluate(grid.with_loss("ce" if index % 2 else "kl"), SMALLEST, conf_level=conf_level))
    return tuple(made)


def all_claims() -> list[tuple[Claim, float]]:
    return [
        (claim, one.conf_level) for one in many_evidences() for claim in one.claims if claim.estimate is not None
    ]


def test_a_verdict_never_contradicts_its_interval() -> None:
    seen = set()
    for claim, level in all_claims():
        assert claim.estimate is not None
        low, high = float(claim.estimate.conf_low), float(claim.estimate.conf_high)
        centre = float(claim.estimate.estimate)
        assert claim.estimate.conf_level == level
        assert low <= centre <= high
        seen.add((claim.key, claim.verdict))
        if claim.key in ("C2", "C3", "C5", "C8"):
            expected = "supported" if low > 0 else "contradicted" if high < 0 else "inconclusive"
            assert claim.verdict == expected, (claim, level)
        elif claim.key == "C1":
            assert (claim.verdict == "supported") == (high < 0)
        elif claim.key in ("C4", "C6"):
            outside = low > SMALLEST or high < -SMALLEST
            assert (claim.verdict == "exceeds") == outside, (claim, level)
            if claim.verdict == "within":
                assert -SMALLEST < centre < SMALLEST
            if low > -SMALLEST and high < SMALLEST:
                assert claim.verdict == "within"  # the wider interval inside implies the narrower one inside
        elif claim.verdict == "supported":
            assert centre < SMALLEST
        elif claim.verdict == "contradicted":
            assert centre > SMALLEST or centre < -SMALLEST
    assert {verdict for _, verdict in seen} >= {"exceeds", "within", "inconclusive", "supported"}


def test_the_p_value_of_a_claim_is_that_of_its_verdict() -> None:
    for claim, level in all_claims():
        alpha = 1 - level
        if claim.verdict in ("supported", "contradicted", "exceeds") and claim.key not in ("C7",):
            assert claim.p_value < alpha / 2 + ROUNDING, claim
        elif claim.verdict == "within":
            assert claim.p_value < alpha + ROUNDING, claim
        elif claim.key in ("C1", "C2", "C3", "C5", "C8"):
            assert claim.p_value >= alpha / 2 - ROUNDING, claim


def test_holm_is_monotone_and_never_below_the_p_value() -> None:
    for evidence in many_evidences():
        for dataset in ("a", "b", "average"):
            asked = [claim for claim in evidence.claims if claim.dataset == dataset and claim.estimate is not None]
            family = [claim for claim in asked if claim.verdict != "not tested"]  # refused ones count, without a p
            family.sort(key=lambda claim: claim.p_value)
            adjusted = [claim.p_adjusted for claim in family]
            assert all(one <= other + ROUNDING for one, other in pairwise(adjusted))
            assert all(claim.p_value - ROUNDING <= claim.p_adjusted <= 1 for claim in family)
            assert adjusted[0] == pytest.approx(min(1.0, len(asked) * family[0].p_value))
            untested = [claim for claim in evidence.claims if claim.dataset == dataset and claim.estimate is None]
            assert all(np.isnan(claim.p_adjusted) for claim in untested)


def test_a_verdict_that_holm_takes_back_says_so() -> None:
    """At the error rate of the verdict itself: half for a claim with a direction, whole for equivalence."""
    words = "not after Holm's correction for the number of claims"
    taken_back = 0
    for claim, level in all_claims():
        decided = claim.verdict not in ("inconclusive", "not tested")
        equivalence = claim.verdict == "within" or (claim.key == "C7" and claim.verdict == "supported")
        rate = (1 - level) if equivalence else (1 - level) / 2
        assert (words in claim.caveats) == (decided and claim.p_adjusted >= rate), (claim, level)
        taken_back += words in claim.caveats
    assert taken_back > 0


# --- certificates ---


def test_lenses_without_certificates_are_a_caveat() -> None:
    grid = make_grid()
    assert all("lenses carry no convergence certificate" in claim.caveats for claim in _tested(grid))
    good = with_certificates(grid)
    assert not any("converge" in caveat for claim in _tested(good) for caveat in claim.caveats)
    bad = with_certificates(grid, failed=3)
    for claim in _tested(bad):
        (caveat,) = (text for text in claim.caveats if "converge" in text)
        assert caveat.startswith("3 of 25 lenses had not converged")
        assert "an equivalence verdict is not to be trusted" in caveat


def _tested(grid: TransferGrid) -> list[Claim]:
    return [claim for claim in _fast_evidence(grid).claims if claim.verdict != "not tested"]


def test_certificates_count_for_their_dataset_and_for_the_average() -> None:
    grid = simulate_grid(true_penalty(3), n_seeds=3, n_units=20, datasets=("one", "two"), rng=0).grid
    table = with_certificates(grid, failed=2).certificates
    table.loc[table["dataset"] == "two", "converged"] = True
    found = claims(_fast_evidence(replace(grid, certificates=table)))
    assert any("2 of 9 lenses" in text for text in found["C2", "one"].caveats)
    assert not any("converged" in text for text in found["C2", "two"].caveats)
    assert any("2 of 18 lenses" in text for text in found["C2", "average"].caveats)


def test_evidence_of_the_small_study_speaks_of_its_lenses(small_grid: TransferGrid) -> None:
    """Real lenses after 16 steps: the claims are answered, and weakened by what did not converge."""
    evidence = _fast_evidence(small_grid)
    assert len(evidence.claims) == 8 * 3
    assert not small_grid.certificates["converged"].all()
    for claim in evidence.claims:
        assert claim.verdict != "not tested"
        assert any("had not converged" in caveat for caveat in claim.caveats)
    assert {data.dataset for data in evidence.datasets} == {"python_small", "kjv_small"}
    assert all(data.matrix.shape == (8, 8) for data in evidence.datasets)
    assert all((np.diagonal(data.matrix) == 0).all() for data in evidence.datasets)


@pytest.mark.parametrize(("n_null", "biased"), [(0, True), (5, False)])
def test_a_shared_lens_verdict_without_a_null_says_that_it_is_biased(n_null: int, biased: bool) -> None:
    found = claims(ts.evaluate(make_grid(n_null=n_null), SMALLEST))["C7", "simulated"]
    assert any("biased down" in caveat for caveat in found.caveats) == biased


def test_a_rung_of_the_ladder_that_has_not_converged_weakens_no_claim() -> None:
    """No claim rests on lenses that share a map: their certificates are shown, not counted."""
    grid = make_grid()
    own = with_certificates(grid).certificates.assign(readout="own")
    tied = with_certificates(grid, failed=25).certificates.assign(readout="tied")
    for readout, counted in (("tied", False), ("generator", True)):
        table = pd.concat([own, tied.assign(readout=readout)], ignore_index=True)
        found = _tested(replace(grid, certificates=table))
        assert all(any("had not converged" in text for text in one.caveats) == counted for one in found)


# --- lenses that gain nothing over the prior, as ready-made ones may ---


def test_lenses_without_a_gain_are_judged_without_a_share_of_it() -> None:
    """One dataset has such lenses: it and the average say so, and the other keeps its share."""
    grid = simulate_grid(true_penalty(3), n_seeds=3, n_units=20, datasets=("one", "two"), rng=0).grid

    def poor(data: DatasetLosses) -> DatasetLosses:
        lost = {
            name: 0 * values if name.startswith("prior") else values for name, values in data.baselines.items()
        }
        return replace(data, baselines=lost) if data.name == "one" else data

    evidence = _fast_evidence(changed(grid, poor))
    found = claims(evidence)
    assert "gain nothing" in found["C4", "one"].reason
    assert "gain nothing" in found["C4", "average"].reason
    assert "% [" in found["C4", "two"].reason
    assert ["penalty_share" in data.extras for data in evidence.datasets] == [False, True]


def test_the_null_brings_its_references() -> None:
    with_null, without = (ts.cite(ts.evaluate(make_grid(n_null=count), SMALLEST)) for count in (5, 0))
    for key in ("wu1986", "kline2012"):
        assert key in with_null
        assert key not in without


# --- what a report shows beside the claims ---


def test_growth_with_distance_names_its_shape() -> None:
    grid = simulate_grid(true_penalty(7, level=1.0), n_seeds=4, n_units=40, datasets=("one", "two"), rng=0).grid
    evidence = _fast_evidence(grid)
    found = claims(evidence)
    for data in evidence.datasets:
        conclusion = data.comparison.conclusion.rstrip(".")
        first = conclusion[:1].lower() + conclusion[1:].split(".")[0]
        assert f"; shape: {first}" in found["C5", data.dataset].reason
        assert first in found["C5", "average"].reason


def test_the_planner_starts_from_the_study_itself() -> None:
    plan = ts.evaluate(make_grid(), SMALLEST).datasets[0].extras["plan"]
    mean = ts.estimate(make_grid(), "mean").headline
    same = (plan.seeds == 5) & (plan.units == 80)
    width = float(mean.conf_high - mean.conf_low) / 2
    assert plan.half_width[same][0] == pytest.approx(width, rel=0.25)
    assert plan.smallest == (-SMALLEST, SMALLEST)


def test_similarity_is_correlated_where_it_was_recorded() -> None:
    grid = replace(make_grid(), similarities={})
    assert "similarity" not in ts.evaluate(grid, SMALLEST).datasets[0].extras
    alike = {"simulated": {"covariance": np.exp(-layer_distance(LAYERS).astype(float))}}
    found = ts.evaluate(replace(grid, similarities=alike), SMALLEST).datasets[0].extras["similarity"]
    assert float(found.conf_low) < float(found.estimate) < -0.5
    constant = {"simulated": {"covariance": np.ones((LAYERS, LAYERS))}}
    assert "similarity" not in ts.evaluate(replace(grid, similarities=constant), SMALLEST).datasets[0].extras


def test_a_single_cluster_is_refused_with_a_way_on() -> None:
    def joined(data: DatasetLosses) -> DatasetLosses:
        return replace(data, clusters=("a book",) * len(data.units))

    with pytest.raises(DesignError, match=r"1 cluster \(80 units of 'a book'\).*describe\(grid\)"):
        ts.evaluate(changed(make_grid(), joined), SMALLEST)


def test_some_layers_only() -> None:
    """Cells, readouts, null, similarities and certificates of the layers kept are what they were."""
    grid = with_certificates(make_grid(n_null=2))
    alike = np.arange(25.0).reshape(5, 5)
    grid = replace(grid, similarities={"simulated": {"cka": alike}})
    kept = grid.with_layers(grid.layers[1:])
    cells = ts.estimate(grid, "cells").headline.tidy().set_index("term")["estimate"]
    found = ts.estimate(kept, "cells").headline.tidy()["estimate"].to_numpy()
    inner = [f"{s}->{t}" for s in range(1, 5) for t in range(1, 5) if s != t]
    np.testing.assert_allclose(found, cells.loc[inner].to_numpy())
    assert np.array_equal(kept.similarities["simulated"]["cka"], alike[1:, 1:])
    assert set(kept.certificates["layer"]) == set(grid.layers[1:])
    assert kept.datasets[0].null is not None
    assert kept.datasets[0].readouts["shared"]["kl"].shape[-1] == 4
    assert ts.evaluate(kept, SMALLEST).layers == grid.layers[1:]
    with pytest.raises(TransferstatsError, match="at least 2 of"):
        grid.with_layers(["0", "9"])


def test_some_seeds_only() -> None:
    """Losses, null and certificates of the seeds and replicates kept are what they were."""
    grid = make_grid(n_null=3)
    rows = [
        {"dataset": "simulated", "world": world, "seed": seed, "layer": "0", "converged": True}
        for world, names in (("observed", grid.datasets[0].seeds), ("null", ("replicate 0", "replicate 2")))
        for seed in names
    ]
    grid = replace(grid, certificates=pd.DataFrame(rows))
    kept = grid.with_seeds(["seed 3", "seed 1"], ["replicate 2"])
    before, after = grid.datasets[0], kept.datasets[0]
    assert after.seeds == ("seed 3", "seed 1")
    np.testing.assert_array_equal(after.loss("kl"), before.loss("kl")[[3, 1]])
    np.testing.assert_array_equal(after.readouts["shared"]["kl"], before.readouts["shared"]["kl"][[3, 1]])
    assert before.null is not None
    assert after.null is not None
    np.testing.assert_array_equal(after.null.loss("kl"), before.null.loss("kl")[[2]])
    assert list(kept.certificates["seed"]) == ["seed 1", "seed 3", "replicate 2"]
    every = grid.with_seeds(["seed 1"])
    assert every.datasets[0].null is before.null
    assert list(every.certificates["seed"]) == ["seed 1", "replicate 0", "replicate 2"]
    for wrong in (["9"], ["seed 1", "seed 1"], []):
        with pytest.raises(TransferstatsError, match=r"give at least 1 of seed 0, .*, seed 4, each once"):
            grid.with_seeds(wrong)
    with pytest.raises(TransferstatsError, match=r"null replicates \['4'\].*replicate 0, replicate 1"):
        grid.with_seeds(["seed 1"], ["4"])


def test_slopes_over_every_fourth_layer_are_per_layer_of_the_network() -> None:
    """Not per layer used, of which there are fewer: the note says so, and no claim has to."""
    grid = make_grid()
    skipping = replace(grid, layers=tuple(str(4 * layer) for layer in range(grid.n_layers)))
    full, some = (
        {claim.key: claim.estimate for claim in ts.evaluate(one, SMALLEST).claims} for one in (grid, skipping)
    )
    for key in ("C1", "C5", "C8"):
        one, other = full[key], some[key]
        assert one is not None
        assert other is not None
        assert float(other.estimate) == pytest.approx(float(one.estimate) / 4, rel=1e-12)
        assert other.unit == "nats/token per layer"
    assert any("own numbers (0, 4, 8" in text for text in ts.describe(skipping).caveats)


def test_some_datasets_only(small_grid: TransferGrid) -> None:
    """The certificates of the datasets left out go with them."""
    name = small_grid.datasets[-1].name
    table = small_grid.certificates
    kept = small_grid.with_datasets([name]).certificates
    assert 0 < len(kept) < len(table)
    assert kept.equals(table[table["dataset"] == name].reset_index(drop=True))


def test_a_plan_from_clusters_counts_clusters() -> None:
    """Twelve books are not a hundred documents: neither in words nor on the axis."""

    def in_books(data: DatasetLosses) -> DatasetLosses:
        return replace(data, clusters=tuple(f"book {index % 12}" for index in range(len(data.units))))

    plan = ts.evaluate(changed(make_grid(), in_books), SMALLEST).datasets[0].extras["plan"]
    assert "12 clusters of documents" in ts.sentence(plan)
    assert ts.table(plan).headings[1] == "Clusters of documents"
    assert ts.figure(plan).axes[0].get_xlabel() == "clusters of documents a dataset"
    bare = ts.evaluate(make_grid(), SMALLEST).datasets[0].extras["plan"]
    assert ts.figure(bare).axes[0].get_xlabel() == "documents a dataset"


def test_two_layers_have_a_report_without_what_needs_more_distances(tmp_path: Path) -> None:
    grid = simulate_grid(true_penalty(2), n_seeds=4, n_units=20, rng=1).grid
    grid = replace(grid, similarities={"simulated": {"covariance": np.array([[1.0, 0.5], [0.5, 1.0]])}})
    evidence = ts.evaluate(grid, SMALLEST)
    untested = {claim.key: claim.reason for claim in evidence.claims if claim.verdict == "not tested"}
    assert untested["C5"] == untested["C8"] == "two layers have only one distance"
    assert ts.report(evidence, tmp_path).is_file()


@pytest.mark.parametrize("similar", ["constant", "distance", "missing"])
def test_similarities_that_say_nothing_beside_distance_leave_c8_untested(similar: str) -> None:
    apart = layer_distance(LAYERS)
    matrix = {"constant": np.ones_like(apart), "distance": 1 - apart / 10, "missing": np.full_like(apart, np.nan)}
    grid = replace(make_grid(), similarities={"simulated": {"covariance": matrix[similar]}})
    found = claims(ts.evaluate(grid, SMALLEST))
    assert found["C8", "simulated"].verdict == "not tested"
    assert found["C8", "simulated"].reason.startswith("distance and similarity cannot be told apart: ")
    assert found["C5", "simulated"].verdict == "supported"
