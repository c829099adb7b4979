"""Long tables and stores become grids unchanged, or are refused with the row named and the way out."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_study import SmallStudy

import transferstats as ts
from transferstats.engine import Store, sweep
from transferstats.errors import DataError, DesignError, StoreError
from transferstats.grid import DatasetLosses, TransferGrid

EXACT = 0.0  # reading copies numbers; it computes nothing


def long_table(n_seeds: int = 2, n_units: int = 3, n_layers: int = 3, rng: int = 0) -> pd.DataFrame:
    """A complete long table with kl and ce."""
    draw = np.random.default_rng(rng)
    index = pd.MultiIndex.from_product(
        [range(n_seeds), [f"unit {i}" for i in range(n_units)], range(n_layers), range(n_layers)],
        names=["seed", "unit", "source", "target"],
    )
    frame = index.to_frame(index=False)
    frame["kl"] = draw.gamma(2.0, size=len(frame))
    frame["ce"] = frame["kl"] + draw.normal(size=len(frame))
    frame["n"] = 10.0 + frame["unit"].str[-1].astype(int)
    return frame


def assert_same(one: TransferGrid, other: TransferGrid, *, seeds: bool = True) -> None:
    assert [data.name for data in one.datasets] == [data.name for data in other.datasets]
    for mine, theirs in zip(one.datasets, other.datasets, strict=True):
        assert mine.units == theirs.units
        assert mine.clusters == theirs.clusters
        assert not seeds or mine.seeds == theirs.seeds
        assert np.array_equal(mine.tokens, theirs.tokens)
        assert mine.losses.keys() == theirs.losses.keys()
        for loss in mine.losses:
            assert np.abs(mine.losses[loss] - theirs.losses[loss]).max() <= EXACT


# --- tables that are read ---


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_a_simulated_grid_comes_back_from_a_file(simulated: TransferGrid, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"losses.{suffix}"
    frame = simulated.to_frame()
    if suffix == "parquet":
        frame.to_parquet(path, index=False)
    else:
        frame.to_csv(path, index=False, sep="," if suffix == "csv" else "\t")
    read = ts.read_grid(path)
    assert read.subject == "losses"
    assert_same(read, simulated)


def test_a_stored_grid_comes_back_from_a_table(small_grid: TransferGrid, tmp_path: Path) -> None:
    path = tmp_path / "losses.csv"
    small_grid.to_frame().to_csv(path, index=False)
    assert_same(ts.read_grid(path), small_grid)


def test_losses_sit_where_the_table_says() -> None:
    frame = long_table().sample(frac=1, random_state=3)
    data = ts.read_grid(frame).datasets[0]
    for _, row in frame.iloc[:20].iterrows():
        place = (data.seeds.index(str(row["seed"])), data.units.index(row["unit"]), row["source"], row["target"])
        assert data.losses["kl"][place] == row["kl"]
        assert data.losses["ce"][place] == row["ce"]
    assert dict(zip(data.units, data.tokens, strict=True)) == {"unit 0": 10.0, "unit 1": 11.0, "unit 2": 12.0}


@given(st.permutations(range(27)))
def test_the_order_of_rows_does_not_matter(order: list[int]) -> None:
    frame = long_table(n_seeds=1)
    assert_same(ts.read_grid(frame.iloc[order]), ts.read_grid(frame))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("column", ["unit", "document"])
def test_names_that_look_like_numbers_or_gaps_stay_names(tmp_path: Path, suffix: str, column: str) -> None:
    """Leading zeros, NA, null and 1e5 are unit ids like any other, whatever their column is called."""
    names = {"unit 0": "007", "unit 1": "NA", "unit 2": "1e5"}
    frame = long_table().replace({"unit": names})
    frame["dataset"] = "null"
    frame["cluster"] = frame["unit"].map({"007": "01", "NA": "01", "1e5": "02"})
    frame = frame.rename(columns={"unit": column})
    path = tmp_path / f"losses.{suffix}"
    frame.to_parquet(path, index=False) if suffix == "parquet" else frame.to_csv(path, index=False)
    grid = ts.read_grid(path, columns={column: "unit"})
    data = grid.dataset("null")
    assert data.units == ("007", "1e5", "NA")
    assert data.clusters == ("01", "02", "01")


def test_seeds_are_ordered_as_numbers(tmp_path: Path) -> None:
    frame = long_table(n_seeds=12)
    frame.to_csv(tmp_path / "losses.csv", index=False)
    assert ts.read_grid(tmp_path / "losses.csv").datasets[0].seeds == tuple(str(seed) for seed in range(12))


def test_their_column_names() -> None:
    theirs = long_table().rename(columns={"kl": "divergence", "source": "from", "unit": "doc"}).drop(columns="ce")
    ours = ts.read_grid(theirs, columns={"divergence": "kl", "from": "source", "doc": "unit"})
    assert_same(ours, ts.read_grid(long_table().drop(columns="ce")))


def test_a_share_of_tokens_is_not_converted_with_the_losses() -> None:
    """Beside losses in bits, or in bits per byte with the bytes of each unit."""
    frame = long_table()
    share = np.linspace(0, 1, len(frame))
    told = frame.assign(disagreement=share)
    wanted = ts.read_grid(told).datasets[0].losses["disagreement"]
    assert np.array_equal(np.sort(wanted.ravel()), share)
    by_bytes = told.assign(bytes=4 * told["n"])
    for table, unit in ((told, "bits"), (by_bytes, "bits/byte")):
        read = ts.read_grid(table, loss_unit=unit).datasets[0].losses
        assert np.array_equal(read["disagreement"], wanted)
        assert not np.array_equal(read["kl"], ts.read_grid(frame).datasets[0].losses["kl"])


def test_bits_become_nats() -> None:
    frame = long_table()
    bits = frame.assign(kl=frame["kl"] / np.log(2), ce=frame["ce"] / np.log(2))
    read = ts.read_grid(bits, loss_unit="bits").datasets[0].losses["kl"]
    assert np.allclose(read, ts.read_grid(frame).datasets[0].losses["kl"], rtol=1e-15)
    with pytest.raises(DataError, match="unknown loss_unit 'bans': use one of nats, bits"):
        ts.read_grid(frame, loss_unit="bans")


def test_defaults_where_a_table_says_less() -> None:
    data = ts.read_grid(long_table()[["seed", "unit", "source", "target", "ce"]])
    assert data.loss == "ce"
    assert data.datasets[0].name == "data"
    assert data.datasets[0].clusters == data.datasets[0].units
    assert (data.datasets[0].tokens == 1).all()


def test_an_incomplete_unit_can_be_left_out_on_request() -> None:
    frame = long_table()
    incomplete = frame.drop(index=frame.index[(frame["unit"] == "unit 1") & (frame["seed"] == 1)][0])
    whole = ts.read_grid(frame).datasets[0]
    balanced = ts.read_grid(incomplete, balanced_subset=True).datasets[0]
    assert balanced.units == ("unit 0", "unit 2")
    assert np.array_equal(balanced.losses["kl"], whole.losses["kl"][:, [0, 2]])


# --- tables that are refused ---


def change(column: str, value: object, row: int = 5) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def apply(frame: pd.DataFrame) -> pd.DataFrame:
        frame[column] = frame[column].astype(object)
        frame.loc[row, column] = value
        return frame if isinstance(value, str) or value is None else frame.infer_objects()

    return apply


REFUSED: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "NaN": (
        change("kl", np.nan, 12),
        r"1 losses are NaN or infinite; the first is seed '0', unit 'unit 1', source 1, t",
    ),
    "infinite": (change("ce", np.inf, 12), r"ce: 1 losses are NaN or infinite.*Remove those units"),
    "missing row": (
        lambda f: f.drop(index=12),
        r"1 rows are missing, in 1 of 3 units; the first is seed '0', unit 'unit 1', source '1', target '0'.*bal",
    ),
    "missing seed of a unit": (
        lambda f: f[~((f["seed"] == 1) & (f["unit"] == "unit 2"))],
        r"9 rows are missing, in 1 of 3 units; the first is seed '1', unit 'unit 2'",
    ),
    "repeated row": (
        lambda f: pd.concat([f, f.iloc[[3]]]),
        r"1 duplicated rows, the first for seed '0', unit 'unit 0', source '1', target '0'\. Drop or average",
    ),
    "not square": (
        lambda f: f[f["target"] < 2],
        r"not square; layers \[2\] appear only as source or only as target",
    ),
    "one layer": (lambda f: f[(f["source"] == 0) & (f["target"] == 0)], r"transfer needs at least 2 layers"),
    "negative size": (lambda f: f.assign(n=-f["n"]), r"token counts must be positive and finite"),
    "size zero": (lambda f: f.assign(n=0), r"token counts must be positive and finite"),
    "size NaN": (lambda f: f.assign(n=np.nan), r"token counts must be positive and finite"),
    "size changes": (change("n", 99.0), r"n of unit 'unit 0' differs between its rows; it has one"),
    "cluster changes": (
        lambda f: f.assign(cluster=["a"] * 53 + ["b"]),
        r"cluster of unit 'unit 2' differs between its rows",
    ),
    "no loss": (lambda f: f.drop(columns=["kl", "ce"]), r"needs a loss column, 'kl' or 'ce', in nats"),
    "no unit": (lambda f: f.drop(columns="unit"), r"lacks unit; it has seed, .*Rename with columns="),
    "unit without a name": (change("unit", None), r"1 rows have no unit, the first is row 5"),
    "seed without a name": (change("seed", None), r"1 rows have no seed"),
    "dataset without a name": (lambda f: f.assign(dataset=["a"] * 53 + [None]), r"1 rows name no dataset"),
    "text for a number": (change("kl", "much"), r"'kl' holds something that is not a number in 1 rows, .*'much'"),
    "no rows": (lambda f: f.iloc[:0], r"the table has no rows"),
}


@pytest.mark.parametrize("route", ["frame", "csv", "parquet"])
@pytest.mark.parametrize("kind", REFUSED)
def test_a_bad_table_is_refused_with_the_way_out(kind: str, route: str, tmp_path: Path) -> None:
    spoil, words = REFUSED[kind]
    frame = spoil(long_table())
    source: object = frame
    if route == "csv":
        source = tmp_path / "losses.csv"
        frame.to_csv(source, index=False)
    elif route == "parquet":
        if kind == "text for a number":
            frame["kl"] = frame["kl"].astype(str)
            words = "not a number|could not convert"
        source = tmp_path / "losses.parquet"
        frame.to_parquet(source, index=False)
    with pytest.raises((DataError, DesignError), match=words):
        ts.read_grid(source)  # type: ignore[arg-type]


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file or store folder at"):
        ts.read_grid(tmp_path / "nothing.csv")
    (tmp_path / "losses.xlsx").write_bytes(b"")
    with pytest.raises(DataError, match=r"losses\.xlsx is a workbook: save the sheet with the losses as \.csv"):
        ts.read_grid(tmp_path / "losses.xlsx")
    (tmp_path / "losses.mat").write_bytes(b"")
    with pytest.raises(
        DataError, match=r"cannot read losses\.mat: give a \.csv, \.tsv, \.txt, \.jsonl or \.parquet"
    ):
        ts.read_grid(tmp_path / "losses.mat")
    for name, content in {
        "empty.csv": b"",
        "ragged.csv": b"seed,unit\n1,2\n1,2,3,4\n",
        "torn.parquet": b"PAR1nonsense",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=f"{name} is not a readable table"):
            ts.read_grid(tmp_path / name)


def test_an_unknown_loss_lists_what_there_is() -> None:
    with pytest.raises(DataError, match="has no loss 'mse'; it has: kl, ce"):
        ts.read_grid(long_table(), loss="mse")


# --- stores ---


def test_a_store_becomes_a_grid_with_everything_a_report_shows(small_grid: TransferGrid) -> None:
    assert small_grid.subject == "embedded"
    assert small_grid.unit == "nats/token"
    assert small_grid.n_layers == 8
    for data in small_grid.datasets:
        assert data.seeds == ("0", "1")
        assert set(data.readouts) == {"shared", "tied", "logit"}
        assert data.readouts["shared"]["kl"].shape == (2, len(data.units), 8)
        assert set(data.baselines) == {"final_ce", "prior_ce", "prior_kl", "prior_disagreement"}
        assert data.null is not None
        assert data.null.units == data.units
        assert set(small_grid.similarities[data.name]) >= {"covariance"}
    assert small_grid.provenance["study"]["subject"]["name"] == "embedded"


def test_an_unfinished_store_is_refused(small: SmallStudy, tmp_path: Path) -> None:
    root = Path(shutil.copytree(small.store, tmp_path / "store"))
    Store(root).discard(small.cells[3].key)
    label = small.cells[3].label
    with pytest.raises(
        StoreError, match=rf"1 of 10 cells .* are not finished \({label}\); sweep again, finished cells"
    ):
        ts.read_grid(root)


def test_a_damaged_store_is_refused(small: SmallStudy, tmp_path: Path) -> None:
    root = Path(shutil.copytree(small.store, tmp_path / "store"))
    victim = root / "cells" / f"{small.cells[0].key}.parquet"
    victim.write_bytes(victim.read_bytes()[:-100])
    with pytest.raises(StoreError, match="torn or altered"):
        ts.read_grid(root)


def test_a_discarded_cell_is_recomputed_to_the_same_bytes(small: SmallStudy, tmp_path: Path) -> None:
    root = Path(shutil.copytree(small.store, tmp_path / "store"))
    key = small.cells[0].key
    Store(root).discard(key)
    assert sweep(small.cells, root).computed == (key,)
    for suffix in ("json", "parquet"):
        name = f"cells/{key}.{suffix}"
        assert (root / name).read_bytes() == (small.store / name).read_bytes()


# --- the grid itself ---


def test_penalties_are_differences_to_the_own_lens(simulated: TransferGrid) -> None:
    data = simulated.datasets[0]
    penalty = data.penalty("kl")
    losses = data.losses["kl"]
    assert (np.diagonal(penalty, axis1=2, axis2=3) == 0).all()
    assert np.array_equal(penalty[1, 2, 0, 3], losses[1, 2, 0, 3] - losses[1, 2, 3, 3])


def test_views_of_a_grid(simulated: TransferGrid) -> None:
    assert simulated.with_loss("ce").loss == "ce"
    assert [data.name for data in simulated.with_datasets(["two"]).datasets] == ["two"]
    with pytest.raises(DataError, match="no dataset 'three'; this grid has: one, two"):
        simulated.with_datasets(["three"])
    with pytest.raises(DataError, match="has no loss"):
        simulated.with_loss("mse")


def test_inconsistent_grids_are_refused(simulated: TransferGrid) -> None:
    data = simulated.datasets[0]
    with pytest.raises(DataError, match="dataset names repeat"):
        TransferGrid("s", simulated.layers, (data, data))
    with pytest.raises(DataError, match="has 6 layers, the grid names 3"):
        TransferGrid("s", ("a", "b", "c"), (data,))
    with pytest.raises(DataError, match="at least one dataset"):
        TransferGrid("s", simulated.layers, ())
    other = ("x",) * len(data.units)
    with pytest.raises(DataError, match="null replicates must be scored on the same units"):
        DatasetLosses("n", data.seeds, other, other, data.tokens, data.losses, null=data)
    with pytest.raises(DataError, match="differ in length"):
        DatasetLosses("n", data.seeds, data.units, data.clusters[1:], data.tokens, data.losses)


def test_readouts_and_baselines_are_checked_too(simulated: TransferGrid) -> None:
    """A NaN among them would only show as an empty line of the report."""
    data = simulated.datasets[0]
    shared = data.readouts["shared"]["kl"].copy()
    with pytest.raises(DataError, match=r"readout 'shared', kl: expected shape \(4, 60, 6\), got \(4, 60\)"):
        replace(data, readouts={"shared": {"kl": shared[..., 0]}})
    shared[1, 2, 3] = np.nan
    with pytest.raises(DataError, match="readout 'shared', kl: 1 losses are not finite"):
        replace(data, readouts={"shared": {"kl": shared}})
    with pytest.raises(DataError, match="baseline 'final_ce': expected shape"):
        replace(data, baselines={"final_ce": data.tokens[1:]})


@pytest.mark.parametrize(
    "option", [{"columns": {"a": "kl"}}, {"loss_unit": "bits"}, {"subject": "mine"}, {"balanced_subset": True}]
)
def test_options_for_tables_are_refused_for_a_store(option: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="are for tables"):
        ts.read_grid(tmp_path, **option)  # type: ignore[arg-type]
