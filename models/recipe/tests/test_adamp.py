"""AdamP against a scalar-loop implementation and its two properties."""

from __future__ import annotations

import math

import numpy as np
import torch

from recipe.adamp import AdamP, project


def test_the_projected_step_is_orthogonal_to_each_channel() -> None:
    rng = torch.Generator().manual_seed(0)
    w, step = torch.randn(4, 3, 5, generator=rng), torch.randn(4, 3, 5, generator=rng)
    flat = w.flatten(1)
    gradient = torch.randn(4, 15, generator=rng)
    gradient -= flat * (gradient * flat).sum(1, keepdim=True) / flat.square().sum(1, keepdim=True)
    made, applied = project(w, gradient.view_as(w), step, 0.1, 1e-8)
    assert applied
    assert float((made * w).flatten(1).sum(1).abs().max()) < 1e-5
    _, applied = project(w, w, step, 0.1, 1e-8)
    assert not applied


def test_a_scale_invariant_loss_grows_the_weight_less_than_adam() -> None:
    def final_norm(make) -> float:
        rng = torch.Generator().manual_seed(1)
        w = torch.nn.Parameter(torch.randn(1, 20, generator=rng))
        target = torch.randn(20, generator=rng)
        optimiser = make([w])
        for _ in range(200):
            optimiser.zero_grad()
            (-(w[0] / w.norm()) @ target).backward()
            optimiser.step()
        return float(w.detach().norm())

    projected = final_norm(lambda p: AdamP(p, lr=0.1))
    plain = final_norm(lambda p: torch.optim.Adam(p, lr=0.1))
    assert projected < 0.9 * plain


def reference(w: np.ndarray, gradients: list[np.ndarray], lr: float, decay: float) -> np.ndarray:
    """Rows are channels; plain loops."""
    w = w.copy()
    m, v = np.zeros_like(w), np.zeros_like(w)
    for k, g in enumerate(gradients, 1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        p = (m / (1 - 0.9**k)) / (np.sqrt(v / (1 - 0.999**k)) + 1e-8)
        ratio = 1.0
        for rows_w, rows_g, rows_p in ((w, g, p), (w.reshape(1, -1), g.reshape(1, -1), p.reshape(1, -1))):
            cosines = [abs(a @ b) / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-8) for a, b in zip(rows_w, rows_g)]
            if max(cosines) < 0.1 / math.sqrt(rows_w.shape[1]):
                out = [c - a * (a @ c) / (np.linalg.norm(a) + 1e-8) ** 2 for a, c in zip(rows_w, rows_p)]
                p, ratio = np.array(out).reshape(w.shape), 0.1
                break
        w = w * (1 - lr * decay * ratio) - lr * p
    return w


def test_steps_follow_an_independent_implementation() -> None:
    rng = np.random.default_rng(0)
    start = rng.normal(size=(3, 8))
    gradients = []
    for k in range(6):
        g = rng.normal(size=(3, 8))
        if k % 2:
            # Tangential to the start, so that the projection applies at some steps.
            g -= start * (g * start).sum(1, keepdims=True) / (start * start).sum(1, keepdims=True)
        gradients.append(g)
    w = torch.nn.Parameter(torch.tensor(start))
    optimiser = AdamP([w], lr=0.01, weight_decay=0.1)
    for g in gradients:
        w.grad = torch.tensor(g)
        optimiser.step()
    assert np.allclose(w.detach().numpy(), reference(start, gradients, 0.01, 0.1), atol=1e-6)
