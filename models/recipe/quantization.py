"""Quantization-aware fine-tuning with scales that a compiler chose.

The file is JSON: {"activations": {layer: scale}, "weights": {layer: [scale of each output channel]}}, where a layer
is the dotted name of an nn.Conv2d or nn.Linear after `fold_norms`, an activation scale belongs to the layer's input
(one per tensor), and int8 is symmetric: q = clamp(round(x / scale), -127, 127).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from .norm import FixedNorm, StandardConv2d

LIMIT = 127


@dataclass(frozen=True)
class Scales:
    activations: dict[str, float]
    weights: dict[str, tuple[float, ...]]

    @staticmethod
    def read(path: Path) -> Scales:
        known = json.loads(path.read_text())
        return Scales(
            {name: float(s) for name, s in known["activations"].items()},
            {name: tuple(float(v) for v in s) for name, s in known["weights"].items()},
        )

    def write(self, path: Path) -> None:
        path.write_text(json.dumps({"activations": self.activations, "weights": self.weights}, indent=1) + "\n")


class _FakeQuantize(torch.autograd.Function):
    """Round to the int8 grid; the gradient passes where the value was inside its range and is 0 outside."""

    @staticmethod
    def forward(ctx, x: Tensor, scale: Tensor) -> Tensor:
        steps = x / scale
        ctx.save_for_backward(steps.abs() <= LIMIT + 0.5)
        return steps.round().clamp(-LIMIT, LIMIT) * scale

    @staticmethod
    def backward(ctx, dy: Tensor):
        (inside,) = ctx.saved_tensors
        return dy * inside, None


def fake_quantize(x: Tensor, scale: Tensor) -> Tensor:
    """x on the grid of `scale`, which broadcasts against it."""
    return _FakeQuantize.apply(x, scale)


class Quantized(nn.Module):
    """A convolution or linear layer whose input and weight are rounded to int8 in training and inference."""

    def __init__(self, layer: nn.Conv2d | nn.Linear, activation: float, weight: tuple[float, ...]) -> None:
        super().__init__()
        if len(weight) != len(layer.weight):
            raise ValueError(f"{len(weight)} weight scales for {len(layer.weight)} output channels")
        self.layer = layer
        shape = (-1, *[1] * (layer.weight.dim() - 1))
        self.register_buffer("activation_scale", torch.tensor(activation))
        self.register_buffer("weight_scale", torch.tensor(weight).view(shape))

    def forward(self, x: Tensor) -> Tensor:
        x = fake_quantize(x, self.activation_scale)
        weight = fake_quantize(self.layer.weight, self.weight_scale)
        if isinstance(self.layer, nn.Linear):
            return nn.functional.linear(x, weight, self.layer.bias)
        return self.layer._conv_forward(x, weight, self.layer.bias)


class _Round(torch.autograd.Function):
    """Round to multiples of a step; the gradient passes."""

    @staticmethod
    def forward(ctx, x: Tensor, step: float) -> Tensor:
        return (x / step).round() * step

    @staticmethod
    def backward(ctx, dy: Tensor):
        return dy, None


@contextmanager
def rounded_inputs(model: nn.Module, *inputs: Tensor) -> Iterator[None]:
    """Within it every convolution reads its input rounded, as int8 with a zero point has it: 255 steps between the
    least and the largest value that it reads on `inputs`.

    Nothing is clipped and weights stay as they are, so that no compiler's scales are needed; the net and its state are
    otherwise unchanged. Linear layers are left: in a U-Net they read time and label, which are constants when deployed.
    """
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    ranges: dict[nn.Module, tuple[float, float]] = {}

    def watch(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        low, high = ranges.get(layer, (0.0, 0.0))
        ranges[layer] = min(low, float(given[0].min())), max(high, float(given[0].max()))

    hooks = [layer.register_forward_pre_hook(watch) for layer in layers]
    with torch.no_grad():
        model(*inputs)
    for hook in hooks:
        hook.remove()

    def rounding(step: float) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
        return lambda _, given: (_Round.apply(given[0], step), *given[1:])

    hooks = [layer.register_forward_pre_hook(rounding((high - low) / 255)) for layer, (low, high) in ranges.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _child(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    parent, _, last = name.rpartition(".")
    return model.get_submodule(parent), last


@torch.no_grad()
def fold_norms(model: nn.Module, pairs: Callable[[str], str | None]) -> nn.Module:
    """Fold every fixed norm into the convolution or linear layer before it, in place; W' = diag(a) W, b' = a b + d.

    `pairs` names, for a norm's dotted name, the layer whose output it alone reads, or None to leave it.
    """
    for name, norm in list(model.named_modules()):
        wanted = pairs(name) if isinstance(norm, FixedNorm) else None
        if wanted is None:
            continue
        layer = model.get_submodule(wanted)
        scale, shift = norm.affine()
        weight = layer.standard_weight() if isinstance(layer, StandardConv2d) else layer.weight
        layer.weight.copy_(weight * scale.view(-1, *[1] * (weight.dim() - 1)))
        bias = shift if layer.bias is None else layer.bias * scale + shift
        layer.bias = nn.Parameter(bias.clone())
        if isinstance(layer, StandardConv2d):
            layer.__class__ = nn.Conv2d
        parent, last = _child(model, name)
        setattr(parent, last, nn.Identity())
    return model


def conv_before(name: str) -> str | None:
    """Where the U-Net of `nets` has a norm's convolution: `conv` beside `norm`, 0 before 1 in a skip path."""
    parent, _, last = name.rpartition(".")
    beside = {"norm": "conv", "1": "0"}.get(last)
    return None if beside is None else f"{parent}.{beside}"


def attach(model: nn.Module, scales: Scales) -> nn.Module:
    """Put `Quantized` around every layer that has scales, in place."""
    if scales.activations.keys() != scales.weights.keys():
        raise ValueError(f"scales for one side only: {sorted(scales.activations.keys() ^ scales.weights.keys())}")
    for name, activation in scales.activations.items():
        parent, last = _child(model, name)
        layer = getattr(parent, last)
        if not isinstance(layer, (nn.Conv2d, nn.Linear)):
            raise ValueError(f"{name} is a {type(layer).__name__}, not a convolution or linear layer")
        wrapped = Quantized(layer, activation, scales.weights[name])
        if isinstance(parent, (nn.Sequential, nn.ModuleList)):
            parent[int(last)] = wrapped
        else:
            setattr(parent, last, wrapped)
    return model


@torch.no_grad()
def detach(model: nn.Module) -> nn.Module:
    """Undo `attach`, keeping the trained weights on their grid."""
    for name, module in list(model.named_modules()):
        if isinstance(module, Quantized):
            module.layer.weight.copy_(fake_quantize(module.layer.weight, module.weight_scale))
            parent, last = _child(model, name)
            setattr(parent, last, module.layer)
    return model


@torch.no_grad()
def largest_scales(model: nn.Module, layers: list[str], *inputs: Tensor) -> Scales:
    """Scales from the largest magnitudes on a batch: a start where no compiler's file is at hand."""
    largest: dict[str, float] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            largest[name] = max(largest.get(name, 0.0), float(given[0].abs().max()))

        return hook

    hooks = [model.get_submodule(name).register_forward_pre_hook(watch(name)) for name in layers]
    model(*inputs)
    for hook in hooks:
        hook.remove()
    weights = {n: model.get_submodule(n).weight.flatten(1).abs().amax(1) / LIMIT for n in layers}
    return Scales(
        {name: largest[name] / LIMIT for name in layers},
        {name: tuple(w.clamp(min=1e-8).tolist()) for name, w in weights.items()},
    )
