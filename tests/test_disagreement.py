"""The loss that is counted: its unit in every statistic and view, its place beside kl, and what is read as it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from disagreeing import disagreeing
from small_study import SmallStudy

import transferstats as ts
from transferstats import commands
from transferstats.cli import BAD_INPUT, OK, main
from transferstats.errors import DataError, DesignError
from transferstats.grid import DISAGREEMENT, LOSSES, TransferGrid
from transferstats.reporting.documents import report_files
from transferstats.reporting.pictures import pictures
from transferstats.results import Result
from transferstats.stats.depth import depth_profile, depth_trend
from transferstats.stats.mixed import mixed_slope

TOKENS, IMAGES = "share of tokens", "share of images"
SMALLEST = 0.01

STATISTICS: dict[str, Callable[[TransferGrid, str | None], Any]] = {
    "mean": lambda grid, loss: ts.estimate(grid, "mean", loss=loss),
    "cells": lambda grid, loss: ts.estimate(grid, "cells", loss=loss),
    "bootstrap": lambda grid, loss: ts.estimate(grid, loss=loss, method=ts.Bootstrap(replicates=200, rng=0)),
    "slope": lambda grid, loss: ts.estimate(grid, "slope", loss=loss),
    "depth": lambda grid, loss: depth_profile(grid, loss=loss),
    "trend": lambda grid, loss: depth_trend(grid, loss=loss),
    "decay": lambda grid, loss: ts.fit_decay(grid, "linear", loss=loss),
    "null": lambda grid, loss: ts.null_test(grid, "mean", loss=loss),
    "shared": lambda grid, loss: ts.shared_lens_test(grid, SMALLEST, loss=loss),
    "regression": lambda grid, loss: ts.regress("penalty ~ distance", grid, loss=loss),
    "mixed": lambda grid, loss: mixed_slope(grid, grid.datasets[0].name, loss=loss),
    "plan": lambda grid, loss: ts.plan_study(grid, seeds=[3], units=[50], smallest=SMALLEST, loss=loss),
    "size": lambda grid, loss: ts.size_study(grid, half_width=0.01, seeds=[3], loss=loss).estimate,
    "compare": lambda grid, loss: ts.compare(grid, disagreeing(rng=5), loss=loss),
}


def units_of(x: Result) -> set[str]:
    """Units of the rows, without what is per layer or has none."""
    return {str(unit).split(" per ")[0] for unit in x.tidy()["unit"].dropna()} - {""}


# --- the unit ---


@pytest.mark.parametrize("name", STATISTICS)
def test_the_unit_follows_the_loss(name: str) -> None:
    grid, asked = disagreeing(), STATISTICS[name]
    assert units_of(asked(grid, None)) == {"nats/token"}
    assert units_of(asked(grid, DISAGREEMENT)) == {TOKENS}
    if name != "compare":  # whose second grid is in kl, which the next test is about
        assert units_of(asked(grid.with_loss(DISAGREEMENT), None)) == {TOKENS}
        assert units_of(asked(grid.with_loss(DISAGREEMENT), "ce")) == {"nats/token"}


def test_a_comparison_of_curves_has_the_unit_of_the_loss() -> None:
    grid = disagreeing()
    for loss, unit in ((None, "nats/token"), (DISAGREEMENT, TOKENS)):
        assert ts.compare_decay(grid, ("constant", "linear"), loss=loss)[0].unit == unit


def test_a_difference_of_shares_and_nats_is_refused() -> None:
    first, second = disagreeing(), disagreeing(rng=5)
    with pytest.raises(DesignError, match="a difference of share of tokens and nats/token"):
        ts.compare(first.with_loss(DISAGREEMENT), second)
    other = ts.read_grid(second.to_frame(), subject="other")
    with pytest.raises(DesignError, match="disagreement, share of tokens, and other in kl, nats/token"):
        ts.compare_subjects([first.with_loss(DISAGREEMENT), other], smallest=SMALLEST)


def test_shares_of_other_units_of_the_nats_compare() -> None:
    """Bits a byte of one network and nats a token of another: what is counted is the same."""
    first, second = disagreeing(), disagreeing(unit="bits/byte", rng=5)
    assert units_of(ts.compare(first, second, loss=DISAGREEMENT)) == {TOKENS}


@pytest.mark.parametrize(
    ("unit", "expected", "noun"), [("nats/token", TOKENS, "documents"), ("nats/image", IMAGES, "images")]
)
def test_sentences_count_what_was_scored(unit: str, expected: str, noun: str) -> None:
    grid = disagreeing(unit).with_loss(DISAGREEMENT)
    assert (grid.unit, grid.loss_unit) == (unit, expected)
    text = ts.sentence(ts.estimate(grid, "mean"))
    assert re.match(rf"Mean transfer penalty was 0\.\d+ \({expected}\), 95\u00a0% CI \[", text)
    assert f"20 {noun}" in text
    assert f"({expected} per layer)" in ts.sentence(ts.estimate(grid, "slope"))
    assert f"as a {expected}" in ts.sentence(ts.describe(grid))


def test_a_report_of_shares_has_no_nats(tmp_path: Path) -> None:
    """But in the note on certificates, which are about kl."""
    grid = disagreeing(datasets=("one", "two")).with_loss(DISAGREEMENT)
    evidence = ts.evaluate(grid, SMALLEST)
    assert evidence.unit == TOKENS
    assert units_of(evidence) == {TOKENS}
    assert "disagreement" not in evidence.datasets[0].extras
    for name, made in report_files(evidence).items():
        if name.endswith((".md", ".html", ".csv", ".tex", ".json", ".typ", ".svg")):
            assert b"nats/token" not in made, name
            assert b"nats per" not in made, name
    for picture in pictures(evidence):
        if "unit" in picture.data:
            assert {str(unit).split(" per ")[0] for unit in picture.data["unit"].dropna()} <= {TOKENS, ""}


def test_subjects_are_compared_in_shares() -> None:
    grids = [disagreeing(rng=rng).with_loss(DISAGREEMENT) for rng in (4, 5)]
    named = [ts.read_grid(grid.to_frame(), loss=DISAGREEMENT, subject=f"net {i}") for i, grid in enumerate(grids)]
    found = ts.compare_subjects(named, smallest=SMALLEST)
    assert found.unit == TOKENS
    assert {unit.split(" over ")[0] for unit in found.tidy()["unit"]} == {TOKENS}
    assert "0.01 (share of tokens)" in ts.sentence(found)


# --- beside the loss that claims are about ---


def test_a_report_shows_disagreement_beside_kl() -> None:
    grid = disagreeing(datasets=("one", "two"))
    evidence = ts.evaluate(grid, 0.05)
    assert units_of(evidence) == {"nats/token"}
    for data in evidence.datasets:
        shown, alone = data.extras["disagreement"], grid.with_datasets([data.dataset])
        assert (shown.terms, shown.unit) == (("mean", "forward", "backward"), TOKENS)
        expected = ts.estimate(alone, "mean", loss=DISAGREEMENT).headline
        for field in ("estimate", "conf_low", "conf_high", "df"):
            assert float(getattr(shown, field)[0]) == float(getattr(expected, field))
        assert "In disagreement: Mean transfer penalty was 0.0" in ts.sentence(data)
    files = report_files(evidence)
    means = pd.read_csv(pd.io.common.BytesIO(files["tables/disagreement-1-one.csv"]))
    assert list(means["term"]) == ["mean", "forward", "backward"]
    assert set(means["unit"]) == {TOKENS}
    assert len(pd.read_csv(pd.io.common.BytesIO(files["tables/cells-disagreement-2-two.csv"]))) == 30
    assert "tables/cells-disagreement-1-one.tex" not in files
    text = files["report.md"].decode()
    assert text.count("share of tokens for which the most likely output of a lens is not the network's") == 1
    assert "\\TransferOneDisagreementMean" in files["numbers.tex"].decode()


def test_what_has_no_disagreement_shows_none() -> None:
    evidence = ts.evaluate(ts.simulate_grid(n_seeds=3, n_units=20, rng=4).grid, 0.05)
    assert not {"disagreement", "cells_disagreement"} & set(evidence.datasets[0].extras)
    assert "isagreement" not in report_files(evidence)["report.md"].decode()


def test_a_store_has_it_in_every_part(small: SmallStudy, small_grid: TransferGrid) -> None:
    grid = ts.read_grid(small.store, loss=DISAGREEMENT)
    assert (grid.loss, grid.unit, grid.loss_unit) == (DISAGREEMENT, "nats/token", TOKENS)
    for data in grid.datasets:
        values = data.loss(DISAGREEMENT)
        assert ((values >= 0) & (values <= 1)).all()
        assert data.null is not None
        assert DISAGREEMENT in data.null.losses
    evidence = ts.evaluate(small_grid, 0.05)
    assert all(data.extras["disagreement"].unit == TOKENS for data in evidence.datasets)


# --- other people's tables ---


def long_table(**options: object) -> pd.DataFrame:
    return disagreeing(n_null=0, **options).to_frame()


@pytest.mark.parametrize("unit", ["bits", "bits/byte", "bits/image"])
def test_a_share_is_not_converted(unit: str) -> None:
    grid = ts.read_grid(long_table(), loss_unit=unit)
    ours = disagreeing().datasets[0]
    assert np.array_equal(grid.datasets[0].loss(DISAGREEMENT), ours.loss(DISAGREEMENT))
    assert grid.unit_of(DISAGREEMENT) == (IMAGES if "image" in unit else TOKENS)


def test_a_share_is_not_converted_by_the_bytes_of_its_unit() -> None:
    grid = ts.read_grid(long_table().assign(n=10, bytes=43), loss_unit="bits/byte")
    assert np.array_equal(grid.datasets[0].loss(DISAGREEMENT), disagreeing().datasets[0].loss(DISAGREEMENT))
    assert not np.allclose(grid.datasets[0].loss("kl"), disagreeing().datasets[0].loss("kl"))


def test_a_table_of_shares_alone_is_read() -> None:
    grid = ts.read_grid(long_table().drop(columns=["kl", "ce"]), loss_unit="bits")
    assert (grid.loss, grid.loss_unit) == (DISAGREEMENT, TOKENS)
    assert not any("converted" in text for text in grid.provenance["caveats"])


@pytest.mark.parametrize("bad", [-0.01, 1.0001, 35.0])
def test_what_is_no_share_is_refused(bad: float) -> None:
    frame = long_table()
    frame.loc[7, DISAGREEMENT] = bad
    with pytest.raises(DataError, match=f"1 values of 'disagreement' lie outside of 0 to 1, such as {bad:g}"):
        ts.read_grid(frame)


def test_ends_of_the_range_are_shares_and_gaps_are_not() -> None:
    frame = long_table()
    frame.loc[[7, 8], DISAGREEMENT] = [0.0, 1.0]
    assert ts.read_grid(frame, loss=DISAGREEMENT).loss == DISAGREEMENT
    frame.loc[7, DISAGREEMENT] = np.nan
    with pytest.raises(DataError, match="disagreement: 1 losses are NaN"):
        ts.read_grid(frame)
    with pytest.raises(DataError, match="not a number"):
        ts.read_grid(frame.assign(disagreement="often"))


def test_matrices_are_no_shares(tmp_path: Path) -> None:
    np.save(tmp_path / "shares.npy", np.full((3, 4, 4), 0.5))
    with pytest.raises(DataError, match="use a long table"):
        ts.read_grid(tmp_path / "shares.npy", loss=DISAGREEMENT, loss_unit="nats")


# --- the command line ---


def test_the_command_line_knows_every_loss() -> None:
    """It lists them itself, because loading the grid would take the time that R waits."""
    assert commands.LOSSES == LOSSES


def test_the_command_line_analyses_shares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "losses.csv"
    long_table().to_csv(table, index=False)

    def told(*arguments: object) -> str:
        assert main([str(argument) for argument in arguments]) == OK
        return capsys.readouterr().out

    chosen = ("--loss", DISAGREEMENT)
    verdicts = told("evaluate", table, "--smallest", SMALLEST, *chosen)
    assert "] share of tokens\n" in verdicts
    assert "nats" not in verdicts
    assert "share of tokens" in told("describe", table, *chosen)
    assert "nats/token" in told("describe", table)
    planned = told("plan", table, "--half-width", 0.002, *chosen)
    assert "0.002 (share of tokens)" in planned
    assert "nats" not in planned
    names = ("--names", "one", "two")
    assert "nats" not in told("compare", table, table, *names, "--smallest", SMALLEST, *chosen)
    told("report", table, "--smallest", SMALLEST, *chosen, "--out", tmp_path / "out")
    assert "share of tokens" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")


def test_the_command_line_says_what_a_table_lacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "losses.csv"
    long_table().drop(columns=DISAGREEMENT).to_csv(table, index=False)
    assert main(["evaluate", str(table), "--smallest", "0.01", "--loss", DISAGREEMENT]) == BAD_INPUT
    assert "has no loss 'disagreement'; it has: kl, ce" in capsys.readouterr().err
