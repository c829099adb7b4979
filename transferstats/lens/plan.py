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
    batch: rows a step and lens. learning_rate: of the natural gradient, falling with the square root of the
        steps after the first ``constant``; of sgd, at its first step. momentum: heavy ball, or Nesterov's.
    slower: further rates of the natural gradient; each lens is fitted with all of them, and keeps the descent of
        the least held-out kl. Curvature that grows on the way makes a rate too high for some lenses that is right
        for others.
    weight_decay: of sgd. damping: of the natural gradient, share of the mean output curvature added to its
        diagonal. input_damping: share of the mean variance of the inputs, each scaled to 1, added to their
        covariance in the natural gradient; None adds what the ridge start had.
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
    batch: int = 320
    learning_rate: float = 0.007
    slower: tuple[float, ...] = ()
    momentum: float = 0.9
    weight_decay: float = 0.0
    damping: float = 1e-2
    input_damping: float | None = None
    constant: int = 32
    settle: int = 256
    first: int = 4
    max_steps: int = 1024
    beside: str | None = "shared"
    curve: tuple[float, ...] = (0.5, 0.25)
    tolerance: float = 0.003
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
        if self.slower and self.optimiser != "natural":
            raise DesignError(f"further rates are tried by the natural gradient, not by {self.optimiser}")
        if not self.strengths or min(self.strengths) <= 0 or min(self.batch, self.constant, self.first) < 1:
            raise DesignError("a fit needs ridge strengths above 0, and batch, constant and first of at least 1")

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


IMAGES = FitPlan(batch=256, learning_rate=0.06, slower=(0.012,), damping=0.1, max_steps=8192)
"""For image classifiers: one row an image, so a fold has hundreds or thousands of rows and steps are cheap. Few
classes inform few output directions; with more damping the others allow larger steps, and lenses converged on
networks of ten classes where the plan for language left the shared lens of aligned layers on its way. The lower
rate is for late layers, whose first predictions are almost certain: there the higher one overshoots."""

WIDE = FitPlan(batch=128, learning_rate=0.001, damping=1.0, input_damping=1.0, settle=128)
"""For widths of several hundred. A natural step scatters with the number of parameters that it moves, divided by
its rows: at a width of 576 the default plan scatters twenty times as much as at 128, and drives lenses away from
their start. With more damping, directions that carry little move little; the others are learnt at this rate. Late
layers, whose kl is small, ask for a rate this low: at twice the rate, a lens of layer 28 of SmolLM2-135M was above
its ridge start after 128 steps."""

WIDE_FROM = 256
"""Width from which WIDE is the default. The default plan was seen to converge at 128 and to fail at 576; nothing
was measured in between, where the smaller steps are the safer choice."""


def suited_plan(width: int) -> FitPlan:
    """The plan for a language model whose states have this width, where nobody chose one."""
    return WIDE if width >= WIDE_FROM else FitPlan()


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
    "wide": WIDE,
}
"""Named plans. "belrose2023" is the training of tuned-lens 0.2.0 (Belrose et al. 2023, doi
10.48550/arXiv.2303.08112); where a fold has fewer rows than its batch, every step sees the whole fold."""
