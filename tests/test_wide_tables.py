"""A table with a column a layer is a matrix a seed and unit, once it is said what its numbers are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_readers import assert_same, long_table

import transferstats as ts
from transferstats.errors import DataError

LAYERS = 11  # so that text order is not the order of numbers


def plain() -> pd.DataFrame:
    return long_table(n_layers=LAYERS)[["seed", "unit", "n", "source", "target", "kl"]]


def wide(
    index: str = "source", columns: str = "target", name: Callable[[int], object] = lambda i: i
) -> pd.DataFrame:
    """A block of L rows a seed and unit, shuffled."""
    frame = plain().pivot_table(index=["seed", "unit", "n", index], columns=columns, values="kl").reset_index()
    return frame.rename(columns={i: name(i) for i in range(LAYERS)}).sample(frac=1, random_state=4)


NAMINGS: dict[str, Callable[[int], object]] = {
    "numbers": lambda i: i,
    "text": str,
    "other names": lambda i: f"to_layer_{i}",
}


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("side", ["source", "target"])
def test_a_matrix_a_seed_and_unit_is_read(naming: str, side: str, tmp_path: Path) -> None:
    other = "target" if side == "source" else "source"
    frame = wide(side, other, NAMINGS[naming])
    expected = ts.read_grid(plain())
    assert_same(ts.read_grid(frame, loss="kl"), expected)
    frame.to_csv(tmp_path / "wide.csv", index=False)
    grid = ts.read_grid(tmp_path / "wide.csv", loss="kl")
    assert_same(grid, expected)
    assert any(f"has a column for each {other}, and its numbers were taken as kl" in text for text in grid.caveats)


def test_every_fourth_layer_keeps_its_numbers() -> None:
    frame = wide(name=lambda i: 4 * i).assign(source=lambda f: 4 * f["source"])
    grid = ts.read_grid(frame, loss="kl")
    assert grid.layers == tuple(str(4 * i) for i in range(LAYERS))
    assert_same(grid, ts.read_grid(plain()))


def test_one_matrix_a_seed_is_means() -> None:
    frame = wide().groupby(["seed", "source"], as_index=False).mean(numeric_only=True).drop(columns="n")
    grid = ts.read_grid(frame, loss_unit="nats")
    assert (grid.loss, len(grid.datasets[0].seeds), len(grid.datasets[0].units)) == ("ce", 2, 1)
    assert ts.describe(grid).unsupported[0][0] == "any interval, test or verdict"


def test_scores_in_a_matrix_become_a_loss_on_request() -> None:
    frame = wide()
    frame[list(range(LAYERS))] = np.exp(-frame[list(range(LAYERS))])
    grid = ts.read_grid(frame, score="AUC")
    assert (grid.loss, grid.unit) == ("error", "AUC")
    expected = 1 - np.exp(-ts.read_grid(plain()).datasets[0].losses["kl"])
    assert np.allclose(grid.datasets[0].losses["error"], expected, rtol=0, atol=1e-12)


def test_numbers_that_nobody_named_are_asked_about() -> None:
    with pytest.raises(
        DataError, match="a column for each target and does not say what its numbers are: pass loss="
    ):
        ts.read_grid(wide())


def test_columns_that_are_other_layers_make_no_matrix() -> None:
    with pytest.raises(DataError, match="lacks target; it has seed, unit, n, source, 1, 2"):
        ts.read_grid(wide(name=lambda i: i + 1), loss="kl")
