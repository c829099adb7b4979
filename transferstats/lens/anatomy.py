"""Find the blocks, the final norm and the head of a causal language model without knowing its family.

One probe forward pass with hooks shows which modules pass the residual stream on; names of modules are never
used, so families that nobody listed work. Everything found is then verified against the model's own logits.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from transferstats.errors import SubjectError
from transferstats.lens.head import Head

LOGIT_TOLERANCE = 1e-3  # of the logits' standard deviation; float32 reassociation stays below 1e-4


@dataclass(frozen=True, slots=True)
class Anatomy:
    """Blocks (inputs are the layers), final norm (its input is the final state) and the verified head."""

    blocks: tuple[nn.Module, ...]
    norm: nn.Module
    head: Head


def find_anatomy(model: Any, probe: Tensor) -> Anatomy:
    """Locate and verify the parts of ``model`` with one forward pass on ``probe`` (1, T) token ids.

    Raises
    ------
    SubjectError: no output embedding, no chain of blocks, no final norm, logits that depend on later tokens,
        or a decoder that does not give the model's logits back; the message names the module looked at.
    """
    output = model.get_output_embeddings()
    if output is None or not hasattr(output, "weight"):
        raise SubjectError(f"{type(model).__name__} has no output embedding: not a causal language model")
    blocks_list = _block_list(model)
    logits, inputs, norms = _probe(model, output, blocks_list, probe)
    if not torch.isfinite(logits).all():
        raise SubjectError(f"{type(model).__name__} gives logits that are not finite: its weights are damaged")
    norm_name, norm, final = _final_norm(norms, inputs["head"])
    _verify_chain(inputs["blocks"], blocks_list, final)
    _verify_causal(model, probe, logits)
    head = _matching_head(model, output, norm, final, logits, norm_name)
    return Anatomy(tuple(blocks_list), norm, head)


def _block_list(model: Any) -> nn.ModuleList:
    depth = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    lists = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == depth
    ]
    if not lists:
        raise SubjectError(
            f"{type(model).__name__}: found no list of {depth} blocks (config.num_hidden_layers); this "
            "architecture cannot be captured"
        )
    return max(lists, key=lambda item: sum(p.numel() for p in item[1].parameters()))[1]


def _probe(
    model: Any, output: nn.Module, blocks: nn.ModuleList, probe: Tensor
) -> tuple[Tensor, dict[str, Any], list[tuple[str, nn.Module, Tensor, Tensor]]]:
    """One forward pass: logits, inputs of blocks and head, and (name, module, input, output) candidates."""
    inputs: dict[str, Any] = {"blocks": {}}
    candidates: list[tuple[str, nn.Module, Tensor, Tensor]] = []
    with ExitStack() as stack, torch.no_grad():
        for index, block in enumerate(blocks):
            keep = _keeper(partial(inputs["blocks"].__setitem__, index))
            stack.callback(block.register_forward_pre_hook(keep, with_kwargs=True).remove)
        keep_head = _keeper(partial(inputs.__setitem__, "head"))
        stack.callback(output.register_forward_pre_hook(keep_head, with_kwargs=True).remove)
        for name, module in model.named_modules():
            if module is not output and not any(True for _ in module.children()):
                stack.callback(module.register_forward_hook(_recorder(name, candidates)).remove)
        logits = model(input_ids=probe, use_cache=False).logits
    if "head" not in inputs or len(inputs["blocks"]) != len(blocks):
        raise SubjectError(f"{type(model).__name__}: the forward pass did not reach every block and the head")
    return logits, inputs, candidates


def state_argument(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """The residual stream that a module was called with: first positional tensor, or ``hidden_states``."""
    if args and isinstance(args[0], Tensor):
        return args[0]
    state = kwargs.get("hidden_states", kwargs.get("input"))
    if not isinstance(state, Tensor):
        raise SubjectError(f"a block was called without a state (arguments: {sorted(kwargs)})")
    return state


def _keeper(store: Callable[[Tensor], None]) -> Callable[..., None]:
    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        store(state_argument(args, kwargs).detach())

    return hook


def _recorder(name: str, candidates: list[tuple[str, nn.Module, Tensor, Tensor]]) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if args and isinstance(args[0], Tensor) and isinstance(output, Tensor) and args[0].shape == output.shape:
            candidates.append((name, module, args[0].detach(), output.detach()))

    return hook


def _final_norm(
    candidates: list[tuple[str, nn.Module, Tensor, Tensor]], head_input: Tensor
) -> tuple[str, nn.Module, Tensor]:
    for name, module, state, output in reversed(candidates):
        # A module that changes nothing, such as dropout after the norm, would make the normed state "final".
        if output.shape == head_input.shape and torch.equal(output, head_input) and not torch.equal(state, output):
            return name, module, state
    last = candidates[-1][0] if candidates else "none"
    raise SubjectError(
        f"no module's output is the input of the head (last module seen: {last}); the final norm was not found"
    )


def _verify_chain(states: dict[int, Tensor], blocks: nn.ModuleList, final: Tensor) -> None:
    shapes = {tuple(state.shape) for state in states.values()}
    if shapes != {tuple(final.shape)}:
        raise SubjectError(
            f"the blocks of {type(blocks[0]).__name__} receive states of shapes {sorted(shapes)} while the final "
            f"norm receives {tuple(final.shape)}: there is no single residual stream to capture"
        )


def _verify_causal(model: Any, probe: Tensor, logits: Tensor) -> None:
    """The last token must not change any logits before it: a lens would be scored on what its state has seen."""
    changed = probe.clone()
    changed[:, -1] = probe[:, 0] if not torch.equal(probe[:, 0], probe[:, -1]) else probe[:, 1]
    if torch.equal(changed, probe):
        raise SubjectError("the probe needs at least two different tokens")
    with torch.no_grad():
        again = model(input_ids=changed, use_cache=False).logits
    error = float((again - logits)[:, :-1].abs().max() / logits.std())
    if not error < LOGIT_TOLERANCE:
        raise SubjectError(
            f"{type(model).__name__} is not causal: its logits depend on later tokens (by {error:.2g} standard "
            "deviations); give a causal language model"
        )


def _matching_head(
    model: Any, output: nn.Module, norm: nn.Module, final: Tensor, logits: Tensor, norm_name: str
) -> Head:
    """The decoder with the scaling and softcap of the config that give the model's own logits back."""
    base = output.weight.detach().float()  # type: ignore[operator]
    offset = getattr(output, "bias", None)
    offset = base.new_zeros(len(base)) if offset is None else offset.detach().float()
    best, error = None, float("inf")
    for scale, softcap in product(*_shapings(model.config.get_text_config().to_dict())):
        head = Head(norm, base if scale == 1 else base * scale, offset * scale, softcap)
        with torch.no_grad():
            ours = head.decode(final.reshape(-1, final.shape[-1]).float())
        theirs = logits.reshape(ours.shape).float()
        found = float((ours - theirs).abs().max() / theirs.std())
        if found < error:
            best, error = head, found
    if best is None or not error < LOGIT_TOLERANCE:
        raise SubjectError(
            f"{type(model).__name__}: decode(final state) differs from the model's logits by {error:.2g} standard "
            f"deviations; something besides {norm_name!r} and the output embedding shapes the logits"
        )
    return best


def _shapings(config: dict[str, Any]) -> tuple[list[float], list[float | None]]:
    """Scales and softcaps that the logits may have: what the config calls so, in whatever words.

    Families spell them logit_scale (a factor), logits_scaling (a divisor), final_logit_softcapping,
    logits_soft_cap, ...; the one that gives the model's logits back is right, whatever its name.
    """
    numbers = {
        name: float(value)
        for name, value in config.items()
        if "logit" in name and isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    }
    factors = [value for name, value in numbers.items() if "scal" in name]
    caps: list[float | None] = [value for name, value in numbers.items() if "cap" in name]
    return [1.0, *factors, *(1 / value for value in factors)], [None, *caps]
