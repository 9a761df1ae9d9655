"""U-Nets over images: the NCSN++-style slim U-Net of SlimFlow and blocks of the ADM U-Net.

Written from the papers' descriptions. What matters here is the spelling that the exporters see: 1x1 convolutions as
Einstein sums over transposed axes, upsampling as reshape and repeat over six axes, group norm everywhere.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .norms import ObservedBatchNorm


def sinusoid(t: Tensor, width: int, cos_first: bool = False, last: float = 1.0) -> Tensor:
    """Sines and cosines of `t[N]` at frequencies 10000^(-i / (width/2 - last)), as [N, width]."""
    half = width // 2
    f = torch.exp(torch.arange(half, dtype=torch.float32) * (-math.log(10000.0) / (half - last)))
    x = t[:, None] * f[None, :]
    return torch.cat([x.cos(), x.sin()] if cos_first else [x.sin(), x.cos()], dim=1)


def make_norm(kind: str, channels: int) -> nn.Module:
    if kind == "bn":
        return ObservedBatchNorm(channels)
    return nn.GroupNorm(min(channels // 4, 32), channels, eps=1e-6)


class Nin(nn.Module):
    """A 1x1 convolution spelled as an Einstein sum over the last axis ("network in network")."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.w, self.b = nn.Parameter(torch.randn(cin, cout) / math.sqrt(cin)), nn.Parameter(torch.zeros(cout))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.einsum("abcd,de->abce", x.permute(0, 2, 3, 1), self.w) + self.b
        return y.permute(0, 3, 1, 2)


class SlimAttention(nn.Module):
    def __init__(self, channels: int, norm: str) -> None:
        super().__init__()
        self.norm = make_norm(norm, channels)
        self.q, self.k, self.v, self.out = (Nin(channels, channels) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        y = self.norm(x)
        q, k, v = self.q(y), self.k(y), self.v(y)
        a = torch.einsum("bchw,bcij->bhwij", q, k) * (int(c) ** -0.5)
        a = F.softmax(a.reshape(n, h, w, h * w), dim=-1).reshape(n, h, w, h, w)
        y = self.out(torch.einsum("bhwij,bcij->bchw", a, v))
        return (x + y) / math.sqrt(2.0)


def upsample(x: Tensor) -> Tensor:
    _, c, h, w = x.shape
    return x.reshape(-1, c, h, 1, w, 1).repeat(1, 1, 1, 2, 1, 2).reshape(-1, c, h * 2, w * 2)


def downsample(x: Tensor) -> Tensor:
    _, c, h, w = x.shape
    return x.reshape(-1, c, h // 2, 2, w // 2, 2).mean(dim=(3, 5))


class SlimBlock(nn.Module):
    """Pre-activation residual block with resampling of both branches ("biggan" block)."""

    def __init__(self, cin: int, cout: int, emb: int, norm: str, resample: str = "") -> None:
        super().__init__()
        self.gn0, self.gn1 = make_norm(norm, cin), make_norm(norm, cout)
        self.conv0, self.conv1 = nn.Conv2d(cin, cout, 3, padding=1), nn.Conv2d(cout, cout, 3, padding=1)
        self.dense = nn.Linear(emb, cout)
        self.skip = nn.Conv2d(cin, cout, 1) if cin != cout or resample else None
        self.resample = {"": None, "up": upsample, "down": downsample}[resample]

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = F.silu(self.gn0(x))
        if self.resample is not None:
            h, x = self.resample(h), self.resample(x)
        h = self.conv0(h) + self.dense(F.silu(emb))[:, :, None, None]
        h = self.conv1(F.silu(self.gn1(h)))
        if self.skip is not None:
            x = self.skip(x)
        return (x + h) / math.sqrt(2.0)


class SlimUNet(nn.Module):
    """`forward(z[N,C,S,S], t[N], (label[N])) -> velocity[N,C,S,S]`; the network embeds 999 t."""

    def __init__(
        self,
        size: int,
        channels: int,
        nf: int,
        mult: tuple[int, ...],
        blocks: int,
        attention: int,
        classes: int = 0,
        norm: str = "gn",
    ) -> None:
        super().__init__()
        self.nf, emb = nf, 4 * nf
        self.time0, self.time1 = nn.Linear(nf, emb), nn.Linear(emb, emb)
        self.labels = nn.Embedding(classes, emb) if classes else None
        self.stem = nn.Conv2d(channels, nf, 3, padding=1)
        width, at, skips = nf, size, [nf]
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, m in enumerate(mult):
            for _ in range(blocks):
                self.down.append(SlimBlock(width, nf * m, emb, norm))
                width = nf * m
                if at == attention:
                    self.down.append(SlimAttention(width, norm))
                skips.append(width)
            if level != len(mult) - 1:
                self.down.append(SlimBlock(width, width, emb, norm, "down"))
                skips.append(width)
                at //= 2
        self.keeps = [not isinstance(follower, SlimAttention) for follower in [*self.down[1:], None]]
        self.mid = nn.ModuleList(
            [SlimBlock(width, width, emb, norm), SlimAttention(width, norm), SlimBlock(width, width, emb, norm)]
        )
        for level, m in reversed(list(enumerate(mult))):
            for _ in range(blocks + 1):
                self.up.append(SlimBlock(width + skips.pop(), nf * m, emb, norm))
                width = nf * m
            if at == attention:
                self.up.append(SlimAttention(width, norm))
            if level != 0:
                self.up.append(SlimBlock(width, width, emb, norm, "up"))
                at *= 2
        self.norm, self.head = make_norm(norm, width), nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, z: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        emb = self.time1(F.silu(self.time0(sinusoid(t * 999.0, self.nf))))
        if self.labels is not None:
            emb = emb + self.labels(label)
        x = self.stem(z)
        skips = [x]
        for layer, keep in zip(self.down, self.keeps):
            x = layer(x) if isinstance(layer, SlimAttention) else layer(x, emb)
            if keep:
                skips.append(x)
        for layer in self.mid:
            x = layer(x) if isinstance(layer, SlimAttention) else layer(x, emb)
        for layer in self.up:
            if isinstance(layer, SlimAttention):
                x = layer(x)
            elif layer.resample is not None:
                x = layer(x, emb)
            else:
                x = layer(torch.cat([x, skips.pop()], dim=1), emb)
        return self.head(F.silu(self.norm(x)))


class AdmBlock(nn.Module):
    """ADM residual block: adaptive group norm, resampling by depthwise 2x2 kernels, attention with interleaved qkv."""

    def __init__(self, cin: int, cout: int, emb: int, resample: str = "", heads: int = 0) -> None:
        super().__init__()
        groups = min(32, cin // 4)
        self.norm0, self.norm1 = nn.GroupNorm(groups, cin), nn.GroupNorm(min(32, cout // 4), cout)
        self.conv0, self.conv1 = nn.Conv2d(cin, cout, 3, padding=1), nn.Conv2d(cout, cout, 3, padding=1)
        self.affine = nn.Linear(emb, 2 * cout)
        self.skip = nn.Conv2d(cin, cout, 1) if cin != cout else None
        self.resample, self.heads = resample, heads
        self.register_buffer("mean", torch.full((cin, 1, 2, 2), 0.25))
        self.register_buffer("ones", torch.ones(cin, 1, 2, 2))
        if heads:
            self.norm2 = nn.GroupNorm(min(32, cout // 4), cout)
            self.qkv, self.proj = nn.Conv2d(cout, 3 * cout, 1), nn.Conv2d(cout, cout, 1)

    def resampled(self, x: Tensor) -> Tensor:
        if self.resample == "down":
            return F.conv2d(x, self.mean, stride=2, groups=x.shape[1])
        if self.resample == "up":
            return F.conv_transpose2d(x, self.ones, stride=2, groups=x.shape[1])
        return x

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv0(self.resampled(F.silu(self.norm0(x))))
        scale, shift = self.affine(emb)[:, :, None, None].chunk(2, dim=1)
        h = self.conv1(F.silu(torch.addcmul(shift, self.norm1(h), scale + 1)))
        x = self.resampled(x)
        x = h + (x if self.skip is None else self.skip(x))
        if self.heads:
            n, c, height, width = x.shape
            qkv = self.qkv(self.norm2(x)).reshape(n * self.heads, c // self.heads, 3, height * width)
            q, k, v = qkv.unbind(2)
            a = torch.einsum("ncq,nck->nqk", q, k / math.sqrt(c // self.heads)).softmax(dim=2)
            a = torch.einsum("nqk,nck->ncq", a, v)
            x = self.proj(a.reshape(n, c, height, width)) + x
        return x


class AdmUNet(nn.Module):
    """Two levels of ADM blocks. `forward(z[N,C,S,S], t[N], onehot[N,K]) -> velocity[N,C,S,S]`."""

    def __init__(self, channels: int, nf: int, classes: int, heads: int) -> None:
        super().__init__()
        self.nf, self.classes, emb = nf, classes, 4 * nf
        self.time0, self.time1 = nn.Linear(nf, emb), nn.Linear(emb, emb)
        self.labels = nn.Linear(classes, emb, bias=False)
        self.stem = nn.Conv2d(channels, nf, 3, padding=1)
        self.in0, self.down = AdmBlock(nf, nf, emb), AdmBlock(nf, nf, emb, "down")
        self.mid = AdmBlock(nf, 2 * nf, emb, heads=heads)
        self.up, self.out0 = AdmBlock(2 * nf, 2 * nf, emb, "up"), AdmBlock(3 * nf, nf, emb)
        self.norm, self.head = nn.GroupNorm(min(32, nf // 4), nf), nn.Conv2d(nf, channels, 3, padding=1)

    def forward(self, z: Tensor, t: Tensor, onehot: Tensor) -> Tensor:
        emb = F.silu(self.time0(sinusoid(t, self.nf, cos_first=True, last=0.0)))
        emb = F.silu(self.time1(emb) + self.labels(onehot * math.sqrt(self.classes)))
        x = self.in0(self.stem(z), emb)
        y = self.up(self.mid(self.down(x, emb), emb), emb)
        return self.head(F.silu(self.norm(self.out0(torch.cat([y, x], dim=1), emb))))
