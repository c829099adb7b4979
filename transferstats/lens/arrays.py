"""Array subjects: states, final states and a decoder given as arrays, for probes and models of any kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from transferstats.errors import DataError
from transferstats.known_truth import SubjectArrays
from transferstats.lens.head import Head
from transferstats.lens.states import States, check_states


def _unchanged(z: Tensor) -> Tensor:
    return z


@dataclass(frozen=True, slots=True)
class ArraySubject:
    """A subject made of arrays; see :class:`transferstats.lens.states.Subject`."""

    arrays: SubjectArrays
    head: Head
    units: tuple[str, ...]
    unit: str = "nats/token"

    @property
    def name(self) -> str:
        """Name of the subject."""
        return self.arrays.name

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers."""
        return tuple(str(index) for index in range(len(self.arrays.hidden)))

    @property
    def clusters(self) -> tuple[str, ...]:
        """Cluster of each unit."""
        return self.arrays.clusters

    def capture(self, indices: Sequence[int], *, max_rows: int | None = None) -> States:
        """States of some units, at most ``max_rows`` rows each."""
        rows, position = [], []
        for place, index in enumerate(indices):
            found = np.flatnonzero(self.arrays.unit == index)[:max_rows]
            rows.append(found)
            position.append(np.full(len(found), place))
        chosen = np.concatenate(rows)
        return check_states(
            States(
                torch.tensor(self.arrays.hidden[:, chosen], dtype=torch.float32),
                torch.tensor(self.arrays.final[chosen], dtype=torch.float32),
                torch.tensor(self.arrays.labels[chosen]),
                torch.tensor(np.concatenate(position)),
                tuple(self.units[int(index)] for index in indices),
            )
        )

    def log_prior(self, indices: Sequence[int]) -> Tensor:
        """(V,) add-one smoothed log frequency of the labels of some units."""
        labels = self.arrays.labels[np.isin(self.arrays.unit, np.asarray(indices))]
        counts = np.bincount(labels, minlength=self.head.n_outputs) + 1.0
        return torch.tensor(np.log(counts / counts.sum()), dtype=torch.float32)


def array_subject(arrays: SubjectArrays) -> ArraySubject:
    """Check arrays and make a subject of them.

    Raises
    ------
    DataError: shapes that do not belong together; labels outside the decoder's outputs.
    """
    _, n_rows, width = arrays.hidden.shape
    if arrays.final.shape != (n_rows, width) or arrays.labels.shape != (n_rows,) or arrays.unit.shape != (n_rows,):
        raise DataError("hidden (L, n, d), final (n, d), labels (n,) and unit (n,) must agree in n and d")
    if arrays.weight.shape[1] != width or arrays.bias.shape != (len(arrays.weight),):
        raise DataError(f"the decoder must be (V, {width}) with a bias (V,), got {arrays.weight.shape}")
    if arrays.labels.min() < 0 or arrays.labels.max() >= len(arrays.weight):
        raise DataError(f"labels must lie in 0..{len(arrays.weight) - 1}")
    if set(np.unique(arrays.unit)) != set(range(len(arrays.clusters))):
        raise DataError("unit must hold every index 0..N-1, with one cluster label for each")
    head = Head(
        _unchanged,
        torch.tensor(arrays.weight, dtype=torch.float32),
        torch.tensor(arrays.bias, dtype=torch.float32),
    )
    return ArraySubject(arrays, head, tuple(f"unit {index}" for index in range(len(arrays.clusters))))
