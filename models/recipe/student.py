"""The students of the image models: what the general stages of `distillation` are told.

reflow   rectified flow on the pairs, times U-shaped as in RF++ (NeurIPS 2024);
distill  t = 0 only: pseudo-Huber and feature distance between z + v(z, 0, label) and x^, as in the distillation
         term of SlimFlow (ECCV 2024) with a small classifier where the paper has LPIPS;
settle   the same loss with the norms frozen at statistics measured on noise, so that training ends on exactly
         the function that is exported; where a `MomentMatch` is given, also the distance between the distribution of
         what the student draws and that of real images, in the classifier of the feature distance; and with
         activations rounded as int8 rounds them, if asked.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from .classifiers import Classifier
from .distillation import Anneal, GuidedConfig, Pairs, ReflowConfig, guided_distill
from .distillation import reflow as reflow_on
from .distillation import settle as settle_on
from .loop import Schedule, load_checkpoint, step_rng
from .losses import image_distance, pooled
from .matching import MomentMatch
from .nets import FlowNet, NetConfig
from .norm import UnifiedConfig, norms, recalibrate
from .quantization import rounded_inputs

BATCH = 64


def build(config: NetConfig, warmup: int, seed: int) -> FlowNet:
    torch.manual_seed(seed)
    return FlowNet(replace(config, unified=UnifiedConfig(warmup=warmup)))


def restore(model: nn.Module, path: Path) -> nn.Module:
    """Averaged weights of a finished stage."""
    model.load_state_dict(load_checkpoint(path)["ema"])
    return model


def deployed_noise(shape: tuple[int, ...], count: int = 2000, seed: int = 77) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs as the deployed network meets them: fresh noise [count, *shape], t = 0, balanced labels."""
    z = torch.randn(count, *shape, generator=step_rng(seed, 0))
    return z, torch.zeros(count), torch.arange(count) % 10


def reflow(model: nn.Module, pairs: Pairs, schedule: Schedule, path: Path, anneal: bool = False) -> nn.Module:
    """`anneal` falls linearly to nothing at 37.5 % of the stage, the paper's share."""
    how = ReflowConfig(batch=BATCH, anneal=Anneal("linear", schedule.steps / 16) if anneal else None)
    return reflow_on(model, pairs, how, schedule, path)


def image_guided(net: Classifier) -> GuidedConfig:
    return GuidedConfig(batch=BATCH, distance=image_distance(net.maps))


@torch.no_grad()
def image_match(
    net: Classifier, images: Tensor, decode: Callable[[Tensor], Tensor] = lambda x: x, batch: int = 500
) -> MomentMatch:
    """The distribution of real images [m, 1, h, w] in [-1, 1], as `losses.pooled` sees it in `net`; `decode` makes
    images of what the student draws.
    """

    def features(made: Tensor) -> Tensor:
        return pooled(net.maps, decode(made))

    return MomentMatch(features, torch.cat([pooled(net.maps, part) for part in images.split(batch)]))


def distill(
    model: nn.Module, pairs: Pairs, net: Classifier, schedule: Schedule, path: Path, measured: int = 2000
) -> nn.Module:
    """One-step regression from a warm-up on, then statistics of so many samples of the deployed noise."""
    for norm in norms(model):
        norm.restart()
    guided_distill(model, pairs, image_guided(net), schedule, path)
    recalibrate(model.eval(), *deployed_noise(pairs.z.shape[1:], measured))
    return model


def settle(
    model: nn.Module,
    pairs: Pairs,
    net: Classifier,
    schedule: Schedule,
    path: Path,
    match: MomentMatch | None = None,
    weight: float = 1.0,
    rounded: bool = False,
) -> nn.Module:
    """`match` with `weight`, and `rounded` activations (`quantization.rounded_inputs`), are left out by default."""
    for norm in norms(model):
        norm.restart()
    config = replace(image_guided(net), match=match, match_weight=weight)
    noise = deployed_noise(pairs.z.shape[1:], 200)
    with rounded_inputs(model.eval(), *noise) if rounded else nullcontext():
        return settle_on(model, pairs, config, schedule, path).eval()
