"""FlowTurbo: what the refiner is trained on, and the blocks of its sampler."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from recipe import refiner
from recipe.flow import integrate
from recipe.loop import Schedule, step_rng
from recipe.nets import NULL_LABEL

PLAN = refiner.RefinerPlan(refiner.DIGITS, Schedule(steps=60, lr=4e-3, warmup=5, ema=0.9, seed=1))


def spiral(x: Tensor, t: Tensor, label: Tensor) -> Tensor:
    """A velocity that depends on state, time and label, with a known curve."""
    return (t - 0.5 * x.flatten(1).mean(1) + 0.1 * label).view(-1, 1, 1, 1) + 0.3 * x


def exact(x: Tensor, previous: Tensor, t: Tensor, label: Tensor) -> Tensor:
    return spiral(x, t, label)


Z, LABEL = torch.randn(5, 1, 8, 8, generator=step_rng(0, 0)), torch.arange(5)


def test_blocks_without_a_refiner_are_the_known_solvers() -> None:
    for blocks, method in (("EEE", "euler"), ("HH", "heun")):
        want = integrate(spiral, Z, (LABEL,), len(blocks), method)
        assert torch.allclose(refiner.sample(spiral, None, Z, LABEL, blocks), want, atol=1e-6)
    made = refiner.sample(spiral, None, Z, LABEL, "EEEE", times=refiner.until(0.9, "EEEE"))
    assert torch.allclose(made, integrate(spiral, Z, (LABEL,), 3, "euler", 0.9), atol=1e-6)


def test_a_pseudo_corrector_takes_the_velocity_at_the_predicted_point() -> None:
    h, ones = 0.5, torch.ones(5)
    v0 = spiral(Z, 0 * ones, LABEL)
    v1 = spiral(Z + h * v0, h * ones, LABEL)
    x = Z + h * (v0 + v1) / 2
    v2 = spiral(x + h * v1, ones, LABEL)
    assert torch.allclose(refiner.sample(spiral, None, Z, LABEL, "HP"), x + h * (v1 + v2) / 2, atol=1e-6)


def test_refiner_blocks_with_an_exact_refiner_are_heun_steps() -> None:
    want = refiner.sample(spiral, None, Z, LABEL, "HHH")
    assert torch.allclose(refiner.sample(spiral, exact, Z, LABEL, "HRR"), want, atol=1e-6)


def test_what_is_carried_belongs_to_each_label_of_guidance() -> None:
    """A constant for each label and a refiner that keeps it: any schedule gives the guided constant."""

    def field(x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        return label.float().view(-1, 1, 1, 1).expand_as(x)

    made = refiner.sample(field, lambda x, v, t, label: v, Z, LABEL, "EPRH", guidance=1.5)
    want = Z + (NULL_LABEL + 1.5 * (LABEL - NULL_LABEL)).view(-1, 1, 1, 1)
    assert torch.allclose(made, want, atol=1e-4)


def test_a_schedule_that_begins_with_a_refiner_is_refused() -> None:
    with pytest.raises(ValueError, match="block 0 of 'RE' is R"):
        refiner.sample(spiral, exact, Z, LABEL, "RE")


def test_examples_lie_on_the_flow_and_the_refiner_learns_them(tmp_path) -> None:
    images, labels = torch.rand(40, 1, 8, 8, generator=step_rng(0, 1)) * 2 - 1, torch.arange(40) % 10

    def field(x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        return (6 * t).view(-1, 1, 1, 1).expand_as(x)

    (moved, v, t, label), wanted = refiner.example(field, images, labels, 500, 0.25, step_rng(2, 0))
    late = t - v[:, 0, 0, 0] / 6
    assert float(late.min()) >= 0 and 0.2 < float(late.max()) <= 0.25 + 1e-6 and float(t.max()) <= 1 + 1e-6
    assert torch.allclose(wanted[:, 0, 0, 0], 6 * t, atol=1e-5) and (label == NULL_LABEL).any()
    assert math.isclose(refiner.gain(lambda x, p, t, y: p, field, images, labels, 0.25), 1.0)
    model = refiner.fit(field, images, labels, PLAN, tmp_path / "refiner.pt")
    assert refiner.gain(model, field, images, labels, 0.25) < 0.3
    inputs = (moved, v, t, label)
    assert torch.equal(refiner.restore(PLAN, tmp_path / "refiner.pt")(*inputs), model(*inputs))
    assert refiner.calls("HPRE") == (4, 2)
