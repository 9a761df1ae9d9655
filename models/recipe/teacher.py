"""Stage 1: the teacher, a rectified flow with classifier-free guidance.

Loss: E || v(x_t, t, label) - (x - z) ||^2 with x_t = (1 - t) z + t x (Rectified Flow, ICLR 2023). A tenth of the
labels is replaced by a null row, so that v = v_null + g (v_label - v_null) guides the sampler.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from .flow import Method, blend, guided, integrate_all
from .loop import Schedule, load_checkpoint, train
from .nets import NULL_LABEL, TEACHER, FlowNet

BATCH = 128
LABEL_DROPOUT = 0.1


def points(images: Tensor, labels: Tensor, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`count` draws of noise, image, uniform time and label, a tenth of the labels replaced by the null row."""
    pick = torch.randint(len(images), (count,), generator=rng)
    x, label = images[pick], labels[pick]
    label = torch.where(torch.rand(count, generator=rng) < LABEL_DROPOUT, NULL_LABEL, label)
    z = torch.randn(x.shape, generator=rng)
    return z, x, torch.rand(count, generator=rng), label


def learn(name: str, model: nn.Module, images: Tensor, labels: Tensor, schedule: Schedule, path: Path) -> nn.Module:
    """The rectified flow of images [m, ...] with labels [m] by any net(x_t, t, label)."""

    def loss_of(_: int, rng: torch.Generator) -> Tensor:
        z, x, t, label = points(images, labels, BATCH, rng)
        return (model(blend(z, x, t), t, label) - (x - z)).square().mean()

    model.load_state_dict(train(name, model, schedule, path, loss_of))
    return model.eval()


def fit(path: Path, images: Tensor, labels: Tensor, schedule: Schedule) -> FlowNet:
    torch.manual_seed(schedule.seed)
    return learn("teacher", FlowNet(TEACHER), images, labels, schedule, path)


def load(path: Path) -> FlowNet:
    """The averaged teacher, frozen; works on an unfinished checkpoint too."""
    model = FlowNet(TEACHER)
    model.load_state_dict(load_checkpoint(path)["ema"])
    return model.eval().requires_grad_(False)


def draw(
    model: nn.Module,
    z: Tensor,
    label: Tensor,
    steps: int,
    guidance: float,
    method: Method = "euler",
    end: float = 1.0,
) -> Tensor:
    """Guided samples of the shape of z, clamped to the data range."""
    return integrate_all(guided(model, NULL_LABEL, guidance), z, (label,), steps, method, end).clamp(-1, 1)
