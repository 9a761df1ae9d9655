"""The 8x8 digits: split, domains, networks."""

from __future__ import annotations

import pytest
import torch

from recipe import digits
from recipe.loop import Schedule
from recipe.norm import norms
from recipe.transformer import TransformerFlow

SHORT = Schedule(steps=3, lr=1e-3, warmup=1, seed=31)


def test_held_out_images_and_the_halves_are_disjoint() -> None:
    train, held = digits.load()
    assert (len(train.x), len(held.x)) == (1437, 360)
    assert float(train.x.min()) == -1 and float(train.x.max()) == 1
    known = {bytes(x.numpy()) for x in train.x}
    assert not any(bytes(x.numpy()) in known for x in held.x)
    a = {bytes(x.numpy()) for x in digits.domain("digits-a", train).x}
    rest = [x for x in train.x if bytes(x.numpy()) not in a]
    assert (len(a), len(rest)) == (719, 718)
    assert torch.equal(digits.domain("digits-b", train).x, digits.inverted(torch.stack(rest)))
    assert held.label.bincount().min() >= 25


def test_the_map_between_the_domains_blurs_and_inverts() -> None:
    point = torch.full((1, 1, 8, 8), -1.0)
    point[0, 0, 3, 4] = 1.0
    wanted = torch.full((8, 8), 1.0)
    wanted[2:5, 3:6] -= 2 * torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]) / 16
    assert torch.allclose(digits.inverted(point)[0, 0], wanted, atol=1e-6)
    assert torch.allclose(digits.inverted(torch.full((1, 1, 8, 8), 0.3)), torch.tensor(-0.3))


@pytest.mark.parametrize("name", digits.NETS)
def test_every_net_trains_and_returns_from_its_file(name: str, tmp_path) -> None:
    train, _ = digits.load()
    made = digits.fit(name, tmp_path, train, SHORT)
    again = digits.restore(name, tmp_path, SHORT)
    inputs = (torch.randn(4, *digits.SHAPE), torch.linspace(0, 1, 4), torch.tensor([0, 3, 9, 10]))
    assert torch.equal(made(*inputs), again(*inputs)) and made(*inputs).shape == inputs[0].shape
    assert norms(again) and isinstance(again, TransformerFlow) == (name == "digits")


def test_nearest_is_the_root_mean_square_a_pixel() -> None:
    known = torch.stack([torch.zeros(digits.SHAPE), torch.ones(digits.SHAPE)])
    assert digits.nearest(torch.full((1, *digits.SHAPE), 0.75), known) == pytest.approx(0.25)
