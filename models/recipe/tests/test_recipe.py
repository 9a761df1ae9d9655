"""Conventions, resuming and scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from recipe import nets, teacher
from recipe.loop import Schedule, train
from recipe.scoring import Moments, frechet


def test_students_have_their_frozen_sizes() -> None:
    count = {name: nets.parameters(nets.FlowNet(config)) for name, config in nets.STUDENTS.items()}
    assert count["fashion"] < 310_000
    assert count["fashion-tiny"] <= 100_000


def test_sampler_follows_a_straight_flow_exactly() -> None:
    """A field that points from the noise to a fixed image arrives there in any number of steps."""
    target = torch.rand(4, 1, 28, 28) * 2 - 1
    z = torch.randn(4, 1, 28, 28)

    def field(x: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        n = len(x) // 4
        return (target - z).repeat(n, 1, 1, 1)

    for steps, guidance, heun in ((1, 1.0, False), (3, 1.0, True), (2, 2.0, True)):
        out = teacher.sample(field, z, torch.zeros(4, dtype=torch.int64), steps, guidance, heun)
        assert torch.allclose(out, target, atol=1e-5)


def test_blend_ends() -> None:
    z, x = torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4, 4)
    assert torch.equal(nets.blend(z, x, torch.zeros(2)), z)
    assert torch.equal(nets.blend(z, x, torch.ones(2)), x)


def test_u_shaped_times_prefer_the_ends() -> None:
    t = nets.u_shaped(20_000, torch.Generator().manual_seed(0))
    assert 0 < float(t.min()) and float(t.max()) < 1
    ends = float(((t < 0.1) | (t > 0.9)).float().mean())
    middle = float(((t > 0.4) & (t < 0.6)).float().mean())
    assert ends > 2.5 * middle
    assert abs(float(t.mean()) - 0.5) < 0.01


def test_frechet_of_known_gaussians() -> None:
    """For commuting covariances the distance is |mu|^2 + sum (sqrt a - sqrt b)^2."""
    a = Moments(np.zeros(3), np.diag([1.0, 4.0, 9.0]))
    b = Moments(np.array([1.0, 2.0, 0.0]), np.diag([4.0, 4.0, 1.0]))
    assert np.isclose(frechet(a, b), 5 + 1 + 0 + 4)
    assert np.isclose(frechet(a, a), 0, atol=1e-9)


def test_a_killed_stage_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    def run(path: Path, stop: int | None) -> torch.Tensor:
        torch.manual_seed(0)
        model = torch.nn.Linear(4, 1)

        def loss_of(step: int, rng: torch.Generator) -> torch.Tensor:
            if step == stop:
                raise KeyboardInterrupt
            return (model(torch.randn(8, 4, generator=rng)) - 1).square().mean()

        average = train("test", model, Schedule(steps=20, lr=0.01, warmup=2), path, loss_of, save_seconds=0)
        return average["weight"]

    whole = run(tmp_path / "whole.pt", None)
    try:
        run(tmp_path / "killed.pt", 11)
    except KeyboardInterrupt:
        pass
    assert torch.equal(run(tmp_path / "killed.pt", None), whole)
