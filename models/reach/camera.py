"""The camera policy: a picture in place of the scene's numbers.

Only the encoder sees the picture, and it sees nothing else, so that it can be an entry point of its own: once for a
picture, however many chunks are drawn from it.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from recipe.distillation import GuidedConfig, guided_distill, load_pairs
from recipe.export import onnx_export, save_arrays
from recipe.loop import train

from .export import CALIBRATION, GOLDEN, inputs
from .nets import ACTION_SHAPE, SMALL, PolicyNet
from .stages import Demos, Plan, committed, new_net, restore, rows

PIXELS, VIEW, GOAL = 64, 0.9, 0.02
NAME, BODY = "reach-camera", "reach-small"


def picture(scene: Tensor) -> Tensor:
    """[n, 1, 64, 64] of scene [n, 5] (m): the law of `sim/src/camera.rs`."""
    pixel = VIEW / PIXELS
    at = (torch.arange(PIXELS) + 0.5) * pixel - 0.5 * VIEW
    x, y = at[None, None, :], -at[None, :, None]
    goal_x, goal_y, post_x, post_y, radius = (scene[:, i, None, None] for i in range(5))

    def covered(px: Tensor, py: Tensor, size: Tensor | float) -> Tensor:
        distance = ((x - px).square() + (y - py).square()).sqrt()
        return ((size - distance) / pixel + 0.5).clamp(0, 1)

    return (covered(post_x, post_y, radius) - covered(goal_x, goal_y, GOAL))[:, None]


class Encoder(nn.Module):
    """Picture [n, 1, 64, 64] -> features [n, features]: convolutions with GroupNorm, one layer of all places."""

    def __init__(self, features: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        cin = 1
        for cout, kernel in ((16, 5), (32, 3), (32, 3)):
            layers += [nn.Conv2d(cin, cout, kernel, 2, kernel // 2), nn.GroupNorm(8, cout), nn.SiLU()]
            cin = cout
        self.layers = nn.Sequential(*layers)
        self.out = nn.Linear(cin * (PIXELS // 8) ** 2, features)

    def forward(self, image: Tensor) -> Tensor:
        return self.out(self.layers(image).flatten(1))


class CameraNet(nn.Module):
    """A policy whose share of the scene in the embedding comes from an encoder."""

    def __init__(self, policy: PolicyNet, features: int = 32) -> None:
        super().__init__()
        self.policy, self.encoder = policy, Encoder(features)
        self.sight = nn.Linear(features, policy.mix[0].in_features)

    def see(self, image: Tensor) -> Tensor:
        return self.sight(self.encoder(image))

    def forward(self, x: Tensor, t: Tensor, joints: Tensor, scene: Tensor) -> Tensor:
        """As `PolicyNet`, through the picture of the scene."""
        return self.policy.velocity(x, t, joints, self.see(picture(scene)))


class OneLook(nn.Module):
    """noise, joints, image -> actions in rad."""

    def __init__(self, net: CameraNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, noise: Tensor, joints: Tensor, image: Tensor) -> Tensor:
        policy = self.net.policy
        return policy.real(noise + policy.velocity(noise, noise.new_zeros(len(noise)), joints, self.net.see(image)))


def fit(work: Path, demos: Demos, plan: Plan) -> CameraNet:
    """The encoder learns to stand for the scene in the distilled policy; then all of it learns the teacher's pairs."""
    net = CameraNet(restore(new_net(SMALL, demos, 0), work / f"{BODY}.pt"))
    for parameter in net.policy.parameters():
        parameter.requires_grad_(False)

    def loss_of(_: int, rng: torch.Generator) -> Tensor:
        scene = rows(demos, plan.batch // 2, rng)[2]
        wanted = net.policy.look("scene", scene)
        return (net.see(picture(scene)) - wanted).square().mean() / wanted.square().mean()

    net.load_state_dict(train("camera, look", net, plan.look, work / "camera.look.pt", loss_of))
    net.requires_grad_(True)
    config = GuidedConfig(batch=plan.batch // 2, distance=committed)
    pairs, path = load_pairs(work / "pairs"), work / "camera.pt"
    guided_distill(net, pairs, config, plan.act, path, name="camera, act")
    return net.eval()


@torch.no_grad()
def folder(net: CameraNet, out: Path, demos: Demos) -> None:
    """`reach-camera.onnx`, golden vectors by PyTorch, samples for calibration."""
    model = OneLook(net).eval()
    zeros = torch.zeros(1, *ACTION_SHAPE), torch.zeros(1, 3), torch.zeros(1, 1, PIXELS, PIXELS)
    names = ["noise", "joints", "image"]
    onnx_export(model, zeros, names, "actions", out / f"{out.name}.onnx")

    def seen(count: int, seed: int) -> dict[str, Tensor]:
        given = inputs(demos, count, seed)
        given["image"] = picture(given.pop("scene"))
        return given

    golden = seen(GOLDEN, 7)
    save_arrays(out / "golden", **golden, actions=model(**golden))
    save_arrays(out / "calibration", **seen(CALIBRATION, 8))
