"""The distance of distributions against an implementation in NumPy, and what it is for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from recipe.distillation import GuidedConfig, Pairs, guided_distill
from recipe.loop import Schedule, step_rng
from recipe.losses import pooled, squared
from recipe.matching import MomentMatch
from recipe.scoring import Moments, frechet


def rows(count: int, seed: int, width: int = 5) -> Tensor:
    rng = step_rng(seed, 0)
    return torch.randn(count, width, generator=rng) @ torch.randn(width, width, generator=rng) + 0.5


def itself(x: Tensor) -> Tensor:
    return x


def test_the_running_distance_is_that_of_averaged_moments() -> None:
    real, memory = rows(400, 0), 0.75
    match, unit = MomentMatch(itself, real, memory), real.double().std(0).numpy()
    scaled = real.double().numpy() / unit
    wanted = Moments(scaled.mean(0), np.cov(scaled, rowvar=False, bias=True))
    batches = [rows(30, seed) for seed in range(1, 9)]
    mean, second = np.zeros(5), np.zeros((5, 5))
    for step, batch in enumerate(batches):
        share = max(0.25, 1 / (step + 1))
        x = batch.double().numpy() / unit
        mean = (1 - share) * mean + share * x.mean(0)
        second = (1 - share) * second + share * x.T @ x / len(x)
        got = float(match(batch))
        assert got == pytest.approx(frechet(Moments(mean, second - np.outer(mean, mean)), wanted) / 5, rel=1e-4)


def test_its_gradient_is_that_of_the_whole_average() -> None:
    """Against differences of the distance when all samples that are averaged move with the batch's."""
    match = MomentMatch(itself, rows(400, 0), 0.9)
    x = rows(40, 1).requires_grad_()
    match(x).backward()
    fresh = MomentMatch(itself, rows(400, 0), 0.9)
    fresh.count.fill_(1000)
    # The past holds the same batch, so the distance is the batch's own while the batch is a tenth of the average.
    scaled = (x.detach().double() / fresh.unit).requires_grad_(False)
    fresh.mean.copy_(scaled.mean(0))
    fresh.second.copy_(scaled.T @ scaled / len(scaled))
    y = x.detach().clone().requires_grad_()
    fresh(y).backward()
    assert torch.allclose(x.grad, y.grad, rtol=1e-4, atol=1e-7)
    for i, j in ((0, 0), (7, 3)):
        moved = [x.detach().double().clone() for _ in range(2)]
        moved[0][i, j] += 1e-3
        moved[1][i, j] -= 1e-3
        up, down = (MomentMatch(itself, rows(400, 0), 0.0)(m.float()) for m in moved)
        assert float(x.grad[i, j]) == pytest.approx(float(up - down) / 2e-3, rel=0.02, abs=1e-5)


def test_equal_distributions_are_at_distance_zero_and_a_bad_memory_is_refused() -> None:
    real = rows(3000, 0)
    assert float(MomentMatch(itself, real)(real)) == pytest.approx(0, abs=1e-3)
    with pytest.raises(ValueError, match="memory"):
        MomentMatch(itself, real, 1.0)


def test_pooled_features_are_means_and_deviations_of_all_layers() -> None:
    image = torch.randn(3, 2, 4, 4, generator=step_rng(0, 0))
    got = pooled(lambda x: [x, x[..., ::2, ::2]], image)
    seen = (image.double().numpy() + 1) / 2
    small = seen[..., ::2, ::2]
    want = np.concatenate([f(part, axis=(2, 3)) for part in (seen, small) for f in (np.mean, np.std)], 1)
    assert np.allclose(got.numpy(), want, atol=1e-4)


class Shift(nn.Module):
    """One step draws scale * z: regression onto pairs that have nothing to do with z shrinks it to nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2))

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        return (self.scale - 1) * z


def shrunken(match: MomentMatch | None, steps: int, path: Path | None = None) -> Tensor:
    pairs = Pairs(torch.randn(2000, 2, generator=step_rng(1, 0)), torch.randn(2000, 2, generator=step_rng(2, 0)))
    config = GuidedConfig(batch=64, distance=squared, match=match, match_weight=5.0)
    schedule = Schedule(steps=steps, lr=0.02, warmup=5, ema=0.9)
    return guided_distill(Shift(), pairs, config, schedule, path).scale.detach()


def test_it_undoes_the_shrinking_of_regression() -> None:
    real = torch.randn(4000, 2, generator=step_rng(3, 0))
    assert float(shrunken(None, 300).abs().max()) < 0.1
    assert float(shrunken(MomentMatch(itself, real), 300).abs().min()) > 0.7


def test_what_it_remembers_survives_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.randn(500, 2, generator=step_rng(3, 0))
    whole = shrunken(MomentMatch(itself, real), 12)

    class Dying(MomentMatch):
        def forward(self, made: Tensor) -> Tensor:
            if int(self.count) == 7:
                raise KeyboardInterrupt
            return super().forward(made)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        from recipe import distillation

        saving = distillation.train
        patch.setattr(distillation, "train", lambda *a, **k: saving(*a, save_seconds=0.0, **k))
        shrunken(Dying(itself, real), 12, tmp_path / "a.pt")
    assert torch.equal(shrunken(MomentMatch(itself, real), 12, tmp_path / "a.pt"), whole)


def test_it_is_for_one_step() -> None:
    data = torch.randn(50, 2, generator=step_rng(0, 0))
    config = GuidedConfig(match=MomentMatch(itself, data))
    with pytest.raises(ValueError, match="one step"):
        guided_distill(Shift(), Pairs(data, data), config, Schedule(steps=1, lr=1e-3), steps=2)
