"""Normalisation layers of the papers, in evaluation mode, and the trainer's side of fixed statistics.

A layer with fixed statistics has a method `observe(x)`: the statistics of one batch become the stored ones.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class UnifiedNorm(nn.Module):
    """Unified Normalization (Yang et al., 2022): gamma * x / sqrt(r + eps) + beta, channels last, no centring."""

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("mean_square", torch.ones(width))
        self.eps, self.observing = eps, False

    def forward(self, x: Tensor) -> Tensor:
        if self.observing:
            self.mean_square.copy_(x.square().flatten(0, -2).mean(0))
        return self.weight * (x / torch.sqrt(self.mean_square + self.eps)) + self.bias


class PowerNorm(nn.Module):
    """PowerNorm as released (Shen et al., 2020): root mean square of each token and group, then fixed statistics."""

    def __init__(self, width: int, groups: int = 1, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("phi", torch.ones(width))
        self.groups, self.eps, self.observing = groups, eps, False

    def forward(self, x: Tensor) -> Tensor:
        shape = x.shape
        grouped = x.reshape(*shape[:-1], self.groups, shape[-1] // self.groups)
        x = (grouped / torch.sqrt(grouped.square().mean(-1, keepdim=True) + self.eps)).reshape(shape)
        if self.observing:
            self.phi.copy_(x.square().flatten(0, -2).mean(0))
        return self.weight * (x / torch.sqrt(self.phi + self.eps)) + self.bias


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * gamma over the last axis (Zhang and Sennrich, 2019)."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


class ObservedBatchNorm(nn.BatchNorm2d):
    """BatchNorm2d whose statistics are those of the last observed batch."""

    observing = False

    def forward(self, x: Tensor) -> Tensor:
        if self.observing:
            self.running_mean.copy_(x.mean((0, 2, 3)))
            self.running_var.copy_(x.var((0, 2, 3)))
        return super().forward(x)


class BatchChannelNorm(nn.Module):
    """Batch-Channel Normalization (Qiao et al., 2019): BatchNorm, then a group norm with one gain a group."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.batch, self.groups = ObservedBatchNorm(channels), groups
        self.weight, self.bias = nn.Parameter(torch.ones(1, groups, 1)), nn.Parameter(torch.zeros(1, groups, 1))

    def forward(self, x: Tensor) -> Tensor:
        shape = x.shape
        x = self.batch(x).reshape(shape[0], self.groups, -1)
        mean, var = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
        return ((x - mean) / torch.sqrt(var + 1e-5) * self.weight + self.bias).reshape(shape)


class StandardisedConv2d(nn.Conv2d):
    """A convolution whose weights are standardised at every call (Qiao et al., 2019)."""

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight
        w = w - w.mean((1, 2, 3), keepdim=True)
        w = w / (w.flatten(1).std(1).reshape(-1, 1, 1, 1) + 1e-5)
        return nn.functional.conv2d(x, w, self.bias, self.stride, self.padding, self.dilation, self.groups)
