"""States are the model's own, at the right positions, with the right labels, document by document."""

from __future__ import annotations

import string
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_models import VOCABULARY, make_model, make_tokenizer
from torch import Tensor

from transferstats.errors import DataError, DesignError
from transferstats.lens.anatomy import find_anatomy
from transferstats.lens.documents import Documents
from transferstats.lens.language import Encoding, LanguageModel, LanguageSubject
from transferstats.lens.states import States, check_states

STATE_TOLERANCE = 1e-5  # float32 states of size 1, another batch size


def language_model(family: str = "Llama", *, bos: bool = True) -> LanguageModel:
    model = make_model(family)
    anatomy = find_anatomy(model, torch.arange(2, 12)[None])
    return LanguageModel("tiny", model, make_tokenizer(bos=bos), anatomy, torch.device("cpu"))


def text(length: int, rng: int) -> str:
    return "".join(np.random.default_rng(rng).choice(list(string.ascii_letters), size=length))


LENGTHS = (50, 33, 120, 80, 50)
TEXTS = tuple(text(length, rng) for rng, length in enumerate(LENGTHS))
UNITS = tuple(f"document {index}" for index in range(len(LENGTHS)))
DOCUMENTS = Documents("tiny", UNITS, UNITS, TEXTS)


def subject(
    family: str = "Llama",
    *,
    bos: bool = True,
    window: int = 40,
    max_tokens: int = 100,
    min_tokens: int = 8,
    skip: int = 1,
) -> LanguageSubject:
    return LanguageSubject(
        language_model(family, bos=bos), DOCUMENTS, Encoding(window, max_tokens, min_tokens, skip)
    )


def ids_of(document: int) -> list[int]:
    return [VOCABULARY.index(character) for character in TEXTS[document]]


def reference(made: LanguageSubject, document: int, max_rows: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """(hidden, final after the norm, labels) of one document, window by window, without batches or hooks."""
    hidden, final, labels = [], [], []
    for window in made.windows(document, max_rows):
        ids = torch.tensor([window])
        output = made.language_model.model(input_ids=ids, output_hidden_states=True, use_cache=False)
        rows = slice(made.encoding.skip, -1)
        hidden.append(torch.stack([state[0, rows] for state in output.hidden_states[:-1]]))
        final.append(output.hidden_states[-1][0, rows])
        labels.append(ids[0, made.encoding.skip + 1 :])
    return torch.cat(hidden, dim=1), torch.cat(final), torch.cat(labels)


@pytest.mark.parametrize("bos", [True, False], ids=["bos", "no bos"])
@pytest.mark.parametrize("family", ["Llama", "GPT2", "OPT", "Falcon", "Gemma2"])
def test_states_are_the_models_own(family: str, bos: bool) -> None:
    """Against transformers' output_hidden_states[:-1], one window at a time, for documents of unequal length."""
    made = subject(family, bos=bos)
    states = made.capture(range(5))
    norm = made.head.norm
    for document in range(5):
        rows = states.unit == document
        hidden, final, labels = reference(made, document)
        # Windows of equal length share a batch, so that the rows of a document come shortest window first.
        order = _shortest_first(made.windows(document), made.encoding.skip)
        assert torch.equal(states.labels[rows], labels[order])
        assert (states.hidden[:, rows] - hidden[:, order]).abs().max() < STATE_TOLERANCE
        assert (norm(states.final[rows]) - final[order]).abs().max() < STATE_TOLERANCE * 10
    assert states.units == UNITS
    assert states.counts().tolist() == [int((states.unit == index).sum()) for index in range(5)]


def test_states_of_a_family_whose_hidden_states_begin_after_the_first_block() -> None:
    """Mamba's output_hidden_states lack the embeddings; the layers here are block inputs in any family."""
    made = subject("Mamba")
    states = made.capture([1])
    (window,) = made.windows(1)
    ids = torch.tensor([window])
    output = made.language_model.model(input_ids=ids, output_hidden_states=True, use_cache=False)
    embeddings = made.language_model.model.get_input_embeddings()(ids)
    wanted = torch.cat([embeddings, *output.hidden_states[: len(states.hidden) - 1]])[:, 1:-1]
    assert (states.hidden - wanted).abs().max() < STATE_TOLERANCE


def _shortest_first(windows: list[list[int]], skip: int) -> Tensor:
    starts = np.cumsum([0, *(len(window) - 1 - skip for window in windows)])
    order = sorted(range(len(windows)), key=lambda index: len(windows[index]))
    return torch.cat([torch.arange(starts[index], starts[index + 1]) for index in order])


@pytest.mark.parametrize("bos", [True, False], ids=["bos", "no bos"])
def test_windows_start_with_bos_and_never_cross_a_document(bos: bool) -> None:
    made = subject(bos=bos)
    for document, length in enumerate(LENGTHS):
        windows = made.windows(document)
        assert all(len(window) <= 40 for window in windows)
        first = [VOCABULARY.index("<s>")] if bos else []
        assert all(window[: len(first)] == first for window in windows)
        joined = [token for window in windows for token in window[len(first) :]]
        read = ids_of(document)[: min(length, 100)]
        assert joined == read[: len(joined)]
        assert len(read) - len(joined) < 1 + 2  # a tail too short to score


@pytest.mark.parametrize("skip", [0, 1, 5])
@pytest.mark.parametrize("bos", [True, False], ids=["bos", "no bos"])
def test_skipped_positions_are_not_scored(skip: int, bos: bool) -> None:
    made = subject(bos=bos, skip=skip, min_tokens=20)
    expected = sum(len(window) - 1 - skip for window in made.windows(0))
    assert made.capture([0]).n_rows == expected


@pytest.mark.parametrize("max_rows", [2, 7, 31, 38, 39, 60, 500])
@pytest.mark.parametrize("bos", [True, False], ids=["bos", "no bos"])
def test_max_rows_is_never_exceeded_and_reached_within_a_window(max_rows: int, bos: bool) -> None:
    made = subject(bos=bos)
    states = made.capture(range(5), max_rows=max_rows)
    counts = states.counts()
    assert int(counts.max()) <= max_rows
    assert int(counts.min()) > 0
    if max_rows <= 31:  # one window holds them all
        assert counts.tolist() == [max_rows] * 5
        first = 1 if bos else 2  # labels begin after the skipped position, and BOS is one
        assert states.labels[states.unit == 2].tolist() == ids_of(2)[first : first + max_rows]


def test_learned_positions_shorter_than_the_window_limit_it() -> None:
    made = subject("GPT2", window=1000, max_tokens=100)
    assert max(len(window) for window in made.windows(2)) == 64
    assert made.capture([2]).n_rows > 64


def test_a_document_gives_the_same_states_in_any_company() -> None:
    made = subject()
    alone, together = made.capture([3]), made.capture([0, 3, 4])
    assert (together.hidden[:, together.unit == 1] - alone.hidden).abs().max() < STATE_TOLERANCE
    assert torch.equal(together.labels[together.unit == 1], alone.labels)
    assert together.units == (UNITS[0], UNITS[3], UNITS[4])


def test_capturing_twice_gives_the_same_bits() -> None:
    made = subject()
    one, two = made.capture(range(5)), made.capture(range(5))
    assert torch.equal(one.hidden, two.hidden)
    assert torch.equal(one.final, two.final)


def test_every_second_layer_has_the_states_that_it_has_among_all() -> None:
    whole = subject()
    some = replace(whole, every=2)
    assert some.layers == whole.layers[::2] != whole.layers
    assert torch.equal(some.capture([0, 1]).hidden, whole.capture([0, 1]).hidden[::2])
    assert torch.equal(some.capture([0, 1]).final, whole.capture([0, 1]).final)


def test_capturing_leaves_no_hooks_behind() -> None:
    made = subject()
    made.capture([0])
    modules = [*made.language_model.anatomy.blocks, made.language_model.anatomy.norm]
    assert not any(module._forward_pre_hooks for module in modules)


def test_the_prior_is_the_smoothed_unigram_of_scored_labels() -> None:
    made = subject()
    counts = np.ones(made.head.n_outputs)
    for document in (0, 1):
        for window in made.windows(document):
            np.add.at(counts, window[made.encoding.skip + 1 :], 1)
    wanted = np.log(counts / counts.sum())
    assert np.allclose(made.log_prior([0, 1]).numpy(), wanted, atol=1e-6)


def test_a_short_document_is_named() -> None:
    made = subject(min_tokens=45)
    with pytest.raises(
        DataError, match=r"'document 1' of 'tiny' has 33 tokens, fewer than 45: remove it, or lower"
    ):
        made.capture([0, 1])


def test_few_rows_wanted_is_not_a_short_document() -> None:
    assert subject(min_tokens=30).capture([1], max_rows=5).n_rows == 5


@pytest.mark.parametrize(
    "numbers",
    [
        {"window": 2},
        {"min_tokens": 3},
        {"skip": -1},
        {"max_tokens": 20},
        {"skip": 40},
        {"window": 0},
    ],
    ids=str,
)
def test_an_encoding_that_scores_nothing_is_refused(numbers: dict[str, int]) -> None:
    with pytest.raises(DesignError, match=r"skip .* min_tokens at most max_tokens"):
        Encoding(**{"window": 64, "max_tokens": 64, "min_tokens": 32, "skip": 1, **numbers})


def test_states_that_are_not_finite_are_refused_by_layer() -> None:
    hidden = torch.zeros(2, 4, 3)
    states = States(hidden, torch.zeros(4, 3), torch.zeros(4).long(), torch.zeros(4).long(), ("a",))
    assert check_states(states) is states
    hidden[1, 2, 0] = torch.inf
    with pytest.raises(DataError, match="layer 1 are not finite; load the model in float32"):
        check_states(states)
