"""Robot policies: the 1-D U-Net of Diffusion Policy, a residual MLP, and the image encoder in front of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .norms import BatchChannelNorm, StandardisedConv2d
from .unets import sinusoid


class ConvBlock1d(nn.Module):
    def __init__(self, cin: int, cout: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(cin, cout, kernel, padding=kernel // 2)
        self.norm = nn.GroupNorm(groups, cout)

    def forward(self, x: Tensor) -> Tensor:
        return F.mish(self.norm(self.conv(x)))


class FilmBlock1d(nn.Module):
    """Two convolutions with a FiLM between them: scale and bias per channel from the condition."""

    def __init__(self, cin: int, cout: int, cond: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.block0, self.block1 = ConvBlock1d(cin, cout, kernel, groups), ConvBlock1d(cout, cout, kernel, groups)
        self.film, self.cout = nn.Linear(cond, 2 * cout), cout
        self.skip = nn.Conv1d(cin, cout, 1) if cin != cout else nn.Identity()

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        h = self.block0(x)
        film = self.film(F.mish(cond)).reshape(-1, 2, self.cout, 1)
        h = film[:, 0] * h + film[:, 1]
        return self.block1(h) + self.skip(x)


class PolicyUNet1d(nn.Module):
    """`forward(noise[N,T,A], t[N], obs[N,O]) -> velocity[N,T,A]` (Chi et al., 2023, after its U-Net)."""

    def __init__(self, action: int, obs: int, dims: tuple[int, ...], embed: int, kernel: int = 5, groups: int = 8):
        super().__init__()
        self.embed, cond = embed, embed + obs
        self.time0, self.time1 = nn.Linear(embed, 4 * embed), nn.Linear(4 * embed, embed)
        pairs = list(zip([action, *dims[:-1]], dims))
        block = lambda cin, cout: FilmBlock1d(cin, cout, cond, kernel, groups)  # noqa: E731
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for i, (cin, cout) in enumerate(pairs):
            last = i == len(pairs) - 1
            resample = nn.Identity() if last else nn.Conv1d(cout, cout, 3, stride=2, padding=1)
            self.down.append(nn.ModuleList([block(cin, cout), block(cout, cout), resample]))
        self.mid = nn.ModuleList([block(dims[-1], dims[-1]), block(dims[-1], dims[-1])])
        for cin, cout in reversed(pairs[1:]):
            resample = nn.ConvTranspose1d(cin, cin, 4, stride=2, padding=1)
            self.up.append(nn.ModuleList([block(2 * cout, cin), block(cin, cin), resample]))
        self.last = ConvBlock1d(dims[0], dims[0], kernel, groups)
        self.head = nn.Conv1d(dims[0], action, 1)

    def forward(self, noise: Tensor, t: Tensor, obs: Tensor) -> Tensor:
        x = noise.transpose(1, 2)
        c = self.time1(F.mish(self.time0(sinusoid(t * 1000.0, self.embed))))
        c = torch.cat([c, obs], dim=-1)
        skips = []
        for first, second, resample in self.down:
            x = second(first(x, c), c)
            skips.append(x)
            x = resample(x)
        for block in self.mid:
            x = block(x, c)
        for first, second, resample in self.up:
            x = resample(second(first(torch.cat([x, skips.pop()], dim=1), c), c))
        return self.head(self.last(x)).transpose(1, 2)


class PolicyMlp(nn.Module):
    """Residual MLP: `forward(noise[N,T,A], t[N], obs[N,O]) -> velocity[N,T,A]`."""

    def __init__(self, horizon: int, action: int, obs: int, embed: int, width: int, depth: int) -> None:
        super().__init__()
        self.embed, self.horizon, self.action = embed, horizon, action
        self.stem = nn.Linear(horizon * action + obs + embed, width)
        self.first = nn.ModuleList([nn.Linear(width, width) for _ in range(depth)])
        self.second = nn.ModuleList([nn.Linear(width, width) for _ in range(depth)])
        self.head = nn.Linear(width, horizon * action)

    def forward(self, noise: Tensor, t: Tensor, obs: Tensor) -> Tensor:
        x = self.stem(torch.cat([noise.flatten(1), obs, sinusoid(t * 1000.0, self.embed)], dim=1))
        for first, second in zip(self.first, self.second):
            x = x + second(F.silu(first(F.silu(x))))
        return self.head(F.silu(x)).reshape(-1, self.horizon, self.action)


class ResidualBlock(nn.Module):
    def __init__(self, cin: int, cout: int, stride: int, norm: str, per_group: int) -> None:
        super().__init__()
        conv = StandardisedConv2d if norm == "bcn" else nn.Conv2d
        groups = cout // per_group
        make = (lambda: BatchChannelNorm(cout, groups)) if norm == "bcn" else (lambda: nn.GroupNorm(groups, cout))
        self.conv1, self.norm1 = conv(cin, cout, 3, stride=stride, padding=1, bias=False), make()
        self.conv2, self.norm2 = conv(cout, cout, 3, padding=1, bias=False), make()
        plain = cin == cout and stride == 1
        self.skip = None if plain else nn.Sequential(conv(cin, cout, 1, stride=stride, bias=False), make())

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(h + (x if self.skip is None else self.skip(x)))


class ResNetEncoder(nn.Module):
    """ResNet-18 with GroupNorm (or BCN + WS) and spatial softmax: `forward(image[N,3,S,S]) -> keypoints[N, 2K]`."""

    def __init__(self, width: int, keypoints: int, out_size: int, norm: str, per_group: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.norm = nn.GroupNorm(width // per_group, width)
        layers, cin = [], width
        for i in range(4):
            cout = width * 2**i
            layers.append(ResidualBlock(cin, cout, 1 if i == 0 else 2, norm, per_group))
            layers.append(ResidualBlock(cout, cout, 1, norm, per_group))
            cin = cout
        self.layers = nn.Sequential(*layers)
        self.maps = nn.Conv2d(cin, keypoints, 1)
        line = torch.linspace(-1.0, 1.0, out_size)
        y, x = torch.meshgrid(line, line, indexing="ij")
        self.register_buffer("grid", torch.stack([x.flatten(), y.flatten()], dim=1))

    def forward(self, image: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.norm(self.conv(image))), 3, stride=2, padding=1)
        x = self.maps(self.layers(x))
        n, k, h, w = x.shape
        a = F.softmax(x.reshape(n * k, h * w), dim=-1)
        return (a @ self.grid).reshape(n, k * 2)
