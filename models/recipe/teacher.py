"""Stage 1: the teacher, a rectified flow with classifier-free guidance.

Loss: E || v(x_t, t, label) - (x - z) ||^2 with x_t = (1 - t) z + t x (Rectified Flow, ICLR 2023). A tenth of the
labels is replaced by a null row, so that v = v_null + g (v_label - v_null) guides the sampler.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from .loop import Schedule, load_checkpoint, train
from .nets import NULL_LABEL, TEACHER, FlowNet, blend

BATCH = 128
LABEL_DROPOUT = 0.1


def fit(path: Path, images: Tensor, labels: Tensor, schedule: Schedule) -> FlowNet:
    torch.manual_seed(schedule.seed)
    model = FlowNet(TEACHER)

    def loss_of(_: int, rng: torch.Generator) -> Tensor:
        pick = torch.randint(len(images), (BATCH,), generator=rng)
        x, label = images[pick], labels[pick]
        label = torch.where(torch.rand(BATCH, generator=rng) < LABEL_DROPOUT, NULL_LABEL, label)
        z = torch.randn(x.shape, generator=rng)
        t = torch.rand(BATCH, generator=rng)
        return (model(blend(z, x, t), t, label) - (x - z)).square().mean()

    model.load_state_dict(train("teacher", model, schedule, path, loss_of))
    return model.eval()


def load(path: Path) -> FlowNet:
    """The averaged teacher, frozen; works on an unfinished checkpoint too."""
    model = FlowNet(TEACHER)
    model.load_state_dict(load_checkpoint(path)["ema"])
    return model.eval().requires_grad_(False)


@torch.no_grad()
def sample(model: FlowNet, z: Tensor, label: Tensor, steps: int, guidance: float, heun: bool = True) -> Tensor:
    """Integrate dx/dt = v from t = 0 to 1 with Heun's method (or Euler's), clamped to the data range."""
    null = torch.full_like(label, NULL_LABEL)

    def velocity(x: Tensor, t: float) -> Tensor:
        if guidance == 1.0:
            return model(x, torch.full((len(x),), t), label)
        times = torch.full((2 * len(x),), t)
        with_label, without = model(torch.cat([x, x]), times, torch.cat([label, null])).chunk(2)
        return without + guidance * (with_label - without)

    x, h = z, 1.0 / steps
    for i in range(steps):
        v = velocity(x, i * h)
        ahead = x + h * v
        x = x + 0.5 * h * (v + velocity(ahead, (i + 1) * h)) if heun else ahead
    return x.clamp(-1, 1)


def sample_all(
    model: FlowNet, z: Tensor, label: Tensor, steps: int, guidance: float, heun: bool = True, batch: int = 50
) -> Tensor:
    """`sample` in batches small enough for activations to stay in cache."""
    parts = zip(z.split(batch), label.split(batch), strict=True)
    return torch.cat([sample(model, *part, steps, guidance, heun) for part in parts])
