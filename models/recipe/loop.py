"""A training loop that survives being killed: atomic checkpoints, per-step seeds, progress lines."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

Optimiser = Callable[[Iterable[nn.Parameter], float], torch.optim.Optimizer]


def adam(parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=lr)


@dataclass(frozen=True)
class Schedule:
    """Length and learning rate of one stage: linear warm-up, then a cosine to `floor * lr`."""

    steps: int
    lr: float
    warmup: int = 100
    floor: float = 0.01
    ema: float = 0.999
    clip: float = 1.0
    seed: int = 0

    def rate(self, step: int) -> float:
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.lr * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))

    def ema_at(self, step: int) -> float:
        """EMA decay with the usual ramp, so that early averages follow the weights."""
        return min(self.ema, (1 + step) / (10 + step))


def save_atomic(state: object, path: Path) -> None:
    """Write to a sibling and rename, so that a reader or a killed run never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    torch.save(state, temporary)
    os.replace(temporary, path)


def load_checkpoint(path: Path) -> dict:
    return torch.load(path, map_location="cpu", weights_only=True)


def step_rng(seed: int, step: int) -> torch.Generator:
    """All randomness of a step comes from (seed, step): a resumed run draws what it would have drawn."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


@torch.no_grad()
def ema_update(average: dict[str, Tensor], model: nn.Module, decay: float) -> None:
    for name, value in model.state_dict().items():
        if value.is_floating_point() and value.requires_grad is False and name in average:
            average[name].lerp_(value, 1 - decay)
        else:
            average[name] = value.clone()


def train(
    name: str,
    model: nn.Module,
    schedule: Schedule,
    path: Path | None,
    loss_of: Callable[[int, torch.Generator], Tensor],
    save_seconds: float = 45.0,
    optimiser: Optimiser = adam,
    memory: nn.Module | None = None,
) -> dict[str, Tensor]:
    """Run (or resume, or recognise as finished) one stage; returns the averaged weights.

    Without `path` nothing is saved. `memory` holds as buffers what the loss remembers from step to step.
    """
    stepper = optimiser(model.parameters(), schedule.lr)
    average = {k: v.clone() for k, v in model.state_dict().items()}
    step, spent = 0, 0.0
    if path is not None and path.exists():
        state = load_checkpoint(path)
        model.load_state_dict(state["model"])
        average = state["ema"]
        stepper.load_state_dict(state["optimiser"])
        if memory is not None:
            memory.load_state_dict(state["memory"])
        step, spent = state["step"], state["seconds"]
        print(f"{name}: resumed at step {step}", flush=True)

    def save() -> None:
        if path is None:
            return
        save_atomic(
            {
                "model": model.state_dict(),
                "ema": average,
                "optimiser": stepper.state_dict(),
                "memory": None if memory is None else memory.state_dict(),
                "step": step,
                "steps": schedule.steps,
                "seconds": spent,
            },
            path,
        )

    model.train()
    first, last = step, time.monotonic()
    saved = said = last
    start = last
    mean_loss = None
    while step < schedule.steps:
        for group in stepper.param_groups:
            group["lr"] = schedule.rate(step)
        loss = loss_of(step, step_rng(schedule.seed, step))
        stepper.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), schedule.clip)
        stepper.step()
        ema_update(average, model, schedule.ema_at(step))
        value = loss.item()
        mean_loss = value if mean_loss is None else 0.98 * mean_loss + 0.02 * value
        step += 1
        now = time.monotonic()
        spent += now - last
        last = now
        if now - said > 15 or step == schedule.steps:
            pace = (now - start) / (step - first)
            eta = pace * (schedule.steps - step)
            print(
                f"{name}: step {step}/{schedule.steps} loss {mean_loss:.5f} "
                f"{pace * 1000:.0f} ms/step, {spent / 60:.1f} min spent, {eta / 60:.1f} min left",
                flush=True,
            )
            said = now
        if now - saved > save_seconds or step == schedule.steps:
            save()
            saved = now
    return average
