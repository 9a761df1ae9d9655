"""The class-conditional U-Net of the example models and the flow convention.

Noise z is at t = 0 and data x in [-1, 1] at t = 1: x_t = (1 - t) z + t x, velocity v = x - z (Rectified Flow,
ICLR 2023). One step from noise is x = z + v(z, 0, label).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .norm import UnifiedConfig, UnifiedNorm

NULL_LABEL = 10


@dataclass(frozen=True)
class NetConfig:
    """`narrow` channels at 14x14, `wide` at 7x7, `sinusoids` time features, `embed` embedding width."""

    narrow: int
    wide: int
    sinusoids: int
    embed: int
    labels: int = 10
    norm: str = "unified"
    unified: UnifiedConfig = UnifiedConfig()


TEACHER = NetConfig(narrow=48, wide=64, sinusoids=32, embed=128, labels=11, norm="group")
STUDENTS = {
    "fashion": NetConfig(narrow=40, wide=64, sinusoids=32, embed=64),
    "fashion-tiny": NetConfig(narrow=24, wide=32, sinusoids=16, embed=32),
}


def make_norm(config: NetConfig) -> Callable[[int], nn.Module]:
    if config.norm == "group":
        return lambda channels: nn.GroupNorm(8, channels)
    return lambda channels: UnifiedNorm(channels, config.unified)


class Embedding(nn.Module):
    """Sinusoids of 1000 t through a two-layer perceptron, plus a learned row per label, through SiLU."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        half = config.sinusoids // 2
        self.register_buffer("frequencies", 10000.0 ** (-torch.arange(half) / (half - 1)), persistent=False)
        self.first = nn.Linear(config.sinusoids, config.embed)
        self.second = nn.Linear(config.embed, config.embed)
        self.label = nn.Embedding(config.labels, config.embed)

    def forward(self, t: Tensor, label: Tensor) -> Tensor:
        angle = 1000.0 * t[:, None] * self.frequencies[None]
        e = torch.cat([torch.sin(angle), torch.cos(angle)], dim=1)
        return F.silu(self.second(F.silu(self.first(e))) + self.label(label))


class Conditioned(nn.Module):
    """silu(norm(conv(x)) + dense(s)), with an optional nearest-neighbour doubling in front."""

    def __init__(self, cin: int, cout: int, config: NetConfig, stride: int = 1, double: bool = False) -> None:
        super().__init__()
        self.double = double
        self.conv = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.norm = make_norm(config)(cout)
        self.dense = nn.Linear(config.embed, cout)

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        if self.double:
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        return F.silu(self.norm(self.conv(x)) + self.dense(s)[:, :, None, None])


class Block(nn.Module):
    """A residual block whose every norm sits directly behind a convolution."""

    def __init__(self, cin: int, cout: int, config: NetConfig) -> None:
        super().__init__()
        self.first = Conditioned(cin, cout, config)
        self.conv = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.norm = make_norm(config)(cout)
        self.skip = None
        if cin != cout:
            self.skip = nn.Sequential(nn.Conv2d(cin, cout, 1, bias=False), make_norm(config)(cout))

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        h = self.norm(self.conv(self.first(x, s)))
        return F.silu(h + (x if self.skip is None else self.skip(x)))


class FlowNet(nn.Module):
    """velocity = net(noise [n,1,28,28], t [n], label [n]); the work is done at 14x14 and 7x7."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        narrow, wide = config.narrow, config.wide
        self.config = config
        self.embedding = Embedding(config)
        self.stem = Conditioned(4, narrow, config)
        self.encoder = Block(narrow, narrow, config)
        self.down = Conditioned(narrow, wide, config, stride=2)
        self.middle = nn.ModuleList([Block(wide, wide, config), Block(wide, wide, config)])
        self.up = Conditioned(wide, narrow, config, double=True)
        self.decoder = Block(2 * narrow, narrow, config)
        self.head = nn.Conv2d(narrow, 4, 3, 1, 1)
        nn.init.normal_(self.head.weight, std=1e-3)
        nn.init.zeros_(self.head.bias)

    def forward(self, noise: Tensor, t: Tensor, label: Tensor) -> Tensor:
        s = self.embedding(t, label)
        x = self.stem(F.pixel_unshuffle(noise, 2), s)
        skip = x = self.encoder(x, s)
        x = self.down(x, s)
        for block in self.middle:
            x = block(x, s)
        x = torch.cat([self.up(x, s), skip], dim=1)
        return F.pixel_shuffle(self.head(self.decoder(x, s)), 2)


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def macs(net: nn.Module, *inputs: Tensor) -> int:
    """Multiply-accumulates of convolutions and linear layers for one call, by watching the call."""
    total = 0

    def watch(module: nn.Module, _: object, out: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += out[0].numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            total += module.weight.numel()

    hooks = [m.register_forward_hook(watch) for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    with torch.no_grad():
        net(*inputs)
    for hook in hooks:
        hook.remove()
    return total


def flow_macs(net: FlowNet) -> int:
    training = net.training
    net.eval()
    count = macs(net, torch.zeros(1, 1, 28, 28), torch.zeros(1), torch.zeros(1, dtype=torch.int64))
    net.train(training)
    return count


def u_shaped(count: int, rng: torch.Generator, a: float = 4.0) -> Tensor:
    """Times with density proportional to e^{a t} + e^{a (1 - t)} (RF++, NeurIPS 2024), kept inside (0, 1)."""
    u = torch.rand(count, generator=rng)
    t = torch.log1p(u * (math.exp(a) - 1)) / a
    t = torch.where(torch.rand(count, generator=rng) < 0.5, t, 1 - t)
    return 1e-5 + (1 - 2e-5) * t


def blend(z: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """x_t = (1 - t) z + t x."""
    t = t.view(-1, 1, 1, 1)
    return (1 - t) * z + t * x
