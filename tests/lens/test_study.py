"""Studies on the embedded model: plans, splits, what a cell holds, and the same bytes wherever it is computed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import required
import small_study
import torch
from small_study import SmallStudy

import transferstats as ts
from transferstats.engine import Cell, Store, local_pool, run_cell, sweep
from transferstats.errors import DesignError
from transferstats.grid import TransferGrid
from transferstats.lens.design import split_of
from transferstats.lens.documents import read_documents
from transferstats.lens.language import LanguageModel, LanguageSubject

LAYERS = 8


def cells_of(study: SmallStudy, world: str) -> list[Cell]:
    return [cell for cell in study.cells if cell.config["world"] == world]


def test_the_cells_of_a_study(study_cells: Sequence[Cell]) -> None:
    """2 datasets x (2 seeds + 2 null replicates + the null of one of them), each with its own key."""
    assert len({cell.key for cell in study_cells}) == 10
    assert len({str(cell.study()) for cell in study_cells}) == 1
    found = {(c.config["dataset"]["name"], c.config["world"], c.config["seed"]) for c in study_cells}
    assert len(found) == 10


def test_planning_twice_gives_the_same_keys(study_cells: Sequence[Cell], document_files: list[Path]) -> None:
    assert [cell.key for cell in small_study.plan(document_files)] == [cell.key for cell in study_cells]


def test_every_option_is_part_of_the_key(study_cells: Sequence[Cell], document_files: list[Path]) -> None:
    keys = {cell.key for cell in study_cells}
    plan = small_study.FIT
    options = {
        "fit": plan,
        "encoding": ts.Encoding(64, 64, 32),
        "evaluation": ts.EvaluationPlan(small_study.UNITS, small_study.TOKENS),
    }

    def planned(**changes: object) -> set[str]:
        made = ts.cells("embedded", document_files, seeds=2, null_replicates=2, **{**options, **changes})
        return {cell.key for cell in made}

    assert planned() == keys
    for change in (
        {"fit": replace(plan, learning_rate=0.02)},
        {"fit": replace(plan, anchor="shared")},
        {"fit": replace(plan, beside="shared")},
        {"fit": replace(plan, curve=(0.5,))},
        {"encoding": ts.Encoding(64, 64, 32, skip=2)},
        {"evaluation": ts.EvaluationPlan(small_study.UNITS, small_study.TOKENS, held_out=0.3)},
        {"evaluation": ts.EvaluationPlan(small_study.UNITS - 1, small_study.TOKENS)},
    ):
        assert not planned(**change) & keys, change


def test_changing_a_document_changes_the_key(document_files: list[Path], tmp_path: Path) -> None:
    files = small_study.write_documents(tmp_path)
    files[0].write_text(files[0].read_text(encoding="utf-8").replace("e", "a", 1), encoding="utf-8")
    before, after = small_study.plan(document_files), small_study.plan(files)
    for one, other in zip(before, after, strict=True):
        assert (one.key == other.key) == (one.config["dataset"]["name"] != "python_small"), one.label


def test_documents_changed_after_planning_are_refused(document_files: list[Path], tmp_path: Path) -> None:
    files = small_study.write_documents(tmp_path)
    cell = small_study.plan(files)[0]
    files[0].write_text(files[0].read_text(encoding="utf-8").replace("e", "a", 1), encoding="utf-8")
    with pytest.raises(DesignError, match=r"the documents at .* changed since the study was planned"):
        run_cell(cell)


@pytest.mark.parametrize("replicates", [-1, 1])
def test_one_null_replicate_is_refused(document_files: list[Path], replicates: int) -> None:
    with pytest.raises(DesignError, match="use 0 for none, or at least 2"):
        ts.cells("embedded", document_files, seeds=2, null_replicates=replicates)


@pytest.mark.parametrize("numbers", [(1, 10, 0.2), (10, 1, 0.2), (10, 10, 0.0), (10, 10, 1.0)])
def test_an_evaluation_that_scores_nothing_is_refused(numbers: tuple[int, int, float]) -> None:
    with pytest.raises(DesignError, match="an evaluation needs at least 2 units"):
        ts.EvaluationPlan(*numbers)


def test_no_evaluation_document_trains_a_lens(study_cells: Sequence[Cell], document_files: list[Path]) -> None:
    """For every dataset: evaluation units, their clusters and even their texts appear in no fold."""
    for file in document_files:
        documents = read_documents(file)
        config = next(c.config for c in study_cells if c.config["dataset"]["name"] == documents.name)
        split = split_of(dict(config), documents.clusters)
        scored = {documents.clusters[index] for index in split.evaluation}
        assert len(split.evaluation) == small_study.UNITS
        for fold in split.folds:
            used = [*fold.train, *fold.held_out]
            assert not scored & {documents.clusters[index] for index in used}
            assert not set(split.evaluation) & set(used)


def test_a_cell_scores_every_lens_on_every_layer_of_the_same_units(small: SmallStudy) -> None:
    store = Store(small.store)
    units: dict[str, set[tuple[str, ...]]] = {}
    for cell in small.cells:
        table = store.read(cell.key).table
        lens = table[table["readout"] == "lens"]
        assert len(lens) == small_study.UNITS * LAYERS**2
        assert not lens.duplicated(["unit", "source", "target"]).any()
        assert (table["n"] > 0).all()
        assert (table["n"] <= small_study.TOKENS).all()
        units.setdefault(cell.config["dataset"]["name"], set()).add(tuple(sorted(set(table["unit"]))))
    assert all(len(found) == 1 for found in units.values())  # the same units under every seed and in both worlds


def test_certificates_name_every_lens(small_grid: TransferGrid) -> None:
    """8 own lenses and the shared one, per dataset, world and seed, and the shared lens behind each null."""
    table = small_grid.certificates
    generators = table[table["readout"] == "generator"]
    assert len(generators) == 2 * (2 + 1)  # datasets x null replicates, and the null of one of them
    assert set(generators["world"]) == {"null", "null of null"}
    tied = 2 * 2 * LAYERS  # datasets x seeds x layers, in the observed world
    assert len(table) == 2 * (2 + 2 + 1) * (LAYERS + 1) + tied + len(generators)
    assert set(table["readout"]) == {"own", "shared", "tied", "generator"}
    assert (table["held_out_kl"] > 0).all()
    assert (table["held_out_kl"] <= table["start_kl"]).all()  # the start is kept where nothing is better
    assert (table["steps"] <= 16).all()


def test_losses_are_recomputed_from_the_stored_design(small: SmallStudy, embedded_model: LanguageModel) -> None:
    """The final model's ce by transformers alone: labels, windows and units are what they claim."""
    cell = cells_of(small, "observed")[0]
    table = Store(small.store).read(cell.key).table
    final = table[table["readout"] == "final"].set_index("unit")
    documents = read_documents(small.documents[0])
    subject = LanguageSubject(embedded_model, documents, ts.Encoding(64, 64, 32))
    for unit in final.index[:4]:
        (window,) = subject.windows(documents.units.index(unit), small_study.TOKENS)
        ids = torch.tensor([window])
        with torch.no_grad():
            logits = embedded_model.model(ids).logits[0, 1:-1].double()
        ce = torch.nn.functional.cross_entropy(logits, ids[0, 2:])
        assert abs(float(final.loc[unit, "ce"]) - float(ce)) < 1e-4
        assert int(final.loc[unit, "n"]) == len(window) - 2
        assert window[0] == embedded_model.tokenizer.bos_token_id


def test_a_last_layer_lens_beats_the_prior_and_its_kl_adds_up(small_grid: TransferGrid) -> None:
    """Sanity of real numbers, without depending on the model: kl >= 0, ce is near the final model's plus kl."""
    for data in small_grid.datasets:
        kl, ce = data.losses["kl"], data.losses["ce"]
        assert kl.min() > -1e-5
        differs = data.losses["disagreement"]
        assert differs.min() >= 0
        assert differs.max() <= 1
        own = np.diagonal(kl, axis1=2, axis2=3)
        assert own[..., -1].mean() < data.baselines["prior_kl"].mean()
        last = np.diagonal(differs, axis1=2, axis2=3)[..., -1].mean()
        assert last < data.baselines["prior_disagreement"].mean()
        assert np.abs(np.diagonal(ce, axis1=2, axis2=3)[..., -1].mean() - data.baselines["final_ce"].mean()) < 1.0


def test_serial_and_process_pool_leave_the_same_bytes(small: SmallStudy, tmp_path: Path) -> None:
    """One cell of each world, computed by two processes that were started for it."""
    chosen = [cells_of(small, "observed")[1], cells_of(small, "null")[2]]
    with local_pool(2) as pool:
        outcome = sweep(chosen, tmp_path / "pool", executor=pool)
    assert not outcome.failures
    for cell in chosen:
        for suffix in ("json", "parquet"):
            name = f"cells/{cell.key}.{suffix}"
            assert (tmp_path / "pool" / name).read_bytes() == (small.store / name).read_bytes(), name


def test_serial_and_cluster_leave_the_same_bytes(small: SmallStudy, tmp_path: Path) -> None:
    """The same two cells on the workers of Dask, which were started in another folder."""
    required.module("distributed")
    from distributed import LocalCluster

    from transferstats.engine.cluster import open_cluster

    chosen = [cells_of(small, "observed")[1], cells_of(small, "null")[2]]
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        open_cluster(cluster.scheduler_address, lambda _: None) as executor,
    ):
        outcome = sweep(chosen, tmp_path / "cluster", executor=executor)
    assert not outcome.failures
    for cell in chosen:
        for suffix in ("json", "parquet"):
            name = f"cells/{cell.key}.{suffix}"
            assert (tmp_path / "cluster" / name).read_bytes() == (small.store / name).read_bytes(), name


def test_cells_find_their_files_from_any_folder(
    document_files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planned with relative paths, computed by a worker elsewhere; the key knows nothing of it."""
    monkeypatch.chdir(document_files[0].parent)
    relative = small_study.plan([Path(file.name) for file in document_files])
    monkeypatch.chdir(tmp_path)
    places = [cell.location["dataset"] for cell in relative[:2]]  # nulls of nulls first, one a dataset
    assert places == [str(file.resolve()) for file in document_files]
    assert {cell.location["subject"] for cell in relative} == {"embedded"}
    assert [cell.key for cell in relative] == [cell.key for cell in small_study.plan(document_files)]


def test_the_order_of_cells_does_not_matter(small: SmallStudy, tmp_path: Path) -> None:
    """The last cell alone, after nothing: random streams come from the key."""
    cell = cells_of(small, "observed")[-1]
    sweep([cell], tmp_path / "alone")
    name = f"cells/{cell.key}.parquet"
    assert (tmp_path / "alone" / name).read_bytes() == (small.store / name).read_bytes()


def test_threads_of_the_caller_do_not_reach_a_cell_and_come_back(small: SmallStudy, tmp_path: Path) -> None:
    cell = cells_of(small, "observed")[0]
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        sweep([cell], tmp_path / "threads")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    name = f"cells/{cell.key}.parquet"
    assert (tmp_path / "threads" / name).read_bytes() == (small.store / name).read_bytes()


def test_nothing_in_a_cell_tells_when_or_where(small: SmallStudy) -> None:
    """Two machines must leave the same bytes: no times, hosts, paths or process ids."""
    text = "".join(path.read_text(encoding="utf-8") for path in (small.store / "cells").glob("*.json"))
    for word in (str(small.store.parent.parent), os.uname().nodename, "seconds", "time", "host", "device"):
        assert word not in text, word


def test_a_model_that_cannot_be_found_is_the_cells_failure(small: SmallStudy, tmp_path: Path) -> None:
    """Planned where the model was, computed where it is not."""
    cell = cells_of(small, "observed")[0]
    lost = replace(cell, location={**cell.location, "subject": str(tmp_path / "nowhere")})
    (failure,) = sweep([lost], tmp_path / "store").failures
    assert "SubjectError: no model at" in failure.reason


def test_long_tables_hold_what_the_grid_holds(small: SmallStudy, small_grid: TransferGrid) -> None:
    data = small_grid.datasets[0]
    cell = next(
        c
        for c in cells_of(small, "observed")
        if c.config["dataset"]["name"] == data.name and c.config["seed"] == 1
    )
    table = Store(small.store).read(cell.key).table
    row = table[(table["readout"] == "lens") & (table["source"] == 2) & (table["target"] == 5)].iloc[3]
    unit = data.units.index(row["unit"])
    assert data.losses["kl"][1, unit, 2, 5] == row["kl"]
    assert data.losses["ce"][1, unit, 2, 5] == row["ce"]
    assert data.losses["disagreement"][1, unit, 2, 5] == row["disagreement"]
    assert data.tokens[unit] == row["n"]
    assert isinstance(table, pd.DataFrame)
    assert data.null is not None
    assert data.null.losses["kl"].shape == data.losses["kl"].shape
