"""Units without a cluster label are clusters of their own, wherever the labels come from, and it is said."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from real_r import run_r
from test_readers import long_table

import transferstats as ts
from transferstats.errors import DataError
from transferstats.grid import TransferGrid
from transferstats.labels import MISSING

WORDS = "9 of 12 units have no cluster label, and each of them counts as a cluster of its own"

SPELLINGS = [None, math.nan, pd.NA, pd.NaT, "  ", *MISSING]


def books(missing: Any) -> TransferGrid:
    """Twelve units, three of them from one book, the others from nowhere in particular."""
    grid = ts.simulate_grid(n_seeds=4, n_units=12, rng=3).grid
    data = grid.datasets[0]
    clusters = tuple("book" if index < 3 else missing for index in range(12))
    return replace(grid, datasets=(replace(data, clusters=clusters),))


def assert_each_its_own(grid: TransferGrid) -> None:
    """Interval of 3 + 9 x 1 units, as somebody would have it who named nine clusters."""
    one = ts.estimate(grid).headline
    assert one.n_units == 10
    assert (round(float(one.conf_low), 4), round(float(one.conf_high), 4)) == (0.1629, 0.2042)
    assert any(WORDS in text for text in ts.describe(grid).caveats)


@pytest.mark.parametrize("missing", SPELLINGS, ids=repr)
def test_units_without_a_cluster_are_each_their_own_in_arrays(missing: Any) -> None:
    assert_each_its_own(books(missing))


@pytest.mark.parametrize("missing", SPELLINGS, ids=repr)
def test_units_without_a_cluster_are_each_their_own_in_a_data_frame(missing: Any) -> None:
    frame = books("").to_frame().assign(cluster=lambda f: f["cluster"].where(f["cluster"] == "book", missing))
    assert_each_its_own(ts.read_grid(frame))
    assert_each_its_own(ts.read_grid(frame.astype({"cluster": "category"})))


@pytest.mark.parametrize("missing", ["", *MISSING])
@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_units_without_a_cluster_are_each_their_own_in_a_file(tmp_path: Path, missing: str, suffix: str) -> None:
    frame = books("").to_frame().assign(cluster=lambda f: f["cluster"].where(f["cluster"] == "book", missing))
    path = tmp_path / f"losses.{suffix}"
    if suffix == "parquet":
        frame.to_parquet(path, index=False)
    else:
        frame.to_csv(path, index=False, sep="," if suffix == "csv" else "\t")
    assert_each_its_own(ts.read_grid(path))


@pytest.mark.needs_r
def test_units_without_a_cluster_are_each_their_own_from_r(tmp_path: Path) -> None:
    frame = books("").to_frame()
    frame["cluster"] = frame["cluster"].where(frame["cluster"] == "book")
    frame.to_csv(tmp_path / "losses.csv", index=False)
    script = """
    source(system2("transferstats", "r-path", stdout = TRUE))
    frame <- read.csv("losses.csv", na.strings = "")
    stopifnot(anyNA(frame$cluster))
    for (cluster in list(frame$cluster, factor(frame$cluster))) {
      one <- tidy(transferstats()$estimate(read_grid(transform(frame, cluster = cluster))))
      stopifnot(one$n_units == 10, round(c(one$conf.low, one$conf.high), 4) == c(0.1629, 0.2042))
    }
    cat("as it should be")
    """
    done = run_r(script, folder=tmp_path)
    assert "as it should be" in done.stdout, done.stderr


def test_the_report_and_the_comparison_say_how_many_units_have_no_cluster(tmp_path: Path) -> None:
    grid = books(None)
    assert WORDS in ts.report(ts.evaluate(grid, 0.05), tmp_path / "one").read_text(encoding="utf-8")
    other = replace(ts.simulate_grid(n_seeds=4, n_units=12, rng=4).grid, subject="other")
    page = ts.report(ts.compare_subjects([grid, other], smallest=0.05), tmp_path / "two")
    assert WORDS in page.read_text(encoding="utf-8")


def test_a_cluster_of_its_own_never_joins_one_that_was_named() -> None:
    data = ts.simulate_grid(n_seeds=2, n_units=3, rng=1).grid.datasets[0]
    named = replace(data, units=("a", "b", "c"), clusters=(None, "a", "b"))  # type: ignore[arg-type]
    assert named.clusters == ("a (alone)", "a", "b")
    assert replace(named).unclustered == 1


def test_a_unit_called_na_is_no_missing_cluster() -> None:
    grid = ts.read_grid(long_table().replace({"unit": {"unit 0": "NA"}}))
    assert "NA" in grid.datasets[0].clusters
    assert not ts.describe(grid).caveats


def test_a_unit_with_a_label_in_some_rows_only_is_refused() -> None:
    frame = long_table().assign(cluster="book")
    frame.loc[frame.index[-1], "cluster"] = None
    with pytest.raises(DataError, match="cluster of unit 'unit 2' differs between its rows"):
        ts.read_grid(frame)


def test_images_without_a_cluster_are_refused_by_number(tmp_path: Path) -> None:
    from transferstats.lens.images import read_images

    path = tmp_path / "images.npz"
    images = np.random.default_rng(0).integers(0, 255, (6, 8, 8), dtype=np.uint8)
    for clusters in (
        np.array([1.0, 2.0, math.nan, 3.0, math.nan, 4.0]),
        np.array(["a", "b", None, "c", "", "d"], str),
    ):
        np.savez(path, images=images, labels=np.arange(6) % 2, clusters=clusters)
        with pytest.raises(DataError, match="2 images have no cluster label, the first is image 2"):
            read_images(path)
