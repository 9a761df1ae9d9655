"""Normalizations, most of them with an inference that is a fixed per-channel affine.

Unified Normalization (ACM MM 2022). Per channel c the statistic is the mean square s = mean(x^2) over batch and
positions, without centring. Training divides by a geometric mean over the last M steps,
s_hat = (prod s_{t-i})^(1/M), and the backward pass smooths the matching gradient statistic psi = mean(g * z) the
same way. Inference is

    y = gamma * x / sqrt(r + eps) + beta          with r the running average of s_hat,

which the export writes as Div, Mul and Add on constants and a compiler folds into the convolution beside it.

`BatchNorm` adds centring by the batch; `PowerNorm` (ICML 2020) keeps a running mean square and a running gradient
statistic; `BatchChannelNorm` with `StandardConv2d` (BCN + weight standardization, 2019) and the layer norms keep a
part that depends on the sample and cannot be folded.

Layouts: "image" is [batch, channels, height, width], "tokens" is [batch, tokens, channels].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Layout = Literal["image", "tokens"]
NormKind = Literal["unified", "batch", "power", "group", "layer", "batch-channel"]


@dataclass(frozen=True)
class UnifiedConfig:
    """`warmup` counts steps that use plain per-step statistics; the window and filter act afterwards.

    `previous_window` takes the outlier filter's spread from the window before this step's value enters it, as the
    authors' code does. With one and the same window AM - GM <= M Var(sqrt) is a theorem and the filter never fires.
    """

    window: int = 4
    warmup: int = 4000
    momentum: float = 0.9
    eps: float = 1e-5
    filter_outliers: bool = True
    previous_window: bool = True
    ratio_after: int = 1000
    ratio_limit: float = 5.0


def _reduced(layout: Layout) -> tuple[int, ...]:
    return (0, 2, 3) if layout == "image" else (0, 1)


def _shape(channels: int, layout: Layout) -> tuple[int, ...]:
    return (1, channels, 1, 1) if layout == "image" else (channels,)


def _mean_square(x: Tensor, layout: Layout, channels: int) -> Tensor:
    return torch.linalg.vector_norm(x.detach(), dim=_reduced(layout)).square() / (x.numel() // channels)


class FixedNorm(nn.Module):
    """A norm with fixed statistics at inference: y = (x - mean) / sqrt(square + eps) * gamma + beta.

    `frozen` makes training use the inference form, so that the last steps train exactly what is deployed.
    `recalibrating` makes a forward pass replace the statistics by its own, see `recalibrate`.
    """

    def __init__(self, channels: int, layout: Layout, eps: float) -> None:
        super().__init__()
        self.channels, self.layout, self.eps = channels, layout, eps
        self.frozen = False
        self.recalibrating = False

    def measure(self, x: Tensor) -> None:
        """Replace the statistics by those of x."""
        raise NotImplementedError

    def normalize(self, x: Tensor) -> Tensor:
        """The training form."""
        raise NotImplementedError

    def deployed(self, x: Tensor) -> Tensor:
        """The inference form, written as it is to be exported."""
        raise NotImplementedError

    def affine(self) -> tuple[Tensor, Tensor]:
        """Scale and shift, each [channels], of the inference form; differentiable in gamma and beta."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        if self.recalibrating:
            self.measure(x.detach())
        if self.training and self.frozen:
            shape = _shape(self.channels, self.layout)
            scale, shift = self.affine()
            return torch.addcmul(shift.view(shape), x, scale.view(shape))
        if self.recalibrating or not self.training:
            return self.deployed(x)
        return self.normalize(x)

    def restart(self) -> None:
        """Run the warm-up again, as fine-tuning wants."""


class _Unify(torch.autograd.Function):
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
        ratio, axes = ctx.ratio, _reduced(owner.layout)
        count = x.numel() // owner.channels
        dgamma = (dy * x).sum(axes).view_as(gamma) * inverse * ratio
        dbeta = dy.sum(axes).view_as(gamma)
        psi = gamma * dgamma / count
        owner.psi_window[ctx.slot] = owner.psi_average if ctx.skip else psi.flatten()
        smooth = psi.flatten() if (ctx.early or ctx.skip) else owner.psi_window.mean(0)
        momentum = owner.config.momentum
        owner.psi_average.mul_(momentum).add_(smooth, alpha=1 - momentum)
        m = (smooth if ctx.skip else owner.psi_average).view_as(gamma)
        dx = torch.addcmul(dy * (gamma * ratio * inverse), x, m * (inverse * inverse), value=-1)
        return dx, dgamma, dbeta, None, None


class UnifiedNorm(FixedNorm):
    """Unified Normalization (ACM MM 2022); see the module's docstring."""

    def __init__(self, channels: int, config: UnifiedConfig, layout: Layout = "image") -> None:
        super().__init__(channels, layout, config.eps)
        shape = _shape(channels, layout)
        self.config = config
        self.gamma = nn.Parameter(torch.ones(shape))
        self.beta = nn.Parameter(torch.zeros(shape))
        self.register_buffer("r", torch.ones(shape))
        self.register_buffer("window", torch.ones(config.window, channels))
        self.register_buffer("psi_window", torch.zeros(config.window, channels))
        self.register_buffer("psi_average", torch.zeros(channels))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("skips", torch.zeros((), dtype=torch.int64))
        self.early, self.skip, self.slot, self.ratio = True, False, 0, torch.ones(shape)

    def measure(self, x: Tensor) -> None:
        self.r.copy_(_mean_square(x, self.layout, self.channels).view_as(self.r))

    def affine(self) -> tuple[Tensor, Tensor]:
        return (self.gamma * torch.rsqrt(self.r + self.eps)).flatten(), self.beta.flatten()

    def deployed(self, x: Tensor) -> Tensor:
        return x / torch.sqrt(self.r + self.eps) * self.gamma + self.beta

    def normalize(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            inverse = torch.rsqrt(self._advance(x) + self.eps)
        return _Unify.apply(x, self.gamma, self.beta, inverse, self)

    def _advance(self, x: Tensor) -> Tensor:
        """Insert this step's mean square and return s_hat."""
        c = self.config
        self.count += 1
        it = int(self.count)
        self.slot = it % c.window
        spread = torch.var(torch.sqrt(self.window))
        s = _mean_square(x, self.layout, self.channels)
        self.window[self.slot] = s
        self.skip = False
        if it >= c.warmup and c.filter_outliers:
            if not c.previous_window:
                spread = torch.var(torch.sqrt(self.window), dim=0, unbiased=False)
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
        self.count.zero_()


class BatchNorm(FixedNorm):
    """Batch Normalization with the switches of `FixedNorm`; parameter names are those of nn.BatchNorm2d."""

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.9, layout: Layout = "image") -> None:
        super().__init__(channels, layout, eps)
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def _apply_norm(self, x: Tensor, training: bool) -> Tensor:
        rows = x if self.layout == "image" else x.reshape(-1, self.channels)
        rate = 1 - self.momentum
        y = F.batch_norm(rows, self.running_mean, self.running_var, self.weight, self.bias, training, rate, self.eps)
        return y.view_as(x)

    def measure(self, x: Tensor) -> None:
        variance, mean = torch.var_mean(x, _reduced(self.layout), correction=0)
        self.running_mean.copy_(mean)
        self.running_var.copy_(variance)

    def affine(self) -> tuple[Tensor, Tensor]:
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)
        return scale, self.bias - self.running_mean * scale

    def deployed(self, x: Tensor) -> Tensor:
        if self.layout == "image":
            return self._apply_norm(x, False)
        return (x - self.running_mean) / torch.sqrt(self.running_var + self.eps) * self.weight + self.bias

    def normalize(self, x: Tensor) -> Tensor:
        return self._apply_norm(x, True)


@dataclass(frozen=True)
class PowerConfig:
    """`groups` > 0 adds GroupScaling, a root mean square of each token's channel groups that stays at inference."""

    warmup: int = 4000
    momentum: float = 0.9
    eps: float = 1e-5
    groups: int = 0


class _Power(torch.autograd.Function):
    """Forward by `divisor` = sqrt(phi + eps), backward by the batch's own root mean square and the running nu."""

    @staticmethod
    def forward(ctx, x: Tensor, gamma: Tensor, beta: Tensor, divisor: Tensor, root: Tensor, owner: PowerNorm) -> Tensor:
        z = x / divisor
        ctx.save_for_backward(z, gamma, root)
        ctx.owner = owner
        return gamma * z + beta

    @staticmethod
    def backward(ctx, dy: Tensor):
        z, gamma, root = ctx.saved_tensors
        owner: PowerNorm = ctx.owner
        axes = _reduced(owner.layout)
        dgamma, dbeta = (dy * z).sum(axes).view_as(gamma), dy.sum(axes).view_as(gamma)
        nu = owner.nu.view_as(gamma)
        g = dy * gamma - (1 - owner.config.momentum) * nu * z
        owner.nu += (g * z).sum(axes) / (z.numel() // owner.channels)
        return g / root, dgamma, dbeta, None, None, None


class PowerNorm(FixedNorm):
    """PowerNorm (ICML 2020): x / sqrt(phi) with phi a running mean square of past steps.

    During `warmup` the batch's own mean square divides and phi is its cumulative mean; phi also takes an
    exponential step at every forward pass. Backward, with z = x / divisor: g' = g - (1 - alpha) nu z,
    nu += mean(g' z), dx = g' / sqrt(s_batch + eps).
    """

    def __init__(self, channels: int, config: PowerConfig, layout: Layout = "image") -> None:
        super().__init__(channels, layout, config.eps)
        if config.groups and channels % config.groups:
            raise ValueError(f"{channels} channels do not split into {config.groups} groups")
        shape = _shape(channels, layout)
        self.config = config
        self.gamma = nn.Parameter(torch.ones(shape))
        self.beta = nn.Parameter(torch.zeros(shape))
        self.register_buffer("phi", torch.ones(shape))
        self.register_buffer("nu", torch.zeros(channels))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self._group_scaled(x) if self.config.groups else x)

    def _group_scaled(self, x: Tensor) -> Tensor:
        axis = 1 if self.layout == "image" else x.dim() - 1
        parts = x.unflatten(axis, (self.config.groups, -1))
        root = torch.sqrt(parts.square().mean(axis + 1, keepdim=True) + self.eps)
        return (parts / root).flatten(axis, axis + 1)

    def measure(self, x: Tensor) -> None:
        self.phi.copy_(_mean_square(x, self.layout, self.channels).view_as(self.phi))

    def affine(self) -> tuple[Tensor, Tensor]:
        return (self.gamma * torch.rsqrt(self.phi + self.eps)).flatten(), self.beta.flatten()

    def deployed(self, x: Tensor) -> Tensor:
        return x / torch.sqrt(self.phi + self.eps) * self.gamma + self.beta

    def normalize(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.count += 1
            it, c = int(self.count), self.config
            s = _mean_square(x, self.layout, self.channels).view_as(self.phi)
            root = torch.sqrt(s + self.eps)
            divisor = root if it <= c.warmup else torch.sqrt(self.phi + self.eps)
            if it <= c.warmup:
                self.phi.lerp_(s, 1 / it)
            self.phi.lerp_(s, 1 - c.momentum)
        return _Power.apply(x, self.gamma, self.beta, divisor, root, self)

    def restart(self) -> None:
        self.count.zero_()


class StandardConv2d(nn.Conv2d):
    """Convolution with weight standardization: w^ = (w - mean) / sqrt(var + 1e-5) over each output's inputs.

    The variance is unbiased. All of it is arithmetic on weights, so it is gone after constant folding.
    """

    def standard_weight(self) -> Tensor:
        variance, mean = torch.var_mean(self.weight, (1, 2, 3), correction=1, keepdim=True)
        return (self.weight - mean) / torch.sqrt(variance + 1e-5)

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.standard_weight(), self.bias)


class BatchChannelNorm(nn.Module):
    """Batch-Channel Normalization of images: BatchNorm, then each sample's groups by their own mean and variance.

    The last scale and shift are one pair per group. Only the BatchNorm part can be folded.
    """

    def __init__(self, channels: int, groups: int = 8, eps: float = 1e-5) -> None:
        super().__init__()
        self.groups, self.eps = groups, eps
        self.batch = BatchNorm(channels, eps)
        self.weight = nn.Parameter(torch.ones(1, groups, 1))
        self.bias = nn.Parameter(torch.zeros(1, groups, 1))

    def forward(self, x: Tensor) -> Tensor:
        u = self.batch(x).reshape(len(x), self.groups, -1)
        variance, mean = torch.var_mean(u, 2, correction=0, keepdim=True)
        return ((u - mean) / torch.sqrt(variance + self.eps) * self.weight + self.bias).view_as(x)


def norm_maker(kind: NormKind, unified: UnifiedConfig, layout: Layout = "image") -> Callable[[int], nn.Module]:
    """A constructor by channel count; PowerNorm and BatchNorm take warm-up, momentum and eps from `unified`."""
    if kind == "unified":
        return lambda channels: UnifiedNorm(channels, unified, layout)
    if kind == "batch":
        return lambda channels: BatchNorm(channels, unified.eps, unified.momentum, layout)
    if kind == "power":
        power = PowerConfig(unified.warmup, unified.momentum, unified.eps)
        return lambda channels: PowerNorm(channels, power, layout)
    if kind == "layer" and layout == "tokens":
        return lambda channels: nn.LayerNorm(channels, unified.eps)
    if kind == "group" and layout == "image":
        return lambda channels: nn.GroupNorm(8, channels)
    if kind == "batch-channel" and layout == "image":
        return lambda channels: BatchChannelNorm(channels)
    raise ValueError(f"no norm {kind!r} for {layout}")


def norms(model: nn.Module) -> list[FixedNorm]:
    """The model's norms with fixed statistics, in registration order."""
    return [m for m in model.modules() if isinstance(m, FixedNorm)]


def skipped(model: nn.Module) -> int:
    """How often the outlier filter of all Unified Normalizations fired."""
    return sum(int(m.skips) for m in model.modules() if isinstance(m, UnifiedNorm))


def set_frozen(model: nn.Module, frozen: bool) -> None:
    for norm in norms(model):
        norm.frozen = frozen


@torch.no_grad()
def recalibrate(model: nn.Module, *inputs: Tensor) -> None:
    """Set every running statistic from one large batch drawn from the law the model is deployed at.

    Each norm is exact before the next one measures, because all see the same batch.
    """
    for norm in norms(model):
        norm.recalibrating = True
    model(*inputs)
    for norm in norms(model):
        norm.recalibrating = False
