"""Flows: the convention, foreign conventions, time densities, solvers, and a teacher in closed form.

Convention of this package: noise z is at t = 0 and data x at t = 1, x_t = (1 - t) z + t x, velocity v = x - z
(Rectified Flow, ICLR 2023). A velocity is any callable v(x_t [n, ...], t [n], *conditions) -> [n, ...], where each
condition has n rows. K Euler steps take t from 0 to 1 in K equal parts; K = 1 is x = z + v(z, 0).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Velocity = Callable[..., Tensor]
Method = Literal["euler", "heun", "rk45"]


def like_rows(t: Tensor, x: Tensor) -> Tensor:
    """t [n] shaped [n, 1, ..., 1] to multiply x [n, ...]."""
    return t.view(-1, *[1] * (x.dim() - 1))


def blend(z: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """x_t = (1 - t) z + t x."""
    t = like_rows(t, z)
    return (1 - t) * z + t * x


def uniform(count: int, rng: torch.Generator) -> Tensor:
    """Times uniform on [1e-3, 1)."""
    return 1e-3 + (1 - 1e-3) * torch.rand(count, generator=rng)


def u_shaped(count: int, rng: torch.Generator, a: float = 4.0) -> Tensor:
    """Times with density proportional to e^{a t} + e^{a (1 - t)} (RF++, NeurIPS 2024), kept inside (0, 1)."""
    u = torch.rand(count, generator=rng)
    t = torch.log1p(u * (math.exp(a) - 1)) / a
    t = torch.where(torch.rand(count, generator=rng) < 0.5, t, 1 - t)
    return 1e-5 + (1 - 2e-5) * t


@dataclass(frozen=True)
class Convention:
    """How another net counts: which end is noise, what it is fed as time, what it predicts.

    The net is called as net(x_t, time_scale * s, ...) with s = t, or 1 - t when `noise_at` is 1, and kept
    `margin` away from the noise end. "v" is d x_t / d s in the net's own direction.
    """

    noise_at: Literal[0, 1] = 0
    time_scale: float = 1.0
    margin: float = 0.0
    predicts: Literal["v", "noise", "data"] = "v"


def adapt(net: Velocity, convention: Convention) -> Velocity:
    """A straight-path flow net of another convention as a velocity of this package."""
    smallest = max(convention.margin, 1e-3) if convention.predicts == "noise" else convention.margin

    def velocity(x: Tensor, t: Tensor, *conditions: Tensor) -> Tensor:
        t = t.clamp(min=smallest)
        s = t if convention.noise_at == 0 else 1 - t
        out = net(x, convention.time_scale * s, *conditions)
        if convention.predicts == "v":
            return out if convention.noise_at == 0 else -out
        rows = like_rows(t, x)
        if convention.predicts == "noise":
            return (x - out) / rows
        return (out - x) / (1 - rows).clamp(min=1e-3)

    return velocity


def from_diffusion(predict_noise: Velocity, alpha_bar: Tensor) -> Velocity:
    """The straight-path velocity of a variance-preserving diffusion net eps(y, k) with integer steps k.

    y_k = sqrt(alpha_bar_k) x + sqrt(1 - alpha_bar_k) z has the noise-to-data ratio (1 - t) / t of x_t at one t,
    so y = x_t / sqrt(t^2 + (1 - t)^2). Between two steps the nearest is taken; t stays where steps exist.
    """
    root, noise = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    times = root / (root + noise)

    def velocity(x: Tensor, t: Tensor, *conditions: Tensor) -> Tensor:
        k = (t[:, None] - times[None]).abs().argmin(1)
        at = like_rows(times[k], x)
        eps = predict_noise(x / torch.sqrt(at * at + (1 - at) ** 2), k, *conditions)
        return (x - eps) / at

    return velocity


def guided(velocity: Velocity, null: int, scale: float) -> Velocity:
    """Classifier-free guidance v_null + scale (v_label - v_null) for velocity(x, t, label); `null` is its label."""

    def both(x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        labels = torch.cat([label, torch.full_like(label, null)])
        wanted, without = velocity(torch.cat([x, x]), torch.cat([t, t]), labels).chunk(2)
        return without + scale * (wanted - without)

    return velocity if scale == 1.0 else both


# Dormand-Prince 5(4): stage coefficients, fifth-order weights (also the last stage) and the error's weights.
_NODES = (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
_STAGES = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)


def _rk45(field: Callable[[Tensor, float], Tensor], x: Tensor, end: float, tolerance: float) -> Tensor:
    """Adaptive Dormand-Prince from 0 to `end`; one step size for the batch, from its root mean square error."""
    t, h = 0.0, min(0.05, end)
    first = field(x, 0.0)
    while t < end:
        h = min(h, end - t)
        slopes = [first]
        for node, row in zip(_NODES[1:], _STAGES[1:], strict=True):
            ahead = x + h * sum(c * k for c, k in zip(row, slopes, strict=True) if c)
            slopes.append(field(ahead, t + node * h))
        wrong = h * sum(c * k for c, k in zip(_ERROR, slopes, strict=True) if c)
        allowed = tolerance * (1 + torch.maximum(x.abs(), ahead.abs()))
        error = float((wrong / allowed).square().mean().sqrt())
        if error <= 1 or h < 1e-5:
            t, x, first = t + h, ahead, slopes[-1]
        h *= min(5.0, max(0.2, 0.9 * max(error, 1e-10) ** -0.2))
        if end - t < 1e-9:
            break
    return x


@torch.no_grad()
def integrate(
    velocity: Velocity,
    z: Tensor,
    conditions: Sequence[Tensor] = (),
    steps: int = 1,
    method: Method = "euler",
    end: float = 1.0,
    tolerance: float = 1e-5,
) -> Tensor:
    """Solve dx/dt = v from t = 0 to `end`.

    A velocity learned from data is least known at t = 1, where Heun's corrector and RK45 evaluate it; Euler never
    does. `end` < 1 keeps the others away, and the rest of the way is then one Euler step.
    """

    def field(x: Tensor, t: float) -> Tensor:
        return velocity(x, torch.full((len(x),), t), *conditions)

    x, h = z, end / steps
    if method == "rk45":
        x = _rk45(field, x, end, tolerance)
    else:
        for i in range(steps):
            v = field(x, i * h)
            ahead = x + h * v
            x = x + 0.5 * h * (v + field(ahead, (i + 1) * h)) if method == "heun" else ahead
    return x if end >= 1.0 else x + (1 - end) * field(x, end)


def integrate_all(
    velocity: Velocity,
    z: Tensor,
    conditions: Sequence[Tensor] = (),
    steps: int = 1,
    method: Method = "euler",
    end: float = 1.0,
    batch: int = 50,
) -> Tensor:
    """`integrate` in batches small enough for activations to stay in cache."""
    parts = zip(*(rows.split(batch) for rows in (z, *conditions)), strict=True)
    return torch.cat([integrate(velocity, part[0], part[1:], steps, method, end) for part in parts])


class AnalyticFlow:
    """The exact 1-rectified flow of a finite data set, in closed form: a teacher that needs no training.

    v(x, t) = (sum_i w_i x_i - x) / (1 - t) with w = softmax_i(-|x - t x_i|^2 / (2 (1 - t)^2)), for data [m, ...].
    """

    def __init__(self, data: Tensor) -> None:
        self.data = data

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        flat, known = x.flatten(1), self.data.flatten(1)
        rest = (1 - t).clamp(min=1e-4)[:, None]
        weights = torch.softmax(-self._distances(flat, t, known) / (2 * rest * rest), 1)
        return ((weights @ known - flat) / rest).view_as(x)

    @staticmethod
    def _distances(x: Tensor, t: Tensor, known: Tensor) -> Tensor:
        """|x_n - t_n known_m|^2 without the [n, m, d] table."""
        t = t[:, None]
        return x.square().sum(1, keepdim=True) - 2 * t * (x @ known.T) + t * t * known.square().sum(1)
