"""Stages 3 and 4: a student with Unified Normalization learns the teacher's pairs, then one step.

reflow   rectified flow on the pairs, times U-shaped as in RF++ (NeurIPS 2024);
distill  t = 0 only: pseudo-Huber and feature distance between z + v(z, 0, label) and x^, as in the distillation
         term of SlimFlow (ECCV 2024) with a small classifier where the paper has LPIPS;
settle   the same loss with the norms frozen at statistics measured on noise, so that training ends on exactly
         the function that is exported.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from .classifiers import Classifier
from .loop import Schedule, load_checkpoint, step_rng, train
from .nets import FlowNet, NetConfig, blend, u_shaped
from .norm import UnifiedConfig, norms, recalibrate, set_frozen
from .pairs import Pairs

BATCH = 64
PERCEPTUAL_WEIGHT = 1.0


def pseudo_huber(difference: Tensor, scale: float = 0.03) -> Tensor:
    """(sqrt(|d|^2 + c^2) - c) / D per sample with c = scale * sqrt(D), so that the loss is near |d| sqrt(1/D)."""
    flat = difference.flatten(1)
    c = scale * math.sqrt(flat.shape[1])
    return ((flat.square().sum(1) + c * c).sqrt() - c).mean() / math.sqrt(flat.shape[1])


def misalignment(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared distance of channel vectors scaled to length one, written as 2 - 2 cos(a, b)."""
    lengths = (a * a).sum(1) * (b * b).sum(1)
    return (2 - 2 * (a * b).sum(1) * torch.rsqrt(lengths + 1e-6)).mean()


def perceptual(net: Classifier, image: Tensor, wanted: Tensor) -> Tensor:
    """Squared distance of channel-normalised activations at every conv, plus distance of the pooled features."""
    maps = net.maps((image + 1) / 2)
    with torch.no_grad():
        targets = net.maps((wanted + 1) / 2)
    total = sum(misalignment(a, b) for a, b in zip(maps, targets, strict=True))
    pooled = (maps[-1].mean((2, 3)) - targets[-1].mean((2, 3))).square().sum(1)
    scale = targets[-1].mean((2, 3)).square().sum(1).mean()
    return total + (pooled / scale).mean()


def build(config: NetConfig, warmup: int, seed: int) -> FlowNet:
    torch.manual_seed(seed)
    return FlowNet(replace(config, unified=UnifiedConfig(warmup=warmup)))


def restore(model: FlowNet, path: Path) -> FlowNet:
    """Averaged weights of a finished stage."""
    model.load_state_dict(load_checkpoint(path)["ema"])
    return model


def deployed_inputs(count: int = 2000, seed: int = 77) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs as the deployed network meets them: fresh noise, t = 0, balanced labels."""
    z = torch.randn(count, 1, 28, 28, generator=step_rng(seed, 0))
    return z, torch.zeros(count), torch.arange(count) % 10


def reflow(model: FlowNet, pairs: Pairs, schedule: Schedule, path: Path) -> FlowNet:
    def loss_of(_: int, rng: torch.Generator) -> Tensor:
        z, label, x = pairs.pick(BATCH, rng)
        t = u_shaped(BATCH, rng)
        return F.mse_loss(model(blend(z, x, t), t, label), x - z)

    model.load_state_dict(train("reflow", model, schedule, path, loss_of))
    return model


def distill(model: FlowNet, pairs: Pairs, net: Classifier, schedule: Schedule, path: Path, frozen: bool) -> FlowNet:
    """One-step regression; `frozen` is the settling stage."""
    set_frozen(model, frozen)
    for norm in norms(model):
        norm.restart()

    def loss_of(_: int, rng: torch.Generator) -> Tensor:
        z, label, x = pairs.pick(BATCH, rng)
        image = z + model(z, torch.zeros(BATCH), label)
        return pseudo_huber(image - x) + PERCEPTUAL_WEIGHT * perceptual(net, image, x)

    average = train("settle" if frozen else "distill", model, schedule, path, loss_of)
    model.load_state_dict(average)
    set_frozen(model, False)
    model.eval()
    if not frozen:
        recalibrate(model, *deployed_inputs())
    return model
