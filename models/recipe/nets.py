"""The class-conditional U-Net of the example models; the flow convention is that of `flow`."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .norm import NormKind, StandardConv2d, UnifiedConfig, norm_maker

NULL_LABEL = 10


@dataclass(frozen=True)
class NetConfig:
    """`narrow` channels at half the image's size, `wide` at a quarter, `sinusoids` time features, `embed` embedding
    width, `planes` image planes read (one is written).
    """

    narrow: int
    wide: int
    sinusoids: int
    embed: int
    labels: int = 10
    norm: NormKind = "unified"
    unified: UnifiedConfig = UnifiedConfig()
    planes: int = 1


TEACHER = NetConfig(narrow=48, wide=64, sinusoids=32, embed=128, labels=11, norm="group")
FASHION = NetConfig(narrow=40, wide=64, sinusoids=32, embed=64)
STUDENTS = {
    "fashion": FASHION,
    "fashion-bn": replace(FASHION, norm="batch"),
    "fashion-gn": replace(FASHION, norm="group"),
    "fashion-tiny": NetConfig(narrow=24, wide=32, sinusoids=16, embed=32),
    "fashion-large": NetConfig(narrow=64, wide=96, sinusoids=32, embed=96),
}


def make_conv(config: NetConfig) -> type[nn.Conv2d]:
    return StandardConv2d if config.norm == "batch-channel" else nn.Conv2d


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
        self.conv = make_conv(config)(cin, cout, 3, stride, 1, bias=False)
        self.norm = norm_maker(config.norm, config.unified)(cout)
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
        self.conv = make_conv(config)(cout, cout, 3, 1, 1, bias=False)
        self.norm = norm_maker(config.norm, config.unified)(cout)
        self.skip = None
        if cin != cout:
            self.skip = nn.Sequential(
                make_conv(config)(cin, cout, 1, bias=False), norm_maker(config.norm, config.unified)(cout)
            )

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        h = self.norm(self.conv(self.first(x, s)))
        return F.silu(h + (x if self.skip is None else self.skip(x)))


class FlowNet(nn.Module):
    """velocity [n, 1, h, w] = net(noise [n, planes, h, w], t [n], label [n]), h and w multiples of 4; the work is
    done at half and a quarter of that size.
    """

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        narrow, wide = config.narrow, config.wide
        self.config = config
        self.embedding = Embedding(config)
        self.stem = Conditioned(4 * config.planes, narrow, config)
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
    """Multiply-accumulates of convolutions and linear layers for one call of batch 1, by watching the call.

    Products of two activations (attention) are not counted.
    """
    total = 0

    def watch(module: nn.Module, _: object, out: Tensor) -> None:
        nonlocal total
        total += out[0].numel() * module.weight[0].numel()

    hooks = [m.register_forward_hook(watch) for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    with torch.no_grad():
        net(*inputs)
    for hook in hooks:
        hook.remove()
    return total


def flow_macs(net: nn.Module, shape: tuple[int, ...] = (1, 28, 28)) -> int:
    """Multiply-accumulates of one call net(x [1, *shape], t [1], label [1])."""
    training = net.training
    net.eval()
    count = macs(net, torch.zeros(1, *shape), torch.zeros(1), torch.zeros(1, dtype=torch.int64))
    net.train(training)
    return count
