"""Find the blocks and the classifier of an image classifier, how its states are pooled, and verify its decoder.

The state of a block is its output, pooled to one vector an image: maps are averaged over height and width, and of
a sequence of tokens those are averaged that the logits depend on after the last block (the class token alone where
only it counts). The final state is the input of the classifier, the linear layer that gives the logits. Where the
last block's pooled output *is* the final state, as in ResNet, that block is no layer: its lens would be the
identity.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from transferstats.errors import SubjectError
from transferstats.lens.anatomy import LOGIT_TOLERANCE
from transferstats.lens.head import Head

NAME_BLOCKS = "name the blocks, such as blocks=('encoder.stages.*.layers.*',)"


@dataclass(frozen=True, slots=True)
class Pooling:
    """Tokens ``first`` to ``last`` (None: the end) of a sequence are averaged; maps are averaged whole."""

    first: int = 0
    last: int | None = None

    def pool(self, output: Any) -> Tensor:
        """(B, C, H, W), (B, T, C) or (B, C) output of a block -> (B, C) float32."""
        state = state_output(output)
        if state.ndim == 4:
            return state.float().mean((2, 3))
        return (state if state.ndim == 2 else state[:, self.first : self.last].mean(1)).float()

    @property
    def label(self) -> str:
        """Name for records."""
        if self.last == 1:
            return "class token"
        return f"mean of map or tokens from {self.first}" if self.first else "mean of map or tokens"


@dataclass(frozen=True, slots=True)
class VisionAnatomy:
    """The parts of an image classifier.

    Attributes
    ----------
    names, blocks, widths: the L layers in order of depth: name, module, channels of its output.
    classifier: linear layer; its input is the final state. head: the verified decoder.
    pooling: how outputs become states. dropped: name of a last block whose state is the final state, or "".
    """

    names: tuple[str, ...]
    blocks: tuple[nn.Module, ...]
    widths: tuple[int, ...]
    classifier: nn.Linear
    head: Head
    pooling: Pooling
    dropped: str = ""


@dataclass(slots=True)
class _Trace:
    """What one forward pass showed: modules and linear layers in the order in which they finished."""

    calls: list[tuple[str, nn.Module]] = field(default_factory=list)
    linears: list[tuple[str, nn.Linear, Tensor, Tensor]] = field(default_factory=list)
    logits: Tensor = field(default_factory=lambda: torch.empty(0))


def find_vision_anatomy(model: nn.Module, probe: Tensor, blocks: Sequence[str] | None = None) -> VisionAnatomy:
    """Locate and verify the parts of ``model`` with forward passes on ``probe`` (B, C, H, W), prepared images.

    Parameters
    ----------
    blocks: patterns of module names, one name a dot-separated part with ``*`` for any, matched at the end of the
        full name. Without them: ``model.blocks`` where there is one, else the repeated modules whose number the
        config gives (depths, num_hidden_layers), else the longest run of modules of one class.

    Raises
    ------
    SubjectError: no blocks, blocks that are not run once each, no linear classifier, outputs that cannot be
        pooled, or a decoder that does not give the logits back; the message names the module.
    """
    trace = _run(model, probe)
    name, classifier, final = _find_classifier(model, trace)
    head = _verified_head(classifier, final, trace.logits, name)
    found = _in_order(model, _find_blocks(model, trace, blocks), trace)
    modules = [module for _, module in found]
    pooling = _find_pooling(model, modules[-1], probe)
    states = pooled_outputs(model, modules, pooling, probe)
    for (block, _), state in zip(found, states, strict=True):
        if not torch.isfinite(state).all():
            raise SubjectError(f"block {block!r} gives states that are not finite: its weights are damaged")
    last = states[-1]
    is_final = last.shape == final.shape and bool(torch.allclose(last, final.float(), rtol=1e-4, atol=1e-6))
    kept = len(found) - is_final
    if kept < 2:
        raise SubjectError(
            f"{type(model).__name__} has {kept} block(s) besides the final state, and transfer needs two; "
            f"{NAME_BLOCKS}"
        )
    return VisionAnatomy(
        _short_names([block for block, _ in found])[:kept],
        tuple(modules[:kept]),
        tuple(state.shape[1] for state in states[:kept]),
        classifier,
        head,
        pooling,
        found[-1][0] if is_final else "",
    )


def logits_of(output: Any) -> Tensor:
    """The logits of a model's output: the tensor itself, or its ``logits``."""
    logits = getattr(output, "logits", output)
    if not isinstance(logits, Tensor):
        raise SubjectError(f"the model returns {type(output).__name__}; need logits, or an output with logits")
    return logits


def state_output(output: Any) -> Tensor:
    """The state that a block returns: its output, or the first tensor of a tuple."""
    state = output[0] if isinstance(output, tuple | list) and output else output
    if not isinstance(state, Tensor) or state.ndim not in (2, 3, 4):
        shape = tuple(state.shape) if isinstance(state, Tensor) else type(state).__name__
        raise SubjectError(f"a block returned {shape}; need (B, C, H, W), (B, tokens, C) or (B, C); {NAME_BLOCKS}")
    return state


def pooled_outputs(
    model: nn.Module, blocks: Sequence[nn.Module], pooling: Pooling, images: Tensor
) -> list[Tensor]:
    """(B, C) states of some blocks, each pooled as soon as it is there."""
    kept: dict[int, Tensor] = {}

    def keeper(index: int) -> Callable[..., None]:
        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            kept[index] = pooling.pool(output)

        return hook

    with ExitStack() as stack, torch.no_grad():
        for index, block in enumerate(blocks):
            stack.callback(block.register_forward_hook(keeper(index)).remove)
        model(images)
    return [kept[index] for index in range(len(blocks))]


def _run(model: nn.Module, probe: Tensor) -> _Trace:
    trace = _Trace()

    def recorder(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            trace.calls.append((name, module))
            if isinstance(module, nn.Linear) and args:
                trace.linears.append((name, module, args[0].detach(), output.detach()))

        return hook

    with ExitStack() as stack, torch.no_grad():
        for name, module in model.named_modules():
            stack.callback(module.register_forward_hook(recorder(name)).remove)
        try:
            trace.logits = logits_of(model(probe))
        except (RuntimeError, ValueError) as error:
            raise SubjectError(
                f"{type(model).__name__} does not take images of shape {tuple(probe.shape[1:])}: {error}; check "
                "size and channels of the preprocessing"
            ) from error
    if trace.logits.ndim != 2 or not torch.isfinite(trace.logits).all():
        raise SubjectError(
            f"{type(model).__name__} gives logits of shape {tuple(trace.logits.shape)}, or not finite ones; need "
            "(B, classes): the weights are damaged, or this is no classifier"
        )
    return trace


def _find_classifier(model: nn.Module, trace: _Trace) -> tuple[str, nn.Linear, Tensor]:
    for name, module, state, output in reversed(trace.linears):
        if output.shape == trace.logits.shape and torch.equal(output, trace.logits):
            return name, module, state
    last = trace.linears[-1][0] if trace.linears else "none"
    raise SubjectError(
        f"{type(model).__name__}: no linear layer gives the logits (last one run: {last}); the classifier must be "
        "the last operation"
    )


def _verified_head(classifier: nn.Linear, final: Tensor, logits: Tensor, name: str) -> Head:
    weight = classifier.weight.detach().float()
    bias = weight.new_zeros(len(weight)) if classifier.bias is None else classifier.bias.detach().float()
    head = Head(_unchanged, weight, bias)
    error = float((head.decode(final.float()) - logits.float()).abs().max())
    if not error < LOGIT_TOLERANCE * float(logits.std()):
        raise SubjectError(
            f"decode(final state) differs from the logits by {error:.2g}: classifier {name!r} is not a plain "
            "linear layer (its forward was changed), or its logits do not depend on the image"
        )
    return head


def _unchanged(z: Tensor) -> Tensor:
    return z


def _find_blocks(model: nn.Module, trace: _Trace, patterns: Sequence[str] | None) -> list[nn.Module]:
    if patterns is not None:
        chosen = [module for name, module in model.named_modules() if any(_matches(name, one) for one in patterns)]
        if not chosen:
            raise SubjectError(f"no module of {type(model).__name__} is named like {', '.join(patterns)}")
        return chosen
    own = getattr(model, "blocks", None)
    if own is not None:
        return list(own)
    return _repeated(model, trace)


def _matches(name: str, pattern: str) -> bool:
    parts, wanted = name.split("."), pattern.split(".")
    tail = parts[-len(wanted) :]
    return len(tail) == len(wanted) and all(fnmatchcase(*pair) for pair in zip(tail, wanted, strict=True))


def _repeated(model: nn.Module, trace: _Trace) -> list[nn.Module]:
    """The modules of one class, all members of lists, that the config counts; else those that are most."""
    called = {id(module) for _, module in trace.calls}
    by_class: dict[type, list[nn.Module]] = {}
    for container in model.modules():
        if isinstance(container, nn.ModuleList | nn.Sequential):
            for member in container:
                if id(member) in called and any(True for _ in member.children()):
                    by_class.setdefault(type(member), []).append(member)
    settings = getattr(model, "config", None)
    depths = getattr(settings, "depths", None)
    depth = sum(depths) if depths else getattr(settings, "num_hidden_layers", None)
    groups = [group for group in by_class.values() if len(group) == depth]
    if not groups:
        groups = [group for group in by_class.values() if len(group) > 1]
    if not groups:
        raise SubjectError(f"{type(model).__name__} has no list of blocks of one class; {NAME_BLOCKS}")
    return max(groups, key=lambda group: sum(p.numel() for module in group for p in module.parameters()))


def _in_order(model: nn.Module, blocks: Sequence[nn.Module], trace: _Trace) -> list[tuple[str, nn.Module]]:
    """(name, block) in the order in which they ran, once each and none inside another."""
    wanted = {id(block) for block in blocks}
    ran = [(name, module) for name, module in trace.calls if id(module) in wanted]
    names = {id(module): name for name, module in model.named_modules()}
    runs = [id(module) for _, module in ran]
    wrong = [names.get(one, "?") for one in wanted if runs.count(one) != 1]
    if wrong:
        raise SubjectError(f"block {wrong[0]!r} is not run exactly once for each image; {NAME_BLOCKS}")
    for name, _ in ran:
        inside = [other for other, _ in ran if other.startswith(f"{name}.")]
        if inside:
            raise SubjectError(f"block {inside[0]!r} is a part of block {name!r}; {NAME_BLOCKS}")
    return ran


def _find_pooling(model: nn.Module, last: nn.Module, probe: Tensor) -> Pooling:
    """Which tokens after the last block the logits depend on, by their gradient."""
    kept: list[Tensor] = []

    def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
        state = state_output(output).detach().requires_grad_(True)
        kept.append(state)
        return (state, *output[1:]) if isinstance(output, tuple | list) else state

    handle = last.register_forward_hook(hook)
    try:
        with torch.enable_grad():
            logits = logits_of(model(probe))
            if kept[-1].ndim != 3:
                return Pooling()
            weights = torch.linspace(1, 2, logits.shape[1], device=logits.device)
            (slope,) = torch.autograd.grad((logits * weights).sum(), kept[-1])
    finally:
        handle.remove()
    counts = (slope.abs().amax((0, 2)) > 0).tolist()
    if counts[0] and not any(counts[1:]):
        return Pooling(0, 1)
    return Pooling(0 if counts[0] else 1)


def _short_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names without the parts that all of them share at the same place."""
    parts = [name.split(".") for name in names]
    if len({len(one) for one in parts}) > 1:
        return tuple(names)
    varying = [index for index, column in enumerate(zip(*parts, strict=True)) if len(set(column)) > 1]
    return tuple(".".join(one[index] for index in varying) or ".".join(one) for one in parts)
