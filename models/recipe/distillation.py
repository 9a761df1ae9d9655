"""From anyone's multi-step flow to a student of one or a few steps.

    one_step = distill(velocity, data)                       # velocity: an nn.Module v(x_t, t) of this convention
    slim = distill(velocity, data, student=SmallNet(), conditions=(labels,), folder=Path("work"))

The stages: pairs (noise, sample) by the teacher; annealing reflow (SlimFlow, ECCV 2024) with the times and losses of
RF++ (NeurIPS 2024); flow-guided distillation at the deployed times; and, where the student has norms with fixed
statistics, settling on statistics measured on the deployed input law. Nets of other conventions come through
`flow.adapt` and `flow.from_diffusion`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from .flow import Method, Velocity, blend, integrate, integrate_all, like_rows, u_shaped, uniform
from .loop import Optimiser, Schedule, adam, load_checkpoint, save_atomic, step_rng, train
from .losses import Distance, pseudo_huber, pseudo_huber_rfpp, squared
from .matching import MomentMatch
from .norm import norms, recalibrate, set_frozen


@dataclass(frozen=True)
class Pairs:
    """Noise z [n, ...], the sample x [n, ...] it flows to, and conditions of n rows each."""

    z: Tensor
    x: Tensor
    conditions: tuple[Tensor, ...] = ()

    def __len__(self) -> int:
        return len(self.z)

    def head(self, count: int) -> Pairs:
        return Pairs(self.z[:count], self.x[:count], tuple(c[:count] for c in self.conditions))

    def pick(self, batch: int, rng: torch.Generator) -> Pairs:
        index = torch.randint(len(self.z), (batch,), generator=rng)
        return Pairs(self.z[index], self.x[index], tuple(c[index] for c in self.conditions))

    def flipped(self) -> Pairs:
        """Both ends mirrored along the last axis: the mirror image of a flow is nearly a flow of the same net."""
        return Pairs(self.z.flip(-1), self.x.flip(-1), self.conditions)


@dataclass(frozen=True)
class Anneal:
    """How much fresh noise z' enters the paired noise at step k: z_b = sqrt(1 - b^2) z + b z' (SlimFlow).

    b falls from 1 (a plain flow on the teacher's samples) to 0 (plain reflow): linearly until 6 `unit` steps, by
    a half cosine until 2 `unit` steps, or as exp(-k / unit). The paper's unit is a sixteenth of its run.
    """

    kind: Literal["linear", "cosine", "exponential"]
    unit: float

    def share(self, step: int) -> float:
        if self.kind == "linear":
            return 1 - min(1.0, step / (6 * self.unit))
        if self.kind == "cosine":
            return 0.5 * (1 + math.cos(math.pi * min(1.0, step / (2 * self.unit))))
        return math.exp(-step / self.unit)

    def mix(self, z: Tensor, step: int, rng: torch.Generator) -> Tensor:
        b = self.share(step)
        if b == 0:
            return z
        return math.sqrt(1 - b * b) * z + b * torch.randn(z.shape, generator=rng)


@dataclass(frozen=True)
class ReflowConfig:
    batch: int = 64
    anneal: Anneal | None = None
    flip: bool = False
    times: Callable[[int, torch.Generator], Tensor] = u_shaped
    loss: Distance = squared


PAPER_REFLOW = ReflowConfig(batch=128, anneal=Anneal("linear", 50_000), flip=True, times=uniform)
RFPP_REFLOW = ReflowConfig(batch=512, loss=pseudo_huber_rfpp)


def sample_huber(made: Tensor, wanted: Tensor) -> Tensor:
    return pseudo_huber(made - wanted)


@dataclass(frozen=True)
class GuidedConfig:
    """Flow-guided distillation: `leak` is the share of data in the student's input (1e-3 in the authors' code).

    `match`, of this package and not of the paper, adds `match_weight` times the distance between the distribution of
    what a one-step student draws and that of real data; see `matching.MomentMatch`.
    """

    batch: int = 64
    distance: Distance = sample_huber
    flip: bool = False
    two_step: bool = False
    two_step_times: tuple[float, float] = (0.2, 0.8)
    leak: float = 0.0
    match: MomentMatch | None = None
    match_weight: float = 1.0

    def loss(self, made: Tensor, wanted: Tensor) -> Tensor:
        """The distillation term, and that on the distribution where it is on."""
        loss = self.distance(made, wanted)
        return loss if self.match is None else loss + self.match_weight * self.match(made)


def _pick(pairs: Pairs, batch: int, flip: bool, rng: torch.Generator) -> Pairs:
    """A batch, mirrored as a whole with one coin."""
    part = pairs.pick(batch, rng)
    return part.flipped() if flip and float(torch.rand((), generator=rng)) < 0.5 else part


def reflow(
    model: nn.Module,
    pairs: Pairs,
    config: ReflowConfig,
    schedule: Schedule,
    path: Path | None = None,
    optimiser: Optimiser = adam,
) -> nn.Module:
    """Annealing reflow: E | v(x_t, t) - (x - z_b) |^2 with x_t = (1 - t) z_b + t x; ends on averaged weights."""

    def loss_of(step: int, rng: torch.Generator) -> Tensor:
        part = _pick(pairs, config.batch, config.flip, rng)
        z = part.z if config.anneal is None else config.anneal.mix(part.z, step, rng)
        t = config.times(config.batch, rng)
        return config.loss(model(blend(z, part.x, t), t, *part.conditions), part.x - z)

    model.load_state_dict(train("reflow", model, schedule, path, loss_of, optimiser=optimiser))
    return model


def guided_loss(
    model: nn.Module, part: Pairs, steps: int, config: GuidedConfig, guide: Velocity | None, rng: torch.Generator
) -> Tensor:
    """Distillation term, plus the two-step term when `guide` is given; see `guided_distill`."""
    count = len(part)
    if steps == 1:
        t = torch.full((count,), config.leak)
    else:
        t = config.leak + torch.randint(steps, (count,), generator=rng) * ((1 - config.leak) / steps)
    start = blend(part.z, part.x, t) if steps > 1 or config.leak else part.z
    if guide is None:
        return config.loss(start + like_rows(1 - t, start) * model(start, t, *part.conditions), part.x)

    fresh = torch.randn(part.z.shape, generator=rng)
    low, high = config.two_step_times
    s = low + (high - low) * torch.rand(count, generator=rng)
    inputs = torch.cat([start, fresh]), torch.cat([t, torch.full((count,), config.leak)])
    # One call for both terms, so that a norm over the batch sees the student's inputs once a step.
    v, own = model(*inputs, *(torch.cat([c, c]) for c in part.conditions)).chunk(2)
    made = start + like_rows(1 - t, start) * v
    with torch.no_grad():
        half = like_rows(s, fresh)
        reached = fresh + half * own
        target = fresh + half * own + (1 - half) * guide(reached, s, *part.conditions)
    return config.loss(made, part.x) + config.distance(fresh + own, target)


def guided_distill(
    model: nn.Module,
    pairs: Pairs,
    config: GuidedConfig,
    schedule: Schedule,
    path: Path | None = None,
    steps: int = 1,
    guide: Velocity | None = None,
    name: str = "distill",
    optimiser: Optimiser = adam,
) -> nn.Module:
    """Flow-guided distillation (SlimFlow), both terms weighted 1.

    Distillation: D(x_t + (1 - t) v(x_t, t), x) at the deployed times t = 0, 1/K, ... on the pair's line.
    Two steps, on fresh noise z and for `guide` (the reflowed student, frozen): with a = v(z, 0) and s ~ U(0.2, 0.8),
    D(z + a, z + stop[s a + (1 - s) guide(z + s a, s)]).
    """
    if config.two_step and guide is None:
        raise ValueError("the two-step term needs a guide, usually a frozen copy of the reflowed student")
    if config.match is not None and steps != 1:
        raise ValueError(f"the distribution is matched for one step only, not for {steps}: leave `match` out")
    used = guide if config.two_step else None

    def loss_of(_: int, rng: torch.Generator) -> Tensor:
        part = _pick(pairs, config.batch, config.flip, rng)
        return guided_loss(model, part, steps, config, used, rng)

    averages = train(name, model, schedule, path, loss_of, optimiser=optimiser, memory=config.match)
    model.load_state_dict(averages)
    return model


def frozen_copy(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).eval().requires_grad_(False)


def deployed_inputs(pairs: Pairs, steps: int, count: int = 2000) -> tuple[Tensor, ...]:
    """What the deployed student is called on: the pairs' lines at t = 0, 1/K, ..., (K - 1)/K, in equal shares."""
    part = pairs.head(count)
    # Conditions often cycle with the row, so that the times must not cycle in step with them.
    t = (torch.arange(len(part)) * steps // len(part)) / steps
    return (blend(part.z, part.x, t), t, *part.conditions)


def settle(
    model: nn.Module,
    pairs: Pairs,
    config: GuidedConfig,
    schedule: Schedule,
    path: Path | None = None,
    steps: int = 1,
    optimiser: Optimiser = adam,
) -> nn.Module:
    """The distillation term with every fixed-statistics norm frozen: training ends on the deployed function."""
    set_frozen(model, True)
    try:
        return guided_distill(
            model, pairs, replace(config, two_step=False), schedule, path, steps, None, "settle", optimiser
        )
    finally:
        set_frozen(model, False)


@torch.no_grad()
def guide_from(model: nn.Module, pairs: Pairs, config: GuidedConfig, count: int = 2000) -> nn.Module:
    """A frozen copy of the reflowed student, its fixed norms measured where the two-step term calls it."""
    guide, part = frozen_copy(model), pairs.head(count)
    low, high = config.two_step_times
    t = low + (high - low) * torch.linspace(0, 1, len(part))[torch.randperm(len(part), generator=step_rng(0, 0))]
    recalibrate(guide, blend(part.z, part.x, t), t, *part.conditions)
    return guide


@dataclass(frozen=True)
class PairConfig:
    """How the teacher draws: see `flow.integrate`."""

    count: int = 12_000
    steps: int = 16
    method: Method = "euler"
    end: float = 1.0
    clamp: tuple[float, float] | None = None
    seed: int = 3


CHUNK = 250


def draw_pairs(
    velocity: Velocity,
    shape: Sequence[int],
    config: PairConfig,
    folder: Path,
    conditions_of: Callable[[torch.Generator], tuple[Tensor, ...]] = lambda rng: (),
    part: int = 0,
    parts: int = 1,
    progress: Callable[[int, int], None] = lambda done, all: None,
) -> None:
    """Write the missing chunks of `CHUNK` pairs; processes may share the work as parts 0, 1, ... of `parts`.

    `conditions_of` gives the conditions of one chunk, `CHUNK` rows each.
    """
    chunks = -(-config.count // CHUNK)
    for i in range(part, chunks, parts):
        path = folder / f"{i:04}.pt"
        if path.exists():
            continue
        rng = step_rng(config.seed, i)
        z = torch.randn(CHUNK, *shape, generator=rng)
        conditions = conditions_of(rng)
        x = integrate_all(velocity, z, conditions, config.steps, config.method, config.end)
        x = x if config.clamp is None else x.clamp(*config.clamp)
        save_atomic({"z": z, "x": x, "conditions": list(conditions)}, path)
        progress(i + 1, chunks)


def load_pairs(folder: Path) -> Pairs:
    chunks = [load_checkpoint(path) for path in sorted(folder.glob("*.pt"))]
    conditions = zip(*(chunk["conditions"] for chunk in chunks), strict=True)
    return Pairs(*(torch.cat([c[key] for c in chunks]) for key in ("z", "x")), tuple(torch.cat(c) for c in conditions))


def direction_error(velocity: Velocity, data: Tensor, conditions: Sequence[Tensor] = ()) -> float:
    """Error of x = x_t + (1 - t) v(x_t, t) at t = 0.9, over that of answering x_t / t, on noised data.

    A velocity of this convention denoises, so the ratio is well below 1. The wrong end, the wrong sign or the
    wrong time scale gives garbage samples without any other sign of it.
    """
    rng = step_rng(0, 0)
    z, t = torch.randn(data.shape, generator=rng), torch.full((len(data),), 0.9)
    start = blend(z, data, t)
    with torch.no_grad():
        guess = start + 0.1 * velocity(start, t, *conditions)
    return float((guess - data).square().mean() / (start / 0.9 - data).square().mean())


@dataclass(frozen=True)
class DistillConfig:
    """Lengths for minutes on one core; `PAPER_REFLOW` and `RFPP_REFLOW` hold the papers' own settings."""

    pairs: PairConfig = PairConfig()
    reflow: ReflowConfig = ReflowConfig()
    reflow_schedule: Schedule = Schedule(steps=800, lr=1.5e-3, warmup=100, floor=0.2, ema=0.998, seed=4)
    guided: GuidedConfig = field(default_factory=lambda: GuidedConfig(two_step=True))
    guided_schedule: Schedule = Schedule(steps=2000, lr=1.2e-3, warmup=50, floor=0.05, ema=0.998, seed=5)
    settle_schedule: Schedule = Schedule(steps=400, lr=3e-4, warmup=20, floor=0.01, ema=0.995, seed=6)
    optimiser: Optimiser = adam


def distill(
    velocity: Velocity,
    data: Tensor,
    steps: int = 1,
    *,
    student: nn.Module | None = None,
    conditions: Sequence[Tensor] = (),
    config: DistillConfig = DistillConfig(),
    folder: Path | None = None,
) -> nn.Module:
    """A student whose K = `steps` Euler steps draw what the flow `velocity` draws in many.

    `data` [m, ...] are real samples and `conditions` their labels and the like, m rows each. They are not trained
    on: they give the shape, the law of the conditions, and a check that `velocity` has this package's convention.
    `student` defaults to a copy of `velocity` and may be any smaller module called the same way. With `folder` every
    stage resumes after a kill; without, nothing is written. Returns the student in eval mode.
    """
    if student is None:
        if not isinstance(velocity, nn.Module):
            raise TypeError("velocity is not a module that could be copied: pass a student")
        student = copy.deepcopy(velocity)
    if isinstance(velocity, nn.Module):
        velocity = frozen_copy(velocity)
    head = min(len(data), 256)
    error = direction_error(velocity, data[:head], [c[:head] for c in conditions])
    if not error < 1:
        raise ValueError(
            f"at t = 0.9 this velocity denoises worse ({error:.2f} x) than doing nothing: its convention is another; "
            "see flow.adapt and flow.from_diffusion"
        )

    def conditions_of(rng: torch.Generator) -> tuple[Tensor, ...]:
        rows = torch.randint(len(data), (CHUNK,), generator=rng)
        return tuple(c[rows] for c in conditions)

    pairs = _pairs_for(velocity, data.shape[1:], config.pairs, folder, conditions_of)

    def checkpoint(stage: str) -> Path | None:
        return None if folder is None else folder / f"{stage}.pt"

    student.requires_grad_(True)
    reflow(student, pairs, config.reflow, config.reflow_schedule, checkpoint("reflow"), config.optimiser)
    guide = guide_from(student, pairs, config.guided) if config.guided.two_step else None
    for norm in norms(student):
        norm.restart()
    guided_distill(
        student,
        pairs,
        config.guided,
        config.guided_schedule,
        checkpoint("distill"),
        steps,
        guide,
        optimiser=config.optimiser,
    )
    if norms(student):
        recalibrate(student.eval(), *deployed_inputs(pairs, steps))
        settle(student, pairs, config.guided, config.settle_schedule, checkpoint("settle"), steps, config.optimiser)
    return student.eval()


def _pairs_for(
    velocity: Velocity,
    shape: Sequence[int],
    config: PairConfig,
    folder: Path | None,
    conditions_of: Callable[[torch.Generator], tuple[Tensor, ...]],
) -> Pairs:
    if folder is not None:
        draw_pairs(velocity, shape, config, folder / "pairs", conditions_of)
        return load_pairs(folder / "pairs")
    rng = step_rng(config.seed, 0)
    z = torch.randn(config.count, *shape, generator=rng)
    drawn = [conditions_of(rng) for _ in range(-(-config.count // CHUNK))]
    conditions = tuple(torch.cat(c)[: config.count] for c in zip(*drawn, strict=True))
    x = integrate_all(velocity, z, conditions, config.steps, config.method, config.end)
    return Pairs(z, x if config.clamp is None else x.clamp(*config.clamp), conditions)


def sample(student: Velocity, z: Tensor, conditions: Sequence[Tensor] = (), steps: int = 1) -> Tensor:
    """What the distilled student draws: K Euler steps."""
    return integrate(student, z, conditions, steps)
