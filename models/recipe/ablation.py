"""What each part of the training recipe is worth on the smallest net, in short cells of equal length.

As in SlimFlow (ECCV 2024): annealing on or off by flip on or off, the two-step term on or off, and distillation from
scratch as the baseline, which takes the steps of both stages. Every cell is scored after reflow with one and with
several Euler steps, and after distillation with one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor, nn

from .distillation import (
    Anneal,
    GuidedConfig,
    Pairs,
    ReflowConfig,
    deployed_inputs,
    frozen_copy,
    guide_from,
    guided_distill,
    reflow,
)
from .flow import integrate_all
from .loop import Schedule
from .norm import norms, recalibrate

Score = dict[str, float | int]


@dataclass(frozen=True)
class Cell:
    name: str
    anneal: bool = False
    flip: bool = False
    two_step: bool = False
    direct: bool = False

    @property
    def reflow_name(self) -> str:
        """Cells that differ only after reflow share it."""
        return f"anneal-{int(self.anneal)}-flip-{int(self.flip)}"


CELLS = (
    Cell("direct", direct=True),
    Cell("reflow"),
    Cell("reflow-anneal", anneal=True),
    Cell("reflow-flip", flip=True),
    Cell("reflow-anneal-flip", anneal=True, flip=True),
    Cell("reflow-two-step", two_step=True),
)


@dataclass(frozen=True)
class AblationConfig:
    """Steps are batches of 64; the paper's annealing ends at 37.5 % of the reflow stage."""

    reflow: Schedule = Schedule(steps=300, lr=1.5e-3, warmup=40, floor=0.2, ema=0.995, seed=4)
    distill: Schedule = Schedule(steps=300, lr=1.2e-3, warmup=30, floor=0.05, ema=0.995, seed=5)
    several: int = 4
    samples: int = 2000


@dataclass(frozen=True)
class Bench:
    """What all cells share: the net, the pairs, the distance, and the noise and labels of the scores."""

    build: Callable[[], nn.Module]
    pairs: Pairs
    guided: GuidedConfig
    score: Callable[[Tensor, Tensor], Score]
    z: Tensor
    label: Tensor

    def scored(self, model: nn.Module, steps: int) -> Score:
        """The model's score with `steps` Euler steps and norms measured on what those steps see."""
        model = frozen_copy(model)
        recalibrate(model, *deployed_inputs(self.pairs, steps))
        return self.score(integrate_all(model, self.z, (self.label,), steps), self.label)


def run_cell(cell: Cell, bench: Bench, config: AblationConfig, folder: Path) -> dict[str, Score | int | str]:
    """Train (or resume) one cell and score it."""
    model, result = bench.build(), {"cell": cell.name}
    distill, guide = config.distill, None
    if cell.direct:
        distill = replace(distill, steps=distill.steps + config.reflow.steps)
    else:
        anneal = Anneal("linear", config.reflow.steps / 16) if cell.anneal else None
        how = ReflowConfig(batch=bench.guided.batch, anneal=anneal, flip=cell.flip)
        reflow(model, bench.pairs, how, config.reflow, folder / f"{cell.reflow_name}.reflow.pt")
        result["reflow_steps"] = config.reflow.steps
        for steps in (1, config.several):
            result[f"reflow_{steps}"] = bench.scored(model, steps)
        guide = guide_from(model, bench.pairs, bench.guided) if cell.two_step else None
    for norm in norms(model):
        norm.restart()
    guided = replace(bench.guided, flip=cell.flip, two_step=cell.two_step)
    guided_distill(model, bench.pairs, guided, distill, folder / f"{cell.name}.distill.pt", guide=guide)
    return result | {"distill_steps": distill.steps, "distill_1": bench.scored(model, 1)}


def table(results: list[dict], several: int) -> str:
    """A Markdown table of Frechet distance and class accuracy."""

    def cell(row: dict, key: str) -> str:
        return f"{row[key]['fd']:.2f} / {row[key]['accuracy']:.3f}" if key in row else "-"

    keys = ("reflow_1", f"reflow_{several}", "distill_1")
    head = f"| cell | reflow + distill steps | reflowed, 1 step | reflowed, {several} steps | distilled, 1 step |"
    rows = [
        f"| {r['cell']} | {r.get('reflow_steps', 0)} + {r['distill_steps']} | "
        + " | ".join(cell(r, k) for k in keys)
        + " |"
        for r in results
    ]
    return "\n".join([head, "|---|---|---|---|---|", *rows])
