"""The policy network: a 1-D U-Net over a chunk of actions, modulated by what is seen.

Shapes: actions [n, 16, 2] (rad by which each joint turns in a period), joints [n, 3] (rad, rad/s, rad/s), scene [n, 5]
(m). Inside, actions are normalised; `PolicyNet.normal` and `PolicyNet.real` convert.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHUNK, JOINTS = 16, 2
ACTION_SHAPE = (CHUNK, JOINTS)
SEEN = {"joints": 3, "scene": 5}
TEACHER_STEPS = 50


@dataclass(frozen=True)
class PolicyConfig:
    """Channels at 16 and at 8 periods, width and depth of the embedding, sinusoids of the time, groups of a norm."""

    fine: int
    coarse: int
    embed: int
    depth: int = 3
    sinusoids: int = 16
    groups: int = 8


REACH = PolicyConfig(fine=48, coarse=96, embed=192)
SMALL = PolicyConfig(fine=32, coarse=64, embed=128)


class Normaliser(nn.Module):
    """(x - mean) / spread, measured once on the demonstrations and then part of the network.

    Width 1 has one mean and one spread for all elements. Actions need that: both then fold into the sum x = z + v,
    where one for each joint would be a layer of its own in int8.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("spread", torch.ones(width))

    @torch.no_grad()
    def measure(self, x: Tensor) -> None:
        flat = x.reshape(-1, self.mean.shape[0])
        self.mean.copy_(flat.mean(0))
        self.spread.copy_(flat.std(0).clamp(min=1e-6))

    def forward(self, x: Tensor) -> Tensor:
        # One factor and one sum, which the compiler folds into the layer that reads them.
        return x * (1 / self.spread) - self.mean / self.spread

    def inverse(self, x: Tensor) -> Tensor:
        return x * self.spread + self.mean


class ConvBlock(nn.Module):
    def __init__(self, cin: int, cout: int, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(cin, cout, 3, padding=1)
        self.norm = nn.GroupNorm(groups, cout)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.norm(self.conv(x)))


class FilmBlock(nn.Module):
    """Two convolutions with a FiLM between them (Perez et al., 2018): gain and shift of each channel from `e`."""

    def __init__(self, cin: int, cout: int, config: PolicyConfig) -> None:
        super().__init__()
        self.first, self.second = ConvBlock(cin, cout, config.groups), ConvBlock(cout, cout, config.groups)
        self.gain, self.shift = nn.Linear(config.embed, cout), nn.Linear(config.embed, cout)
        nn.init.zeros_(self.gain.weight)
        nn.init.ones_(self.gain.bias)
        self.skip = nn.Conv1d(cin, cout, 1) if cin != cout else nn.Identity()

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        h = self.gain(e)[:, :, None] * self.first(x) + self.shift(e)[:, :, None]
        return self.second(h) + self.skip(x)


class PolicyNet(nn.Module):
    """velocity [n, 16, 2] of normalised actions x [n, 16, 2] at time t [n], noise at t = 0 (the flow of `recipe.flow`).

    The network is the 1-D U-Net of Diffusion Policy (Chi et al., 2023) with one block a level. Its embedding also reads
    all of x: which way to go is one decision for the whole chunk, and no window of the convolutions spans the chunk.
    """

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        half = config.sinusoids // 2
        self.register_buffer("frequencies", torch.exp(-math.log(1000.0) * torch.arange(half) / (half - 1)))
        self.actions = Normaliser(1)
        self.normalisers = nn.ModuleDict({name: Normaliser(width) for name, width in SEEN.items()})
        self.seen = nn.ModuleDict({name: nn.Linear(width, config.embed) for name, width in SEEN.items()})
        self.time = nn.Linear(config.sinusoids, config.embed)
        self.whole = nn.Conv1d(JOINTS, config.embed, CHUNK)
        self.mix = nn.ModuleList([nn.Linear(config.embed, config.embed) for _ in range(config.depth)])
        fine, coarse = config.fine, config.coarse
        self.enter = FilmBlock(JOINTS, fine, config)
        self.down = nn.Conv1d(fine, fine, 3, stride=2, padding=1)
        self.middle = nn.ModuleList([FilmBlock(fine, coarse, config), FilmBlock(coarse, coarse, config)])
        self.up = nn.ConvTranspose1d(coarse, fine, 4, stride=2, padding=1)
        self.leave = FilmBlock(2 * fine, fine, config)
        self.head = nn.Conv1d(fine, JOINTS, 1)

    def look(self, name: str, value: Tensor) -> Tensor:
        """The share of one input in the embedding [n, embed]."""
        return self.seen[name](self.normalisers[name](value))

    def embedding(self, x: Tensor, t: Tensor, joints: Tensor, sight: Tensor) -> Tensor:
        angle = 1000.0 * t[:, None] * self.frequencies[None]
        e = self.time(torch.cat([torch.sin(angle), torch.cos(angle)], dim=1)) + self.whole(x).flatten(1)
        e = e + self.look("joints", joints) + sight
        for layer in self.mix:
            e = layer(F.silu(e))
        return F.silu(e)

    def forward(self, x: Tensor, t: Tensor, joints: Tensor, scene: Tensor) -> Tensor:
        return self.velocity(x, t, joints, self.look("scene", scene))

    def velocity(self, x: Tensor, t: Tensor, joints: Tensor, sight: Tensor) -> Tensor:
        """The same where the scene's share in the embedding, `sight` [n, embed], comes from elsewhere."""
        x = x.transpose(1, 2)
        e = self.embedding(x, t, joints, sight)
        fine = self.enter(x, e)
        h = self.down(fine)
        for block in self.middle:
            h = block(h, e)
        h = self.leave(torch.cat([self.up(h), fine], dim=1), e)
        return self.head(h).transpose(1, 2)

    def normal(self, actions: Tensor) -> Tensor:
        return self.actions(actions)

    def real(self, x: Tensor) -> Tensor:
        return self.actions.inverse(x)


class OneStep(nn.Module):
    """noise, joints, scene -> actions in rad: x = z + v(z, 0), normalisers included."""

    def __init__(self, net: PolicyNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, noise: Tensor, joints: Tensor, scene: Tensor) -> Tensor:
        return self.net.real(noise + self.net(noise, noise.new_zeros(noise.shape[0]), joints, scene))


class TeacherStep(nn.Module):
    """One Euler step of the teacher: x, t, joints, scene -> velocity, and the actions in rad after the step."""

    def __init__(self, net: PolicyNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, t: Tensor, joints: Tensor, scene: Tensor) -> tuple[Tensor, Tensor]:
        velocity = self.net(x, t, joints, scene)
        return velocity, self.net.real(x + velocity / TEACHER_STEPS)


class Cloned(nn.Module):
    """Behaviour cloning: joints, scene -> actions in rad, by the same network, which reads zeros in place of noise."""

    def __init__(self, net: PolicyNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, joints: Tensor, scene: Tensor) -> Tensor:
        count = joints.shape[0]
        return self.net.real(self.net(joints.new_zeros(count, *ACTION_SHAPE), joints.new_zeros(count), joints, scene))
