"""How alike the states of two layers are, measured when states are captured."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from transferstats.arrays import FloatArray

ROWS = 8192  # evenly spaced tokens that are enough for d^2 moments; more only cost time

MEASURES: tuple[str, ...] = ("covariance", "cka", "cosine", "norm_ratio")


def layer_similarities(hidden: Tensor) -> dict[str, FloatArray]:
    """Similarity of every pair of layers from states (L, n, d); each measure (L, L), symmetric.

    covariance: cosine of the covariance matrices in the Frobenius product, as in the tuned-lens paper (Belrose et
        al. 2023, doi 10.48550/arXiv.2303.08112).
    cka: linear centred kernel alignment (Kornblith et al. 2019, doi 10.48550/arXiv.1905.00414).
    cosine: mean over tokens of the cosine between the two states.
    norm_ratio: smaller over larger mean norm.
    """
    hidden = hidden[:, :: max(1, hidden.shape[1] // ROWS)]
    n_layers, n_rows, _ = hidden.shape
    means = hidden.double().mean(1)
    norms = torch.stack([layer.norm(dim=1).double().mean() for layer in hidden])
    out = {measure: np.eye(n_layers) for measure in MEASURES}
    covariance = [_product(hidden[a], hidden[a], means[a], means[a]) / n_rows for a in range(n_layers)]
    for a in range(n_layers):
        for b in range(a + 1, n_layers):
            cross = _product(hidden[a], hidden[b], means[a], means[b]) / n_rows
            scale = covariance[a].norm() * covariance[b].norm()
            values = {
                "covariance": (covariance[a] * covariance[b]).sum() / scale,
                "cka": cross.square().sum() / scale,
                "cosine": torch.cosine_similarity(hidden[a], hidden[b], dim=1).double().mean(),
                "norm_ratio": torch.minimum(norms[a], norms[b]) / torch.maximum(norms[a], norms[b]),
            }
            for measure, value in values.items():
                out[measure][a, b] = out[measure][b, a] = float(value)
    return out


def _product(left: Tensor, right: Tensor, left_mean: Tensor, right_mean: Tensor) -> Tensor:
    """(d, d) float64 sum over rows of the products of two centred states."""
    product = left.T.double() @ right.double() if len(left) < 4096 else _chunked(left, right)
    return product - len(left) * torch.outer(left_mean, right_mean)


def _chunked(left: Tensor, right: Tensor) -> Tensor:
    """Float64 product of long tables without a float64 copy of either."""
    total = torch.zeros(left.shape[1], right.shape[1], dtype=torch.float64, device=left.device)
    for start in range(0, len(left), 4096):
        rows = slice(start, start + 4096)
        total += left[rows].T.double() @ right[rows].double()
    return total
