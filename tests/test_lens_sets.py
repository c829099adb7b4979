"""Sets of lenses through a store: other anchors, parts of a fold, the null of a null; stores from before them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import transferstats as ts
from transferstats.engine import Cell, CellOutput, Store, sweep
from transferstats.errors import DataError, StoreError
from transferstats.grid import DatasetLosses, TransferGrid
from transferstats.readers import dataset_from_outputs

SETS = ("anchored", "1/2", "1/4")
LAYERS, UNITS = 3, 12
SIZES = {"n_layers": LAYERS, "width": 12, "n_classes": 24, "tokens": 10, "trap_width": 4}


def planned() -> list[Cell]:
    """Two seeds, two null replicates and the null of the first, on a simulated subject that takes no time."""
    cells = ts.known_truth_cells(
        "iterative",
        seeds=2,
        null_replicates=2,
        fit=ts.FitPlan(strengths=(1e-1,), batch=64, max_steps=16, settle=16),
        evaluation=ts.EvaluationPlan(units=UNITS, tokens=10),
    )
    small = [replace(one, config={**one.config, "truth": {**one.config["truth"], **SIZES}}) for one in cells]
    first = next(one for one in small if one.config["world"] == "null" and one.config["seed"] == 0)
    deeper = replace(first, config={**first.config, "world": "null of null"}, label="null of null 0")
    return [*small, deeper]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sets") / "store"
    outcome = sweep(planned(), root)
    assert not outcome.failures, outcome.failures
    return root


@pytest.fixture(scope="module")
def grid(store: Path) -> TransferGrid:
    return ts.read_grid(store)


@pytest.fixture(scope="module")
def outputs(store: Path) -> dict[tuple[str, int], CellOutput]:
    """(world, seed) -> what the cell left."""
    cells = [Store(store).read(key) for key in Store(store).planned()]
    return {(one.config["world"], one.config["seed"]): CellOutput(one.table, one.record) for one in cells}


def null_of(data: DatasetLosses) -> DatasetLosses:
    assert data.null is not None
    return data.null


def same(one: DatasetLosses | None, other: DatasetLosses | None) -> bool:
    """Whether two datasets hold the same losses, sets and nulls."""
    if one is None or other is None:
        return one is other
    return (
        _equal(one.losses, other.losses)
        and one.seeds == other.seeds
        and one.training_rows == other.training_rows
        and one.readouts.keys() == other.readouts.keys()
        and all(_equal(one.readouts[name], other.readouts[name]) for name in one.readouts)
        and _equal(one.baselines, other.baselines)
        and one.sets.keys() == other.sets.keys()
        and all(same(one.sets[name], other.sets[name]) for name in one.sets)
        and same(one.null, other.null)
    )


def _equal(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_a_store_holds_the_sets_of_the_plan(grid: TransferGrid) -> None:
    assert grid.lens_sets == SETS
    (data,) = grid.datasets
    assert set(data.losses) == {"kl", "ce", "disagreement"}
    assert set(data.readouts) == {"shared", "tied", "logit"}
    assert set(data.baselines) == {"final_ce", "prior_kl", "prior_ce", "prior_disagreement"}
    for one in data.sets.values():
        assert one.seeds == data.seeds
        assert set(one.losses) == set(data.losses)
        assert one.loss("kl").shape == (2, UNITS, LAYERS, LAYERS)
        assert not np.array_equal(one.loss("kl"), data.loss("kl"))
        assert _equal(one.baselines, data.baselines)


def test_losses_of_a_set_are_those_of_its_readout(
    grid: TransferGrid, outputs: dict[tuple[str, int], CellOutput]
) -> None:
    table = outputs["observed", 1].table
    for name in SETS:
        data = grid.datasets[0].sets[name]
        for loss in data.losses:
            rows = table[table["readout"] == f"lens|{name}"].set_index(["unit", "source", "target"])[loss]
            for unit in (0, 7):
                assert data.loss(loss)[1, unit, 2, 0] == rows[data.units[unit], 2, 0]
    half = grid.datasets[0].sets["1/2"]
    shared = table[table["readout"] == "shared|1/2"].set_index(["unit", "target"])["kl"]
    assert set(half.readouts) == {"shared"}
    assert half.readouts["shared"]["kl"][1, 3, 2] == shared[half.units[3], 2]


def test_lenses_of_another_anchor_stand_on_the_same_ladder(grid: TransferGrid) -> None:
    (data,) = grid.datasets
    anchored = data.sets["anchored"]
    assert anchored.readouts.keys() == data.readouts.keys()
    assert _equal(anchored.readouts["shared"], data.readouts["shared"])
    assert anchored.training_rows == data.training_rows


def test_training_rows_are_those_of_each_seed(
    grid: TransferGrid, outputs: dict[tuple[str, int], CellOutput]
) -> None:
    (data,) = grid.datasets
    recorded = [outputs["observed", seed].record["rows"] for seed in (0, 1)]
    assert data.training_rows == tuple(float(rows["train"]) for rows in recorded)
    for name, share in (("1/2", 0.5), ("1/4", 0.25)):
        assert data.sets[name].training_rows == tuple(float(rows[name]) for rows in recorded)
        assert np.allclose(np.divide(data.sets[name].training_rows, data.training_rows), share, atol=0.02)


def test_certificates_tell_the_rows_of_every_set(grid: TransferGrid) -> None:
    table = grid.certificates
    observed = table[table["world"] == "observed"]
    assert set(observed["readout"]) == {
        *("own", "shared", "tied", "own|anchored"),
        *("own|1/2", "shared|1/2", "own|1/4", "shared|1/4"),
    }
    data = grid.datasets[0]
    for seed in (0, 1):
        own = observed[(observed["readout"] == "own|1/4") & (observed["seed"] == seed)]
        assert set(own["rows"]) == {data.sets["1/4"].training_rows[seed]}
    assert set(table["parameters"]) == {12 * 13}
    assert table["dimension"].between(1, 12).all()
    assert (table["held_out_kl"] <= table["start_kl"]).all()
    of_null = set(table[table["world"] == "null of null"]["readout"])
    assert of_null == {"own", "shared", "own|anchored", "generator"}


def test_every_set_has_the_null_that_was_made_for_it(grid: TransferGrid) -> None:
    """Lenses of another anchor have one; those of parts of a fold are fitted to the network only."""
    (data,) = grid.datasets
    null = null_of(data)
    assert null.seeds == ("0", "1")
    assert null_of(null).seeds == ("0",)
    assert null_of(null).null is None
    assert set(null.sets) == {"anchored"}
    assert same(data.sets["anchored"].null, null.sets["anchored"])
    assert same(null_of(data.sets["anchored"]).null, null_of(null).sets["anchored"])
    assert data.sets["1/2"].null is None


def test_a_grid_of_a_set(grid: TransferGrid) -> None:
    for name in SETS:
        (data,) = grid.with_set(name).datasets
        assert same(data, grid.datasets[0].sets[name])
    assert float(ts.estimate(grid.with_set("anchored"), "mean").headline.estimate) == pytest.approx(
        float(grid.datasets[0].sets["anchored"].penalty("kl").mean() * LAYERS / (LAYERS - 1))
    )
    with pytest.raises(
        DataError, match=r"no lenses '1/8' beside the grid's own; every dataset has: anchored, 1/2"
    ):
        grid.with_set("1/8")
    with pytest.raises(DataError, match="every dataset has: none"):
        grid.with_set("anchored").with_set("1/2")


def test_some_layers_of_every_set_and_null(grid: TransferGrid) -> None:
    part = grid.with_layers(["2", "0"])
    (data,), (whole,) = part.datasets, grid.datasets
    assert part.lens_sets == SETS
    chosen = np.ix_(range(2), range(UNITS), [2, 0], [2, 0])
    for name in SETS:
        assert np.array_equal(data.sets[name].loss("kl"), whole.sets[name].loss("kl")[chosen])
        assert data.sets[name].training_rows == whole.sets[name].training_rows
        assert same(grid.with_set(name).with_layers(["2", "0"]).datasets[0], part.with_set(name).datasets[0])
    deepest = null_of(null_of(data))
    assert np.array_equal(deepest.loss("ce"), null_of(null_of(whole)).loss("ce")[:, :, [2, 0]][..., [2, 0]])
    assert np.array_equal(
        deepest.sets["anchored"].loss("kl")[0, 0],
        null_of(null_of(whole)).sets["anchored"].loss("kl")[0, 0][np.ix_([2, 0], [2, 0])],
    )


@pytest.mark.parametrize("replicates", [None, ["1"]])
def test_some_seeds_of_every_set_and_null(grid: TransferGrid, replicates: list[str] | None) -> None:
    part = grid.with_seeds(["1"], replicates)
    (data,), (whole,) = part.datasets, grid.datasets
    assert part.lens_sets == SETS
    assert data.training_rows == whole.training_rows[1:]
    for name in SETS:
        assert np.array_equal(data.sets[name].loss("kl"), whole.sets[name].loss("kl")[1:])
        assert data.sets[name].training_rows == whole.sets[name].training_rows[1:]
        assert same(grid.with_set(name).with_seeds(["1"], replicates).datasets[0], part.with_set(name).datasets[0])
    null = null_of(data)
    assert null.seeds == tuple(replicates or ("0", "1"))
    assert set(null.sets) == {"anchored"}
    assert same(null.null, null_of(whole).null)
    assert same(data.sets["anchored"].null, null.sets["anchored"])


def test_certificates_of_some_seeds_are_those_of_the_losses_that_stay(grid: TransferGrid) -> None:
    """The null of a null stays, whatever seeds are chosen."""
    table = grid.with_seeds(["1"], ["1"]).certificates
    found = set(zip(table["world"], table["seed"], strict=True))
    assert found == {("observed", 1), ("null", 1), ("null of null", 0)}
    table = grid.with_seeds(["1"]).certificates
    found = set(zip(table["world"], table["seed"], strict=True))
    assert found == {("observed", 1), ("null", 0), ("null", 1), ("null of null", 0)}


def test_cells_in_memory_make_the_same_dataset(
    grid: TransferGrid, outputs: dict[tuple[str, int], CellOutput]
) -> None:
    assert same(dataset_from_outputs("simulated", outputs), grid.datasets[0])


def test_a_store_from_before_disagreement_and_sets_still_reads(
    grid: TransferGrid, outputs: dict[tuple[str, int], CellOutput]
) -> None:
    def older(output: CellOutput) -> CellOutput:
        table: pd.DataFrame = output.table.drop(columns="disagreement")
        record = {name: value for name, value in output.record.items() if name != "rows"}
        return CellOutput(table[~table["readout"].str.contains("|", regex=False)], record)

    old = {key: older(output) for key, output in outputs.items() if key[0] != "null of null"}
    data, whole = dataset_from_outputs("simulated", old), grid.datasets[0]
    assert set(data.losses) == set(data.readouts["shared"]) == {"kl", "ce"}
    assert set(data.baselines) == {"final_ce", "prior_kl", "prior_ce"}
    assert data.sets == {}
    assert data.training_rows == ()
    for loss in ("kl", "ce"):
        assert np.array_equal(data.loss(loss), whole.loss(loss))
        assert np.array_equal(null_of(data).loss(loss), null_of(whole).loss(loss))
    with pytest.raises(DataError, match="no loss 'disagreement'; it has: kl, ce"):
        data.loss("disagreement")
    without = TransferGrid("s", grid.layers, (data,))
    assert without.lens_sets == ()
    assert without.with_seeds(["1"]).datasets[0].training_rows == ()


def test_cells_without_those_they_belong_to_are_refused(outputs: dict[tuple[str, int], CellOutput]) -> None:
    """Null losses must not pass for observed ones, nor a null of a null for the null of what was observed."""
    one = outputs["observed", 0]
    for worlds in (("other",), ("null",), ("observed", "null of null")):
        with pytest.raises(StoreError, match=rf"has cells of {', '.join(sorted(worlds))} and lacks"):
            dataset_from_outputs("simulated", {(world, 0): one for world in worlds})


def test_a_set_of_other_seeds_or_units_is_refused(grid: TransferGrid) -> None:
    data, other = grid.datasets[0], grid.with_seeds(["1"]).datasets[0]
    with pytest.raises(DataError, match="lenses '1/2' must be of the same seeds and units"):
        replace(data, sets={"1/2": other})


def test_only_sets_that_every_dataset_has_are_offered(grid: TransferGrid) -> None:
    (data,) = grid.datasets
    fewer = replace(data, name="other", sets={"1/2": data.sets["1/2"]})
    assert replace(grid, datasets=(data, fewer)).lens_sets == ("1/2",)
