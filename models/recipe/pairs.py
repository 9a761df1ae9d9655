"""Stage 2: pairs (z, label, x^) by the guided teacher, in chunks of balanced classes.

The pairs fix which image a noise belongs to, which is what makes a flow through them straight (Rectified Flow,
ICLR 2023) and one step learnable.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from . import teacher
from .loop import load_checkpoint, save_atomic, step_rng
from .nets import FlowNet

CHUNK = 250


@dataclass(frozen=True)
class PairConfig:
    count: int
    steps: int
    guidance: float
    seed: int = 3


@dataclass(frozen=True)
class Pairs:
    z: Tensor
    label: Tensor
    x: Tensor

    def pick(self, batch: int, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        index = torch.randint(len(self.z), (batch,), generator=rng)
        return self.z[index], self.label[index], self.x[index]


def draw(model: FlowNet, folder: Path, config: PairConfig, part: int = 0, parts: int = 1) -> None:
    """Write the chunks that are missing; several processes may share the work as parts 0, 1, ... of `parts`."""
    chunks = config.count // CHUNK
    start, made = time.monotonic(), 0
    for i in range(part, chunks, parts):
        path = folder / f"{i:04}.pt"
        if path.exists():
            continue
        z = torch.randn(CHUNK, 1, 28, 28, generator=step_rng(config.seed, i))
        label = torch.arange(CHUNK) % 10
        x = teacher.sample_all(model, z, label, config.steps, config.guidance)
        save_atomic({"z": z, "label": label, "x": x}, path)
        made += 1
        pace = (time.monotonic() - start) / made
        print(f"pairs: {(i + 1) * CHUNK}/{config.count}, {pace * ((chunks - i - 1) // parts) / 60:.1f} min left", flush=True)


def load(folder: Path) -> Pairs:
    parts = [load_checkpoint(path) for path in sorted(folder.glob("*.pt"))]
    return Pairs(*(torch.cat([part[key] for part in parts]) for key in ("z", "label", "x")))
