"""Alignment: states of layers whose widths differ, brought to one width so that a lens of one can serve another.

The stored states of a layer of width w are its w numbers, then zeros up to the common width ("pad": channel c
meets channel c). "procrustes" then turns each layer's states by one orthogonal matrix, fitted without labels on
the training units of the fold, so that they lie as near as they can to the final states. A lens adds its map to
the state itself, so what it never saw at its own layer, such as the channels that only wider layers have, passes
unchanged: with ``anchor="ridge"`` that is part of the penalty, with ``anchor="shared"`` the shared lens decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy.linalg import orthogonal_procrustes
from torch import Tensor

from transferstats.arrays import FloatArray
from transferstats.errors import DesignError
from transferstats.lens.states import States

ALIGNMENTS: tuple[str, ...] = ("none", "pad", "procrustes")

TIE = 1e-6  # pull towards the identity, of the mean singular value: decides only where the states are silent


def common_width(alignment: str, widths: Sequence[int], final: int) -> int:
    """Width of all states: that of the widest layer or of the final state, whichever is more.

    Raises
    ------
    DesignError: an unknown alignment; "none" with widths that differ.
    """
    if alignment not in ALIGNMENTS:
        raise DesignError(f"unknown alignment {alignment!r}: use one of {', '.join(ALIGNMENTS)}")
    if alignment == "none" and {*widths} != {final}:
        raise DesignError(
            f"the layers are {', '.join(map(str, widths))} wide and the final state {final}, so a lens of one "
            "does not fit another: plan with alignment='pad' (channel to channel) or alignment='procrustes' "
            "(turned towards the final state)"
        )
    return max(*widths, final)


def padded(values: Tensor, width: int) -> Tensor:
    """(..., w) values with zeros appended up to (..., width)."""
    return torch.nn.functional.pad(values, (0, width - values.shape[-1]))


def procrustes_map(hidden: FloatArray, final: FloatArray) -> tuple[FloatArray, float]:
    """The orthogonal (d, d) matrix that turns the states (n, d) of one layer towards the final states (n, d).

    Both are centred (Schoenemann 1966, doi 10.1007/BF02289451). In directions in which either is silent the matrix
    is the nearest to the identity, not whatever the decomposition happens to return.

    Returns
    -------
    The matrix R of ``hidden @ R``, and the share of the final states' variance that the turned states reach with
    the best common scale (0 to 1).
    """
    a, b = hidden - hidden.mean(0), final - final.mean(0)
    energy = float(np.square(a).sum() * np.square(b).sum())
    width = a.shape[1]
    if energy == 0:
        return np.eye(width), 0.0
    pull = TIE * float(np.linalg.norm(a.T @ b)) / np.sqrt(width) or 1.0
    tie = np.sqrt(pull) * np.eye(width)
    turn, scale = orthogonal_procrustes(np.vstack([a, tie]), np.vstack([b, tie]))
    return turn, min(1.0, float(scale) ** 2 / energy)


def aligned_states(alignment: str | None, states: Sequence[States]) -> tuple[list[States], dict[str, Any] | None]:
    """Training, held-out and evaluation states after alignment, and what the cell records of it.

    The maps are fitted on the first of ``states`` alone, the training units of the fold. ``None``: a subject whose
    states share a width by nature; nothing is done or recorded.
    """
    if alignment is None:
        return list(states), None
    train = states[0]
    record: dict[str, Any] = {"method": alignment, "width": int(train.final.shape[1])}
    if alignment != "procrustes":
        return list(states), record
    final = train.final.double().cpu().numpy()
    fitted = [procrustes_map(layer.double().cpu().numpy(), final) for layer in train.hidden]
    turns = torch.as_tensor(np.stack([turn for turn, _ in fitted])).to(train.hidden)
    record |= {"rows": train.n_rows, "variance_share": [share for _, share in fitted]}
    return [replace(one, hidden=torch.bmm(one.hidden, turns)) for one in states], record
