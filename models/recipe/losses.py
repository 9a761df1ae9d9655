"""Distances between generated and wanted samples."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Distance = Callable[[Tensor, Tensor], Tensor]


def squared(made: Tensor, wanted: Tensor) -> Tensor:
    """Mean over samples and elements of the squared difference."""
    return F.mse_loss(made, wanted)


def pseudo_huber(difference: Tensor, scale: float = 0.03) -> Tensor:
    """(sqrt(|d|^2 + c^2) - c) / sqrt(D) per sample with c = scale * sqrt(D), near |d| / sqrt(D) for large d."""
    flat = difference.flatten(1)
    c = scale * math.sqrt(flat.shape[1])
    return ((flat.square().sum(1) + c * c).sqrt() - c).mean() / math.sqrt(flat.shape[1])


def pseudo_huber_rfpp(made: Tensor, wanted: Tensor) -> Tensor:
    """(sqrt(|d|^2 + c^2) - c) / D per sample with c = 0.00054 D, as RF++ (NeurIPS 2024) has it on velocities."""
    flat = (made - wanted).flatten(1)
    elements = flat.shape[1]
    c = 0.00054 * elements
    return ((flat.square().sum(1) + c * c).sqrt() - c).mean() / elements


def misalignment(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared distance of channel vectors scaled to length one, written as 2 - 2 cos(a, b)."""
    lengths = (a * a).sum(1) * (b * b).sum(1)
    return (2 - 2 * (a * b).sum(1) * torch.rsqrt(lengths + 1e-6)).mean()


def perceptual(maps: Callable[[Tensor], list[Tensor]], image: Tensor, wanted: Tensor) -> Tensor:
    """Squared distance of channel-normalised activations at every layer, plus distance of the pooled features.

    `maps` gives activations [n, channels, height, width] of images in [0, 1]; images here are in [-1, 1]. It stands
    where the papers have LPIPS, whose weights are not free to use everywhere.
    """
    made = maps((image + 1) / 2)
    with torch.no_grad():
        targets = maps((wanted + 1) / 2)
    total = sum(misalignment(a, b) for a, b in zip(made, targets, strict=True))
    pooled = (made[-1].mean((2, 3)) - targets[-1].mean((2, 3))).square().sum(1)
    scale = targets[-1].mean((2, 3)).square().sum(1).mean()
    return total + (pooled / scale).mean()


def pooled(maps: Callable[[Tensor], list[Tensor]], image: Tensor) -> Tensor:
    """Mean and deviation over the positions of every channel at every layer: rows [n, 2 * channels of all layers].

    `maps` and `image` as in `perceptual`.
    """
    rows = []
    for layer in maps((image + 1) / 2):
        variance, mean = torch.var_mean(layer, (2, 3), correction=0)
        rows += [mean, (variance + 1e-6).sqrt()]
    return torch.cat(rows, 1)


def image_distance(maps: Callable[[Tensor], list[Tensor]], weight: float = 1.0) -> Distance:
    """Pseudo-Huber on pixels plus `weight` times `perceptual`."""

    def distance(made: Tensor, wanted: Tensor) -> Tensor:
        return pseudo_huber(made - wanted) + weight * perceptual(maps, made, wanted)

    return distance
