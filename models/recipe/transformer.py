"""Flow nets over the 7x7 positions of an image or a latent, or another grid: a pre-norm transformer, and a pre-norm
mixer of convolutions alone, every operation of which has an int8 kernel.

Shapes are written out, with -1 for the batch alone, so that the exported graph holds no arithmetic on shapes.
Time and label enter only as a bias of each block's hidden layer, so that at a fixed time they are constants. Every
norm stands before linear layers (and, with Peri placement, behind one), so that one with fixed statistics folds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .nets import Embedding, NetConfig
from .norm import NormKind, UnifiedConfig, norm_maker


@dataclass(frozen=True)
class TransformerConfig:
    """`channels` in and out, `grid` x `grid` tokens of `patch` x `patch` pixels, `ratio` hidden widths of the MLP.

    `placement` "peri" (Peri-LN, ICML 2025) puts a second norm behind each branch: x + N(F(N(x))).
    """

    channels: int = 1
    patch: int = 4
    grid: int = 7
    width: int = 64
    blocks: int = 4
    heads: int = 4
    ratio: int = 3
    sinusoids: int = 32
    embed: int = 64
    labels: int = 10
    norm: NormKind = "unified"
    placement: Literal["pre", "peri"] = "pre"
    unified: UnifiedConfig = UnifiedConfig()

    @property
    def tokens(self) -> int:
        return self.grid**2

    def embedding(self) -> Embedding:
        return Embedding(NetConfig(0, 0, self.sinusoids, self.embed, self.labels))


class Attention(nn.Module):
    """softmax(q k^T / sqrt(width / heads)) v over tokens [n, tokens, width], q, k and v by three linear layers."""

    def __init__(self, width: int, heads: int, tokens: int) -> None:
        super().__init__()
        self.heads, self.width, self.tokens = heads, width, tokens
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(-1, self.tokens, self.heads, self.width // self.heads).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self._split(self.query(x)), self._split(self.key(x)), self._split(self.value(x))
        scale = (self.width // self.heads) ** -0.5
        weights = torch.softmax(q @ k.transpose(2, 3) * scale, 3)
        return self.out((weights @ v).transpose(1, 2).reshape(-1, self.tokens, self.width))


class TransformerBlock(nn.Module):
    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        make, width = norm_maker(config.norm, config.unified, "tokens"), config.width
        peri = config.placement == "peri"
        self.attention_in, self.mlp_in = make(width), make(width)
        self.attention_out, self.mlp_out = (make(width) if peri else nn.Identity() for _ in range(2))
        self.attention = Attention(width, config.heads, config.tokens)
        self.first = nn.Linear(width, config.ratio * width)
        self.dense = nn.Linear(config.embed, config.ratio * width)
        self.second = nn.Linear(config.ratio * width, width)

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        x = x + self.attention_out(self.attention(self.attention_in(x)))
        hidden = F.silu(self.first(self.mlp_in(x)) + self.dense(s)[:, None])
        return x + self.mlp_out(self.second(hidden))


class TransformerFlow(nn.Module):
    """velocity = net(noise [n, channels, grid patch, grid patch], t [n], label [n])."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        features = config.channels * config.patch**2
        self.embedding = config.embedding()
        self.patches = nn.Linear(features, config.width)
        self.position = nn.Parameter(0.02 * torch.randn(1, config.tokens, config.width))
        self.blocks = nn.ModuleList(TransformerBlock(config) for _ in range(config.blocks))
        self.norm = norm_maker(config.norm, config.unified, "tokens")(config.width)
        self.head = nn.Linear(config.width, features)
        nn.init.normal_(self.head.weight, std=1e-3)
        nn.init.zeros_(self.head.bias)

    def forward(self, noise: Tensor, t: Tensor, label: Tensor) -> Tensor:
        s = self.embedding(t, label)
        x = F.pixel_unshuffle(noise, self.config.patch) if self.config.patch > 1 else noise
        features, grid = self.patches.in_features, self.config.grid
        x = self.patches(x.reshape(-1, features, self.config.tokens).transpose(1, 2)) + self.position
        for block in self.blocks:
            x = block(x, s)
        x = self.head(self.norm(x)).transpose(1, 2).reshape(-1, features, grid, grid)
        return F.pixel_shuffle(x, self.config.patch) if self.config.patch > 1 else x


class MixerBlock(nn.Module):
    """x + out(silu(mix(silu(value(N(x)))))), then x + second(silu(first(N(x)) + dense(s))), on [n, width, 7, 7].

    `mix` is the only layer that sees neighbours, a 3x3 convolution between 1x1 ones. A norm directly before it could
    not fold, because its shift would have to reach the zero padding; before `value` it folds.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        make, width, narrow = norm_maker(config.norm, config.unified), config.width, config.width // 2
        self.mix_in, self.mlp_in = make(width), make(width)
        self.value, self.out = nn.Conv2d(width, narrow, 1), nn.Conv2d(narrow, width, 1)
        self.mix = nn.Conv2d(narrow, narrow, 3, 1, 1)
        self.first = nn.Conv2d(width, config.ratio * width, 1)
        self.dense = nn.Linear(config.embed, config.ratio * width)
        self.second = nn.Conv2d(config.ratio * width, width, 1)

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        x = x + self.out(F.silu(self.mix(F.silu(self.value(self.mix_in(x))))))
        hidden = F.silu(self.first(self.mlp_in(x)) + self.dense(s)[:, :, None, None])
        return x + self.second(hidden)


class MixerFlow(nn.Module):
    """velocity = net(noise [n, channels, 7, 7], t [n], label [n]); `patch`, `grid` and `heads` are not used.

    Positions differ by their distance to the zero padding, so that no table of positions is added.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = config.embedding()
        self.stem = nn.Conv2d(config.channels, config.width, 3, 1, 1)
        self.blocks = nn.ModuleList(MixerBlock(config) for _ in range(config.blocks))
        self.norm = norm_maker(config.norm, config.unified)(config.width)
        self.head = nn.Conv2d(config.width, config.channels, 1)
        nn.init.normal_(self.head.weight, std=1e-3)
        nn.init.zeros_(self.head.bias)

    def forward(self, noise: Tensor, t: Tensor, label: Tensor) -> Tensor:
        s = self.embedding(t, label)
        x = self.stem(noise)
        for block in self.blocks:
            x = block(x, s)
        return self.head(self.norm(x))


VITS = {
    "fashion-vit": TransformerConfig(),
    "fashion-vit-ln": TransformerConfig(norm="layer"),
    "fashion-vit-bn": TransformerConfig(norm="batch"),
    "fashion-vit-pn": TransformerConfig(norm="power"),
    "fashion-vit-peri": TransformerConfig(placement="peri"),
}
LATENT_TEACHER = TransformerConfig(channels=4, patch=1, width=80, labels=11, norm="layer", embed=96)
LATENT_STUDENT = TransformerConfig(channels=4, patch=1, width=64, blocks=5)
