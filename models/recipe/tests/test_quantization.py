"""Folding and fake quantization."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from recipe import quantization
from recipe.nets import FlowNet, NetConfig
from recipe.norm import norms, recalibrate
from recipe.quantization import Scales, attach, conv_before, detach, fake_quantize, fold_norms, largest_scales


def deployed() -> tuple[FlowNet, tuple[torch.Tensor, ...]]:
    torch.manual_seed(0)
    model = FlowNet(NetConfig(narrow=8, wide=8, sinusoids=8, embed=8)).eval()
    inputs = (torch.randn(6, 1, 28, 28), torch.zeros(6), torch.arange(6))
    with torch.no_grad():
        model.head.weight.normal_(std=0.1)
        for norm in norms(model):
            norm.gamma.uniform_(0.5, 1.5)
            norm.beta.normal_()
    recalibrate(model, *inputs)
    return model, inputs


@torch.no_grad()
def test_folding_changes_no_output_and_leaves_no_norm() -> None:
    model, inputs = deployed()
    want = model(*inputs)
    fold_norms(model, conv_before)
    assert not norms(model)
    assert torch.allclose(model(*inputs), want, atol=1e-4)


def test_values_go_to_the_grid_and_gradients_pass_inside_it() -> None:
    x = torch.tensor([0.04, 0.26, 500.0, -500.0], requires_grad=True)
    y = fake_quantize(x, torch.tensor(0.1))
    assert torch.allclose(y, torch.tensor([0.0, 0.3, 12.7, -12.7]))
    y.sum().backward()
    assert torch.equal(x.grad, torch.tensor([1.0, 1.0, 0.0, 0.0]))


def test_scales_from_a_file_are_what_the_layers_use(tmp_path: Path) -> None:
    model, inputs = deployed()
    fold_norms(model, conv_before)
    layers = [name for name, m in model.named_modules() if isinstance(m, nn.Conv2d)]
    largest_scales(model, layers, *inputs).write(tmp_path / "scales.json")
    scales = Scales.read(tmp_path / "scales.json")
    with torch.no_grad():
        want = model(*inputs)
        made = attach(model, scales)(*inputs)
        noise = (made - want).square().mean() / want.square().mean()
        assert 0 < float(noise) < 0.01
        optimiser_sees = {name for name, _ in model.named_parameters()}
        assert "stem.conv.layer.weight" in optimiser_sees
        detach(model)
    steps = model.stem.conv.weight.flatten(1) / torch.tensor(scales.weights["stem.conv"])[:, None]
    assert torch.allclose(steps, steps.round(), atol=1e-3)


def test_one_sided_or_misplaced_scales_are_refused() -> None:
    model, _ = deployed()
    with pytest.raises(ValueError, match="one side"):
        attach(model, Scales({"stem.conv": 1.0}, {}))
    with pytest.raises(ValueError, match="not a convolution"):
        attach(model, Scales({"stem.norm": 1.0}, {"stem.norm": (1.0,)}))
    with pytest.raises(ValueError, match="weight scales"):
        attach(model, Scales({"stem.conv": 1.0}, {"stem.conv": (1.0,)}))


def test_inputs_are_rounded_within_the_context_alone() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.SiLU(), nn.Conv2d(2, 1, 1, bias=False))
    x = torch.randn(4, 1, 6, 6)
    plain = model(x)
    first = (float(x.max()) - float(x.min())) / 255
    on_grid = model[0]((x / first).round() * first)
    h = nn.functional.silu(model[0](x))
    second = (float(h.max()) - float(h.min())) / 255
    wanted = model[2]((nn.functional.silu(on_grid) / second).round() * second)
    with quantization.rounded_inputs(model, x):
        y = x.clone().requires_grad_()
        got = model(y)
        got.sum().backward()
    assert torch.allclose(got, wanted, atol=1e-6) and not torch.equal(got, plain)
    assert float(y.grad.abs().min()) > 0, "rounding stops no gradient"
    assert torch.equal(model(x), plain)
