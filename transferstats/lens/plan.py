"""How lenses are fitted: methods, anchors, optimisers, and the published recipe."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from transferstats.errors import DesignError

METHODS: tuple[str, ...] = ("kl", "ridge")
ANCHORS: tuple[str, ...] = ("ridge", "identity", "shared")
OPTIMISERS: tuple[str, ...] = ("natural", "sgd")
READOUTS: tuple[str, ...] = ("own", "tied", "shared")
PRECISIONS: tuple[str, ...] = ("float32", "bfloat16")


@dataclass(frozen=True, slots=True)
class FitPlan:
    """How lenses are fitted; part of a cell's identity.

    Attributes
    ----------
    method: "kl" (a start, then kl) or "ridge" (the ridge start only).
    anchor: where own lenses start from and stay where the data are silent: "ridge" (ridge to the final state,
        itself shrunk to the identity), "identity" (the logit lens) or "shared" (the shared lens).
    optimiser: "natural" (natural gradient with averaged iterates) or "sgd" (Nesterov momentum, the rate falling
        linearly to 0, one clip norm for the gradients of all lenses: what tuned-lens does).
    strengths: ridge strengths tried; each lens keeps the one with the least held-out kl.
    batch: rows a step and layer.
    share: of the natural gradient; how much of a lens's kl the scatter of a step may be, which sets the size of
        its steps (``lens/steps.py``). A lens whose held-out kl turns round is fitted again with half of it.
    learning_rate: of sgd, at its first step. momentum: heavy ball, or Nesterov's.
    weight_decay: of sgd. damping, input_damping: of the natural gradient, shares of the mean output curvature, and
        of the mean variance of the inputs, each scaled to 1, added to their diagonals: directions that carry
        little move little.
    constant: natural steps fall with the square root of their number after so many.
    first, max_steps: iterates are averaged since the last doubling of ``first``, up to ``max_steps``. Held-out kl
        is measured at every doubling; the lens of least held-out kl is kept, be it the start.
    settle: steps before which no descent ends. Near a start every doubling changes little, which is no sign of a
        minimum; with many rows a lens that stays there has another error than its minimum, and so has its penalty.
        Sgd keeps its last iterate, and held-out kl is measured at half of ``max_steps`` and at the end.
    beside: anchor of a second set of own lenses, fitted to the same rows: what a lens that has only ever seen its
        layer does elsewhere ("ridge") stands beside what its layer insists on ("shared"). None for none.
    curve: shares of the fold's training units on which shared and own lenses are fitted too: nested, of whole
        clusters, with steps in proportion. It shows how penalties depend on the amount of training data.
    tolerance, relative_tolerance: a lens has converged when its held-out kl moved over the last doubling by less
        than ``tolerance`` nats/token or ``relative_tolerance`` times its kl, whichever is more.
    precision: of the products with the unembedding in the gradient, "float32" or "bfloat16"; all that is measured
        (held-out kl, certificates, losses) is float32 either way. bfloat16 is for processors that multiply it
        (AVX512-BF16, AMX, accelerators), where these products take half the time or less; others take several
        times as long. It has no path for softcapped logits.
    """

    method: str = "kl"
    anchor: str = "ridge"
    optimiser: str = "natural"
    strengths: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    batch: int = 128
    share: float = 0.1
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0
    damping: float = 1.0
    input_damping: float = 1.0
    constant: int = 64
    settle: int = 128
    first: int = 8
    max_steps: int = 2048
    beside: str | None = "shared"
    curve: tuple[float, ...] = (0.5, 0.25)
    tolerance: float = 0.001
    relative_tolerance: float = 0.01
    precision: str = "float32"

    def __post_init__(self) -> None:
        for name, value, known in (
            ("method", self.method, METHODS),
            ("anchor", self.anchor, ANCHORS),
            ("optimiser", self.optimiser, OPTIMISERS),
            ("precision", self.precision, PRECISIONS),
        ):
            if value not in known:
                raise DesignError(f"unknown {name} {value!r}: use one of {', '.join(known)}")
        if self.method == "ridge" and self.anchor != "ridge":
            raise DesignError(
                f"ridge lenses anchored in the {self.anchor} lens are that lens, and every penalty is 0: use kl"
            )
        if self.beside is not None and self.beside not in ANCHORS:
            raise DesignError(f"a second set of lenses is fitted from one of {', '.join(ANCHORS)}, or None")
        if any(not 0 < share < 1 for share in self.curve):
            raise DesignError(f"a learning curve needs shares of a fold between 0 and 1, got {list(self.curve)}")
        if not self.strengths or min(self.strengths) <= 0 or min(self.batch, self.constant, self.first) < 1:
            raise DesignError("a fit needs ridge strengths above 0, and batch, constant and first of at least 1")
        if min(self.share, self.damping, self.input_damping) <= 0:
            raise DesignError("natural steps need a share and dampings above 0")

    @property
    def second_anchor(self) -> str | None:
        """Anchor of a second set of own lenses; None where it would be the first set again."""
        return None if self.method == "ridge" or self.beside == self.anchor else self.beside

    def on_part(self, share: float) -> FitPlan:
        """The plan for lenses of a share of the rows: as many passes over them, and nothing beside."""
        fewest = min(self.first, self.max_steps)
        return replace(
            self,
            settle=max(1, round(share * self.settle)),
            max_steps=max(fewest, round(share * self.max_steps)),
            beside=None,
            curve=(),
        )

    def milestones(self) -> Iterator[int]:
        """Steps after which held-out kl is measured."""
        if self.optimiser == "sgd":
            yield from (steps for steps in (self.max_steps // 2, self.max_steps) if steps)
            return
        steps = self.first
        while steps <= self.max_steps:
            yield steps
            steps *= 2

    def may_end(self, steps: int) -> bool:
        """Whether a descent may end after a measurement at ``steps``."""
        return steps >= self.settle or 2 * steps > self.max_steps


IMAGES = FitPlan(damping=0.1, input_damping=0.01, settle=1024, max_steps=8192)
"""For image classifiers: more steps, which one row an image makes cheap, and less damped ones. With few classes
little scatters, and kl falls slowly for long, by less in a doubling than a tolerance for language would notice."""

RECIPES: dict[str, FitPlan] = {
    "default": FitPlan(),
    "belrose2023": FitPlan(
        anchor="identity",
        optimiser="sgd",
        batch=2**18,
        learning_rate=0.1,
        weight_decay=1e-3,
        max_steps=250,
        beside=None,
        curve=(),
    ),
    "images": IMAGES,
}
"""Named plans. "belrose2023" is the training of tuned-lens 0.2.0 (Belrose et al. 2023, doi
10.48550/arXiv.2303.08112); where a fold has fewer rows than its batch, every step sees the whole fold."""
