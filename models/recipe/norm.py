"""Unified Normalization (ACM MM 2022): a normalization whose inference is a fixed per-channel affine.

Per channel c the statistic is the mean square s = mean(x^2) over batch and positions, without centring.
Training divides by a geometric mean over the last M steps, s_hat = (prod s_{t-i})^(1/M), and the backward pass
smooths the matching gradient statistic psi = mean(g * z) the same way. Inference is

    y = gamma * x / sqrt(r + eps) + beta          with r the running average of s_hat,

which the export writes as Div, Mul and Add on constants and a compiler folds into the convolution before it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class UnifiedConfig:
    """`warmup` counts steps that use plain per-step statistics; the window and filter act afterwards."""

    window: int = 4
    warmup: int = 4000
    momentum: float = 0.9
    eps: float = 1e-5
    filter_outliers: bool = True
    ratio_after: int = 1000
    ratio_limit: float = 5.0


class _Normalize(torch.autograd.Function):
    """z = x / sqrt(s_hat + eps), y = gamma z + beta, with smoothed gradient statistics in the backward pass."""

    @staticmethod
    def forward(ctx, x: Tensor, gamma: Tensor, beta: Tensor, inverse: Tensor, owner: UnifiedNorm) -> Tensor:
        ctx.save_for_backward(x, gamma, inverse)
        ctx.owner = owner
        ctx.early, ctx.skip, ctx.ratio, ctx.slot = owner.early, owner.skip, owner.ratio, owner.slot
        return torch.addcmul(beta, x, gamma * inverse)

    @staticmethod
    def backward(ctx, dy: Tensor):
        # With g = dy * gamma * ratio and z = x * inverse:
        #   psi = mean(g z), dgamma = sum(dy ratio z), dbeta = sum(dy), dx = (g - m z) * inverse.
        x, gamma, inverse = ctx.saved_tensors
        owner: UnifiedNorm = ctx.owner
        ratio = ctx.ratio
        count = x.numel() // x.shape[1]
        dgamma = (dy * x).sum((0, 2, 3), keepdim=True) * inverse * ratio
        dbeta = dy.sum((0, 2, 3), keepdim=True)
        psi = gamma * dgamma / count
        owner.psi_window[ctx.slot] = owner.psi_average if ctx.skip else psi.flatten()
        smooth = psi.flatten() if (ctx.early or ctx.skip) else owner.psi_window.mean(0)
        momentum = owner.config.momentum
        owner.psi_average.mul_(momentum).add_(smooth, alpha=1 - momentum)
        m = (smooth if ctx.skip else owner.psi_average).view_as(gamma)
        dx = torch.addcmul(dy * (gamma * ratio * inverse), x, m * (inverse * inverse), value=-1)
        return dx, dgamma, dbeta, None, None


class UnifiedNorm(nn.Module):
    """Unified Normalization over [batch, channels, height, width].

    `frozen` makes training use the inference form, so that the last steps train exactly what is deployed.
    `recalibrating` makes a forward pass replace `r` by its own mean square, see `recalibrate`.
    """

    def __init__(self, channels: int, config: UnifiedConfig) -> None:
        super().__init__()
        self.config = config
        self.gamma = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.register_buffer("r", torch.ones(1, channels, 1, 1))
        self.register_buffer("window", torch.ones(config.window, channels))
        self.register_buffer("psi_window", torch.zeros(config.window, channels))
        self.register_buffer("psi_average", torch.zeros(channels))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("skips", torch.zeros((), dtype=torch.int64))
        self.frozen = False
        self.recalibrating = False
        self.early, self.skip, self.slot, self.ratio = True, False, 0, torch.ones(1, channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        if self.recalibrating:
            self.r.copy_(self._mean_square(x).view_as(self.r))
        if self.training and self.frozen:
            return torch.addcmul(self.beta, x, self.gamma * torch.rsqrt(self.r + self.config.eps))
        if self.recalibrating or not self.training:
            return x / torch.sqrt(self.r + self.config.eps) * self.gamma + self.beta
        with torch.no_grad():
            inverse = torch.rsqrt(self._advance(x) + self.config.eps)
        return _Normalize.apply(x, self.gamma, self.beta, inverse, self)

    @staticmethod
    def _mean_square(x: Tensor) -> Tensor:
        return torch.linalg.vector_norm(x.detach(), dim=(0, 2, 3)).square() / (x.numel() // x.shape[1])

    def _advance(self, x: Tensor) -> Tensor:
        """Insert this step's mean square and return s_hat.

        The spread V comes from the window before the insertion: for one and the same window
        AM - GM <= M * Var(sqrt) always holds, so the filter could never fire.
        """
        c = self.config
        self.count += 1
        it = int(self.count)
        self.slot = it % c.window
        spread = torch.var(torch.sqrt(self.window))
        s = self._mean_square(x)
        self.window[self.slot] = s
        self.skip = False
        if it >= c.warmup and c.filter_outliers:
            gap = self.window.mean(0) - torch.exp(torch.log(self.window).mean(0))
            self.skip = bool((gap > spread * c.window).any())
            if self.skip:
                self.window[self.slot] = self.r.flatten()
                self.skips += 1
        self.early = it <= c.window or it < c.warmup or c.window == 1
        plain = self.early or self.skip
        s_hat = (s if plain else torch.exp(torch.log(self.window).mean(0))).view_as(self.r)
        if it <= max(c.ratio_after, c.warmup) or self.skip:
            self.ratio = torch.ones_like(s_hat)
        else:
            ratio = torch.sqrt(s_hat + c.eps) / torch.sqrt(self.r + c.eps)
            self.ratio = ratio.clamp(1 / c.ratio_limit, c.ratio_limit)
        self.r.mul_(c.momentum).add_(s_hat, alpha=1 - c.momentum)
        return s_hat

    def restart(self) -> None:
        """Run the warm-up again, as fine-tuning wants."""
        self.count.zero_()


def norms(model: nn.Module) -> list[UnifiedNorm]:
    """The model's norms in registration order."""
    return [m for m in model.modules() if isinstance(m, UnifiedNorm)]


def set_frozen(model: nn.Module, frozen: bool) -> None:
    for norm in norms(model):
        norm.frozen = frozen


@torch.no_grad()
def recalibrate(model: nn.Module, *inputs: Tensor) -> None:
    """Set every running mean square from one large batch drawn from the law the model is deployed at.

    Each norm is exact before the next one measures, because all see the same batch.
    """
    for norm in norms(model):
        norm.recalibrating = True
    model(*inputs)
    for norm in norms(model):
        norm.recalibrating = False
