"""FlowTurbo (NeurIPS 2024): a small net that carries a velocity a short way along the path, and its sampler.

Training: x_t on the data's flow, v = teacher(x_t, t), dt ~ U(0, reach), x' = x_t + dt v; the refiner learns
teacher(x', t + dt) from x', t + dt and v. The exported net adds v itself, so that it is called like a velocity with
one more input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from .flow import Velocity, blend, like_rows
from .loop import Schedule, load_checkpoint, save_atomic, step_rng, train
from .nets import NULL_LABEL, FlowNet, NetConfig
from .norm import UnifiedConfig, recalibrate
from .teacher import points

BATCH = 64
FASHION = NetConfig(narrow=16, wide=24, sinusoids=16, embed=32, labels=11, planes=2)
DIGITS = NetConfig(narrow=12, wide=16, sinusoids=16, embed=32, labels=11, planes=2)


@dataclass(frozen=True)
class RefinerPlan:
    """`reach` is the largest dt. The paper has 0.12 for its steps of about 0.1; four steps need 0.25.

    The norms' statistics are measured on `measured` samples, the gain on half as many.
    """

    net: NetConfig
    schedule: Schedule
    reach: float = 0.25
    scored: int = 500
    measured: int = 2000


FASHION_PLAN = RefinerPlan(FASHION, Schedule(steps=700, lr=2e-3, warmup=40, ema=0.99, seed=41))
DIGITS_PLAN = RefinerPlan(DIGITS, Schedule(steps=800, lr=2e-3, warmup=40, ema=0.99, seed=42), scored=2000)


class Refiner(nn.Module):
    """velocity at (noise [n, 1, h, w], t [n], label [n]) from `previous` [n, 1, h, w], the velocity a little before."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.net = FlowNet(config)

    def forward(self, noise: Tensor, previous: Tensor, t: Tensor, label: Tensor) -> Tensor:
        return previous + self.net(torch.cat([noise, previous], 1), t, label)


def build(plan: RefinerPlan) -> Refiner:
    torch.manual_seed(plan.schedule.seed)
    return Refiner(replace(plan.net, unified=UnifiedConfig(warmup=max(2, plan.schedule.steps // 10))))


@torch.no_grad()
def example(
    velocity: Velocity, images: Tensor, labels: Tensor, count: int, reach: float, rng: torch.Generator
) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """Inputs of the refiner and the velocity that it shall give; t + dt stays within [0, 1]."""
    z, x, t, label = points(images, labels, count, rng)
    dt = reach * torch.rand(count, generator=rng)
    t = t * (1 - dt)
    start = blend(z, x, t)
    v = velocity(start, t, label)
    moved = start + like_rows(dt, v) * v
    return (moved, v, t + dt, label), velocity(moved, t + dt, label)


def fit(velocity: Velocity, images: Tensor, labels: Tensor, plan: RefinerPlan, path: Path) -> Refiner:
    """Train, measure the norms on the training law, and save beside `path` as `.measured.pt`; resumes."""
    model = build(plan)

    def loss_of(_: int, rng: torch.Generator) -> Tensor:
        inputs, wanted = example(velocity, images, labels, BATCH, plan.reach, rng)
        return (model(*inputs) - wanted).square().mean()

    model.load_state_dict(train("refiner", model, plan.schedule, path, loss_of))
    recalibrate(model.eval(), *example(velocity, images, labels, plan.measured, plan.reach, step_rng(0, 0))[0])
    save_atomic({"ema": model.state_dict()}, path.with_suffix(".measured.pt"))
    return model.requires_grad_(False)


def restore(plan: RefinerPlan, path: Path) -> Refiner:
    model = build(plan)
    model.load_state_dict(load_checkpoint(path.with_suffix(".measured.pt"))["ema"])
    return model.eval().requires_grad_(False)


@torch.no_grad()
def gain(model: Refiner, velocity: Velocity, images: Tensor, labels: Tensor, reach: float, count: int = 1000) -> float:
    """Mean squared error over that of keeping the previous velocity, on fresh points; below 1 is a gain."""
    inputs, wanted = example(velocity, images, labels, count, reach, step_rng(1, 0))
    return float((model(*inputs) - wanted).square().mean() / (inputs[1] - wanted).square().mean())


Block = Literal["E", "H", "P", "R"]


@torch.no_grad()
def sample(
    velocity: Velocity,
    refine: Callable[..., Tensor] | None,
    z: Tensor,
    label: Tensor,
    blocks: str,
    guidance: float = 1.0,
    times: Sequence[float] | None = None,
) -> Tensor:
    """Samples by one block a step between `times` (default: uniform): E Euler, H Heun, P pseudo-corrector, R refiner.

    H and P end with the velocity at the predicted point, which a P that follows takes for its own first one. Both
    velocities of R come from the refiner, the second from the first. Guidance mixes labelled and null velocities for
    the step alone; what is carried are the two themselves.
    """
    both = guidance != 1.0
    labels = torch.cat([label, torch.full_like(label, NULL_LABEL)]) if both else label

    def doubled(x: Tensor) -> Tensor:
        return torch.cat([x, x]) if both else x

    def mixed(v: Tensor) -> Tensor:
        if not both:
            return v
        wanted, without = v.chunk(2)
        return without + guidance * (wanted - without)

    grid = [i / len(blocks) for i in range(len(blocks) + 1)] if times is None else times
    x, known = z, None
    for i, (block, begin, end) in enumerate(zip(blocks, grid[:-1], grid[1:], strict=True)):
        h, t, ahead = end - begin, torch.full((len(labels),), begin), torch.full((len(labels),), end)
        if block in "PR" and known is None:
            raise ValueError(f"block {i} of '{blocks}' is {block}, which needs a velocity: begin with H or E")
        if block == "R":
            first = refine(doubled(x), known, t, labels)
        else:
            first = known if block == "P" else velocity(doubled(x), t, labels)
        if block == "E":
            x, known = x + h * mixed(first), first
            continue
        reached = doubled(x + h * mixed(first))
        second = refine(reached, first, ahead, labels) if block == "R" else velocity(reached, ahead, labels)
        x = x + h * mixed(first + second) / 2
        known = first if block == "R" else second
    return x


def until(end: float, blocks: str) -> list[float]:
    """Times for `blocks` whose last goes from `end` to 1 and whose others share [0, end]."""
    return [end * i / (len(blocks) - 1) for i in range(len(blocks))] + [1.0]


def compare(
    velocity: Velocity,
    refine: Refiner,
    z: Tensor,
    label: Tensor,
    guidance: float,
    macs: tuple[int, int],
    schedules: Sequence[str],
    score: Callable[[Tensor, Tensor], dict[str, float | int]],
    batch: int = 50,
) -> list[dict]:
    """Score and multiply-accumulates a sample of every schedule; `macs` are of one call of teacher and refiner."""
    rows = []
    for blocks in schedules:
        times = until(0.95, blocks) if blocks.endswith("E") and set(blocks) != {"E"} else None
        parts = zip(z.split(batch), label.split(batch), strict=True)
        x = torch.cat([sample(velocity, refine, *part, blocks, guidance, times) for part in parts])
        work = sum(n * m for n, m in zip(calls(blocks), macs, strict=True)) * (1 if guidance == 1.0 else 2)
        rows.append(score(x.clamp(-1, 1), label) | {"blocks": blocks, "macs": work})
        print(rows[-1], flush=True)
    return rows


def calls(blocks: str) -> tuple[int, int]:
    """How often the teacher and the refiner are called, of one label."""
    return sum({"E": 1, "H": 2, "P": 1}.get(b, 0) for b in blocks), 2 * blocks.count("R")
