"""Tiny models with random weights in the layout of many families, and a real tokenizer; nothing is downloaded."""

from __future__ import annotations

import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

VOCABULARY = ["<s>", "<unk>", *string.ascii_letters, *string.digits, *".,;:!? "]
SIZE = len(VOCABULARY)

_COMMON = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "max_position_embeddings": 64}
_LLAMA = {**_COMMON, "intermediate_size": 48, "num_key_value_heads": 2, "pad_token_id": 0}
_NEOX = {**_COMMON, "intermediate_size": 48}
_GPT = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64}

FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "Llama": _LLAMA,
    "Mistral": _LLAMA,
    "Mixtral": {**_LLAMA, "num_local_experts": 4},
    "GPT2": _GPT,
    "GPTNeoX": _NEOX,
    "GPTJ": {**_GPT, "rotary_dim": 4},
    "OPT": {**_COMMON, "ffn_dim": 48, "word_embed_proj_dim": 32, "pad_token_id": 0},
    "Qwen2": _LLAMA,
    "Qwen3": {**_LLAMA, "head_dim": 8},
    "Gemma2": {**_LLAMA, "head_dim": 8, "final_logit_softcapping": 2.0},
    "Gemma3Text": {**_LLAMA, "head_dim": 8},
    "Phi": _NEOX,
    "Phi3": _LLAMA,
    "Olmo2": _LLAMA,
    "Falcon": {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4},
    "Bloom": {"hidden_size": 32, "n_layer": 3, "n_head": 4},
    "Mamba": {"hidden_size": 32, "num_hidden_layers": 3, "state_size": 4},
    "Cohere": {**_LLAMA, "logit_scale": 0.25},
    "Granite": {**_LLAMA, "logits_scaling": 4.0, "embedding_multiplier": 3.0, "residual_multiplier": 0.5},
    "StableLm": _LLAMA,
    "RecurrentGemma": {**_LLAMA, "lru_width": 32, "logits_soft_cap": 2.0},
}
"""Family -> its configuration; scaling and softcaps are strong enough that leaving them out would show."""


def make_model(family: str, **changes: Any) -> Any:
    """A model of a family whose random weights are large enough that every part of it matters."""
    torch.manual_seed(0)
    options = {"vocab_size": SIZE, **FAMILIES.get(family, {}), **changes}
    config = getattr(transformers, f"{family}Config")(**options)
    model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False).float()
    for parameter in model.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def make_tokenizer(*, bos: bool = True) -> PreTrainedTokenizerFast:
    """One token a character."""
    core = Tokenizer(models.WordLevel({piece: index for index, piece in enumerate(VOCABULARY)}, "<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    special = {"bos_token": "<s>"} if bos else {}
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", **special)


def save_model(folder: Path, family: str = "Llama", *, bos: bool = True, **changes: Any) -> Path:
    """A model and its tokenizer as a directory in Hugging Face format."""
    make_model(family, **changes).save_pretrained(folder)
    make_tokenizer(bos=bos).save_pretrained(folder)
    return folder


_GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def save_gguf(path: Path, model: Any) -> Path:
    """A Llama model in the GGUF format, with a byte-level tokenizer of single characters."""
    import gguf

    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(SIZE)
    writer.add_tokenizer_model("gpt2")
    spelled = {" ": "\u0120", "9": "He"}  # byte-level spelling of the space; a merge needs a token of its own
    writer.add_token_list([spelled.get(piece, piece) for piece in VOCABULARY])
    writer.add_token_types([3, 2] + [1] * (SIZE - 2))
    writer.add_token_merges(["H e"])
    writer.add_bos_token_id(0)
    for name, weight in model.state_dict().items():
        writer.add_tensor(_gguf_name(name), _gguf_order(name, weight, config).contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _gguf_name(name: str) -> str:
    stem = name.removesuffix(".weight")
    if stem.startswith("model.layers."):
        _, _, block, part = stem.split(".", 3)
        return f"blk.{block}.{_GGUF_NAMES[part]}.weight"
    return f"{_GGUF_NAMES[stem]}.weight"


def _gguf_order(name: str, weight: torch.Tensor, config: Any) -> torch.Tensor:
    """GGUF interleaves the two halves of each head that the rotary embedding turns."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for part, count in heads.items():
        if part in name:
            return weight.reshape(count, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)
    return weight
