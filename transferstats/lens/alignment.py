"""Layers of different width in one space, so that a lens of one can be used on another.

"none": the widths are equal already. "pad": channel to channel, narrower states filled up with zeros.
"procrustes": padded, then turned by the orthogonal map that brings each layer nearest to the final state
(Schoenemann 1966, doi 10.1007/BF02289451), fitted to the states of the training units of a fold, without labels.
Penalties depend on this choice, which is why it is part of a cell's identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import orthogonal_procrustes
from torch import Tensor

from transferstats.errors import DesignError

KINDS: tuple[str, ...] = ("none", "pad", "procrustes")


@dataclass(frozen=True, slots=True)
class Alignment:
    """How states of L layers get to one width d.

    kind: one of :data:`KINDS`. width: d. rotations: (L, d, d) orthogonal maps, or None where nothing is turned.
    """

    kind: str
    width: int
    rotations: Tensor | None = None

    def apply(self, states: Sequence[Tensor]) -> Tensor:
        """L tables (n, d_l) -> (L, n, d)."""
        padded = torch.stack([pad(one, self.width) for one in states])
        return padded if self.rotations is None else padded @ self.rotations


def pad(states: Tensor, width: int) -> Tensor:
    """(n, w) -> (n, width), filled up with zeros."""
    return torch.nn.functional.pad(states, (0, width - states.shape[1]))


def common_width(kind: str, states: Sequence[Tensor], final: Tensor) -> int:
    """The width d of the common space; DesignError where widths differ and nothing may be done about it."""
    if kind not in KINDS:
        raise DesignError(f"unknown alignment {kind!r}: use one of {', '.join(KINDS)}")
    widths = [one.shape[1] for one in (*states, final)]
    if kind == "none" and len(set(widths)) > 1:
        raise DesignError(
            f"layers and final state have widths {widths}: lenses of one cannot read another without an "
            "alignment; use alignment='pad' or 'procrustes'"
        )
    return max(widths)


def fit_alignment(kind: str, states: Sequence[Tensor], final: Tensor) -> Alignment:
    """The alignment of layers to the final state (n, d_f), from the states (n, d_l) of training units."""
    width = common_width(kind, states, final)
    if kind != "procrustes":
        return Alignment(kind, width)
    goal = _centred(pad(final, width))
    turned = [orthogonal_procrustes(_centred(pad(one, width)), goal)[0] for one in states]
    return Alignment(kind, width, torch.tensor(np.stack(turned), dtype=torch.float32, device=final.device))


def _centred(states: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    values = states.double().cpu().numpy()
    return np.asarray(values - values.mean(axis=0))
