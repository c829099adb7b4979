"""Decoding: from the final state (input of the final norm) to logits, without [tokens, vocab] tables.

Every loss here goes through one identity. With x the normed lens output, W and b the unembedding, p the
final distribution and mu = W^T p,

    kl(p || q) = logsumexp(W x + b) - mu . x - p . b - H(p)
    ce(y)      = logsumexp(W x + b) - W_y . x - b_y

so a lens needs p only through mu, p . b and H(p): three numbers and a vector a token, computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

CHUNK_BYTES_CPU = 2**20  # measured: 6 % faster than half as much, as fast as twice as much, 2x faster than 8 MiB
CHUNK_BYTES_ACCELERATOR = 512 * 2**20
FEWEST_ROWS = 256  # of a chunk, unless memory forces fewer: at 50k outputs, gradients by 128 take a tenth longer

OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")
"""Words with which allocators of CPUs, accelerators and their libraries say that they have nothing left."""


@dataclass(slots=True)
class Budget:
    """How many rows of logits are held at once; less after memory has run out.

    most: rows of the largest chunk that memory has not refused; None while it has refused none.
    """

    most: int | None = None

    def rows(self, n_outputs: int, device: torch.device) -> int:
        """Rows of a chunk."""
        budget = CHUNK_BYTES_CPU if device.type == "cpu" else CHUNK_BYTES_ACCELERATOR
        wanted = max(FEWEST_ROWS, budget // (4 * n_outputs))
        return wanted if self.most is None else min(wanted, self.most)


@dataclass(slots=True)
class Room:
    """Memory for the logits of one chunk after another, given back when memory has run out.

    Fresh memory of this size may come from the system page by page: at 50k outputs, gradients with new tables for
    every chunk took up to 1.4 times as long on their own, whole cells 1.1 times.
    """

    held: Tensor | None = None

    def of(self, n_rows: int, weight: Tensor, budget: Budget) -> Tensor:
        """(n, V), not initialised, on the device and in the precision of weight (V, d)."""
        if self.held is not None and not n_rows <= len(self.held) <= (budget.most or len(self.held)):
            self.held = None
        if self.held is None:
            self.held = weight.new_empty(n_rows, len(weight))
        return self.held[:n_rows]


@dataclass(frozen=True, slots=True)
class Head:
    """Decoder of a subject: ``logits = cap(norm(z) @ weight.T + bias)``.

    Attributes
    ----------
    norm: maps final states (..., d) to normed states (..., d); differentiable.
    weight: (V, d) float32 unembedding, logit scaling included.
    bias: (V,) float32; zeros where the model has none.
    softcap: c of ``c tanh(logits / c)``, or None. A softcap breaks the identity above, so capped
        heads keep the normed final state and recompute p chunk by chunk.
    budget: of the memory for logits.
    """

    norm: Callable[[Tensor], Tensor]
    weight: Tensor
    bias: Tensor
    softcap: float | None = None
    budget: Budget = field(default_factory=Budget, compare=False, repr=False)

    @property
    def n_outputs(self) -> int:
        """Size V of the vocabulary (or number of classes)."""
        return self.weight.shape[0]

    def logits(self, x: Tensor, weight: Tensor | None = None, room: Room | None = None) -> Tensor:
        """(n, d) normed states -> (n, V) logits. Callers keep n to one chunk.

        ``weight``: this head's in another precision, which is then that of the logits.
        ``room``: where they are written, over those of the chunk before; no gradients flow through them then.
        """
        weight = self.weight if weight is None else weight
        out = None if room is None else room.of(len(x), weight, self.budget)
        raw = torch.addmm(self.bias.to(weight), x.to(weight), weight.T, out=out)
        return raw if self.softcap is None else self.softcap * torch.tanh(raw / self.softcap)

    def decode(self, z: Tensor) -> Tensor:
        """(n, d) final states -> (n, V) logits."""
        return self.logits(self.norm(z))

    def chunks(self, n_rows: int) -> Iterator[slice]:
        """Row slices whose logits fit the chunk budget of this device."""
        start = 0
        while start < n_rows:
            yield (rows := self._chunk(start, n_rows))
            start = rows.stop

    def _chunk(self, start: int, n_rows: int) -> slice:
        return slice(start, min(start + self.budget.rows(self.n_outputs, self.weight.device), n_rows))

    def by_chunks(self, n_rows: int, compute: Callable[[slice], None]) -> None:
        """Call ``compute`` for one chunk after another; one for which memory runs out is halved and done again.

        ``compute`` writes its rows and changes nothing else, so that it can be repeated. The halved size is kept,
        here and for ``chunks``. Results are the same up to the order in which a product of matrices sums.

        Raises
        ------
        RuntimeError, MemoryError: of the allocator, when there is no memory for a single row.
        """
        start = 0
        while start < n_rows:
            rows = self._chunk(start, n_rows)
            if _fits(compute, rows):
                start = rows.stop
            else:
                self.budget.most = (rows.stop - rows.start) // 2
                if self.weight.device.type == "cuda":
                    torch.cuda.empty_cache()


@dataclass(frozen=True, slots=True)
class Targets:
    """What lenses are trained on and scored against, per token; p itself is never stored.

    Attributes
    ----------
    mu: (n, d), W^T p. offset: (n,), p . b. entropy: (n,), H(p) in nats.
    labels: (n,) int64, the true next token (or class).
    x_final: (n, d) normed final states of a softcapped head, else None.
    top: (n,) int64, the most likely output under p, or None where nobody asks for it.
    table: rows -> (r, V) p itself, one chunk at a time, where it does not follow from the final states.
    """

    mu: Tensor
    offset: Tensor
    entropy: Tensor
    labels: Tensor
    x_final: Tensor | None = None
    top: Tensor | None = None
    table: Callable[[slice], Tensor] | None = None

    def rows(self, index: Tensor | slice) -> Targets:
        """The same targets for some tokens, without the table."""
        fields = (self.mu, self.offset, self.entropy, self.labels, self.x_final, self.top)
        return Targets(*(None if one is None else _rows(one, index) for one in fields))  # type: ignore[arg-type]


def _fits(compute: Callable[[slice], None], rows: slice) -> bool:
    """Compute a chunk; whether memory sufficed. Where it did not, whatever the chunk held is released by now."""
    try:
        compute(rows)
    except (RuntimeError, MemoryError) as error:
        exhausted = isinstance(error, MemoryError) or any(words in str(error).lower() for words in OUT_OF_MEMORY)
        if not exhausted or rows.stop - rows.start == 1:
            raise
        return False
    return True


def _rows(values: Tensor, index: Tensor | slice) -> Tensor:
    # index_select gathers whole rows, several times faster on a CPU than indexing with a tensor.
    return values[index] if isinstance(index, slice) else values.index_select(0, index)


def concatenate(targets: Sequence[Targets]) -> Targets:
    """Targets of several layers, one after the other."""
    if len(targets) == 1:
        return targets[0]
    return Targets(
        torch.cat([one.mu for one in targets]),
        torch.cat([one.offset for one in targets]),
        torch.cat([one.entropy for one in targets]),
        torch.cat([one.labels for one in targets]),
        _together([one.x_final for one in targets]),
        _together([one.top for one in targets]),
    )


def _together(parts: Sequence[Tensor | None]) -> Tensor | None:
    present = [one for one in parts if one is not None]
    return torch.cat(present) if len(present) == len(parts) else None


def final_targets(head: Head, final: Tensor, labels: Tensor) -> Targets:
    """Targets from final states (n, d) and labels (n,), one pass in chunks."""
    with torch.no_grad():
        x = head.norm(final)
        mu, offset = torch.empty_like(x), torch.empty_like(x[:, 0])
        entropy, top = torch.empty_like(offset), torch.empty_like(labels)
        level = head.bias.mean()  # a large common bias would drown in the rounding of the sum over outputs
        spread = head.bias - level

        room = Room()

        def compute(rows: slice) -> None:
            # p must sum to 1 to the last digit: exp(log_softmax) misses by some 1e-6, times mu . x of 20 nats.
            logits = head.logits(x[rows], room=room)
            highest, top[rows] = logits.max(dim=-1)
            shifted = logits.sub_(highest[:, None])
            p = shifted.exp()
            mass = p.sum(dim=-1, keepdim=True)
            p.div_(mass)
            mu[rows] = p @ head.weight
            offset[rows] = p @ spread + level
            entropy[rows] = mass.log().squeeze(1) - (p * shifted).sum(-1)

        head.by_chunks(len(x), compute)
    return Targets(mu, offset, entropy, labels, None if head.softcap is None else x, top)


def expectation(head: Head, x: Tensor, weight: Tensor, room: Room) -> tuple[Tensor, Tensor]:
    """(q, W^T q): what a head predicts from normed states x (n, d), one chunk of them.

    ``weight``: the head's, in the precision of both products; q (n, V) and W^T q (n, d) are float32.
    ``room``: q is in it where both are float32.
    """
    logits = head.logits(x, weight, room)
    q = torch.softmax(logits, dim=-1, dtype=torch.float32, out=logits if logits.dtype == torch.float32 else None)
    return q, (q.to(weight) @ weight).float()


def kl_gradient(head: Head, x: Tensor, targets: Targets, *, precision: str = "float32") -> Tensor:
    """(n, d) gradient of each row's kl in its normed lens output x (n, d): W^T q - mu.

    ``precision``: of both products of matrices, "float32" or "bfloat16"; everything else is float32.
    """
    slope = torch.empty_like(x)
    weight = head.weight.to(getattr(torch, precision))
    room = Room()

    def compute(rows: slice) -> None:
        goal = targets.rows(rows)
        if head.softcap is None:
            with torch.no_grad():
                torch.sub(expectation(head, x[rows], weight, room)[1], goal.mu, out=slope[rows])
        else:
            part = x[rows].detach().requires_grad_(True)
            with torch.enable_grad():
                total = _capped_kl(head, part, goal).sum()
            (slope[rows],) = torch.autograd.grad(total, part)

    head.by_chunks(len(x), compute)
    return slope


def _capped_kl(head: Head, x: Tensor, targets: Targets) -> Tensor:
    assert targets.x_final is not None, "a softcapped head keeps the normed final states"
    p = torch.softmax(head.logits(targets.x_final), dim=-1)
    log_q = torch.log_softmax(head.logits(x), dim=-1)
    return -(p * log_q).sum(-1) - targets.entropy


@dataclass(frozen=True, slots=True)
class Losses:
    """Losses of n tokens.

    kl, ce: (n,) nats per token. disagreement: (n,) 1 where the most likely output is not the target's, else 0;
    None where targets have no most likely output.
    """

    kl: Tensor
    ce: Tensor
    disagreement: Tensor | None


def losses(head: Head, x: Tensor, targets: Targets) -> Losses:
    """Losses of normed lens outputs x (n, d); no gradients."""
    kl, ce = torch.empty_like(x[:, 0]), torch.empty_like(x[:, 0])
    differs = None if targets.top is None else torch.empty_like(kl)
    room = Room()

    def compute(rows: slice) -> None:
        part, goal = x[rows], targets.rows(rows)
        logits, label = head.logits(part, room=room), goal.labels[:, None]
        raw = logits.gather(1, label)
        if differs is not None and goal.top is not None:
            differs[rows] = (logits.argmax(-1) != goal.top).to(differs)
        # One vectorised pass; torch.logsumexp takes several, 14 % of the whole at 2,048 outputs.
        log_q = torch.log_softmax(logits, dim=-1, out=logits).gather(1, label)
        ce[rows] = -log_q.squeeze(1)
        if head.softcap is None:
            log_partition = (raw - log_q).squeeze(1)
            kl[rows] = log_partition - (goal.mu * part).sum(-1) - goal.offset - goal.entropy
        else:
            kl[rows] = _capped_kl(head, part, goal)

    with torch.no_grad():
        head.by_chunks(len(x), compute)
    return Losses(kl, ce, differs)


def draw_outputs(q: Tensor, uniform: Tensor) -> Tensor:
    """(n,) one output drawn from each row of q (n, V): the inverse distribution function at ``uniform`` (n,)."""
    below = q.cumsum(-1)
    # Many times faster than torch.multinomial for one draw a row.
    drawn = torch.searchsorted(below, uniform[:, None] * below[:, -1:])
    return drawn.clamp_max(q.shape[1] - 1).squeeze(1)
