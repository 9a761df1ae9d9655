"""The networks by name, with their inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .policies import PolicyMlp, PolicyUNet1d, ResNetEncoder
from .transformers import Dit, MmDitBlock, Vit
from .unets import AdmUNet, SlimUNet


@dataclass(frozen=True)
class Network:
    """One network: how to make it, shapes of its f32 inputs, and number of classes of its label input, if any."""

    make: Callable[[], nn.Module]
    inputs: dict[str, tuple[int, ...]]
    outputs: tuple[str, ...] = ("velocity",)
    classes: int = 0

    def sample(self, generator: torch.Generator, n: int = 1) -> dict[str, Tensor]:
        """Inputs for `n` samples: standard normal, with `t` in [0, 1] and a one-hot vector where they are named so."""
        made: dict[str, Tensor] = {}
        for name, dims in self.inputs.items():
            shape = (n, *dims[1:])
            if name == "t":
                made[name] = torch.full((n,), 0.001)
            elif name == "onehot":
                made[name] = torch.eye(shape[1])[torch.randint(shape[1], (n,), generator=generator)]
            else:
                made[name] = torch.randn(shape, generator=generator)
        if self.classes:
            made["label"] = torch.randint(self.classes, (n,), generator=generator)
        return made


def slim(size: int, channels: int, nf: int, mult: tuple[int, ...], blocks: int, at: int, classes: int, norm: str):
    inputs = {"z": (1, channels, size, size), "t": (1,)}
    return Network(lambda: SlimUNet(size, channels, nf, mult, blocks, at, classes, norm), inputs, classes=classes)


def dit(size: int, patch: int, width: int, depth: int, heads: int, norm: str):
    inputs = {"z": (1, 1, size, size), "t": (1,)}
    return Network(lambda: Dit(size, 1, patch, width, depth, heads, 10, norm), inputs, classes=10)


def vit(size: int, width: int, depth: int, norm: str):
    return Network(lambda: Vit(size, 1, 4, width, depth, 4, 10, norm), {"image": (1, 1, size, size)}, ("logits",))


def policy(horizon: int, action: int, obs: int, dims: tuple[int, ...], embed: int, groups: int = 8):
    inputs = {"noise": (1, horizon, action), "t": (1,), "obs": (1, obs)}
    return Network(lambda: PolicyUNet1d(action, obs, dims, embed, groups=groups), inputs)


def mlp(horizon: int, action: int, obs: int, embed: int, width: int, depth: int):
    inputs = {"noise": (1, horizon, action), "t": (1,), "obs": (1, obs)}
    return Network(lambda: PolicyMlp(horizon, action, obs, embed, width, depth), inputs)


def resnet(width: int, keypoints: int, size: int, norm: str = "gn", per_group: int = 16):
    make = lambda: ResNetEncoder(width, keypoints, size // 32, norm, per_group)  # noqa: E731
    return Network(make, {"image": (1, 3, size, size)}, ("keypoints",))


def adm(size: int, nf: int, heads: int):
    inputs = {"z": (1, 3, size, size), "t": (1,), "onehot": (1, 10)}
    return Network(lambda: AdmUNet(3, nf, 10, heads), inputs)


def mmdit(tokens: int, context: int, width: int, heads: int):
    inputs = {"x": (1, tokens, width), "context": (1, context, width), "c": (1, width)}
    return Network(lambda: MmDitBlock(width, heads), inputs, ("image_tokens", "text_tokens"))


# Full size: made on demand.
LARGE: dict[str, Network] = {
    "slim_cifar": slim(32, 3, 96, (1, 2, 2), 2, 16, 0, "gn"),
    "slim_fmnist": slim(28, 1, 32, (1, 2, 2), 1, 7, 10, "gn"),
    "slim_fmnist_bn": slim(28, 1, 32, (1, 2, 2), 1, 7, 10, "bn"),
    "dit_tiny": dit(28, 4, 128, 6, 4, "ln"),
    "dit_tiny_un": dit(28, 4, 128, 6, 4, "un"),
    "policy_unet1d": policy(16, 7, 64, (64, 128, 256), 128),
    "policy_mlp": mlp(8, 4, 26, 64, 256, 4),
    "adm": adm(32, 64, 2),
    "mmdit": mmdit(64, 16, 128, 4),
    "vit_ln": vit(28, 64, 4, "ln"),
    "vit_rms": vit(28, 64, 4, "rms"),
    "vit_power": vit(28, 64, 4, "power"),
    "vit_un": vit(28, 64, 4, "un"),
    "resnet18": resnet(64, 32, 96),
    "resnet18_bcn": resnet(32, 32, 96, "bcn"),
}

# Same structure, narrow: the files are committed.
SMALL: dict[str, Network] = {
    "slim": slim(8, 3, 8, (1, 1), 1, 4, 0, "gn"),
    "slim_bn": slim(8, 1, 8, (1, 1), 1, 4, 4, "bn"),
    "dit": dit(8, 4, 16, 2, 2, "ln"),
    "dit_un": dit(8, 4, 16, 2, 2, "un"),
    "unet1d": policy(8, 2, 6, (8, 16), 8, 2),
    "mlp": mlp(4, 2, 6, 8, 16, 2),
    "adm": adm(8, 8, 2),
    "mmdit": mmdit(6, 3, 16, 2),
    "vit_ln": vit(8, 16, 1, "ln"),
    "vit_rms": vit(8, 16, 1, "rms"),
    "vit_power": vit(8, 16, 1, "power"),
    "vit_un": vit(8, 16, 1, "un"),
    "resnet": resnet(3, 4, 64, "gn", 3),
    "resnet_bcn": resnet(2, 4, 64, "bcn", 2),
}
