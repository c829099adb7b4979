"""The embedded documents are what their record says, and the embedded model models them."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import Counter
from functools import cache
from typing import Any

import pytest

from transferstats import embedded

each_domain = pytest.mark.parametrize("domain", embedded.DOMAINS)


@cache
def rows(domain: str) -> list[dict[str, str]]:
    with gzip.open(embedded.documents_path(domain), "rt", encoding="utf-8") as handle:
        return [json.loads(line) for line in handle]


@each_domain
def test_enough_units_and_clusters_with_unique_names(domain: str) -> None:
    units = [row["unit"] for row in rows(domain)]
    clusters = Counter(row["cluster"] for row in rows(domain))
    assert len(units) >= 420
    assert len(set(units)) == len(units)
    assert units == sorted(units)
    assert all(unit.startswith(f"{domain}/") for unit in units)
    assert len(clusters) >= 20
    assert max(clusters.values()) <= len(units) / 20


@each_domain
def test_texts_are_printable_and_of_the_stated_size(domain: str) -> None:
    for row in rows(domain):
        assert set(row) == {"unit", "cluster", "text"}
        assert 1100 <= len(row["text"]) <= 2000, row["unit"]
        assert all(c == "\n" or c.isprintable() for c in row["text"]), row["unit"]


def test_no_text_occurs_twice() -> None:
    texts = [" ".join(row["text"].split()) for domain in embedded.DOMAINS for row in rows(domain)]
    assert len(set(texts)) == len(texts)


@each_domain
def test_origin_describes_the_file(domain: str) -> None:
    origin = embedded.origins()[domain]
    path = embedded.documents_path(domain)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == origin["sha256"]
    assert origin["units"] == len(rows(domain))
    assert origin["clusters"] == len({row["cluster"] for row in rows(domain)})
    assert origin["characters"] == sum(len(row["text"]) for row in rows(domain))


def test_every_docstring_package_has_its_notice() -> None:
    notices = (embedded.documents_path("docstrings").parent / "LICENSES.md").read_text("utf-8")
    for package in {row["cluster"] for row in rows("docstrings")}:
        assert f"\n### {package} " in notices


def test_unknown_domain_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="python, docstrings, kjv, shakespeare"):
        embedded.documents_path("esperanto")


@each_domain
def test_model_was_trained_well_past_the_unigram(domain: str) -> None:
    record = embedded.training_record()
    measured = record["domains"][domain]
    gap = measured["unigram_cross_entropy"] - measured["cross_entropy"]
    assert record["training_tokens"] >= 15e6
    assert gap == pytest.approx(measured["difference"], abs=2e-4)
    assert measured["difference"] >= 1.2


@pytest.fixture(scope="module")
def loaded() -> tuple[Any, Any]:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = str(embedded.model_path())
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    return tokenizer, model.eval()


def test_tokenizer_adds_one_bos_and_loses_nothing(loaded: tuple[Any, Any]) -> None:
    tokenizer, model = loaded
    text = rows("python")[0]["text"]
    ids = tokenizer(text)["input_ids"]
    assert len(tokenizer) == model.config.vocab_size == 2048
    assert ids[0] == tokenizer.bos_token_id
    assert ids.count(tokenizer.bos_token_id) == 1
    assert tokenizer.decode(ids[1:]) == text


@each_domain
def test_model_predicts_shipped_documents(loaded: tuple[Any, Any], domain: str) -> None:
    torch = pytest.importorskip("torch")
    tokenizer, model = loaded
    chosen = rows(domain)[:: len(rows(domain)) // 20]
    ids = torch.tensor([tokenizer(row["text"])["input_ids"][:256] for row in chosen])
    with torch.no_grad():
        logits = model(ids[:, :-1]).logits
    targets = ids[:, 1:].flatten()
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets).item()
    # The unigram is taken from all of the domain's shipped documents, so that it is a fair rival.
    every = tokenizer([row["text"] for row in rows(domain)], add_special_tokens=False)["input_ids"]
    counts = torch.bincount(torch.tensor([i for one in every for i in one]), minlength=2048)
    log_share = torch.log(counts.double() / counts.sum())
    unigram = -log_share[targets].mean().item()
    assert loss <= unigram - 1.0
