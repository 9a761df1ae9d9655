"""Conventions, solvers, time densities and the closed-form teacher."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from recipe import flow
from recipe.flow import AnalyticFlow, Convention, adapt, from_diffusion, integrate


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("method", ["euler", "heun", "rk45"])
def test_a_straight_flow_is_solved_exactly(method: str) -> None:
    z, x = torch.randn(4, 1, 6, 6, generator=rng(1)), torch.randn(4, 1, 6, 6, generator=rng(2))
    for end in (1.0, 0.8):
        made = integrate(lambda at, t: x - z, z, (), 3, method, end)
        assert torch.allclose(made, x, atol=1e-5)


def test_the_solvers_have_their_orders() -> None:
    """dx/dt = x ends at e x: Euler errs by O(h), Heun by O(h^2), RK45 by its tolerance."""
    one = torch.ones(1, 1)
    error = {
        (m, n): abs(float(integrate(lambda x, t: x, one, (), n, m)) - math.e)
        for m, n in (("euler", 10), ("euler", 20), ("heun", 10), ("heun", 20), ("rk45", 1))
    }
    assert 1.8 < error["euler", 10] / error["euler", 20] < 2.2
    assert 3.6 < error["heun", 10] / error["heun", 20] < 4.4
    assert error["rk45", 1] < 1e-4


def test_euler_never_asks_at_the_data_end() -> None:
    times: list[float] = []

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        times.append(float(t[0]))
        return x

    integrate(velocity, torch.ones(1, 1), (), 5, "euler")
    assert max(times) == pytest.approx(0.8)


def test_blend_ends() -> None:
    z, x = torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4, 4)
    assert torch.equal(flow.blend(z, x, torch.zeros(2)), z)
    assert torch.equal(flow.blend(z, x, torch.ones(2)), x)


def test_u_shaped_times_have_their_density() -> None:
    t = flow.u_shaped(40_000, rng())
    assert 0 < float(t.min()) and float(t.max()) < 1
    for low, high in ((0.0, 0.1), (0.4, 0.6), (0.9, 1.0)):

        def mass(u: float) -> float:
            return (math.exp(4 * u) - math.exp(4 * (1 - u))) / 4

        want = (mass(high) - mass(low)) / (mass(1.0) - mass(0.0))
        assert float(((t > low) & (t < high)).float().mean()) == pytest.approx(want, abs=0.01)


def test_the_closed_form_teacher_follows_its_formula() -> None:
    data, x, t = torch.randn(5, 2, 3, generator=rng(1)), torch.randn(3, 2, 3, generator=rng(2)), torch.rand(3)
    made = AnalyticFlow(data)(x, t)
    for n in range(3):
        at = float(t[n])
        logits = [-float(((x[n] - at * d) ** 2).sum()) / (2 * (1 - at) ** 2) for d in data]
        top = max(logits)
        weights = [math.exp(v - top) for v in logits]
        mean = sum(w * d for w, d in zip(weights, data)) / sum(weights)
        assert torch.allclose(made[n], (mean - x[n]) / (1 - at), atol=1e-4)


def test_the_closed_form_teacher_lands_on_its_data() -> None:
    data = torch.tensor([[-2.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
    made = integrate(AnalyticFlow(data), torch.randn(60, 2, generator=rng()), (), 50)
    nearest = torch.cdist(made, data).min(1)
    assert float(nearest.values.max()) < 0.05
    assert len(nearest.indices.unique()) == 3


@pytest.mark.parametrize("noise_at", [0, 1])
@pytest.mark.parametrize("predicts", ["v", "noise", "data"])
def test_a_foreign_convention_becomes_ours(noise_at: int, predicts: str) -> None:
    data = torch.randn(6, 3, generator=rng())
    ours = AnalyticFlow(data)

    def foreign(x: Tensor, time: Tensor) -> Tensor:
        t = time / 999 if noise_at == 0 else 1 - time / 999
        v = ours(x, t)
        if predicts == "v":
            return v if noise_at == 0 else -v
        return x - t[:, None] * v if predicts == "noise" else x + (1 - t[:, None]) * v

    x, t = torch.randn(4, 3, generator=rng(1)), torch.tensor([0.1, 0.3, 0.6, 0.9])
    velocity = adapt(foreign, Convention(noise_at, 999.0, 0.0, predicts))
    assert torch.allclose(velocity(x, t), ours(x, t), atol=2e-3)


def test_a_diffusion_net_becomes_a_velocity() -> None:
    """eps of a data set in closed form, at integer steps of a variance-preserving schedule."""
    alpha_bar = torch.linspace(0.9999, 1e-4, 1000)
    data = torch.randn(6, 3, generator=rng())

    def predict_noise(y: Tensor, k: Tensor) -> Tensor:
        a, s = alpha_bar[k].sqrt()[:, None], (1 - alpha_bar[k]).sqrt()[:, None]
        weights = torch.softmax(-(torch.cdist(y[:, None], a[:, None] * data[None]).squeeze(1) ** 2) / (2 * s * s), 1)
        return (y - a * (weights @ data)) / s

    x, t = torch.randn(3, 3, generator=rng(1)), torch.tensor([0.2, 0.5, 0.8])
    made = from_diffusion(predict_noise, alpha_bar)(x, t)
    assert torch.allclose(made, AnalyticFlow(data)(x, t), atol=0.05)
