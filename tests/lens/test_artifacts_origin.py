"""Lenses of another model or of another target are refused where their file says so; else it is said aloud."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from test_artifacts import LAYERS, OPTIONS, WIDTH, change_config, drawn

import transferstats as ts
from transferstats.engine import sweep
from transferstats.errors import DesignError
from transferstats.lens.artifacts import read_lenses, write_jacobian, write_tuned_lens
from transferstats.lens.language import LanguageModel
from transferstats.lens.ready import fitting


def jacobian(path: Path, blocks: int, **said: object) -> Path:
    """A file of Jacobians of the first blocks, with what else it says about itself."""
    write_jacobian(path, drawn(blocks, bias=False), range(1, blocks + 1), prompts=10)
    torch.save(torch.load(path, weights_only=True) | said, path)
    return path


NO_TARGET = "do not say to which block their Jacobians lead, taken for the last (7)"
NO_MODEL = "do not say which model they were made for: only the width of the states and the layers were checked"


def caveats_of(source: Path, model: LanguageModel) -> str:
    return "; ".join(fitting(read_lenses(source), model).caveats)


@pytest.mark.parametrize(
    "said",
    [
        {"model_name": "acme/other-2b"},
        {"provenance": json.dumps({"model": "acme/other-2b"})},
        {"config": {"model_id": "acme/other-2b"}},
    ],
    ids=str,
)
def test_jacobians_that_name_another_model_are_refused(
    said: dict[str, object], embedded_model: LanguageModel, tmp_path: Path
) -> None:
    source = jacobian(tmp_path / "j.pt", LAYERS - 1, **said)
    with pytest.raises(DesignError, match="made for 'acme/other-2b', and this model is 'embedded'"):
        fitting(read_lenses(source), embedded_model)
    right = jacobian(tmp_path / "own.pt", LAYERS - 1, model_name="hub/Embedded", target_layer=LAYERS - 1)
    assert caveats_of(right, embedded_model) == ""


def test_a_folder_that_names_another_model_is_refused_unless_its_unembedding_is_this_one(
    embedded_model: LanguageModel, tmp_path: Path
) -> None:
    unembedding = embedded_model.model.get_output_embeddings().weight
    same = write_tuned_lens(tmp_path / "same", drawn(), model="acme/tuned", unembedding=unembedding)
    assert "made for 'acme/tuned'; scored was 'embedded', whose unembedding has the hash" in caveats_of(
        same, embedded_model
    )
    change_config(same, unembed_hash=None)
    with pytest.raises(DesignError, match="made for 'acme/tuned', and this model is 'embedded'"):
        fitting(read_lenses(same), embedded_model)
    change_config(same, base_model_name_or_path=None)
    assert NO_MODEL in caveats_of(same, embedded_model)
    own = write_tuned_lens(tmp_path / "own", drawn(), model="here/embedded", unembedding=unembedding)
    assert caveats_of(own, embedded_model) == ""


@pytest.mark.parametrize("target", [LAYERS - 2, -2, 0, LAYERS, -LAYERS - 1])
@pytest.mark.parametrize("name", ["target_layer", "target_block"])
def test_jacobians_that_lead_to_another_block_are_refused(
    target: int, name: str, embedded_model: LanguageModel, tmp_path: Path
) -> None:
    source = jacobian(tmp_path / "j.pt", LAYERS - 2, **{name: target})
    with pytest.raises(
        DesignError, match=rf"lead to the output of block {target}, .* the last, block {LAYERS - 1}"
    ):
        fitting(read_lenses(source), embedded_model)


def test_the_identity_at_the_last_block_tells_where_jacobians_lead(
    embedded_model: LanguageModel, tmp_path: Path
) -> None:
    """Some producers keep the target's own Jacobian."""

    def anchored(block: int) -> Path:
        path = jacobian(tmp_path / f"j{block}.pt", block)
        content = torch.load(path, weights_only=True)
        content["J"][block] = torch.eye(WIDTH)
        torch.save(content, path)
        return path

    with pytest.raises(DesignError, match="lead to the output of block 6"):
        fitting(read_lenses(anchored(LAYERS - 2)), embedded_model)
    assert NO_TARGET not in caveats_of(anchored(LAYERS - 1), embedded_model)


def test_what_a_file_of_jacobians_does_not_say_is_said_by_describe_and_the_report(
    embedded_model: LanguageModel, document_files: list[Path], tmp_path: Path
) -> None:
    whole, short = (jacobian(tmp_path / f"{blocks}.pt", blocks) for blocks in (LAYERS - 1, LAYERS - 2))
    assert "as if" not in caveats_of(whole, embedded_model)
    assert "all blocks before 6 have one, as if 6 were that block" in caveats_of(short, embedded_model)
    store = tmp_path / "store"
    assert not sweep(ts.lens_cells("embedded", document_files[:1], [whole], **OPTIONS), store).failures
    said = " ".join(ts.describe(ts.read_grid(store)).caveats)
    assert NO_TARGET in said
    assert NO_MODEL in said
