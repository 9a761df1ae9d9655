"""Transformers over patches: DiT with adaLN-Zero, an MM-DiT block, a pre-norm ViT with the norm as a parameter."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .norms import PowerNorm, RMSNorm, UnifiedNorm
from .unets import sinusoid


def block_norm(kind: str, width: int, affine: bool = True) -> nn.Module:
    match kind:
        case "ln":
            return nn.LayerNorm(width, eps=1e-6, elementwise_affine=affine)
        case "rms":
            return RMSNorm(width)
        case "power":
            return PowerNorm(width)
        case "un":
            return UnifiedNorm(width)
    raise ValueError(kind)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return x * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1)


class Attention(nn.Module):
    """Multi-head self-attention over [N, T, D]; `sdpa` uses PyTorch's fused call."""

    def __init__(self, width: int, heads: int, sdpa: bool = False) -> None:
        super().__init__()
        self.heads, self.sdpa = heads, sdpa
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, t, d = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        if self.sdpa:
            y = F.scaled_dot_product_attention(q, k, v)
        else:
            a = (q * (d // self.heads) ** -0.5) @ k.transpose(-2, -1)
            y = a.softmax(dim=-1) @ v
        return self.proj(y.transpose(1, 2).reshape(n, t, d))


class Mlp(nn.Module):
    def __init__(self, width: int, ratio: int, act: str) -> None:
        super().__init__()
        self.fc1, self.fc2, self.act = nn.Linear(width, ratio * width), nn.Linear(ratio * width, width), act

    def forward(self, x: Tensor) -> Tensor:
        h = self.fc1(x)
        h = F.gelu(h, approximate="tanh") if self.act == "tanh" else F.gelu(h)
        return self.fc2(h)


class DitBlock(nn.Module):
    def __init__(self, width: int, heads: int, norm: str) -> None:
        super().__init__()
        self.norm1, self.norm2 = block_norm(norm, width, False), block_norm(norm, width, False)
        self.attn, self.mlp = Attention(width, heads), Mlp(width, 4, "tanh")
        self.ada = nn.Linear(width, 6 * width)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.ada(F.silu(c)).chunk(6, dim=1)
        x = x + gate1.unsqueeze(1) * self.attn(modulate(self.norm1(x), shift1, scale1))
        return x + gate2.unsqueeze(1) * self.mlp(modulate(self.norm2(x), shift2, scale2))


class Dit(nn.Module):
    """`forward(z[N,C,S,S], t[N], label[N]) -> velocity[N,C,S,S]` (Peebles and Xie, 2023)."""

    def __init__(
        self, size: int, channels: int, patch: int, width: int, depth: int, heads: int, classes: int, norm: str = "ln"
    ) -> None:
        super().__init__()
        self.patch, self.grid, self.channels, self.freq = patch, size // patch, channels, width
        self.embed = nn.Conv2d(channels, width, patch, stride=patch)
        self.pos = nn.Parameter(0.5 * torch.randn(1, self.grid**2, width))
        self.time0, self.time1 = nn.Linear(self.freq, width), nn.Linear(width, width)
        self.labels = nn.Embedding(classes, width)
        self.blocks = nn.ModuleList([DitBlock(width, heads, norm) for _ in range(depth)])
        self.norm, self.ada = block_norm(norm, width, False), nn.Linear(width, 2 * width)
        self.head = nn.Linear(width, patch * patch * channels)

    def forward(self, z: Tensor, t: Tensor, label: Tensor) -> Tensor:
        x = self.embed(z).flatten(2).transpose(1, 2) + self.pos
        c = self.time1(F.silu(self.time0(sinusoid(t * 1000.0, self.freq, cos_first=True, last=0.0))))
        c = c + self.labels(label)
        for block in self.blocks:
            x = block(x, c)
        shift, scale = self.ada(F.silu(c)).chunk(2, dim=1)
        x = self.head(modulate(self.norm(x), shift, scale))
        g, p = self.grid, self.patch
        x = x.reshape(-1, g, g, p, p, self.channels)
        return torch.einsum("nhwpqc->nchpwq", x).reshape(-1, self.channels, g * p, g * p)


class MmDitBlock(nn.Module):
    """Two streams that attend jointly, each with its own weights, modulation and QK-norm (Esser et al., 2024).

    `forward(x[N,T,D], context[N,S,D], c[N,D]) -> (x, context)`
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ada = nn.ModuleList([nn.Linear(width, 6 * width) for _ in range(2)])
        self.norm1 = nn.ModuleList([block_norm("ln", width, False) for _ in range(2)])
        self.norm2 = nn.ModuleList([block_norm("ln", width, False) for _ in range(2)])
        self.qkv = nn.ModuleList([nn.Linear(width, 3 * width) for _ in range(2)])
        self.qnorm = nn.ModuleList([RMSNorm(width // heads) for _ in range(2)])
        self.knorm = nn.ModuleList([RMSNorm(width // heads) for _ in range(2)])
        self.proj = nn.ModuleList([nn.Linear(width, width) for _ in range(2)])
        self.mlp = nn.ModuleList([Mlp(width, 4, "tanh") for _ in range(2)])

    def forward(self, x: Tensor, context: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        streams, parts, q, k, v = [x, context], [], [], [], []
        for i, s in enumerate(streams):
            parts.append(self.ada[i](F.silu(c)).chunk(6, dim=1))
            shift, scale = parts[i][0], parts[i][1]
            n, t, d = s.shape
            qkv = self.qkv[i](modulate(self.norm1[i](s), shift, scale))
            qkv = qkv.reshape(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
            q.append(self.qnorm[i](qkv[0]))
            k.append(self.knorm[i](qkv[1]))
            v.append(qkv[2])
        y = F.scaled_dot_product_attention(torch.cat(q, 2), torch.cat(k, 2), torch.cat(v, 2))
        y = y.transpose(1, 2).flatten(2)
        done = []
        for i, (s, part) in enumerate(zip(streams, y.split([s.shape[1] for s in streams], dim=1))):
            _, _, gate1, shift2, scale2, gate2 = parts[i]
            s = s + gate1.unsqueeze(1) * self.proj[i](part)
            s = s + gate2.unsqueeze(1) * self.mlp[i](modulate(self.norm2[i](s), shift2, scale2))
            done.append(s)
        return done[0], done[1]


class VitBlock(nn.Module):
    def __init__(self, width: int, heads: int, norm: str) -> None:
        super().__init__()
        self.norm1, self.norm2 = block_norm(norm, width), block_norm(norm, width)
        self.attn, self.mlp = Attention(width, heads, sdpa=True), Mlp(width, 3, "erf")

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Vit(nn.Module):
    """Pre-norm ViT with a mean-pooled head: `forward(image[N,C,S,S]) -> logits[N,K]`."""

    def __init__(
        self, size: int, channels: int, patch: int, width: int, depth: int, heads: int, classes: int, norm: str
    ) -> None:
        super().__init__()
        self.embed = nn.Conv2d(channels, width, patch, stride=patch)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.pos = nn.Parameter(0.5 * torch.randn(1, (size // patch) ** 2 + 1, width))
        self.blocks = nn.ModuleList([VitBlock(width, heads, norm) for _ in range(depth)])
        self.norm, self.head = block_norm(norm, width), nn.Linear(width, classes)

    def forward(self, image: Tensor) -> Tensor:
        x = self.embed(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.pos
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])
