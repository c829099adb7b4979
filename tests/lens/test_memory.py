"""Memory that runs out: a chunk is halved and done again, and the result stays what it was."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import astuple
from pathlib import Path

import pytest
import torch
from brute_force import draw_case, make_head

from transferstats.lens.head import Head, Room, final_targets, losses
from transferstats.lens.null import NullLenses, null_samples
from transferstats.lens.sample import Sample
from transferstats.lens.translator import Translators

TOLERANCE = 1e-6  # a matrix product may choose another order of summation for another number of rows

LIMITED = """
import json, resource, sys
from pathlib import Path
import torch
from transferstats.lens.head import Head, final_targets, kl_gradient, losses
from transferstats.lens.states import States
from transferstats.lens.transfer import baseline_losses

torch.set_num_threads(1)
OUTPUTS, WIDTH, ROWS = 1_500_000, 4, 24
rng = torch.Generator().manual_seed(0)
head = Head(torch.nn.Identity(), torch.randn(OUTPUTS, WIDTH, generator=rng), torch.zeros(OUTPUTS), {softcap})
final, x = torch.randn(2, ROWS, WIDTH, generator=rng)
labels = torch.arange(ROWS)
prior = torch.full((OUTPUTS,), 1 / OUTPUTS).log()
states = States(x[None], final, labels, torch.zeros(ROWS, dtype=torch.int64), ("one",))
head.logits(x[:1]).logsumexp(-1)  # whatever torch allocates for itself on first use
if {headroom}:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + {headroom}, resource.RLIM_INFINITY))
targets = final_targets(head, final, labels)
scored = losses(head, x, targets)
base = baseline_losses(head, states, prior)
slope = kl_gradient(head, x, targets)
base = torch.stack([torch.as_tensor(one) for one in base.values()])
tables = [scored.kl, scored.ce, slope, base, scored.disagreement]
print(json.dumps([head.budget.most, *(one.tolist() for one in tables)]))
"""


def _computed(softcap: float | None, headroom: int) -> list[object]:
    code = LIMITED.format(softcap=softcap, headroom=headroom)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return list(json.loads(done.stdout))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads its own size from /proc")
@pytest.mark.parametrize("softcap", [None, 4.0])
def test_a_process_that_may_not_grow_halves_its_chunks(softcap: float | None) -> None:
    """A chunk of 24 rows takes 144 MB a table; the process may grow by 150 MB in all. No allocator is faked."""
    free, limited = _computed(softcap, 0), _computed(softcap, 150 * 2**20)
    assert free[0] is None
    assert limited[0] in (1, 3, 6, 12)
    names = ("kl", "ce", "slope", "base", "disagreement")
    for name, wanted, found in zip(names, free[1:], limited[1:], strict=True):
        # Each gradient sums 1.5 million float32 numbers; a single row is multiplied by another routine, and the
        # order of this sum then moves it by up to 5e-4.
        atol = 1e-3 if name == "slope" else 1e-4
        assert torch.allclose(torch.tensor(found), torch.tensor(wanted), rtol=0, atol=atol), name


ERRORS = {
    "accelerator": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "library": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "python": MemoryError(),
}


def _scarce(monkeypatch: pytest.MonkeyPatch, most: int, error: Exception) -> list[int]:
    """From now on, logits of more rows find no memory, as an accelerator would say it; none is at hand to fill."""
    enough, refused = Head.logits, []

    def logits(
        head: Head, x: torch.Tensor, weight: torch.Tensor | None = None, room: Room | None = None
    ) -> torch.Tensor:
        if len(x) > most:
            refused.append(len(x))
            raise error
        return enough(head, x, weight, room)

    monkeypatch.setattr(Head, "logits", logits)
    return refused


@pytest.mark.parametrize("kind", ERRORS)
def test_every_allocator_is_understood_and_its_lesson_kept(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    head = make_head()
    x, _, _, targets = draw_case(head)
    wanted = astuple(losses(head, x, targets))
    refused = _scarce(monkeypatch, 6, ERRORS[kind])
    for _ in range(2):
        for one, other in zip(astuple(losses(head, x, targets)), wanted, strict=True):
            assert (one - other).abs().max() < TOLERANCE * max(1.0, float(other.abs().max()))
    assert refused == [40, 20, 10]  # once, not at every chunk and every call
    assert [rows.stop - rows.start for rows in head.chunks(12)] == [5, 5, 2]


def test_no_memory_for_a_single_row_is_the_allocators_error(monkeypatch: pytest.MonkeyPatch) -> None:
    head = make_head()
    x, _, _, targets = draw_case(head)
    _scarce(monkeypatch, 0, ERRORS["accelerator"])
    with pytest.raises(torch.OutOfMemoryError, match="Tried to allocate"):
        losses(head, x, targets)


def test_another_error_is_not_taken_for_exhausted_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    head = make_head()
    x, _, _, targets = draw_case(head)
    refused = _scarce(monkeypatch, 0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes"):
        losses(head, x, targets)
    assert refused == [40]


def test_a_null_world_is_the_same_whatever_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signs and labels are drawn before the chunks, so that a chunk that is done again draws nothing new.

    Predictions and the most likely outputs of p0 are found chunk by chunk.
    """
    head, rows = make_head(30, 8), 40
    draw = torch.Generator().manual_seed(0)
    final = torch.randn(rows, 8, generator=draw)
    labels = torch.arange(rows) % 30
    sample = Sample(torch.randn(2, rows, 8, generator=draw), final[None], (final_targets(head, final, labels),))
    lenses = NullLenses(Translators.identity(1, 8), Translators.identity(2, 8))

    def world() -> Sample:
        rng = torch.Generator().manual_seed(1)
        return null_samples(head, lenses, [sample], [torch.arange(rows) // 4], rng=rng)[0]

    wanted = world()
    refused = _scarce(monkeypatch, 6, ERRORS["accelerator"])
    for one, other in zip(world().targets, wanted.targets, strict=True):
        assert torch.equal(one.labels, other.labels)
        assert one.top is not None
        assert other.top is not None
        assert torch.equal(one.top, other.top)
        assert (one.mu - other.mu).abs().max() < 10 * TOLERANCE
    assert refused == [40, 20, 10]
