"""Cells behind fitted models: observed, fitted and left over, and only for the grid that was fitted."""

from __future__ import annotations

from dataclasses import replace

import every_result
import numpy as np
import pytest

import transferstats as ts
from transferstats import results
from transferstats.errors import DesignError
from transferstats.grid import TransferGrid
from transferstats.results import RegressionFit
from transferstats.stats.families import FAMILIES

# The same least squares twice, sums in another order.
SAME = 1e-12


@pytest.mark.parametrize("family", list(FAMILIES))
# Two seeds of lenses that hardly trained: their two variance estimates may well differ, which is not the question.
@pytest.mark.filterwarnings("ignore::transferstats.errors.UncertaintyWarning")
@pytest.mark.parametrize("direction", ["both", "separate"])
def test_residuals_of_decay_are_those_of_the_fit(family: str, direction: str, small_grid: TransferGrid) -> None:
    """On a real study, with clusters and units of unequal length."""
    fits = ts.fit_decay(small_grid, family, direction=direction)
    cells = ts.augment(fits, small_grid)
    assert list(cells.columns[:2]) == ["dataset", "distance"]
    for fit, (name, rows) in zip(fits, cells.groupby("dataset", sort=False), strict=True):
        assert (name, len(rows)) == (fit.dataset, 8 * 7)
        assert np.square(rows["resid"]).sum() == pytest.approx(fit.rss, rel=SAME)
        assert np.allclose(rows["fitted"] + rows["resid"], rows["penalty"], rtol=0, atol=SAME)
        assert (rows["distance"] == (rows["source"] - rows["target"]).abs()).all()
        groups = ["distance"] if direction == "both" else ["distance", "direction"]
        assert (rows.groupby(groups)["fitted"].nunique() == 1).all()


def test_fitted_values_lie_on_the_curve(simulated: TransferGrid) -> None:
    fit = ts.fit_decay(simulated, "linear", distance="depth")["one"]
    cells = ts.augment(fit, simulated)
    curve = fit.curves[0]
    on_curve = np.interp(cells["distance"], curve.distance, curve.fitted.estimate)
    assert np.allclose(cells["fitted"], on_curve, rtol=0, atol=SAME)


@pytest.mark.parametrize(
    "formula", ["penalty ~ log(distance) * direction + C(target)", "penalty ~ distance + shared_excess"]
)
def test_residuals_of_regressions(formula: str, simulated: TransferGrid) -> None:
    fit = ts.regress(formula, simulated)
    cells = ts.augment(fit, simulated)
    assert list(dict.fromkeys(cells["dataset"])) == ["one", "two"]  # the average has no cells
    for share, (_, rows) in zip(fit.r_squared, cells.groupby("dataset", sort=False), strict=True):
        assert rows["resid"].sum() == pytest.approx(0, abs=SAME)
        assert 1 - rows["resid"].var() / rows["penalty"].var() == pytest.approx(share, rel=SAME)


def test_another_grid_loss_or_distance_is_refused(simulated: TransferGrid) -> None:
    regression = ts.regress("penalty ~ log(distance)", simulated, distance="depth")
    decay = ts.fit_decay(simulated, loss="ce")
    other = every_result.grid()
    names = ("one", "two")
    moved = replace(
        other, datasets=tuple(replace(data, name=name) for data, name in zip(other.datasets, names, strict=True))
    )
    for fit in (regression, decay):
        with pytest.raises(DesignError, match="made from other numbers"):
            ts.augment(fit, simulated)
        with pytest.raises(DesignError, match="made from other numbers"):
            ts.augment(fit, moved, loss="ce" if fit is decay else None, distance="depth")
    assert len(ts.augment(regression, simulated, distance="depth")) == 60
    assert len(ts.augment(decay, simulated, loss="ce")) == 60


def test_a_matrix_of_distances_is_asked_for_again(simulated: TransferGrid) -> None:
    apart = np.sqrt(np.abs(np.subtract.outer(np.arange(6), np.arange(6))))
    fit = ts.fit_decay(simulated, "linear", distance=apart)
    with pytest.raises(DesignError, match="pass it again"):
        ts.augment(fit, simulated)
    assert np.square(ts.augment(fit[0], simulated, distance=apart)["resid"]).sum() == pytest.approx(
        fit[0].rss, rel=SAME
    )


@pytest.mark.parametrize("name", sorted(every_result.every_result()))
def test_results_without_fitted_values_say_so(name: str) -> None:
    one = every_result.every_result()[name]
    if isinstance(one, RegressionFit) or name in ("DecayFit", "DecayFits"):
        assert {"fitted", "resid"} <= set(ts.augment(one, every_result.grid()))
        return
    with pytest.raises(TypeError, match=f"nothing to augment in {name}"):
        ts.augment(one, every_result.grid())


def test_every_result_has_every_class() -> None:
    classes = {name for name in results.__all__ if isinstance(getattr(results, name), type)}
    found = every_result.every_result()
    assert set(found) == {n for n in classes if issubclass(getattr(results, n), results.Result)} - {"Result"}
