"""The public call on teachers that were not written for it, and the losses against small implementations."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from recipe import distillation
from recipe.distillation import (
    Anneal,
    DistillConfig,
    GuidedConfig,
    PairConfig,
    Pairs,
    ReflowConfig,
    deployed_inputs,
    distill,
    guided_loss,
    sample,
)
from recipe.flow import AnalyticFlow, Convention, adapt, integrate
from recipe.loop import Schedule, step_rng
from recipe.losses import pseudo_huber, pseudo_huber_rfpp, squared
from recipe.norm import UnifiedConfig, UnifiedNorm


class Foreign(nn.Module):
    """Somebody's net: plain layers, noise at t = 1, time in thousandths, predicts d x / d t of its own direction."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 96), nn.Tanh(), nn.Linear(96, 96), nn.Tanh(), nn.Linear(96, 2))

    def forward(self, sample: Tensor, timestep: Tensor) -> Tensor:
        return self.body(torch.cat([sample, timestep[:, None] / 1000], 1))


class Small(nn.Module):
    def __init__(self, norm: bool = False, labels: int = 0) -> None:
        super().__init__()
        torch.manual_seed(0)
        make = (lambda: UnifiedNorm(64, UnifiedConfig(warmup=20), "tokens")) if norm else nn.Identity
        self.first, self.second, self.last = nn.Linear(3, 64), nn.Linear(64, 64), nn.Linear(64, 2)
        self.norms = nn.ModuleList([make(), make()])
        self.label = nn.Embedding(labels, 64) if labels else None

    def forward(self, x: Tensor, t: Tensor, *label: Tensor) -> Tensor:
        h = self.norms[0](self.first(torch.cat([x, t[:, None]], 1))[:, None])[:, 0]
        h = h if self.label is None else h + self.label(label[0])
        return self.last(nn.functional.silu(self.norms[1](self.second(nn.functional.silu(h))[:, None])[:, 0]))


def ring(count: int, seed: int = 0) -> Tensor:
    angle = 2 * math.pi * torch.rand(count, generator=step_rng(seed, 1))
    return 1.5 * torch.stack([torch.cos(angle), torch.sin(angle)], 1)


def config(steps: int = 300) -> DistillConfig:
    def length(count: int) -> Schedule:
        return Schedule(steps=count, lr=4e-3, warmup=20, ema=0.98)

    return DistillConfig(
        pairs=PairConfig(count=2000, steps=20),
        reflow=ReflowConfig(batch=256, anneal=Anneal("linear", steps / 16)),
        reflow_schedule=length(steps),
        guided=GuidedConfig(batch=256, two_step=True),
        guided_schedule=length(steps),
        settle_schedule=length(steps // 4),
    )


def spread_from_ring(made: Tensor) -> float:
    return float((made.norm(dim=1) - 1.5).abs().mean())


def test_a_foreign_net_is_distilled_to_one_step() -> None:
    torch.manual_seed(0)
    net, data = Foreign(), ring(4000)
    optimiser = torch.optim.Adam(net.parameters(), lr=4e-3)
    for step in range(600):
        rng = step_rng(5, step)
        x = data[torch.randint(len(data), (256,), generator=rng)]
        z, s = torch.randn(x.shape, generator=rng), torch.rand(256, generator=rng)
        loss = (net((1 - s[:, None]) * x + s[:, None] * z, 1000 * s) - (z - x)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    teacher = adapt(net.eval(), Convention(noise_at=1, time_scale=1000.0))
    z = torch.randn(1000, 2, generator=step_rng(6, 0))
    student = distill(teacher, data, student=Small(norm=True), config=config())
    made, wanted = sample(student, z), integrate(teacher, z, (), 50)
    one_euler = integrate(teacher, z, (), 1)
    assert spread_from_ring(made) < 0.5 * spread_from_ring(one_euler)
    assert (made - wanted).square().mean() < 0.3 * (one_euler - wanted).square().mean()


def test_the_closed_form_teacher_is_distilled_to_few_steps_with_conditions() -> None:
    corners = torch.tensor([[-2.0, -2.0], [2.0, 2.0]])
    label = torch.arange(400) % 2
    data = corners[label] + 0.05 * torch.randn(400, 2, generator=step_rng(1, 0))
    flows = [AnalyticFlow(data[label == k]) for k in (0, 1)]

    def velocity(x: Tensor, t: Tensor, which: Tensor) -> Tensor:
        return torch.where(which[:, None] == 0, flows[0](x, t), flows[1](x, t))

    student = distill(velocity, data, 2, student=Small(labels=2), conditions=(label,), config=config(150))
    z, which = torch.randn(200, 2, generator=step_rng(2, 0)), torch.arange(200) % 2
    made = sample(student, z, (which,), 2)
    assert float((made - corners[which]).norm(dim=1).mean()) < 0.4


def test_a_module_is_its_own_first_student_and_stays_as_it_was() -> None:
    torch.manual_seed(0)
    net = Small()
    short = replace(config(3), pairs=PairConfig(count=100, steps=2))
    data = ring(300)
    optimiser = torch.optim.Adam(net.parameters(), lr=4e-3)
    for step in range(100):
        rng = step_rng(9, step)
        z, t = torch.randn(300, 2, generator=rng), torch.rand(300, generator=rng)
        loss = (net((1 - t[:, None]) * z + t[:, None] * data, t) - (data - z)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    student = distill(net, data, config=short)
    assert type(student) is Small and student is not net
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


def test_a_teacher_of_another_convention_is_refused() -> None:
    data = ring(300)
    flow = AnalyticFlow(data)
    for wrong in (lambda x, t: -flow(x, t), lambda x, t: flow(x, 1 - t)):
        with pytest.raises(ValueError, match="flow.adapt"):
            distill(wrong, data, student=Small())
    with pytest.raises(TypeError, match="student"):
        distill(flow, data)


@pytest.mark.parametrize("killed_in", ["reflow", "distill", "settle"])
def test_a_killed_distillation_ends_where_an_uninterrupted_one_does(
    killed_in: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, short = ring(300), replace(config(12), pairs=PairConfig(count=250, steps=2))

    def run(folder: Path) -> dict[str, Tensor]:
        return distill(AnalyticFlow(data), data, student=Small(norm=True), config=short, folder=folder).state_dict()

    whole = run(tmp_path / "whole")
    real = distillation.train

    def dying(name, model, schedule, path, loss_of, **rest):
        def loss(step: int, rng: torch.Generator) -> Tensor:
            if name == killed_in and step == 2:
                raise KeyboardInterrupt
            return loss_of(step, rng)

        return real(name, model, schedule, path, loss, save_seconds=0.0, **rest)

    monkeypatch.setattr(distillation, "train", dying)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed")
    monkeypatch.setattr(distillation, "train", real)
    resumed = run(tmp_path / "killed")
    assert all(torch.equal(v, resumed[k]) for k, v in whole.items())


def test_annealing_schedules() -> None:
    k = 50.0
    for step in (0, 10, 60, 100, 290, 400):
        assert Anneal("linear", k).share(step) == 1 - min(1, step / 300)
        assert Anneal("cosine", k).share(step) == (1 + math.cos(math.pi * min(1, step / 100))) / 2
        assert Anneal("exponential", k).share(step) == math.exp(-step / 50)


def test_annealed_noise_keeps_its_law_and_ends_as_the_pairs() -> None:
    z, rng = torch.randn(20_000, 1, generator=step_rng(0, 0)), step_rng(0, 1)
    mixed = Anneal("linear", 100).mix(z, 300, rng)
    assert float(mixed.var()) == pytest.approx(1.0, abs=0.03)
    assert float((mixed * z).mean()) == pytest.approx(math.sqrt(0.75), abs=0.03)
    assert torch.equal(Anneal("linear", 100).mix(z, 600, rng), z)


def test_a_flip_mirrors_both_ends() -> None:
    z, x = torch.randn(2, 1, 2, 3), torch.randn(2, 1, 2, 3)
    part = Pairs(z, x).flipped()
    assert torch.equal(part.z[..., 0], z[..., 2]) and torch.equal(part.x[..., 0], x[..., 2])


def test_both_guided_terms_follow_their_formulas() -> None:
    """`guided_loss` repeated with one call per term and the same draws."""
    student, guide = Small(), lambda x, t: 0.5 * x + t[:, None]
    part = Pairs(torch.randn(8, 2, generator=step_rng(0, 0)), torch.randn(8, 2, generator=step_rng(0, 1)))
    how = GuidedConfig(distance=squared, two_step=True, leak=1e-3)
    made = guided_loss(student, part, 1, how, guide, step_rng(3, 0))
    rng, e = step_rng(3, 0), torch.full((8,), 1e-3)
    fresh, s = torch.randn(8, 2, generator=rng), 0.2 + 0.6 * torch.rand(8, generator=rng)
    start = 0.999 * part.z + 0.001 * part.x
    first = (start + 0.999 * student(start, e) - part.x).square().mean()
    a = student(fresh, e)
    s = s[:, None]
    reached = fresh + s * a.detach()
    u = s * a.detach() + (1 - s) * (0.5 * reached + s)
    second = (a - u).square().mean()
    assert torch.allclose(made, first + second, atol=1e-5)


def test_losses() -> None:
    d = torch.randn(3, 2, 4, 4, generator=step_rng(0, 0))
    c = 0.03 * math.sqrt(32)
    want = sum((math.sqrt(float((row**2).sum()) + c * c) - c) / math.sqrt(32) for row in d) / 3
    assert float(pseudo_huber(d)) == pytest.approx(want, rel=1e-5)
    c = 0.00054 * 32
    want = sum((math.sqrt(float((row**2).sum()) + c * c) - c) / 32 for row in d) / 3
    assert float(pseudo_huber_rfpp(d, torch.zeros_like(d))) == pytest.approx(want, rel=1e-5)


def test_statistics_are_measured_at_every_deployed_time() -> None:
    pairs = Pairs(torch.randn(100, 2), torch.randn(100, 2), (torch.arange(100) % 10,))
    x, t, label = deployed_inputs(pairs, 4)
    assert t.unique().tolist() == [0.0, 0.25, 0.5, 0.75]
    assert all(len(label[t == value].unique()) == 10 for value in t.unique())
    assert torch.equal(x[t == 0], pairs.z[t == 0])
