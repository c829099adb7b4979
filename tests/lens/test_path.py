"""Lenses along their training: what a path holds, that a seed's lenses lie on it, that nothing else changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import transferstats as ts
from transferstats.cli import main
from transferstats.engine import Cell, StoredCell, run_cell
from transferstats.errors import DataError, DesignError
from transferstats.grid import TransferGrid
from transferstats.lens.path import STARTS, milestones
from transferstats.lens.plan import IMAGES, RECIPES
from transferstats.path_losses import PATH

FIT = ts.FitPlan(max_steps=64, settle=64, batch=64, share=0.003, strengths=(1e-2, 1.0), curve=())
SCORED = ts.EvaluationPlan(units=12, tokens=24)
STEPS = [0, 8, 16, 32, 64]
LAYERS = 8


def planned(fit: ts.FitPlan = FIT) -> list[Cell]:
    return ts.known_truth_cells("iterative", seeds=2, null_replicates=0, fit=fit, evaluation=SCORED)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ts.Store:
    folder = tmp_path_factory.mktemp("path") / "store"
    assert not ts.sweep(ts.with_path(planned()), folder).failures
    return ts.Store(folder)


@pytest.fixture(scope="module")
def grid(store: ts.Store) -> TransferGrid:
    return ts.read_grid(store.root)


def stored(store: ts.Store, world: str, seed: int = 0) -> StoredCell:
    cells = [store.read(key) for key in store.planned()]
    (found,) = (one for one in cells if (one.config["world"], one.config["seed"]) == (world, seed))
    return found


def test_a_path_is_one_more_cell_a_dataset_and_leaves_the_others_as_they_are(document_files: list[Path]) -> None:
    cells = ts.cells("embedded", document_files, seeds=2, evaluation=SCORED)
    path, others = ts.with_path(cells)[:2], ts.with_path(cells)[2:]
    assert [one.key for one in others] == [one.key for one in cells]
    assert {one.config["dataset"]["name"] for one in path} == {"python_small", "kjv_small"}
    assert {one.config["world"] for one in path} == {PATH}
    assert len({one.key for one in path} - {one.key for one in cells}) == 2
    assert len({str(one.study()) for one in [*path, *cells]}) == 1


def test_only_lenses_that_are_trained_have_a_path() -> None:
    ridge = ts.FitPlan(method="ridge")
    with pytest.raises(DesignError, match="trained in steps"):
        ts.with_path(planned(ridge))
    ready = [replace(one, config={k: v for k, v in one.config.items() if k != "fit"}) for one in planned()]
    with pytest.raises(DesignError, match="trained in steps"):
        ts.with_path(ready)
    with pytest.raises(DesignError, match="trained in steps"):
        ts.with_path([])


def test_a_path_is_scored_at_the_start_and_at_every_doubling(grid: TransferGrid) -> None:
    path = grid.paths["simulated"]
    assert path.anchors == tuple(name for name in STARTS for _ in STEPS)
    assert path.steps.tolist() == STEPS * len(STARTS)
    assert path.held_out_kl.shape == (len(STARTS) * len(STEPS), LAYERS)
    for loss in ("kl", "ce", "disagreement"):
        assert path.own[loss].shape == path.penalty[loss].shape == (len(path.steps), SCORED.units)


def test_lenses_that_are_one_lens_have_no_penalty(grid: TransferGrid) -> None:
    path = grid.paths["simulated"]
    one = [index for index, name in enumerate(path.anchors) if name != "ridge" and path.steps[index] == 0]
    assert len(one) == 2
    for values in path.penalty.values():
        assert np.abs(values[one]).max() < 1e-12


def test_the_path_from_the_identity_starts_at_the_logit_lens(grid: TransferGrid) -> None:
    path, logit = grid.paths["simulated"], grid.datasets[0].readouts["logit"]
    assert path.anchors[0] == "identity"
    for loss in ("kl", "ce"):
        np.testing.assert_allclose(path.own[loss][0], logit[loss][0].mean(axis=1), rtol=1e-6)


def test_the_lenses_of_the_seed_lie_on_the_path_of_their_anchor(store: ts.Store, grid: TransferGrid) -> None:
    """The same rows in the same order: held-out kl of each kept lens is that of the path after as many steps."""
    path = grid.paths["simulated"]
    assert (path.anchor, path.seed) == ("ridge", "0")
    own = [row for row in stored(store, "observed").record["certificates"] if row["readout"] == "own"]
    ridge = {path.steps[i]: path.held_out_kl[i] for i, name in enumerate(path.anchors) if name == "ridge"}
    for layer, row in enumerate(own):
        assert ridge[row["steps"]][layer] == pytest.approx(row["held_out_kl"], rel=1e-5)
        assert ridge[0][layer] == pytest.approx(row["start_kl"], rel=1e-5)
    # No descent may end before the last step here, so what was kept is the best of the path.
    least = np.min(list(ridge.values()), axis=0).mean()
    assert least == pytest.approx(np.mean([row["held_out_kl"] for row in own]), rel=1e-5)


def test_lenses_of_a_second_anchor_lie_on_its_path(store: ts.Store, grid: TransferGrid) -> None:
    path = grid.paths["simulated"]
    own = [row for row in stored(store, "observed").record["certificates"] if row["readout"] == "own|anchored"]
    shared = {path.steps[i]: path.held_out_kl[i] for i, name in enumerate(path.anchors) if name == "shared"}
    # Its own rows come in another order in the study, so only the start is the same.
    assert shared[0] == pytest.approx([row["start_kl"] for row in own], rel=1e-5)


def test_losses_and_certificates_are_those_of_a_study_without_a_path(tmp_path: Path, grid: TransferGrid) -> None:
    assert not ts.sweep(planned(), tmp_path / "without").failures
    without = ts.read_grid(tmp_path / "without")
    assert without.paths == {}
    assert grid.datasets[0].seeds == without.datasets[0].seeds
    np.testing.assert_array_equal(grid.datasets[0].loss("kl"), without.datasets[0].loss("kl"))
    assert grid.certificates.equals(without.certificates)
    assert len(grid.provenance["cells"]) == len(without.provenance["cells"]) + 1


def test_parts_of_a_grid_keep_only_paths_that_are_still_theirs(grid: TransferGrid) -> None:
    assert grid.with_datasets(["simulated"]).paths == grid.paths
    assert grid.with_loss("ce").paths == grid.paths
    assert grid.with_layers(grid.layers[:4]).paths == {}
    assert grid.with_set("anchored").paths == {}


def test_a_path_on_other_units_is_refused(grid: TransferGrid) -> None:
    path = grid.paths["simulated"]
    fewer = replace(path, penalty={name: values[:, 1:] for name, values in path.penalty.items()})
    with pytest.raises(DataError, match="the path has 11 units, the losses have 12"):
        replace(grid, paths={"simulated": fewer})
    with pytest.raises(DataError, match="anchor, steps and held-out kl"):
        replace(path, steps=path.steps[1:])
    with pytest.raises(DataError, match="finite values"):
        replace(path, own={"kl": path.own["kl"] * np.nan})


def test_a_path_ends_where_a_lens_has_no_finite_loss() -> None:
    wild = replace(RECIPES["belrose2023"], batch=64, max_steps=64, learning_rate=1e38, strengths=(1.0,))
    steep = ts.with_path(planned(wild))
    output = run_cell(steep[0])
    moments = [(one["anchor"], one["steps"]) for one in output.record["path"]]
    assert [(name, 0) for name in STARTS] == [one for one in moments if one[1] == 0]
    assert len(moments) < len(STARTS) * len(STEPS)
    assert np.isfinite(output.table.select_dtypes("float").to_numpy()).all()


def test_moments_of_the_published_recipe_include_its_last_step() -> None:
    assert milestones(RECIPES["belrose2023"]) == [8, 16, 32, 64, 128, 250]
    assert milestones(FIT) == STEPS[1:]


@pytest.mark.parametrize("fit", [RECIPES["belrose2023"], IMAGES])
def test_other_recipes_have_paths(fit: ts.FitPlan) -> None:
    """Stochastic steps, and those for images."""
    short = replace(fit, batch=64, max_steps=12, settle=1, beside=None, curve=(), strengths=(1.0,))
    path = run_cell(ts.with_path(planned(short))[0]).record["path"]
    expected = [0, 8, 12] if fit.optimiser == "sgd" else [0, 8]
    assert [one["steps"] for one in path if one["anchor"] == "identity"] == expected


def test_the_command_line_plans_a_path(tmp_path: Path) -> None:
    store = tmp_path / "store"
    size = ["--seeds", "2", "--null-replicates", "0", "--units", "12", "--unit-tokens", "24", "--max-steps", "8"]
    options = ["--subject", "known:trap", *size, "--store", str(store), "--jobs", "1"]
    assert main(["sweep", *options]) == 0
    assert ts.read_grid(store).paths == {}
    assert main(["sweep", *options, "--path"]) == 0
    assert set(ts.read_grid(store).paths) == {"simulated"}
