"""`fashion-latent`: the whole recipe in the latent space of a small autoencoder (LFM's setting).

Teacher: a 1-rectified flow on latents by a LayerNorm transformer, a tenth of the labels dropped. Student: a mixer
with Unified Normalization; its one-step sample is compared after the fixed decoder as well as in the latent. Exported
is one graph from latent noise to pixels.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from . import autoencoder, teacher
from .autoencoder import LATENT, Autoencoder, Decoder
from .distillation import (
    CHUNK,
    GuidedConfig,
    PairConfig,
    ReflowConfig,
    deployed_inputs,
    draw_pairs,
    guided_distill,
    load_pairs,
    reflow,
    settle,
)
from .flow import guided
from .loop import Schedule
from .losses import Distance, pseudo_huber
from .matching import MomentMatch
from .nets import NULL_LABEL
from .norm import UnifiedConfig, norms, recalibrate
from .student import restore
from .transformer import LATENT_STUDENT, LATENT_TEACHER, MixerFlow, TransformerFlow

BATCH = 64


@dataclass(frozen=True)
class LatentPlan:
    """Lengths of minutes on a busy core: a finished model, not yet a good one."""

    encoded: int = 20_000
    autoencoder: Schedule = Schedule(steps=300, lr=2e-3, warmup=30, ema=0.98, seed=21)
    teacher: Schedule = Schedule(steps=300, lr=2e-3, warmup=40, ema=0.99, seed=22)
    pairs: PairConfig = PairConfig(count=3000, steps=8, seed=23)
    guidance: float = 1.75
    reflow: Schedule = Schedule(steps=120, lr=2e-3, warmup=20, floor=0.2, ema=0.98, seed=24)
    distill: Schedule = Schedule(steps=300, lr=1.5e-3, warmup=20, floor=0.05, ema=0.99, seed=25)
    settle: Schedule = Schedule(steps=300, lr=6e-4, warmup=20, floor=0.01, ema=0.99, seed=26)
    match: float = 5.0


LATENT_SMOKE = LatentPlan(
    autoencoder=Schedule(steps=10, lr=2e-3, warmup=5, seed=21),
    teacher=Schedule(steps=10, lr=1e-3, warmup=5, seed=22),
    pairs=PairConfig(count=CHUNK, steps=2, seed=23),
    reflow=Schedule(steps=5, lr=1e-3, warmup=2, seed=24),
    distill=Schedule(steps=5, lr=1e-3, warmup=2, seed=25),
    settle=Schedule(steps=3, lr=1e-4, warmup=1, seed=26),
)


class LatentGenerator(nn.Module):
    """image [n, 1, 28, 28], data in [0, 1], = decode(z + v(z, t, label)) for noise z [n, 4, 7, 7]; t is 0.

    The map from [-1, 1] to [0, 1] lies in the decoder's last convolution.
    """

    def __init__(self, flow: nn.Module, decoder: Decoder) -> None:
        super().__init__()
        self.flow, self.decoder = flow, copy.deepcopy(decoder)
        with torch.no_grad():
            self.decoder.head.weight.mul_(0.5)
            self.decoder.head.bias.mul_(0.5).add_(0.5)

    def forward(self, noise: Tensor, t: Tensor, label: Tensor) -> Tensor:
        return self.decoder(noise + self.flow(noise, t, label))


def fit_teacher(path: Path, latents: Tensor, labels: Tensor, schedule: Schedule) -> TransformerFlow:
    torch.manual_seed(schedule.seed)
    model = teacher.learn("latent teacher", TransformerFlow(LATENT_TEACHER), latents, labels, schedule, path)
    return model.requires_grad_(False)


def new_student(plan: LatentPlan) -> MixerFlow:
    torch.manual_seed(plan.reflow.seed)
    warmup = max(20, plan.reflow.steps // 10)
    return MixerFlow(replace(LATENT_STUDENT, unified=UnifiedConfig(warmup=warmup)))


def decoded_distance(decoder: Decoder, pixels: Distance) -> Distance:
    """Pseudo-Huber in the latent plus `pixels` after the decoder."""

    def distance(made: Tensor, wanted: Tensor) -> Tensor:
        with torch.no_grad():
            target = decoder(wanted)
        return pseudo_huber(made - wanted) + pixels(decoder(made), target)

    return distance


def autoencode(folder: Path, images: Tensor, pixels: Distance, plan: LatentPlan) -> Autoencoder:
    return autoencoder.fit(folder / "autoencoder.pt", images, pixels, plan.autoencoder)


def teach(folder: Path, model: Autoencoder, images: Tensor, labels: Tensor, plan: LatentPlan) -> TransformerFlow:
    return fit_teacher(folder / "teacher.pt", model.encode(images[: plan.encoded]), labels, plan.teacher)


def student(
    folder: Path,
    model: Autoencoder,
    guide: TransformerFlow,
    pixels: Distance,
    match: MomentMatch,
    plan: LatentPlan,
    progress: Callable[[int, int], None],
) -> MixerFlow:
    """Pairs, reflow, distillation, settling, the last with the distribution of decoded images; resumes anywhere."""

    def labels_of(_: torch.Generator) -> tuple[Tensor]:
        return (torch.arange(CHUNK) % 10,)

    velocity = guided(guide, NULL_LABEL, plan.guidance)
    draw_pairs(velocity, LATENT, plan.pairs, folder / "pairs", labels_of, progress=progress)
    pairs, net = load_pairs(folder / "pairs"), new_student(plan)
    reflow(net, pairs, ReflowConfig(batch=BATCH), plan.reflow, folder / "reflow.pt")
    config = GuidedConfig(batch=BATCH, distance=decoded_distance(model.decoder, pixels))
    for norm in norms(net):
        norm.restart()
    guided_distill(net, pairs, config, plan.distill, folder / "distill.pt")
    recalibrate(net.eval(), *deployed_inputs(pairs, 1))
    settle(net, pairs, replace(config, match=match, match_weight=plan.match), plan.settle, folder / "settle.pt")
    return net.eval()


def generator(folder: Path, plan: LatentPlan) -> LatentGenerator:
    """The finished student and decoder as one net."""
    model = autoencoder.load(folder / "autoencoder.measured.pt")
    net = restore(new_student(plan), folder / "settle.pt")
    return LatentGenerator(net, model.decoder).eval()
