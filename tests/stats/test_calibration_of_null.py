"""The null's own null, the gate on verdicts over the null, and limits of the largest of several terms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import transferstats as ts
from transferstats.errors import DesignError
from transferstats.grid import DatasetLosses, TransferGrid
from transferstats.results import Claim, Estimate
from transferstats.simulation import true_penalty
from transferstats.stats.crossed import Labels, Piece, VarianceParts
from transferstats.stats.gate import Gate, gate
from transferstats.stats.intervals import p_greater
from transferstats.stats.multiplicity import adjusted_p
from transferstats.stats.null import largest_term

STUDIES = 300
RATE = 0.05 + 3 * np.sqrt(0.05 * 0.95 / STUDIES)  # three Monte-Carlo errors above the nominal rate


def test_a_right_null_is_rarely_called_wrong() -> None:
    """Null replicates and the null of one of them are simulated with the same truth."""
    wrong = 0
    for index in range(STUDIES):
        grid = ts.simulate_grid(true_penalty(4), n_seeds=2, n_units=20, n_null=3, rng=index).grid
        wrong += ts.null_calibration(grid, "mean").calibrated() is False
    assert wrong / STUDIES <= RATE


def scaled_null_of_null(grid: TransferGrid, factor: float) -> TransferGrid:
    """The same grid with off-diagonal penalties and shared excess of the null's own null times a factor."""
    return replace(grid, datasets=tuple(_scaled(data, factor) for data in grid.datasets))


def _scaled(data: DatasetLosses, factor: float) -> DatasetLosses:
    assert data.null is not None
    assert data.null.null is not None
    last = data.null.null
    losses, readouts = {}, {}
    for name, values in last.losses.items():
        own = np.diagonal(values, axis1=2, axis2=3)[:, :, None, :]
        losses[name] = own + factor * (values - own)
        own = own[:, :, 0]
        shared = last.readouts["shared"][name]
        readouts[name] = own + factor * (shared - own)
    null = replace(data.null, null=replace(last, losses=losses, readouts={"shared": readouts}))
    return replace(data, null=null)


def claims(grid: TransferGrid, smallest: float = 0.02) -> dict[str, Claim]:
    return {claim.key: claim for claim in ts.evaluate(grid, smallest).claims if claim.dataset != "average"}


@pytest.fixture(scope="module")
def grid() -> TransferGrid:
    return ts.simulate_grid(true_penalty(5), n_seeds=5, n_units=60, n_null=5, rng=8).grid


def test_the_excess_of_a_null_over_a_smaller_one_is_seen(grid: TransferGrid) -> None:
    right, wrong = ts.null_calibration(grid), ts.null_calibration(scaled_null_of_null(grid, 0.2))
    assert right.calibrated() is True
    assert wrong.calibrated() is False
    row = wrong.tidy().iloc[-1]
    assert row["share_of_null"] == pytest.approx(0.8, abs=0.15)
    assert "not calibrated" in ts.sentence(wrong)


def test_a_verdict_that_the_null_could_have_made_is_not_given(grid: TransferGrid) -> None:
    """A null that errs by far more than the excess refuses; the estimate stays visible, the reason says why."""
    verdicts = claims(grid)
    assert verdicts["C3"].verdict == "supported"
    wrong = claims(scaled_null_of_null(grid, -8.0))
    for key in ("C3", "C4", "C7"):
        assert wrong[key].verdict == "not tested", key
        assert "not calibrated here" in wrong[key].reason
        estimate = wrong[key].estimate
        assert estimate is not None
        assert np.isfinite(estimate.conf_low)
        assert np.isnan(wrong[key].p_adjusted)
    assert wrong["C2"].verdict == verdicts["C2"].verdict


def test_a_verdict_that_stands_without_what_the_null_errs_by_is_given(grid: TransferGrid) -> None:
    """By its own null, this null is too small by a third of itself; the excess is more than twice the null."""
    precise = ts.simulate_grid(true_penalty(5), n_seeds=8, n_units=200, n_null=8, regime="unit", rng=8).grid
    small = scaled_null_of_null(precise, 0.7)
    assert ts.null_calibration(small).calibrated() is False
    assert claims(small)["C3"].verdict == "supported"


def test_without_the_nulls_own_null_nothing_is_said_over_the_null(grid: TransferGrid) -> None:
    data = grid.datasets[0]
    assert data.null is not None
    bare = replace(grid, datasets=(replace(data, null=replace(data.null, null=None)),))
    for key in ("C3", "C4", "C7"):
        claim = claims(bare)[key]
        assert claim.verdict == "not tested"
        assert "sweep the study" in claim.reason
        assert claim.estimate is not None
    with pytest.raises(DesignError, match="null of a null replicate"):
        ts.null_calibration(bare)


def vector(estimate: np.ndarray[tuple[int], np.dtype[np.float64]], variance: float) -> Estimate:
    count = len(estimate)
    parts = VarianceParts(np.full((1, count), variance), np.array([6.0]), ("seeds",), np.full(count, np.nan))
    labels = Labels(terms=tuple(f"layer {index}" for index in range(count)), scalar=False, n_seeds=7, n_units=10)
    return Piece(np.asarray(estimate), parts, labels).interval(conf_level=0.95)


def test_limits_of_the_largest_cover_the_largest_truth() -> None:
    """Eight true values, several equal: the picked term's own interval misses too often, the simultaneous not."""
    rng = np.random.default_rng(0)
    truth = np.array([0.0, 0.0, 0.0, 0.0, -0.5, -1.0, 0.0, 0.0])
    covered = alone = 0
    for _ in range(2000):
        noise = rng.standard_normal((7, 8))
        values = truth + noise.mean(axis=0)
        parts = VarianceParts(noise.var(axis=0, ddof=1)[None] / 7, np.array([6.0]), ("seeds",), np.full(8, np.nan))
        labels = Labels(terms=tuple(f"layer {index}" for index in range(8)), scalar=False, n_seeds=7, n_units=10)
        one = Piece(values, parts, labels).interval(conf_level=0.95)
        found, picked = largest_term(one, "layers"), one.pick(int(np.argmax(one.estimate)))
        covered += bool(found.conf_low <= truth.max() <= found.conf_high)
        alone += bool(picked.conf_low <= truth.max() <= picked.conf_high)
    assert covered / 2000 >= 0.95 - 3 * np.sqrt(0.05 * 0.95 / 2000)
    assert alone / 2000 < 0.9


def test_its_lower_limit_lies_above_a_bound_exactly_where_holm_says_exceeds() -> None:
    for top in np.linspace(0.5, 1.5, 21):
        one = vector(np.array([0.1, 0.2, top, 0.0]), 0.04)
        p = adjusted_p(p_greater(one.estimate - 0.2, one.parts, one.dfs))
        assert (float(largest_term(one, "layers").conf_low) > 0.2) == bool(np.min(p) < 0.025)


def test_no_correction_is_needed_above_but_no_layer_may_be_unknown() -> None:
    """The largest upper limit is no less than that of the truly largest; a layer without one leaves it open."""
    one = vector(np.array([0.1, 0.2, 0.15]), 0.04)
    found = largest_term(one, "layers")
    assert float(found.conf_high) == float(np.max(one.conf_high))
    assert float(found.conf_low) < float(np.max(one.conf_low))
    assert float(found.p_value) == pytest.approx(min(1.0, 3 * float(one.p_value[1])))
    gap = replace(one, conf_high=np.array([0.5, np.nan, 0.4]))
    assert np.isnan(largest_term(gap, "layers").conf_high)


def known(*values: float, variance: float = 1e-4) -> Gate:
    """A gate whose checks of datasets "a", "b", ... have these excesses, and their average."""
    names = [*"abcdef"[: len(values)], *(["average"] if len(values) > 1 else [])]
    checks = [*values, *([float(np.mean(values))] if len(values) > 1 else [])]
    one = {name: vector(np.array([value]), variance) for name, value in zip(names, checks, strict=True)}
    return Gate(one, dict.fromkeys(one, 1.0))


def test_a_check_without_an_interval_shifts_nothing() -> None:
    error = Gate({"a": vector(np.array([0.1, 0.2]), 0.0)}, {"a": 1.0}).error("a")
    assert not error.too_small.any()
    assert not error.too_large.any()


def test_an_average_errs_by_no_less_than_its_datasets() -> None:
    """One null errs clearly, the other is not known well: their average shows nothing, and is shifted too."""
    checks = {"a": vector(np.array([0.115]), 1e-6), "b": vector(np.array([-0.01]), 4e-3)}
    checks["average"] = vector(np.array([0.053]), 1e-3)
    found = Gate(checks, dict.fromkeys(checks, 1.0))
    alone, whole = found.error("a").too_small[0], found.error("average").too_small[0]
    assert alone > 0.115
    assert whole == pytest.approx(alone / 2)
    assert not known(0.0, 0.0).error("average").too_small.any()


def test_what_is_not_seen_may_still_be_there() -> None:
    found = known(0.005)
    assert not found.error("a").too_small.any()
    assert found.error("a", seen=False).too_small[0] == pytest.approx(float(found.checks["a"].conf_high[0]))


def test_a_share_that_the_null_lacks_is_larger_where_penalties_are(grid: TransferGrid) -> None:
    """The excess over its own null is taken times penalty over null, 3.3 in this simulation."""
    small = scaled_null_of_null(grid, 0.2)
    found = gate(small, conf_level=0.95)
    name = small.datasets[0].name
    high = float(found.checks[name].conf_high)
    assert found.ratios[name] == pytest.approx(1 / 0.3, rel=0.15)
    assert found.error(name).too_small[0] == pytest.approx(found.ratios[name] * high)


def test_within_stands_where_only_the_sign_turns() -> None:
    """An excess of .001 less a check of .0012 is as small as before."""
    one = vector(np.array([0.001]), 1e-6)
    error = known(0.0012, variance=1e-8).error("a")
    assert error.too_small[0] > 0
    inside = lambda moved: "within" if abs(float(moved.estimate[0])) < 0.01 else "other"  # noqa: E731
    assert error.stands(one, inside)


def test_one_dataset_without_a_check_costs_the_others_nothing() -> None:
    grids = [ts.simulate_grid(n_seeds=4, n_units=30, n_null=4, datasets=("x", "y"), rng=3).grid]
    x, y = grids[0].datasets
    assert y.null is not None
    mixed = replace(grids[0], datasets=(x, replace(y, null=replace(y.null, null=None))))
    verdicts = {(one.key, one.dataset): one.verdict for one in ts.evaluate(mixed, 0.02).claims}
    for key in ("C3", "C4", "C7"):
        assert verdicts[key, "x"] != "not tested", key
        assert verdicts[key, "y"] == verdicts[key, "average"] == "not tested", key


def test_less_than_one_right_lens_would_show_is_no_large_penalty(grid: TransferGrid) -> None:
    """A null far above the penalties: C4 is contradicted, not exceeded on the other side."""
    data = grid.datasets[0]
    assert data.null is not None
    assert data.null.null is not None
    large = replace(_times(data.null, 8.0), null=_times(data.null.null, 8.0))
    found = claims(replace(grid, datasets=(replace(data, null=large),)))
    assert found["C4"].verdict == "contradicted"
    assert "lies below" in found["C4"].reason


def _times(data: DatasetLosses, factor: float) -> DatasetLosses:
    own = np.diagonal(data.losses["kl"], axis1=2, axis2=3)[:, :, None, :]
    return replace(data, null=None, losses={**data.losses, "kl": own + factor * (data.losses["kl"] - own)})


def test_refused_claims_count_in_the_number_of_tests(grid: TransferGrid) -> None:
    data = grid.datasets[0]
    assert data.null is not None
    bare = replace(grid, datasets=(replace(data, null=replace(data.null, null=None)),))
    whole, refused = claims(grid), claims(bare)
    assert np.isnan(refused["C3"].p_adjusted)
    assert refused["C2"].p_adjusted == pytest.approx(whole["C2"].p_adjusted), "as many tests as before"
    assert whole["C2"].p_adjusted < 1


def test_penalties_of_exactly_zero_are_evaluated() -> None:
    """Lenses that never left the shared one: no interval, no plan, no verdict, and no crash."""
    base = ts.simulate_grid(n_seeds=3, n_units=15, n_null=3, rng=2).grid
    data = base.datasets[0]
    own = np.diagonal(data.losses["kl"], axis1=2, axis2=3)[:, :, None, :]
    same = replace(data, losses={"kl": np.broadcast_to(own, data.losses["kl"].shape).copy()})
    found = claims(replace(base, datasets=(same,)))
    assert found["C2"].verdict == "inconclusive"
    assert "nan" not in found["C3"].reason + found["C4"].reason
    assert found["C8"].verdict == "inconclusive"
