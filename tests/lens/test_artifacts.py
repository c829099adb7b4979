"""Lenses in files: what the packages that made them say, files with code in them, and transfer without fitting."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import small_study
import torch
from safetensors.torch import load_file

import transferstats as ts
from transferstats.engine import Store, run_cell, sweep
from transferstats.errors import DataError, DesignError
from transferstats.lens.artifacts import (
    lens_fingerprint,
    read_lenses,
    unembedding_hash,
    write_jacobian,
    write_tuned_lens,
)
from transferstats.lens.documents import read_documents
from transferstats.lens.language import LanguageModel, LanguageSubject
from transferstats.lens.translator import Translators, moments, ridge

SAVED = Path(__file__).parents[1] / "reference" / "lens_artifact"
"""Saved by tuned-lens 0.2.0 itself, see make_lens_artifact.py there."""

TOLERANCE = 1e-5  # float32 sums of 16 terms in another order
LAYERS, WIDTH = 8, 128  # of the embedded model


def drawn(n_maps: int = LAYERS, width: int = WIDTH, *, bias: bool = True, rng: int = 0) -> Translators:
    """Lenses with random weights, small enough to predict something."""
    draw = torch.Generator().manual_seed(rng)
    weight = 0.02 * torch.randn(n_maps, width, width, generator=draw)
    offset = 0.02 * torch.randn(n_maps, width, generator=draw)
    return Translators(weight, offset if bias else torch.zeros_like(offset))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the package's files, to spoil."""
    return Path(shutil.copytree(SAVED, tmp_path / "lens"))


# --- what others wrote ---


def test_lenses_of_tuned_lens_map_as_that_package_maps() -> None:
    expected = load_file(SAVED / "expected.safetensors")
    found = read_lenses(SAVED)
    assert (found.kind, found.layers, found.width) == ("tuned-lens", (0, 1), 16)
    assert (found.lenses.apply(expected["states"]) - expected["mapped"]).abs().max() < TOLERANCE
    assert found.about["layers"] == 2
    assert unembedding_hash(expected["unembedding"]) == found.about["unembedding"]
    assert unembedding_hash(expected["unembedding"].half()) == found.about["unembedding"]
    assert unembedding_hash(expected["unembedding"].flip(0)) != found.about["unembedding"]


def test_writing_gives_back_the_same_lenses_and_what_the_package_reads(tmp_path: Path) -> None:
    lenses = read_lenses(SAVED).lenses
    unembedding = load_file(SAVED / "expected.safetensors")["unembedding"]
    again = write_tuned_lens(tmp_path / "lens", lenses, model="", unembedding=unembedding)
    assert json.loads((again / "config.json").read_text()) == json.loads((SAVED / "config.json").read_text())
    theirs, ours = (torch.load(path / "params.pt", weights_only=True) for path in (SAVED, again))
    assert list(theirs) == list(ours)
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)


def test_a_jacobian_maps_the_output_of_a_block_which_is_our_next_layer(tmp_path: Path) -> None:
    """As the public implementation saves it: half precision, blocks from 0, and J h without a bias."""
    draw = torch.Generator().manual_seed(3)
    matrices = {block: torch.randn(6, 6, generator=draw).half() for block in (2, 0, 1)}
    content = {"J": matrices, "n_prompts": 100, "source_layers": [0, 1, 2], "d_model": 6}
    torch.save(content, tmp_path / "lens.pt")
    found = read_lenses(tmp_path / "lens.pt")
    assert (found.kind, found.layers, found.about) == ("jacobian", (1, 2, 3), {"prompts": 100})
    h = torch.randn(3, 4, 6, generator=draw)
    for index, mapped in enumerate(found.lenses.apply(h)):
        assert (mapped - h[index] @ matrices[index].float().T).abs().max() < TOLERANCE


def test_a_written_jacobian_reads_back(tmp_path: Path) -> None:
    lenses = drawn(3, bias=False)
    path = write_jacobian(tmp_path / "j.pt", lenses, (1, 2, 5), prompts=7)
    content = torch.load(path, weights_only=True)
    assert content["source_layers"] == sorted(content["J"]) == [0, 1, 4]
    found = read_lenses(path)
    assert found.layers == (1, 2, 5)
    assert (found.lenses.weight - lenses.weight).abs().max() < 1e-6  # an identity was added and taken away
    with pytest.raises(DesignError, match="a Jacobian lens has no bias"):
        write_jacobian(tmp_path / "k.pt", drawn(3), (1, 2, 5), prompts=7)
    with pytest.raises(DesignError, match="needs a layer of at least 1"):
        write_jacobian(tmp_path / "k.pt", lenses, (0, 1, 2), prompts=7)


# --- files that are refused ---


class Bomb:
    """Unpickling it runs code."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "bare pickle"])
@pytest.mark.parametrize("kind", ["tuned-lens", "jacobian"])
def test_code_in_a_file_is_refused_and_does_not_run(folder: Path, tmp_path: Path, kind: str, legacy: bool) -> None:
    """A real bomb: with the guard off it goes off."""
    mark = tmp_path / "exploded"
    path = folder / "params.pt" if kind == "tuned-lens" else tmp_path / "lens.pt"
    content = {**torch.load(SAVED / "params.pt", weights_only=True), "J": Bomb(mark)}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(DataError, match="is refused: it asks for code to be run"):
        read_lenses(folder if kind == "tuned-lens" else path)
    assert not mark.exists()
    torch.load(path, weights_only=False)
    assert mark.exists()


def change_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}), encoding="utf-8")


def _change_params(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = dict(torch.load(folder / "params.pt", weights_only=True))
    change(content)
    torch.save(content, folder / "params.pt")


def _tear(folder: Path) -> None:
    path = folder / "params.pt"
    path.write_bytes(path.read_bytes()[:1000])


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "torn": (_tear, "params.pt is (torn|refused)"),
    "empty": (lambda f: (f / "params.pt").write_bytes(b""), "params.pt is (torn|refused)"),
    "text": (lambda f: (f / "params.pt").write_text("hello"), "params.pt is (torn|refused)"),
    "no table": (lambda f: torch.save([torch.ones(2)], f / "params.pt"), "holds list, not a table"),
    "a lens too few": (
        lambda f: _change_params(f, lambda c: c.pop("1.weight")),
        "'1.weight' is in one of them only",
    ),
    "a lens too many": (lambda f: change_config(f, num_hidden_layers=1), "'1.bias' is in one of them only"),
    "another width": (lambda f: change_config(f, d_model=8), r"need \(8, 8\) real numbers, found \(16, 16\)"),
    "whole numbers": (
        lambda f: _change_params(f, lambda c: c.update({"0.bias": torch.ones(16, dtype=torch.int64)})),
        "real numbers",
    ),
    "no tensor": (lambda f: _change_params(f, lambda c: c.update({"0.bias": "ones"})), "found str"),
    "infinite": (lambda f: _change_params(f, lambda c: c["0.bias"].fill_(torch.inf)), "not all finite"),
    "another type": (lambda f: change_config(f, lens_type="mlp"), "lens_type 'mlp' is unknown"),
    "no configuration": (lambda f: (f / "config.json").unlink(), "no lenses at"),
    "torn configuration": (lambda f: (f / "config.json").write_text("{"), "not a configuration of tuned-lens"),
    "odd configuration": (lambda f: change_config(f, d_model="wide"), "must be positive numbers"),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_a_spoilt_folder_is_refused(folder: Path, kind: str) -> None:
    spoil, words = SPOILT[kind]
    spoil(folder)
    with pytest.raises(DataError, match=words):
        read_lenses(folder)


BAD_JACOBIANS: dict[str, tuple[dict[Any, Any], str]] = {
    "a checkpoint of its fitting": ({"sums": torch.ones(2, 2), "n_done": 3}, "it has no 'J' .*n_done, sums"),
    "not square": ({"J": {0: torch.ones(2, 3)}}, "real numbers"),
    "two widths": ({"J": {0: torch.eye(2), 1: torch.eye(3)}}, "real numbers"),
    "named layers": ({"J": {"first": torch.eye(2)}}, "it has no 'J'"),
    "a negative block": ({"J": {-1: torch.eye(2)}}, "block -1 does not exist"),
}


@pytest.mark.parametrize("kind", BAD_JACOBIANS)
def test_a_file_that_is_no_jacobian_lens_is_refused(tmp_path: Path, kind: str) -> None:
    content, words = BAD_JACOBIANS[kind]
    torch.save(content, tmp_path / "lens.pt")
    with pytest.raises(DataError, match=words):
        read_lenses(tmp_path / "lens.pt")


def test_the_fingerprint_is_the_content(folder: Path) -> None:
    before = lens_fingerprint(folder)
    assert before == lens_fingerprint(SAVED)
    change_config(folder, base_model_name_or_path="other")
    assert lens_fingerprint(folder) != before


# --- transfer without fitting ---

OPTIONS: dict[str, Any] = {
    "encoding": ts.Encoding(window=64, max_tokens=64, min_tokens=32),
    "evaluation": ts.EvaluationPlan(small_study.UNITS, small_study.TOKENS),
}


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory, embedded_model: LanguageModel) -> list[Path]:
    """Two sets of ridge lenses for the embedded model, from a few documents each."""
    unembedding = embedded_model.model.get_output_embeddings().weight
    root = tmp_path_factory.mktemp("ready")
    subject = LanguageSubject(embedded_model, read_documents("docstrings"), OPTIONS["encoding"])
    identity = Translators.identity(LAYERS, WIDTH)
    folders = []
    for seed in range(2):
        states = subject.capture(range(20 * seed, 20 * seed + 20))
        lenses = ridge(moments(states.hidden, states.final[None]), identity, 0.1)
        folder = root / f"run_{seed}"
        folders.append(write_tuned_lens(folder, lenses, model="embedded", unembedding=unembedding))
    return folders


@pytest.fixture(scope="module")
def scored(ready: list[Path], document_files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their store."""
    store = tmp_path_factory.mktemp("scored") / "store"
    outcome = sweep(ts.lens_cells("embedded", document_files[:1], ready, **OPTIONS), store)
    assert not outcome.failures, outcome.failures
    return store


def test_every_ready_lens_is_scored_on_every_layer(
    scored: Path, ready: list[Path], document_files: list[Path], embedded_model: LanguageModel
) -> None:
    """One lens on one layer, against the model's own modules and float64 softmax."""
    grid = ts.read_grid(scored)
    (data,) = grid.datasets
    assert data.losses["kl"].shape == (2, small_study.UNITS, LAYERS, LAYERS)
    subject = LanguageSubject(embedded_model, read_documents(document_files[0]), OPTIONS["encoding"])
    unit = data.units[3]
    states = subject.capture([subject.units.index(unit)], max_rows=small_study.TOKENS)
    model = embedded_model.model
    seed, source, target = 1, 2, 5
    lens = read_lenses(ready[seed]).lenses
    with torch.no_grad():
        z = states.hidden[target] + states.hidden[target] @ lens.weight[source].T + lens.bias[source]
        log_p, log_q = (
            torch.log_softmax(model.lm_head(model.model.norm(one)).double(), -1) for one in (states.final, z)
        )
    kl = float((log_p.exp() * (log_p - log_q)).sum(-1).mean())
    assert abs(float(data.losses["kl"][seed, 3, source, target]) - kl) < 1e-4


def test_verdicts_say_that_nobody_certified_these_lenses(scored: Path) -> None:
    grid = ts.read_grid(scored)
    assert len(grid.certificates) == 0
    evidence = ts.evaluate(grid, smallest=0.05)
    tested = [claim for claim in evidence.claims if claim.verdict != "not tested"]
    assert tested
    assert all("lenses carry no convergence certificate" in claim.caveats for claim in tested)
    assert {claim.verdict for claim in evidence.claims if claim.key in ("C3", "C7")} == {"not tested"}
    assert any("certificate" in why for _, why in ts.describe(grid).unsupported)


def test_the_documents_scored_are_those_of_lenses_trained_here(
    scored: Path, small: small_study.SmallStudy
) -> None:
    """So a study of ready-made lenses can be paired with one of own lenses, on documents that those never saw."""
    ours = next(data for data in ts.read_grid(small.store).datasets if data.name == "python_small")
    (theirs,) = ts.read_grid(scored).datasets
    assert theirs.units == ours.units
    assert np.array_equal(theirs.baselines["final_ce"], ours.baselines["final_ce"])
    assert np.array_equal(theirs.readouts["logit"]["kl"][0], ours.readouts["logit"]["kl"][0])


def test_a_jacobian_study_leaves_out_the_embedding_layer_and_the_final_state(
    document_files: list[Path], tmp_path: Path
) -> None:
    """The last block's output is the final state: its lens predicts what it is given."""
    path = write_jacobian(tmp_path / "j.pt", drawn(bias=False), range(1, LAYERS + 1), prompts=10)
    (cell,) = ts.lens_cells("embedded", document_files[:1], [path], **OPTIONS)
    output = run_cell(cell)
    assert output.record["layers"] == [str(layer) for layer in range(1, LAYERS)]
    assert output.record["lenses"] == {"name": "j.pt", "kind": "jacobian", "prompts": 10}
    lens = output.table[output.table["readout"] == "lens"]
    assert len(lens) == small_study.UNITS * (LAYERS - 1) ** 2
    # Layer 1 and its lens come first: the same numbers as a folder of tuned-lens whose lens 1 is that one.
    unembedding = torch.zeros(0)
    shifted = Translators(drawn(bias=False).weight.roll(1, 0), torch.zeros(LAYERS, WIDTH))
    folder = write_tuned_lens(tmp_path / "same", shifted, model="", unembedding=unembedding)
    change_config(folder, unembed_hash=None)
    (other,) = ts.lens_cells("embedded", document_files[:1], [folder], **OPTIONS)
    table = run_cell(other).table
    wanted = table[(table["readout"] == "lens") & (table["source"] > 0) & (table["target"] > 0)]
    assert np.abs(lens["kl"].to_numpy() - wanted["kl"].to_numpy()).max() < 1e-4


def test_keys_follow_the_content_of_the_files(
    ready: list[Path], document_files: list[Path], tmp_path: Path
) -> None:
    def keys(sources: list[Path]) -> list[str]:
        return [cell.key for cell in ts.lens_cells("embedded", document_files, sources, **OPTIONS)]

    copies = [Path(shutil.copytree(path, tmp_path / path.name)) for path in ready]
    assert len(set(keys(ready))) == 4
    assert keys(copies) == keys(ready)
    _change_params(copies[1], lambda content: content["0.bias"].add_(1e-3))
    assert not set(keys(copies)) & set(keys(ready))


def test_lenses_changed_after_planning_are_refused(
    ready: list[Path], document_files: list[Path], tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(ready[0], tmp_path / "copy"))
    (cell,) = ts.lens_cells("embedded", document_files[:1], [copy], **OPTIONS)
    _change_params(copy, lambda content: content["0.bias"].add_(1e-3))
    with pytest.raises(DesignError, match=r"the lenses at .* changed since the study was planned"):
        run_cell(cell)


def test_lenses_of_another_model_are_refused(document_files: list[Path], tmp_path: Path) -> None:
    def failure(lenses: Translators, **changes: object) -> str:
        folder = tmp_path / f"lens_{len(list(tmp_path.iterdir()))}"
        write_tuned_lens(folder, lenses, model="other", unembedding=torch.randn(5000, WIDTH))
        change_config(folder, **changes)
        (cell,) = ts.lens_cells("embedded", document_files[:1], [folder], **OPTIONS)
        with pytest.raises(DesignError) as caught:
            run_cell(cell)
        return str(caught.value)

    assert "were trained for another unembedding" in failure(drawn())
    assert "they belong to another model" in failure(drawn(width=64))
    assert "they belong to another model" in failure(drawn(LAYERS - 1), unembed_hash=None)


def test_designs_that_count_nothing_twice(ready: list[Path], document_files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(DesignError, match="the same file twice would count as two trainings"):
        ts.lens_cells("embedded", document_files, [ready[0], ready[0]], **OPTIONS)
    with pytest.raises(DesignError, match="at least one set of lenses"):
        ts.lens_cells("embedded", document_files, [], **OPTIONS)
    jacobian = write_jacobian(tmp_path / "j.pt", drawn(3, bias=False), (1, 2, 3), prompts=1)
    with pytest.raises(DesignError, match="must be of one kind and serve the same layers"):
        ts.lens_cells("embedded", document_files, [ready[0], jacobian], **OPTIONS)


def test_the_command_scores_them_and_says_what_is_missing(
    ready: list[Path], document_files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transferstats.cli import main

    lenses = [part for path in ready for part in ("--lens", str(path))]
    options = [
        "fit",
        *lenses,
        "--dataset",
        str(document_files[0]),
        "--store",
        str(tmp_path / "store"),
        "--jobs",
        "1",
    ]
    options += ["--units", str(small_study.UNITS), "--unit-tokens", str(small_study.TOKENS)]
    assert main(options) == 0
    out = capsys.readouterr().out
    assert out.startswith("2 cells computed, 0 reused")
    assert "these lenses carry no convergence certificate" in out
    assert len(Store(tmp_path / "store").keys()) == 2
    assert main([*options, "--max-steps", "3", "--seed", "0"]) == 3
    assert "--seed, --max-steps is about fitting, and --lens fits nothing" in capsys.readouterr().err


def test_one_set_of_lenses_is_described_and_supports_no_interval(
    ready: list[Path], document_files: list[Path], tmp_path: Path
) -> None:
    sweep(ts.lens_cells("embedded", document_files[:1], ready[:1], **OPTIONS), tmp_path / "store")
    grid = ts.read_grid(tmp_path / "store")
    assert grid.datasets[0].losses["kl"].shape[0] == 1
    assert ts.describe(grid).unsupported
    with pytest.raises(DesignError, match="seed"):
        ts.evaluate(grid, smallest=0.05)


# --- lenses fitted here, for others ---


def test_lenses_written_of_a_cell_are_those_that_it_scored(
    small: small_study.SmallStudy, embedded_model: LanguageModel, tmp_path: Path
) -> None:
    """Written, read back and scored as anybody's: the same losses to the bit, and the same certificates."""
    cell = next(one for one in small.cells if one.config["world"] == "observed" and one.config["seed"] == 1)
    stored = ts.Store(small.store).read(cell.key)
    folder = ts.write_lenses(cell, tmp_path / "mine")
    (again,) = ts.lens_cells("embedded", [small.documents[0]], [folder], **OPTIONS)
    columns = ["unit", "source", "target", "kl", "ce"]
    ours, theirs = (table[table["readout"] == "lens"][columns] for table in (stored.table, run_cell(again).table))
    pd.testing.assert_frame_equal(theirs.reset_index(drop=True), ours.reset_index(drop=True), check_exact=True)
    said = pd.read_csv(folder / "certificates.csv")
    kept = [row["held_out_kl"] for row in stored.record["certificates"] if row["readout"] == "own"]
    assert said["held_out_kl"].tolist() == kept


def test_a_shared_lens_is_written_once_a_layer(small: small_study.SmallStudy, tmp_path: Path) -> None:
    cell = next(one for one in small.cells if one.config["world"] == "null")
    read = read_lenses(ts.write_lenses(cell, tmp_path / "shared", readout="shared"))
    assert len(read.lenses) == LAYERS
    assert (read.lenses.weight == read.lenses.weight[0]).all()
    with pytest.raises(DesignError, match="common map are fitted to the network itself"):
        ts.write_lenses(cell, tmp_path / "tied", readout="tied")


def test_what_the_format_has_no_place_for_is_refused(small: small_study.SmallStudy, tmp_path: Path) -> None:
    skipping = small_study.plan(small.documents, every=3)[0]
    known = ts.known_truth_cells("iterative", seeds=2, null_replicates=0)[0]
    for cell in (skipping, known):
        with pytest.raises(DesignError, match="a lens for each of their layers"):
            ts.write_lenses(cell, tmp_path / "no")
    with pytest.raises(DesignError, match="unknown readout 'logit': use one of own, tied, shared"):
        ts.write_lenses(small.cells[0], tmp_path / "no", readout="logit")
    assert not (tmp_path / "no").exists()
