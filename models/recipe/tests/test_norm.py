"""Unified Normalization against slow, independent implementations."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from recipe.norm import (
    BatchChannelNorm,
    BatchNorm,
    PowerConfig,
    PowerNorm,
    StandardConv2d,
    UnifiedConfig,
    UnifiedNorm,
    recalibrate,
)

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


def test_the_filter_never_fires_on_the_window_that_holds_the_new_value() -> None:
    norm = UnifiedNorm(3, UnifiedConfig(window=4, warmup=5, previous_window=False)).train()
    for step in range(12):
        norm(batch(step, 1.0 if step % 5 else 100.0))
    assert int(norm.skips) == 0


def test_layouts_agree() -> None:
    """Tokens [n, t, c] are images [n, c, t, 1]: forward, backward and statistics."""
    config = UnifiedConfig(window=2, warmup=3, ratio_after=0)
    makers = (
        lambda layout: UnifiedNorm(3, config, layout),
        lambda layout: BatchNorm(3, layout=layout),
        lambda layout: PowerNorm(3, PowerConfig(warmup=3), layout),
        lambda layout: PowerNorm(3, PowerConfig(warmup=3, groups=3), layout),
    )
    for make in makers:
        image, tokens = make("image").train(), make("tokens").train()
        for step in range(7):
            x = batch(step).flatten(2)
            a, b = x.unsqueeze(3).clone().requires_grad_(), x.transpose(1, 2).contiguous().requires_grad_()
            y, want = tokens(b), image(a)
            assert torch.allclose(y, want.squeeze(3).transpose(1, 2), atol=1e-5)
            y.square().mul(0.5 + y.detach()).sum().backward()
            want.square().mul(0.5 + want.detach()).sum().backward()
            assert torch.allclose(b.grad, a.grad.squeeze(3).transpose(1, 2), atol=1e-3, rtol=1e-3)
        image.eval(), tokens.eval()
        x = batch(30)[:, :, :, :1]
        assert torch.allclose(tokens(x.squeeze(3).transpose(1, 2)), image(x).squeeze(3).transpose(1, 2), atol=1e-5)


def test_batch_norm_is_torchs_until_it_is_frozen() -> None:
    ours, theirs = BatchNorm(3).train(), torch.nn.BatchNorm2d(3).train()
    for step in range(5):
        assert torch.allclose(ours(batch(step, 2.0)), theirs(batch(step, 2.0)), atol=1e-6)
    ours.eval(), theirs.eval()
    want = theirs(batch(9))
    assert torch.allclose(ours(batch(9)), want, atol=1e-6)
    ours.train().frozen = True
    assert torch.allclose(ours(batch(9)), want, atol=1e-5)


def test_power_norm_follows_its_formulas() -> None:
    """Scalar loops over phi, nu and dx, through the end of the warm-up."""
    norm = PowerNorm(2, PowerConfig(warmup=3)).train()
    gamma = [1.5, 0.5]
    with torch.no_grad():
        norm.gamma.copy_(torch.tensor(gamma).view(1, 2, 1, 1))
    phi, nu = [1.0, 1.0], [0.0, 0.0]
    for it in range(1, 8):
        x = (1 + 0.2 * it) * batch(it)[:, :2].contiguous()
        dy = batch(100 + it)[:, :2].contiguous()
        x.requires_grad_(True)
        y = norm(x)
        y.backward(dy)
        for c, s in enumerate(mean_square(x.detach())[:2]):
            divisor = s if it <= 3 else phi[c]
            if it <= 3:
                phi[c] += (s - phi[c]) / it
            phi[c] = 0.9 * phi[c] + 0.1 * s
            z = x.detach()[:, c] / math.sqrt(divisor + 1e-5)
            assert torch.allclose(y[:, c], gamma[c] * z, atol=1e-5)
            g = dy[:, c] * gamma[c] - 0.1 * nu[c] * z
            nu[c] += float((g * z).mean())
            assert torch.allclose(x.grad[:, c], g / math.sqrt(s + 1e-5), atol=1e-5)
            assert math.isclose(float(norm.phi[0, c]), phi[c], rel_tol=1e-4)


def test_group_scaling_gives_every_group_of_a_token_mean_square_one() -> None:
    norm = PowerNorm(6, PowerConfig(groups=2), "tokens").eval()
    y = norm(torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0)))
    assert torch.allclose(y.unflatten(2, (2, 3)).square().mean(3), torch.ones(2, 5, 2), atol=1e-4)


def test_standard_weights_have_mean_zero_and_variance_one() -> None:
    conv = StandardConv2d(3, 4, 3)
    weight = conv.standard_weight().flatten(1)
    assert torch.allclose(weight.mean(1), torch.zeros(4), atol=1e-6)
    assert torch.allclose(weight.var(1), torch.ones(4), atol=5e-3)
    x = torch.randn(1, 3, 5, 5)
    assert torch.allclose(conv(x), F.conv2d(x, conv.standard_weight(), conv.bias), atol=1e-5)


def test_batch_channel_norm_is_batch_norm_then_group_norm_with_one_pair_a_group() -> None:
    norm = BatchChannelNorm(6, groups=2)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([2.0, 3.0]).view(1, 2, 1))
        norm.bias.copy_(torch.tensor([-1.0, 1.0]).view(1, 2, 1))
    x = torch.randn(4, 6, 3, 3, generator=torch.Generator().manual_seed(0))
    u = F.group_norm(F.batch_norm(x, None, None, training=True), 2)
    scale, shift = torch.tensor([2.0, 3.0]).repeat_interleave(3), torch.tensor([-1.0, 1.0]).repeat_interleave(3)
    want = u * scale.view(1, 6, 1, 1) + shift.view(1, 6, 1, 1)
    assert torch.allclose(norm.train()(x), want, atol=1e-4)
