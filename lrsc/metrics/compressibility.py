"""Compressibility of vectors: one value a row, 1 where nothing is lost.

z is n x d (n values come back) or one vector d (one value comes back, 0-dimensional). All raise
ValueError for empty input, values that are not finite, and other shapes.
"""

import math

import torch
from torch import Tensor

from lrsc.metrics.checks import values


def sparsity(z: Tensor) -> Tensor:
    """Share of exact zeros, 1 - ||z||_0 / d, in [0, 1]."""
    z = values("z", z, "n x d, d")
    return (z == 0).to(z.dtype).mean(-1)


def compressibility(z: Tensor, q: float = 2.0, kappa: float = 0.1) -> Tensor:
    """(q, kappa)-compressibility, 1 - ||rest||_q / ||z||_q; rest is z without its largest entries.

    The ceil(kappa * d) entries of largest absolute value form the best approximation with that many
    non-zeros, and the rest is its error; 1 for a zero vector. Raises ValueError unless q > 0 and
    kappa is in [0, 1]. Gribonval et al. 2012, as used in the paper.
    """
    z = values("z", z, "n x d, d")
    if not q > 0:
        raise ValueError(f"q must be > 0 (the order of a norm, as 2.0), found {q!r}")
    if not 0 <= kappa <= 1:
        raise ValueError(f"kappa must be a share in [0, 1], found {kappa!r}")
    d = z.shape[-1]
    # the factor undoes roundoff: 0.07 * 100 is 7.000000000000001, of which the ceiling is 8
    kept = math.ceil(kappa * d * (1 - 1e-12))
    size = _scaled(z)
    rest = size.sort(dim=-1).values
    rest[..., d - kept :] = 0
    lost, norm = (torch.linalg.vector_norm(v, ord=q, dim=-1) for v in (rest, size))
    return torch.where(norm == 0, 1.0, 1 - lost / norm)


def pq_index(w: Tensor, p: float = 0.5, q: float = 1.0) -> Tensor:
    """PQ-index 1 - d^(1/q - 1/p) ||w||_p / ||w||_q, in [0, 1 - d^(1/q - 1/p)], high if sparse.

    1 for a zero vector, as in `compressibility`. Raises ValueError unless 0 < p < q.
    Diao et al. 2023.
    """
    w = values("w", w, "n x d, d")
    if not 0 < p < q:
        raise ValueError(f"p and q must satisfy 0 < p < q (as p=0.5, q=1.0), found {p=}, {q=}")
    size = _scaled(w)
    small, large = (torch.linalg.vector_norm(size, ord=order, dim=-1) for order in (p, q))
    index = 1 - w.shape[-1] ** (1 / q - 1 / p) * small / large
    return torch.where(large == 0, 1.0, index)


def _scaled(z: Tensor) -> Tensor:
    """|z| with largest entry 1 in each row: powers neither overflow nor vanish; zeros stay."""
    size = z.abs()
    largest = size.amax(-1, keepdim=True)
    return torch.where(largest > 0, size / largest, size)
