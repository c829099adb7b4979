"""Models from directories: loaded and verified, or refused with an error that names the fix."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import VOCABULARY, make_model, make_tokenizer, save_gguf, save_model

import transferstats as ts
from transferstats.errors import SubjectError
from transferstats.lens.documents import read_documents
from transferstats.lens.language import (
    Encoding,
    LanguageModel,
    LanguageSubject,
    load_language_model,
    model_fingerprint,
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(saved, tmp_path / "spoilt"))


def test_a_saved_model_loads_as_it_was(saved: Path) -> None:
    loaded = load_language_model(str(saved))
    assert loaded.name == "tiny"
    assert loaded.layers == ("0", "1", "2")
    ids = torch.arange(2, 12)[None]
    assert torch.equal(loaded.model(ids).logits, make_model("Llama")(ids).logits)
    assert next(loaded.model.parameters()).dtype == torch.float32
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())


def test_blocks_spread_over_devices_give_the_same_states(embedded_model: LanguageModel) -> None:
    """Without an accelerator all parts lie in this machine's memory; the path through accelerate is real."""
    documents = read_documents("docstrings")
    alone, spread = (
        LanguageSubject(model, documents, Encoding(64, 64, 32)).capture([0, 1])
        for model in (embedded_model, load_language_model("embedded", device="auto"))
    )
    assert torch.equal(spread.hidden.cpu(), alone.hidden)
    assert torch.equal(spread.final.cpu(), alone.final)
    assert torch.equal(spread.labels.cpu(), alone.labels)


def test_half_precision_weights_load_in_float32(tmp_path: Path) -> None:
    make_model("Llama").half().save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    loaded = load_language_model(str(tmp_path))
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}


def test_a_pickle_is_refused_and_not_opened(folder: Path, tmp_path: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(SubjectError, match=r"no \.safetensors weights; pickled weights are refused: convert"):
        load_language_model(str(folder))


class _Bomb:
    """Unpickling it runs code."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (Path(self.mark),)


def test_code_in_a_pickle_beside_the_weights_does_not_run(folder: Path, tmp_path: Path) -> None:
    mark = tmp_path / "exploded"
    torch.save({"weights": _Bomb(str(mark))}, folder / "pytorch_model.bin")
    load_language_model(str(folder))
    assert not mark.exists()


REMOTE = """
from pathlib import Path
Path({mark!r}).touch()
from transformers import LlamaConfig, LlamaForCausalLM
class EvilConfig(LlamaConfig):
    model_type = "evil"
class EvilForCausalLM(LlamaForCausalLM):
    config_class = EvilConfig
"""


def test_remote_code_is_not_run(folder: Path, tmp_path: Path) -> None:
    mark = tmp_path / "remote code ran"
    (folder / "modeling_evil.py").write_text(REMOTE.format(mark=str(mark)), encoding="utf-8")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["model_type"] = "evil"
    config["auto_map"] = {
        "AutoConfig": "modeling_evil.EvilConfig",
        "AutoModelForCausalLM": "modeling_evil.EvilForCausalLM",
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for attempt in (load_language_model, lambda path: ts.LanguageSource(path).check()):
        with pytest.raises(SubjectError, match="trust_remote_code"):
            attempt(str(folder))
    assert not mark.exists()


def _change_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


def _change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _tear(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:3000])


def _drop_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "torn weights": (_tear, "cannot load"),
    "missing tensors": (
        lambda f: _change_weights(f, lambda w: w.pop("model.layers.1.mlp.up_proj.weight")),
        "lack 1",
    ),
    "other sizes": (lambda f: _change_config(f, intermediate_size=64), "cannot load"),
    "infinite weights": (
        lambda f: _change_weights(f, lambda w: w["model.norm.weight"].fill_(torch.inf)),
        "not finite",
    ),
    "no tokenizer": (_drop_tokenizer, "cannot load"),
    "torn configuration": (lambda f: (f / "config.json").write_text("{"), "cannot load"),
    "no configuration": (lambda f: (f / "config.json").unlink(), "without config.json"),
    "unknown family": (lambda f: _change_config(f, model_type="nonsense"), "cannot load"),
    "not causal": (
        lambda f: make_model("Bert", hidden_size=32, num_attention_heads=4).save_pretrained(f),
        "not causal",
    ),
    "smaller vocabulary": (lambda f: make_model("Llama", vocab_size=30).save_pretrained(f), "belong"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # transformers' own, on the way to the error
@pytest.mark.parametrize("kind", SPOILT)
def test_a_spoilt_directory_is_refused(folder: Path, kind: str) -> None:
    """Missing tensors above all: transformers fills them at random and goes on."""
    spoil, words = SPOILT[kind]
    spoil(folder)
    with pytest.raises(SubjectError, match=words):
        load_language_model(str(folder))


@pytest.mark.parametrize("source", ["./nowhere", "/nowhere/at/all", "nothing.gguf", "one/two/three", ""])
def test_an_unknown_path_is_refused_before_anything_is_computed(source: str, document_files: list[Path]) -> None:
    for attempt in (load_language_model, model_fingerprint, lambda path: ts.cells(path, document_files)):
        with pytest.raises(SubjectError, match=r"no model at|no GGUF file|without config\.json"):
            attempt(source)


def test_a_gguf_file_loads_as_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = make_model("Llama", tie_word_embeddings=False)
    path = save_gguf(tmp_path / "tiny.gguf", model)
    capsys.readouterr()
    loaded = load_language_model(str(path))
    assert "Converting" not in capsys.readouterr().err  # a bar that would cut the sweep's own in two
    ids = torch.arange(2, 12)[None]
    assert (loaded.model(ids).logits - model(ids).logits).abs().max() < 1e-5  # float32, saved as float32
    assert loaded.tokenizer.bos_token_id == 0
    assert loaded.layers == ("0", "1", "2")
    fingerprint = model_fingerprint(str(path))
    path.write_bytes(path.read_bytes() + b"x")
    assert model_fingerprint(str(path)) != fingerprint


def test_a_torn_gguf_file_is_refused(tmp_path: Path) -> None:
    path = save_gguf(tmp_path / "tiny.gguf", make_model("Llama", tie_word_embeddings=False))
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(SubjectError, match="cannot load"):
        load_language_model(str(path))


def test_a_file_that_is_not_gguf_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"not a model")
    with pytest.raises(SubjectError, match="cannot load"):
        load_language_model(str(path))


def test_the_fingerprint_follows_what_the_model_computes(folder: Path, saved: Path) -> None:
    assert model_fingerprint(str(folder)) == model_fingerprint(str(saved))
    (folder / "README.md").write_text("words", encoding="utf-8")
    assert model_fingerprint(str(folder)) == model_fingerprint(str(saved))
    _change_weights(folder, lambda w: w["model.norm.weight"].add_(1e-3))
    changed = model_fingerprint(str(folder))
    assert changed != model_fingerprint(str(saved))
    _change_config(folder, rms_norm_eps=1e-3)
    assert model_fingerprint(str(folder)) != changed


def test_a_model_that_changes_in_place_is_loaded_again(tmp_path: Path) -> None:
    """One process, one folder, other weights: a model kept in memory would be scored under the new one's key."""
    from transferstats.engine import run_cell

    letters = "".join(VOCABULARY[2:28])
    rows = [{"unit": str(i), "text": letters[i % 20 :] + letters[: i % 20] + str(i) * 20} for i in range(12)]
    documents = tmp_path / "letters.jsonl"
    documents.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def losses(folder: Path) -> list[float]:
        plan = ts.FitPlan(strengths=(1.0,), method="ridge", curve=())
        made = ts.cells(
            str(folder),
            [documents],
            seeds=2,
            null_replicates=0,
            fit=plan,
            encoding=ts.Encoding(40, 40, 20),
            evaluation=ts.EvaluationPlan(units=4, tokens=20),
        )
        return run_cell(made[0]).table["ce"].tolist()

    model = save_model(tmp_path / "model")
    first = losses(model)
    _change_weights(model, lambda w: w["lm_head.weight"].mul_(3.0))
    second = losses(model)
    assert first != second
    assert second == losses(Path(shutil.copytree(model, tmp_path / "copy")))
