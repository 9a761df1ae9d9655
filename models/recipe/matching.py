"""A loss on the distribution of generated samples, beside those on single ones.

Ours. A student that is regressed onto pairs draws what is likely on average, and such samples vary less than real ones:
in any feature network their covariance is shrunken. `MomentMatch` measures this as the Frechet distance between the
features of what the student draws and those of real data,

    FD = |m - mu|^2 + tr(S + Sigma - 2 (Sigma^1/2 S Sigma^1/2)^1/2),

and its gradient pulls mean and covariance to the real ones. A batch is far too small for a covariance, so the moments
are running averages over the batches of the last steps, of which the newest carries the gradient.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Features = Callable[[Tensor], Tensor]


def _root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


class MomentMatch(nn.Module):
    """Frechet distance per feature between running moments of generated samples and the moments of `real`.

    `features` maps samples [n, ...] to rows [n, d]; `real` are the rows [m, d] of real data. Every feature is divided
    by its real deviation, so that none outweighs the others by its unit. With share b = 1 - `memory`, mean m and
    second moment M are

        m = (1 - b) m' + b mean(f),   M = (1 - b) M' + b mean(f f^T),   S = M - m m^T,

    m' and M' constants from the steps before. The gradient is divided by b: it is that of the distance as if all
    samples of the average were drawn now. b falls from 1 to 1 - `memory` as 1 / step, so that early averages are
    plain means.
    The network behind `features` must not be one that a score is measured with.
    """

    def __init__(self, features: Features, real: Tensor, memory: float = 0.98) -> None:
        super().__init__()
        if not 0 <= memory < 1:
            raise ValueError(f"memory {memory} is not a share of the past below 1")
        self.features, self.memory = features, memory
        rows = real.double()
        unit = rows.std(0).clamp(min=1e-6)
        rows = rows / unit
        self.register_buffer("unit", unit, persistent=False)
        self.register_buffer("real_mean", rows.mean(0), persistent=False)
        self.register_buffer("real_covariance", torch.cov(rows.T, correction=0), persistent=False)
        self.register_buffer("real_root", _root(self.real_covariance), persistent=False)
        self.register_buffer("mean", torch.zeros_like(unit))
        self.register_buffer("second", torch.zeros_like(self.real_covariance))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def distance(self, mean: Tensor, covariance: Tensor) -> Tensor:
        """The Frechet distance of these moments of scaled features to the real ones, divided by their number."""
        # Of eigvalsh the gradient is finite where eigenvalues coincide; at 0 the root's is not.
        cross = torch.linalg.eigvalsh(self.real_root @ covariance @ self.real_root).clamp(min=1e-8).sqrt().sum()
        trace = torch.trace(covariance) + torch.trace(self.real_covariance)
        return ((mean - self.real_mean).square().sum() + trace - 2 * cross) / len(mean)

    @torch.no_grad()
    def _keep(self, mean: Tensor, second: Tensor) -> None:
        self.mean.copy_(mean)
        self.second.copy_(second)
        self.count += 1

    def forward(self, made: Tensor) -> Tensor:
        """The distance after this batch entered the average; changes the average."""
        rows = self.features(made).double() / self.unit
        share = max(1 - self.memory, 1 / (int(self.count) + 1))
        mean = torch.lerp(self.mean, rows.mean(0), share)
        second = torch.lerp(self.second, rows.T @ rows / len(rows), share)
        value = self.distance(mean, second - mean.outer(mean))
        self._keep(mean, second)
        # The value is the distance, the gradient that of distance / share.
        return (value.detach() + (value - value.detach()) / share).float()
