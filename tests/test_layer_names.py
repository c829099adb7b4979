"""Layers of a table, whatever it calls them: in their order, with their distances, or refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_readers import assert_same, long_table

import transferstats as ts
from transferstats.errors import DataError

LAYERS = 12

NAMINGS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "from 1": (range(1, LAYERS + 1), tuple(map(str, range(1, LAYERS + 1)))),
    "every fourth": (range(0, 4 * LAYERS, 4), tuple(map(str, range(0, 4 * LAYERS, 4)))),
    "with gaps": ([0, 1, 2, 3, 5, 6, 7, 8, 9, 20, 21, 22],) * 2,
    "from the end": (range(-LAYERS, 0), tuple(map(str, range(-LAYERS, 0)))),
    "floats": ([float(layer) for layer in range(1, LAYERS + 1)], tuple(map(str, range(1, LAYERS + 1)))),
    "numbered names": ([f"layer_{layer}" for layer in range(LAYERS)],) * 2,
    "modules": ([f"model.layers.{layer}.mlp" for layer in range(LAYERS)],) * 2,
    "text": ([str(layer) for layer in range(LAYERS)],) * 2,
}


def called(names: Any) -> pd.DataFrame:
    """A shuffled table whose layers have these names."""
    frame = long_table(n_layers=LAYERS)
    naming = dict(enumerate(names))
    frame = frame.assign(source=frame["source"].map(naming), target=frame["target"].map(naming))
    return frame.sample(frac=1, random_state=2)


@pytest.mark.parametrize("route", ["frame", "csv", "parquet"])
@pytest.mark.parametrize("naming", NAMINGS)
def test_layers_are_read_in_the_order_of_their_numbers(naming: str, route: str, tmp_path: Path) -> None:
    names, expected = NAMINGS[naming]
    source: Any = called(names)
    if route == "csv":
        source.to_csv(tmp_path / "losses.csv", index=False)
        source = tmp_path / "losses.csv"
    elif route == "parquet":
        source.to_parquet(tmp_path / "losses.parquet", index=False)
        source = tmp_path / "losses.parquet"
    grid = ts.read_grid(source)
    assert grid.layers == tuple(map(str, expected))
    assert_same(grid, ts.read_grid(long_table(n_layers=LAYERS)))


def test_what_the_table_calls_its_layers_is_said_where_it_is_no_index() -> None:
    words = "layers are those that the table calls 1 to 12, 12 of them"
    assert any(words in text for text in ts.describe(ts.read_grid(called(range(1, LAYERS + 1)))).caveats)
    assert not ts.describe(ts.read_grid(called(range(LAYERS)))).caveats


def test_a_slope_of_every_fourth_layer_is_a_quarter() -> None:
    def slope(names: Any) -> float:
        return float(ts.estimate(ts.read_grid(called(names)), "slope").headline.estimate)

    assert slope(range(0, 4 * LAYERS, 4)) == pytest.approx(slope(range(LAYERS)) / 4, rel=1e-12)


@pytest.mark.parametrize("names", [range(0, 4 * LAYERS, 4), [f"layer_{2 * layer}" for layer in range(LAYERS)]])
def test_a_grid_with_distances_of_its_own_reads_back_with_them(names: Any) -> None:
    grid = ts.read_grid(called(names))
    again = ts.read_grid(grid.to_frame())
    assert again.positions == grid.positions
    assert_same(again, grid)


def test_ordered_categories_say_the_order_of_names_without_numbers() -> None:
    names = ["embed", "early", "middle", "late"]
    frame = long_table(n_layers=4)
    for side in ("source", "target"):
        frame[side] = pd.Categorical.from_codes(frame[side], categories=names, ordered=True)
    grid = ts.read_grid(frame)
    assert grid.layers == tuple(names)
    assert_same(grid, ts.read_grid(long_table(n_layers=4)))
    assert any("distances count steps in the order of the layers" in text for text in grid.caveats)


@pytest.mark.parametrize("names", [["early", "middle", "late"], ["embed", "layer_0", "layer_1"], ["1", "b", "3"]])
def test_names_whose_order_cannot_be_told_are_refused(names: list[str]) -> None:
    frame = long_table()
    for side in ("source", "target"):
        frame[side] = frame[side].map(dict(enumerate(names)))
    with pytest.raises(DataError, match=rf"hold '{names[0]}', .* whose order of depth cannot be told: number"):
        ts.read_grid(frame)


def test_a_layer_that_only_one_dataset_has_is_named() -> None:
    one, other = (long_table().assign(dataset=name) for name in "ab")
    other = other.replace({"source": {2: 7}, "target": {2: 7}})
    with pytest.raises(DataError, match="dataset 'a' has no layer '7', which another dataset has"):
        ts.read_grid(pd.concat([one, other]))


def test_a_matrix_that_is_not_square_is_refused_with_the_names_of_the_table() -> None:
    frame = long_table().replace({"source": {2: 40}, "target": {2: 44}})
    with pytest.raises(DataError, match=r"not square; layers \[40, 44\] appear only as source"):
        ts.read_grid(frame)


def test_layers_beyond_the_first_hundred_stay_in_order() -> None:
    numbers = np.arange(95, 105)
    frame = long_table(n_layers=10)
    for side in ("source", "target"):
        frame[side] = [f"h{numbers[index]}" for index in frame[side]]
    assert ts.read_grid(frame).layers == tuple(f"h{number}" for number in numbers)
