"""Teacher, pairs, one-step students and the behaviour-cloning baseline. Every stage resumes where it was killed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from recipe.distillation import (
    CHUNK,
    GuidedConfig,
    PairConfig,
    Pairs,
    draw_pairs,
    guided_distill,
    load_pairs,
)
from recipe.flow import blend, uniform
from recipe.loop import Schedule, load_checkpoint, train

from .nets import ACTION_SHAPE, REACH, SEEN, SMALL, TEACHER_STEPS, PolicyConfig, PolicyNet

STUDENTS = {"reach": REACH, "reach-small": SMALL}
TEACHER = REACH


@dataclass(frozen=True)
class Plan:
    """Lengths of the stages; `SMOKE` is a rehearsal."""

    batch: int = 128
    teacher: Schedule = Schedule(steps=5000, lr=2e-3, warmup=100, floor=0.01, ema=0.998, seed=1)
    clone: Schedule = Schedule(steps=1500, lr=2e-3, warmup=100, floor=0.01, ema=0.998, seed=2)
    pairs: PairConfig = PairConfig(count=24_000, steps=TEACHER_STEPS, seed=3)
    distill: Schedule = Schedule(steps=3000, lr=2e-3, warmup=100, floor=0.1, ema=0.998, seed=5)
    commit: Schedule = Schedule(steps=1500, lr=5e-4, warmup=20, floor=0.01, ema=0.998, seed=6)
    look: Schedule = Schedule(steps=1500, lr=2e-3, warmup=100, floor=0.01, ema=0.99, seed=7)
    act: Schedule = Schedule(steps=1000, lr=5e-4, warmup=50, floor=0.01, ema=0.998, seed=8)


SMOKE = Plan(
    batch=16,
    teacher=Schedule(steps=6, lr=1e-3, warmup=2, seed=1),
    clone=Schedule(steps=6, lr=1e-3, warmup=2, seed=2),
    pairs=PairConfig(count=2 * CHUNK, steps=2, seed=3),
    distill=Schedule(steps=4, lr=1e-3, warmup=2, seed=5),
    commit=Schedule(steps=4, lr=1e-3, warmup=2, seed=6),
    look=Schedule(steps=4, lr=1e-3, warmup=2, seed=7),
    act=Schedule(steps=4, lr=1e-3, warmup=2, seed=8),
)


@dataclass(frozen=True)
class Demos:
    """actions [n, 16, 2] rad, joints [n, 3], scene [n, 5], as `nets` has them."""

    actions: Tensor
    joints: Tensor
    scene: Tensor

    @property
    def seen(self) -> tuple[Tensor, Tensor]:
        return self.joints, self.scene

    @cached_property
    def starts(self) -> Tensor:
        """Rows in which the arm is at rest, as it is when the way is chosen: the first of each demonstration."""
        return (self.joints[:, 1:] == 0).all(1).nonzero()[:, 0]


def load_demos(folder: Path) -> Demos:
    return Demos(*(torch.from_numpy(np.load(folder / f"{name}.npy")) for name in ("actions", *SEEN)))


def made_up_demos(count: int = 600) -> Demos:
    """Numbers of the right shapes and sizes, for a rehearsal without the simulation."""
    rng = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(count, *shape, generator=rng)  # noqa: E731
    return Demos(0.05 * draw(*ACTION_SHAPE), draw(SEEN["joints"]), 0.2 * draw(SEEN["scene"]))


def new_net(config: PolicyConfig, demos: Demos, seed: int) -> PolicyNet:
    """A fresh network with its normalisers measured on the demonstrations."""
    torch.manual_seed(seed)
    net = PolicyNet(config)
    net.actions.measure(demos.actions)
    for name, value in zip(SEEN, demos.seen, strict=True):
        net.normalisers[name].measure(value)
    return net


def restore(net: PolicyNet, path: Path) -> PolicyNet:
    """The averaged weights of a finished stage."""
    net.load_state_dict(load_checkpoint(path)["ema"])
    return net.eval()


def rows(demos: Demos, batch: int, rng: torch.Generator, starts: float = 1 / 3) -> tuple[Tensor, Tensor, Tensor]:
    """A batch, of which a share are starts: an attempt takes three calls, and one in sixteen samples is a start."""
    index = torch.randint(len(demos.actions), (batch,), generator=rng)
    if len(demos.starts):
        first = demos.starts[torch.randint(len(demos.starts), (batch,), generator=rng)]
        index = torch.where(torch.rand(batch, generator=rng) < starts, first, index)
    return demos.actions[index], demos.joints[index], demos.scene[index]


def fit_teacher(work: Path, demos: Demos, plan: Plan) -> None:
    """Rectified flow on the demonstrations: E |v(x_t, t, seen) - (x - z)|^2 with x_t = (1 - t) z + t x."""
    net = new_net(TEACHER, demos, plan.teacher.seed)

    def loss_of(_: int, rng: torch.Generator) -> Tensor:
        actions, *seen = rows(demos, plan.batch, rng)
        x = net.normal(actions)
        z = torch.randn(x.shape, generator=rng)
        t = uniform(plan.batch, rng)
        return (net(blend(z, x, t), t, *seen) - (x - z)).square().mean()

    train("teacher", net, plan.teacher, work / "teacher.pt", loss_of)


def fit_clone(work: Path, demos: Demos, plan: Plan) -> None:
    """Behaviour cloning: the same network without noise, E |x(seen) - x|^2."""
    net = new_net(TEACHER, demos, plan.clone.seed)

    def loss_of(_: int, rng: torch.Generator) -> Tensor:
        actions, *seen = rows(demos, plan.batch, rng)
        made = net(torch.zeros_like(actions), torch.zeros(plan.batch), *seen)
        return (made - net.normal(actions)).square().mean()

    train("clone", net, plan.clone, work / "clone.pt", loss_of)


def make_pairs(work: Path, demos: Demos, plan: Plan) -> None:
    """Noise and what the teacher makes of it in 50 Euler steps, for what was seen in the demonstrations."""
    teacher = restore(new_net(TEACHER, demos, 0), work / "teacher.pt")

    def seen(rng: torch.Generator) -> tuple[Tensor, ...]:
        return rows(demos, CHUNK, rng, starts=1 / 2)[1:]

    def say(done: int, chunks: int) -> None:
        if done % 10 == 0 or done == chunks:
            print(f"pairs: {done * CHUNK}/{chunks * CHUNK}", flush=True)

    draw_pairs(teacher, ACTION_SHAPE, plan.pairs, work / "pairs", seen, progress=say)


def committed(made: Tensor, wanted: Tensor, scale: float = 0.1) -> Tensor:
    """Mean of log(1 + |d|^2 / (D c^2)) over samples of D elements, with c = `scale`.

    Where noise lies between the ways, squared error and pseudo-Huber are content with an answer between them, into the
    post. This one (Cauchy's, a redescending M-estimator) pulls the less the farther the wanted way is, so that the
    answer goes all the way to the nearer one.
    """
    return torch.log1p((made - wanted).flatten(1).square().mean(1) / scale**2).mean()


def fit_student(work: Path, demos: Demos, plan: Plan, name: str) -> None:
    """Distillation at t = 0, from the teacher's own weights where the sizes agree; then the same with `committed`."""
    config, pairs = STUDENTS[name], load_pairs(work / "pairs")
    net = new_net(config, demos, plan.distill.seed)
    if config == TEACHER:
        net.load_state_dict(load_checkpoint(work / "teacher.pt")["ema"])
    guided_distill(net, pairs, GuidedConfig(batch=plan.batch), plan.distill, work / f"{name}.distill.pt", name=name)
    sharp = GuidedConfig(batch=plan.batch, distance=committed)
    guided_distill(net, pairs, sharp, plan.commit, work / f"{name}.pt", name=f"{name}, committed")


def one_step_error(net: PolicyNet, pairs: Pairs) -> float:
    """Root mean square difference, in rad, between the student's step and the teacher's actions."""
    with torch.no_grad():
        made = pairs.z + net(pairs.z, torch.zeros(len(pairs)), *pairs.conditions)
        return float(((made - pairs.x) * net.actions.spread).square().mean().sqrt())
