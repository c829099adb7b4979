"""Blocks, final norm and head are found in every family and verified; what cannot be verified is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_models import FAMILIES, SIZE, make_model
from torch import Tensor, nn

from transferstats.errors import SubjectError
from transferstats.lens.anatomy import Anatomy, find_anatomy, state_argument

LOGIT_TOLERANCE = 2e-5  # of logits of size 1 to 10: float32, another order of summation
STATE_TOLERANCE = 1e-6  # the norm applied twice to the same float32 state

each_family = pytest.mark.parametrize("family", FAMILIES)


def probe(length: int = 12) -> Tensor:
    return torch.randint(2, SIZE, (1, length), generator=torch.Generator().manual_seed(0))


def final_state(model: Any, anatomy: Anatomy, ids: Tensor) -> tuple[Tensor, Any]:
    """What the final norm receives, and the model's own output with all hidden states."""
    seen: list[Tensor] = []
    hook = anatomy.norm.register_forward_pre_hook(
        lambda _module, args, kwargs: seen.append(state_argument(args, kwargs)), with_kwargs=True
    )
    try:
        output = model(input_ids=ids, use_cache=False, output_hidden_states=True)
    finally:
        hook.remove()
    return seen[-1], output


@each_family
def test_decoding_the_final_state_gives_the_logits(family: str) -> None:
    """On other tokens than those that the anatomy was found with."""
    model = make_model(family)
    anatomy = find_anatomy(model, probe())
    ids = torch.randint(2, SIZE, (2, 20), generator=torch.Generator().manual_seed(5))
    final, output = final_state(model, anatomy, ids)
    ours = anatomy.head.decode(final.reshape(-1, final.shape[-1]))
    theirs = output.logits.reshape(ours.shape)
    assert len(anatomy.blocks) == 3
    assert (ours - theirs).abs().max() < LOGIT_TOLERANCE * max(1.0, float(theirs.abs().max()))


@each_family
def test_the_final_state_is_the_input_of_the_norm(family: str) -> None:
    """transformers' hidden_states[-1] lies after the norm: decoding that would norm twice."""
    model = make_model(family)
    anatomy = find_anatomy(model, probe())
    final, output = final_state(model, anatomy, probe())
    after = output.hidden_states[-1]
    assert (anatomy.head.norm(final) - after).abs().max() < STATE_TOLERANCE * float(after.abs().max() + 1)
    assert (final - after).abs().max() > 0.01
    twice = anatomy.head.decode(after[0])
    assert (twice - output.logits[0]).abs().max() > 0.01


@pytest.mark.parametrize(
    ("family", "softcap"), [("Gemma2", 2.0), ("RecurrentGemma", 2.0), ("Llama", None), ("Cohere", None)]
)
def test_softcap_is_found_whatever_its_name(family: str, softcap: float | None) -> None:
    assert find_anatomy(make_model(family), probe()).head.softcap == softcap


@pytest.mark.parametrize(("family", "factor"), [("Cohere", 0.25), ("Granite", 0.25), ("Llama", 1.0)])
def test_logit_scaling_is_part_of_the_head(family: str, factor: float) -> None:
    """Cohere multiplies by logit_scale, Granite divides by logits_scaling."""
    model = make_model(family)
    weight = find_anatomy(model, probe()).head.weight
    assert torch.equal(weight, model.get_output_embeddings().weight * factor)


@pytest.mark.parametrize("family", ["Bert", "Roberta"])
def test_a_model_that_sees_later_tokens_is_refused(family: str) -> None:
    """It would load as a causal model, and every lens would be scored on tokens that its state has seen."""
    with pytest.raises(SubjectError, match="not causal"):
        find_anatomy(make_model(family, hidden_size=32, num_hidden_layers=3, num_attention_heads=4), probe())


def test_a_model_without_final_norm_is_refused() -> None:
    model = make_model("OPT", word_embed_proj_dim=16, do_layer_norm_before=False)
    with pytest.raises(SubjectError, match="final norm was not found"):
        find_anatomy(model, probe())


def test_blocks_that_carry_several_streams_are_refused() -> None:
    options = {
        **FAMILIES["Llama"],
        "head_dim": 8,
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": SIZE,
        "num_kv_shared_layers": 0,
        "laurel_rank": 4,
        "activation_sparsity_pattern": None,
    }
    with pytest.raises(SubjectError, match="no single residual stream"):
        find_anatomy(make_model("Gemma3nText", **options), probe())


class _Tampered(nn.Module):
    """A head that does something after the norm which no configuration speaks of."""

    def __init__(self, head: nn.Linear) -> None:
        super().__init__()
        self.head = head
        self.weight = head.weight

    def forward(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.head(hidden)
        return logits + 0.1 * logits.square()


def test_logits_that_something_else_shapes_are_refused() -> None:
    model = make_model("Llama")
    model.lm_head = _Tampered(model.lm_head)
    with pytest.raises(SubjectError, match=r"decode\(final state\) differs from the model's logits"):
        find_anatomy(model, probe())


class _Idle(nn.Module):
    def forward(self, hidden: Tensor) -> Tensor:
        return hidden


def test_an_idle_module_after_the_norm_is_not_the_norm() -> None:
    """Dropout between norm and head passes on what it gets; its input is the normed state."""
    model = make_model("Llama")
    norm = model.model.norm
    model.model.norm = nn.Sequential(norm, nn.Dropout(0.5), _Idle())
    anatomy = find_anatomy(model.eval(), probe())
    assert anatomy.norm is norm


def test_damaged_weights_are_refused() -> None:
    model = make_model("Llama")
    model.model.norm.weight[0] = torch.nan
    with pytest.raises(SubjectError, match="not finite"):
        find_anatomy(model, probe())


def test_a_model_without_output_embedding_is_refused() -> None:
    with pytest.raises(SubjectError, match="no output embedding"):
        find_anatomy(make_model("Llama").model, probe())


def test_a_probe_of_one_repeated_token_is_refused() -> None:
    """With it, causality cannot be checked."""
    with pytest.raises(SubjectError, match="two different tokens"):
        find_anatomy(make_model("Llama"), torch.full((1, 5), 3))
