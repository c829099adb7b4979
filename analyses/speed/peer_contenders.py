"""The contenders of peer.py, each run in a process of its own: it prints its figures as JSON."""

from __future__ import annotations

import contextlib
import json
import random
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from transferstats import FitPlan
from transferstats.errors import DataError
from transferstats.lens.artifacts import read_lenses
from transferstats.lens.descent import Problem
from transferstats.lens.documents import Documents, read_documents
from transferstats.lens.fit import fit_lenses
from transferstats.lens.language import Encoding, LanguageModel, LanguageSubject, load_language_model
from transferstats.lens.sample import Sample, mean_kl
from transferstats.lens.states import States
from transferstats.lens.stream import KeptRows
from transferstats.lens.study import sample_of
from transferstats.lens.transfer import transfer_losses
from transferstats.lens.translator import Translators, moments

WINDOW = 256
MICRO_BATCH = 8  # windows: 2048 tokens at once, as many as one sample of the peer's default
EQUAL = 1e-4  # nats: what mean penalties may differ by from a float64 reference


@dataclass(frozen=True, slots=True)
class Setting:
    """What is measured.

    steps, tokens: of the peer's recipe, tokens a step. scored: windows of the transfer matrix.
    doublings: kl steps of the fits here; 0 is the ridge start alone.
    """

    subject: str = "embedded"
    domain: str = "python"
    documents: int = 400
    steps: int = 250
    tokens: int = 2**14
    scored: int = 64
    doublings: tuple[int, ...] = (0, 16, 32, 64, 128, 256, 512, 1024)
    threads: int = 1
    device: str = "cpu"


QUICK = Setting(documents=60, steps=8, tokens=2**12, scored=8, doublings=(0, 16, 32))


class Windows(LanguageSubject):
    """A subject of which only full windows count, because the peer's batches are rectangles."""

    def windows(self, index: int, max_rows: int | None = None) -> list[list[int]]:
        """Windows of exactly ``WINDOW`` tokens."""
        try:
            found = LanguageSubject.windows(self, index, max_rows)
        except DataError:  # shorter than any window
            return []
        return [window for window in found if len(window) == WINDOW]

    def of(self, documents: list[int]) -> Tensor:
        """(n, WINDOW) windows of some documents."""
        return torch.tensor([window for index in documents for window in self.windows(index)])

    def states(self, windows: Tensor) -> States:
        """States of some windows, each a unit of its own."""
        parts = [self._forward(list(enumerate(part.tolist()))) for part in windows.split(2 * MICRO_BATCH)]
        hidden, final, labels = (
            torch.cat([part[index] for part in parts], dim=1 if index == 0 else 0) for index in range(3)
        )
        names = tuple(str(index) for index in range(len(windows)))
        unit = torch.arange(len(windows), device=labels.device).repeat_interleave(len(labels) // len(windows))
        return States(hidden, final, labels, unit, names)


@dataclass(frozen=True, slots=True)
class Work:
    """A model and its windows for training, stopping and scoring, of different documents."""

    model: LanguageModel
    subject: Windows
    train: Tensor
    held_out: Tensor
    scored: Tensor

    def identity(self) -> Translators:
        """The logit lens, where both start."""
        width = self.model.anatomy.head.weight.shape[1]
        return Translators.identity(len(self.model.layers), width, self.model.device)

    def sample(self, windows: Tensor) -> Sample:
        """States with their targets."""
        return sample_of(self.subject, self.subject.states(windows))

    def kl(self, lenses: Translators, sample: Sample) -> float:
        """Kl in nats a token, the mean over layers."""
        return float(mean_kl(self.subject.head, lenses, sample, max_rows=10**9).mean())


def load(setting: Setting, *, skip: int) -> Work:
    """What both contenders start from; ``skip`` positions of each window are not scored."""
    torch.set_num_threads(setting.threads)
    model = load_language_model(setting.subject, device=setting.device)
    found = read_documents(setting.domain)
    encoding = Encoding(window=WINDOW, skip=skip)
    everything = Windows(model, found, encoding)
    kept = [index for index in range(len(found.units)) if everything.windows(index)][: setting.documents]
    columns = (tuple(column[index] for index in kept) for column in (found.units, found.clusters, found.texts))
    subject = Windows(model, Documents(found.name, *columns), encoding)
    order = random.Random(0).sample(range(len(kept)), len(kept))
    first, second = int(0.7 * len(order)), int(0.85 * len(order))
    scored = subject.of(order[second:])
    count = min(setting.scored, len(scored)) // MICRO_BATCH * MICRO_BATCH
    return Work(model, subject, subject.of(order[:first]), subject.of(order[first:second]), scored[:count])


class Clock:
    """Seconds since ``start``, and how much memory this process needed beyond what it had then, in MiB."""

    def __init__(self) -> None:
        self.had = self._peak()
        self.start()

    def start(self) -> None:
        """Start (again)."""
        self.began = time.perf_counter()

    def seconds(self) -> float:
        """Since the start."""
        return time.perf_counter() - self.began

    def memory(self) -> float:
        """Peak so far, of the accelerator where there is one."""
        if torch.cuda.is_available():
            return float(torch.cuda.max_memory_allocated()) / 2**20
        return self._peak() - self.had

    @staticmethod
    def _peak() -> float:
        scale = 2**20 if sys.platform == "darwin" else 2**10
        return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / scale


# --- tuned-lens -------------------------------------------------------------------------------------------------


def _import_peer() -> tuple[Any, Any, Any]:
    """Its modules. ``datasets`` and ``torchdata``, of which it needs only loaders, become empty names."""
    import transformers.utils  # noqa: F401  before there are empty names, which it would look at

    names = {
        "datasets": ("Dataset", "DatasetDict", "load_dataset", "concatenate_datasets"),
        "torchdata": ("dataloader2", "datapipes"),
        "torchdata.dataloader2": ("DataLoader2",),
    }
    for name, attributes in names.items():
        empty = ModuleType(name)
        empty.__dict__.update({one: type(one, (), {"DataLoader2": object}) for one in attributes})
        sys.modules.setdefault(name, empty)
    from tuned_lens.scripts import eval_loop, ingredients, train_loop

    return ingredients, train_loop, eval_loop


class Batches:
    """Batches of windows, epoch after epoch, each in a new order; the clock starts with the first."""

    def __init__(self, windows: Tensor, count: int, *, shuffle: bool, begun: Callable[[], None]) -> None:
        self.windows, self.count, self.shuffle, self.begun = windows, count, shuffle, begun
        self.draw = torch.Generator()

    def seed(self, value: int) -> None:
        """As the loader of the package has it."""
        self.draw.manual_seed(value)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        self.begun()
        order = torch.empty(0, dtype=torch.int64)
        for _ in range(self.count):
            if len(order) < MICRO_BATCH:
                n = len(self.windows)
                fresh = torch.randperm(n, generator=self.draw) if self.shuffle else torch.arange(n)
                order = torch.cat([order, fresh])
            rows, order = order[:MICRO_BATCH], order[MICRO_BATCH:]
            yield {"input_ids": self.windows[rows]}


def _ingredients(ingredients: Any, work: Work, batches: Batches) -> dict[str, Any]:
    """Model, data and machine as its loops expect them: loaded already."""

    class Machine(ingredients.Distributed):  # type: ignore[misc]
        def data_loader(self, dataset: Any) -> Batches:
            return batches

    samples = [{"input_ids": window} for window in batches.windows]
    return {
        "model": SimpleNamespace(name="", load=lambda *_, **__: (work.model.model, work.model.tokenizer)),
        "data": SimpleNamespace(load=lambda _: (samples, 1.0)),
        "dist": Machine(per_gpu_batch_size=MICRO_BATCH),
    }


def train_peer(setting: Setting, folder: Path) -> dict[str, Any]:
    """Its own training loop; held-out kl at steps 1, 2, 4, ... and the last, measured afterwards."""
    ingredients, train_loop, _ = _import_peer()
    work = load(setting, skip=1)
    clock = Clock()
    kept: dict[int, tuple[float, Translators]] = {}
    wanted = {2**power for power in range(20)} | {setting.steps}

    class Train(train_loop.Train):  # type: ignore[misc]
        def _log(self, opt: Any, step: int, losses: Any, tuned_lens: Any, nats_to_bpb: float) -> None:
            if step + 1 in wanted:
                maps = list(tuned_lens)
                weight, bias = (
                    torch.stack([getattr(m, n).detach().float() for m in maps]) for n in ("weight", "bias")
                )
                kept[step + 1] = (clock.seconds(), Translators(weight, bias))

    count = setting.steps * setting.tokens // (MICRO_BATCH * WINDOW)
    batches = Batches(work.train, count, shuffle=True, begun=clock.start)
    job = Train(
        **_ingredients(ingredients, work, batches),
        opt=ingredients.Optimizer(),
        output=folder / "lens",
        num_steps=setting.steps,
        tokens_per_step=setting.tokens,
    )
    job.execute()
    memory = clock.memory()
    sample = work.sample(work.held_out)
    curve = [
        {"steps": step, "seconds": seconds, "kl": work.kl(lenses, sample)}
        for step, (seconds, lenses) in sorted(kept.items())
    ]
    logit_lens = work.kl(work.identity(), sample)
    return {"curve": curve, "memory": memory, "train_tokens": work.train.numel(), "logit_lens": logit_lens}


def score_peer(setting: Setting, folder: Path) -> dict[str, Any]:
    """Its own evaluation, with layer transfer, of the lenses that it trained."""
    ingredients, _, eval_loop = _import_peer()
    work = load(setting, skip=0)
    clock = Clock()
    batches = Batches(work.scored, len(work.scored) // MICRO_BATCH, shuffle=False, begun=clock.start)
    job = eval_loop.Eval(
        **_ingredients(ingredients, work, batches),
        output=folder / "eval",
        lens_name=str(folder / "lens"),
        lens_types=["tuned"],
        layer_transfer=True,
    )
    job.execute()
    seconds, memory = clock.seconds(), clock.memory()
    metrics = json.loads((folder / "eval" / "aggregate_metrics.json").read_text(encoding="utf-8"))
    found, depth = metrics["tuned"]["layer_transfer"]["ce"], range(len(work.model.layers))
    ce = [[found[f"layer_{source}"][f"layer_{target}"] for target in depth] for source in depth]
    return {"seconds": seconds, "memory": memory, "ce": ce}


# --- transferstats ----------------------------------------------------------------------------------------------


def train_ours(setting: Setting, folder: Path) -> dict[str, Any]:
    """Fits that end after more and more steps, each from the start."""
    work, curve = load(setting, skip=1), []
    clock = Clock()
    for steps in setting.doublings:
        clock.start()
        train, held_out = work.sample(work.train), work.sample(work.held_out)
        plan = replace(FitPlan(), max_steps=steps) if steps else FitPlan(method="ridge")
        problem = Problem(
            work.subject.head, train, held_out, moments(train.hidden, train.final), work.identity(), plan
        )
        lenses, certificate = fit_lenses(problem, KeptRows(train), rng=torch.Generator().manual_seed(0))
        seconds, converged = clock.seconds(), int(certificate.converged.sum())
        kl = work.kl(lenses, held_out)
        curve.append({"steps": steps, "seconds": seconds, "kl": kl, "converged": converged})
    return {"curve": curve, "memory": clock.memory()}


def score_ours(setting: Setting, folder: Path) -> dict[str, Any]:
    """The transfer matrix of the same lenses on the same tokens, and how far it is from float64."""
    work = load(setting, skip=0)
    lenses = read_lenses(folder / "lens").lenses
    lenses = Translators(lenses.weight.to(work.model.device), lenses.bias.to(work.model.device))
    clock = Clock()
    states = work.subject.states(work.scored)
    found = transfer_losses(work.subject.head, lenses, states, sample_of(work.subject, states).targets)
    seconds, memory = clock.seconds(), clock.memory()
    gap = _gap(work, lenses, work.subject.states(work.scored[:2]))
    ce = found.ce.mean(0).tolist()
    return {"seconds": seconds, "memory": memory, "ce": ce, "float64_gap": gap, "tokens": work.scored.numel()}


def _gap(work: Work, lenses: Translators, states: States) -> float:
    """Largest difference of a mean penalty, in kl or ce, from float64 with full logits."""
    head = work.subject.head
    found = transfer_losses(head, lenses, states, sample_of(work.subject, states).targets)
    weight, bias, depth = head.weight.double(), head.bias.double(), states.n_layers
    exact = np.zeros((2, depth, depth))
    with torch.no_grad():
        log_p = torch.log_softmax(_logits(head, head.norm(states.final).double(), weight, bias), -1)
        for source in range(depth):
            for target in range(depth):
                x = head.norm(lenses.map(source).apply(states.hidden[target][None])[0])
                log_q = torch.log_softmax(_logits(head, x.double(), weight, bias), -1)
                exact[0, source, target] = float((log_p.exp() * (log_p - log_q)).sum(-1).mean())
                exact[1, source, target] = float(-log_q.gather(1, states.labels[:, None]).mean())
    ours = np.stack([found.kl.mean(0), found.ce.mean(0)])
    return float(np.abs(penalty(ours) - penalty(exact)).max())


def _logits(head: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    raw = x @ weight.T + bias
    return raw if head.softcap is None else head.softcap * torch.tanh(raw / head.softcap)


def penalty(losses: Any) -> Any:
    """(..., source, target) losses minus those of the target's own lens."""
    return losses - np.diagonal(losses, axis1=-2, axis2=-1)[..., None, :]


CONTENDERS: dict[str, Callable[[Setting, Path], dict[str, Any]]] = {
    "train_peer": train_peer,
    "train_ours": train_ours,
    "score_peer": score_peer,
    "score_ours": score_ours,
}


def main() -> None:
    """Run one contender; whatever it prints on the way goes to standard error."""
    name, setting, folder = sys.argv[1:]
    with contextlib.redirect_stdout(sys.stderr):
        found = CONTENDERS[name](Setting(**json.loads(setting)), Path(folder))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
