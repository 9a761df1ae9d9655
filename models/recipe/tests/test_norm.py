"""Unified Normalization against slow, independent implementations."""

from __future__ import annotations

import math

import torch

from recipe.norm import UnifiedConfig, UnifiedNorm, recalibrate

EARLY = UnifiedConfig(warmup=10**6)


def batch(seed: int, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(seed))


def mean_square(x: torch.Tensor) -> list[float]:
    return [float((x[:, c].double() ** 2).mean()) for c in range(x.shape[1])]


def test_early_step_divides_by_the_root_mean_square() -> None:
    norm, x = UnifiedNorm(3, EARLY).train(), batch(0, 3.0)
    y = norm(x)
    for c, s in enumerate(mean_square(x)):
        assert torch.allclose(y[:, c], x[:, c] / math.sqrt(s + 1e-5), atol=1e-5)
        assert math.isclose(float(norm.r[0, c]), 0.9 + 0.1 * s, rel_tol=1e-4)


def test_window_is_a_geometric_mean() -> None:
    config = UnifiedConfig(window=4, warmup=5, filter_outliers=False)
    norm, seen = UnifiedNorm(3, config).train(), []
    for step in range(9):
        x = batch(step, 1.0 + 0.2 * step)
        seen.append(mean_square(x))
        y = norm(x)
    for c in range(3):
        s_hat = math.prod(s[c] for s in seen[-4:]) ** 0.25
        assert torch.allclose(y[:, c], x[:, c] / math.sqrt(s_hat + 1e-5), atol=1e-4)


def test_backward_follows_the_formulas() -> None:
    """Scalar loops for psi, its window, its average and dx, over several steps of a warmed-up norm."""
    config = UnifiedConfig(window=2, warmup=3, filter_outliers=False, ratio_after=0)
    norm = UnifiedNorm(2, config).train()
    with torch.no_grad():
        norm.gamma.copy_(torch.tensor([1.5, 0.5]).view(1, 2, 1, 1))
    gamma = [1.5, 0.5]
    window, psi_window, psi_average, r = [[1.0, 1.0], [1.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]], [0.0, 0.0], [1.0, 1.0]
    for it in range(1, 8):
        x = (1 + 0.1 * it) * batch(it)[:, :2].contiguous()
        dy = batch(100 + it)[:, :2].contiguous()
        x.requires_grad_(True)
        norm.zero_grad()
        norm(x).backward(dy)
        slot, early = it % 2, it <= 2 or it < 3
        window[slot] = mean_square(x.detach())
        for c in range(2):
            s_hat = window[slot][c] if early else math.sqrt(window[0][c] * window[1][c])
            ratio = 1.0 if it <= 3 else math.sqrt((s_hat + 1e-5) / (r[c] + 1e-5))
            ratio = min(5.0, max(0.2, ratio))
            r[c] = 0.9 * r[c] + 0.1 * s_hat
            z = x.detach()[:, c] / math.sqrt(s_hat + 1e-5)
            g = dy[:, c] * gamma[c] * ratio
            psi_window[slot][c] = float((g * z).mean())
            m = psi_window[slot][c] if early else (psi_window[0][c] + psi_window[1][c]) / 2
            psi_average[c] = 0.9 * psi_average[c] + 0.1 * m
            dx = (g - psi_average[c] * z) / math.sqrt(s_hat + 1e-5)
            assert torch.allclose(x.grad[:, c], dx, atol=1e-5)
            assert math.isclose(
                float(norm.gamma.grad[0, c]), float((dy[:, c] * ratio * z).sum()), rel_tol=1e-3, abs_tol=1e-4
            )
            assert math.isclose(float(norm.beta.grad[0, c]), float(dy[:, c].sum()), rel_tol=1e-3, abs_tol=1e-4)


def test_outlier_uses_this_step_alone() -> None:
    config = UnifiedConfig(window=4, warmup=5)
    norm = UnifiedNorm(3, config).train()
    for step in range(8):
        norm(batch(step))
    before = norm.r.clone().flatten()
    skips = int(norm.skips)
    x = batch(50, 100.0)
    y = norm(x)
    assert int(norm.skips) == skips + 1
    assert torch.equal(norm.window[norm.slot], before)
    for c, s in enumerate(mean_square(x)):
        assert torch.allclose(y[:, c], x[:, c] / math.sqrt(s + 1e-5), atol=1e-4)


def test_the_filter_cannot_fire_on_its_own_window() -> None:
    """AM - GM <= M Var(sqrt) for one window: why the order of the two matters."""
    for seed in range(200):
        s = torch.randn(4, generator=torch.Generator().manual_seed(seed)).exp().pow(3)
        gap = s.mean() - s.log().mean().exp()
        assert gap <= 4 * torch.var(s.sqrt(), unbiased=False) + 1e-4 * s.max()


def test_inference_and_frozen_training_agree_and_are_affine() -> None:
    norm = UnifiedNorm(3, EARLY).train()
    norm(batch(1, 2.0))
    norm.frozen = True
    x = batch(2)
    trained = norm(x)
    norm.eval()
    scale = norm.gamma / torch.sqrt(norm.r + 1e-5)
    assert torch.allclose(trained, norm(x), atol=1e-6)
    assert torch.allclose(trained, x * scale + norm.beta, atol=1e-6)


def test_recalibration_measures_the_deployed_input() -> None:
    model = torch.nn.Sequential(UnifiedNorm(3, EARLY), UnifiedNorm(3, EARLY)).eval()
    x = torch.cat([batch(i, 2.0) for i in range(4)])
    recalibrate(model, x)
    assert torch.allclose(model[0].r.flatten().double(), torch.tensor(mean_square(x)).double(), rtol=1e-4)
    assert torch.allclose(model[1].r, torch.ones_like(model[1].r), atol=1e-3)
