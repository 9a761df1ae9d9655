"""The 8x8 digits of scikit-learn: two velocity nets of many steps, and two of a pair of domains, for programs.

`digits` is a transformer, `digits-unet` a U-Net; both learn the class-conditional rectified flow of the same images.
`digits-a` and `digits-b` are U-Nets of two domains with a known map between them, B = `inverted`(A), trained on
disjoint halves, as translation between unpaired domains wants it (CycleDiffusion, ICCV 2023). Every norm is a Unified
Normalization whose statistics are measured on the training law, t uniform, after training.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import classifiers, teacher
from .flow import blend
from .loop import Schedule, load_checkpoint, save_atomic, step_rng
from .nets import FlowNet, NetConfig
from .norm import UnifiedConfig, recalibrate
from .scoring import Scorer, moments
from .transformer import TransformerConfig, TransformerFlow

SHAPE = (1, 8, 8)
UNET = NetConfig(narrow=24, wide=32, sinusoids=16, embed=32, labels=11)
NETS: dict[str, NetConfig | TransformerConfig] = {
    "digits": TransformerConfig(patch=2, grid=4, width=48, blocks=2, labels=11),
    "digits-unet": UNET,
    "digits-a": UNET,
    "digits-b": UNET,
}
GUIDANCE = 1.5
HELD_OUT = 360


@dataclass(frozen=True)
class DigitsPlan:
    """Lengths of everything; minutes on one core."""

    classifiers: int = 1500
    transformer: Schedule = Schedule(steps=4000, lr=2e-3, warmup=200, ema=0.999, seed=31)
    unet: Schedule = Schedule(steps=2500, lr=2e-3, warmup=100, ema=0.998, seed=32)
    halves: Schedule = Schedule(steps=1500, lr=2e-3, warmup=80, ema=0.997, seed=33)
    scored: int = 2000
    many_steps: int = 50

    def of(self, name: str) -> Schedule:
        return {"digits": self.transformer, "digits-unet": self.unet}.get(name, self.halves)


_SHORT = Schedule(steps=5, lr=1e-3, warmup=2, seed=31)
DIGITS_SMOKE = DigitsPlan(10, _SHORT, _SHORT, _SHORT, 50, 4)


@dataclass(frozen=True)
class Images:
    """Images [n, 1, 8, 8] in [-1, 1] with labels [n]."""

    x: Tensor
    label: Tensor

    def pick(self, rows: slice) -> Images:
        return Images(self.x[rows], self.label[rows])

    def mapped(self, f: Callable[[Tensor], Tensor]) -> Images:
        return Images(f(self.x), self.label)


def load() -> tuple[Images, Images]:
    """1,437 images for training and 360 held out, both in random order: the data set repeats 0 to 9 writer by writer,
    so that every fifth image, say, would be a choice of classes.
    """
    from sklearn.datasets import load_digits  # only this module needs it

    raw = load_digits()
    x = torch.from_numpy(raw.images).float().unsqueeze(1) / 8 - 1
    label = torch.from_numpy(raw.target).long()
    order = torch.randperm(len(x), generator=step_rng(0, 0))
    mixed = Images(x[order], label[order])
    return mixed.pick(slice(HELD_OUT, None)), mixed.pick(slice(HELD_OUT))


def inverted(x: Tensor) -> Tensor:
    """The map from domain A to B on [n, 1, h, w]: a 3x3 binomial blur (edges repeated), then contrast inversion."""
    row = torch.tensor([0.25, 0.5, 0.25])
    return -F.conv2d(F.pad(x, (1, 1, 1, 1), "replicate"), torch.outer(row, row)[None, None])


def domain(name: str, images: Images) -> Images:
    """What the net `name` learns of the training images."""
    if name == "digits-a":
        return images.pick(slice(0, None, 2))
    if name == "digits-b":
        return images.pick(slice(1, None, 2)).mapped(inverted)
    return images


def build(name: str, schedule: Schedule) -> FlowNet | TransformerFlow:
    torch.manual_seed(schedule.seed)
    config = replace(NETS[name], unified=UnifiedConfig(warmup=max(2, schedule.steps // 10)))
    return TransformerFlow(config) if isinstance(config, TransformerConfig) else FlowNet(config)


def measured(model: nn.Module, images: Images, count: int = 4000) -> nn.Module:
    """The net with statistics of its norms measured on the training law."""
    z, x, t, label = teacher.points(images.x, images.label, count, step_rng(0, 0))
    recalibrate(model.eval(), blend(z, x, t), t, label)
    return model


def fit(name: str, folder: Path, images: Images, schedule: Schedule) -> nn.Module:
    part = domain(name, images)
    model = teacher.learn(name, build(name, schedule), part.x, part.label, schedule, folder / f"{name}.pt")
    save_atomic({"ema": measured(model, part).state_dict()}, folder / f"{name}.measured.pt")
    return model.requires_grad_(False)


def restore(name: str, folder: Path, schedule: Schedule) -> nn.Module:
    """A finished net, frozen."""
    model = build(name, schedule)
    model.load_state_dict(load_checkpoint(folder / f"{name}.measured.pt")["ema"])
    return model.eval().requires_grad_(False)


def scorer(folder: Path, held: Images) -> Scorer:
    """The two classifiers of digits and the moments of the held-out images."""
    features = classifiers.load("digits-features", folder)
    return Scorer(features, classifiers.load("digits-accuracy", folder), moments(features, held.x))


def nearest(x: Tensor, known: Tensor) -> float:
    """Mean over x of the root mean square difference to the nearest of `known`, in units of [-1, 1]."""
    distances = torch.cdist(x.flatten(1), known.flatten(1))
    return float(distances.min(1).values.mean()) / x[0].numel() ** 0.5


Row = dict[str, float | int | str]


def score(name: str, model: nn.Module, train: Images, held: Images, folder: Path, plan: DigitsPlan) -> list[Row]:
    """Scores of the net for several solvers, in the net's own domain.

    Samples of domain B are judged with the contrast turned back, against held-out images blurred alike, since the
    classifiers know digits only.
    """
    back = torch.neg if name == "digits-b" else torch.clone
    known = domain(name, train)
    real = held.mapped(lambda x: back(inverted(x))) if name == "digits-b" else held
    judge = scorer(folder, real)
    z = torch.randn(plan.scored, *SHAPE, generator=step_rng(10, 0))
    label = torch.arange(plan.scored) % 10
    rows, many = [], plan.many_steps
    for steps, guidance in ((1, 1.0), (4, GUIDANCE), (8, GUIDANCE), (many, 1.0), (many, GUIDANCE)):
        x = teacher.draw(model, z, label, steps, guidance)
        how = {"steps": steps, "method": "euler", "guidance": guidance}
        rows.append(judge.score(back(x), label) | how | {"nearest": round(nearest(x, known.x), 4)})
        print(name, rows[-1], flush=True)
    return rows


def real_row(name: str, train: Images, held: Images, folder: Path) -> Row:
    """The same figures of images that exist: training images against the held-out, held-out for the rest."""
    turned = (lambda x: -inverted(x)) if name == "digits-b" else torch.clone
    known, real = domain(name, train), held.mapped(turned)
    judge = scorer(folder, real)
    fd = judge.score(turned(train.x), train.label)["fd"]
    own = inverted(held.x) if name == "digits-b" else held.x
    return judge.score(real.x, real.label) | {"fd": fd, "nearest": round(nearest(own, known.x), 4)}


def train_all(folder: Path, plan: DigitsPlan) -> dict[str, dict]:
    """Classifiers, the four nets and their scores; resumes anywhere."""
    train, held = load()
    result: dict[str, dict] = {"classifiers": {}}
    for name in classifiers.DIGITS:
        model = classifiers.fit(name, folder, train.x, train.label, plan.classifiers)
        result["classifiers"][name] = round(classifiers.accuracy(model, held.x, held.label), 4)
    for name in NETS:
        known = folder / f"{name}.json"
        if not known.exists():
            model = fit(name, folder, train, plan.of(name))
            rows = score(name, model, train, held, folder, plan)
            known.write_text(json.dumps({"real": real_row(name, train, held, folder), "drawn": rows}) + "\n")
        result[name] = json.loads(known.read_text())
    return result
