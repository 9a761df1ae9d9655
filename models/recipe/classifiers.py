"""Three small classifiers: one is a loss, one measures Frechet distance, one measures class accuracy. The 8x8 digits
have two of their own, for the two measures, and a third that programs run as a critic.

They differ in architecture and seed, so that the network a student is trained against is never the one that
scores it. All read images in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .loop import Schedule, load_checkpoint, train
from .nets import macs


@dataclass(frozen=True)
class ConvSpec:
    out: int
    kernel: int
    stride: int


@dataclass(frozen=True)
class ClassifierConfig:
    name: str
    convs: tuple[ConvSpec, ...]
    act: str
    seed: int
    shift: int = 1


CONFIGS = {
    c.name: c
    for c in (
        ClassifierConfig(
            "perceptual", (ConvSpec(16, 3, 1), ConvSpec(32, 3, 2), ConvSpec(64, 3, 2), ConvSpec(64, 3, 2)), "silu", 11
        ),
        ClassifierConfig(
            "features", (ConvSpec(16, 3, 2), ConvSpec(32, 3, 1), ConvSpec(48, 3, 2), ConvSpec(64, 3, 1)), "relu", 22
        ),
        ClassifierConfig(
            "accuracy",
            (ConvSpec(12, 5, 2), ConvSpec(24, 3, 1), ConvSpec(48, 3, 2), ConvSpec(48, 3, 1), ConvSpec(96, 3, 2)),
            "silu",
            33,
        ),
    )
}

DIGITS = {
    c.name: c
    for c in (
        ClassifierConfig(
            "digits-features", (ConvSpec(16, 3, 1), ConvSpec(24, 3, 2), ConvSpec(32, 3, 1)), "relu", 44, shift=0
        ),
        ClassifierConfig(
            "digits-accuracy", (ConvSpec(24, 3, 1), ConvSpec(32, 3, 1), ConvSpec(48, 3, 2)), "silu", 55, shift=0
        ),
        ClassifierConfig("digits-critic", (ConvSpec(16, 3, 2), ConvSpec(32, 3, 2)), "silu", 66, shift=0),
    )
}


class Classifier(nn.Module):
    """conv -> BatchNorm -> activation, repeated; global average pool; one linear layer."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        layers, channels = [], 1
        for spec in config.convs:
            layers.append(
                nn.Sequential(
                    nn.Conv2d(channels, spec.out, spec.kernel, spec.stride, spec.kernel // 2, bias=False),
                    nn.BatchNorm2d(spec.out),
                    nn.SiLU() if config.act == "silu" else nn.ReLU(),
                )
            )
            channels = spec.out
        self.layers = nn.ModuleList(layers)
        self.head = nn.Linear(channels, 10)

    def maps(self, image: Tensor) -> list[Tensor]:
        """Activations after every conv."""
        out = []
        for layer in self.layers:
            image = layer(image)
            out.append(image)
        return out

    def features(self, image: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(self.maps(image)[-1], 1).flatten(1)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.features(image))


class FeatureNet(nn.Module):
    """The classifier cut before its last layer, for export."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier.features(image)


class Critic(nn.Module):
    """Probabilities of the classes of an image in [-1, 1], for export: what a program's energy is made of."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        # A layer, because the next one reads zeros at its border: a shift stays, and layers have int8 kernels.
        self.intensity = nn.Conv2d(1, 1, 1)
        nn.init.constant_(self.intensity.weight, 0.5)
        nn.init.constant_(self.intensity.bias, 0.5)
        self.classifier = classifier

    def forward(self, image: Tensor) -> Tensor:
        return F.softmax(self.classifier(self.intensity(image)), dim=1)


def jitter(image: Tensor, shift: int, rng: torch.Generator) -> Tensor:
    """Shift the batch by at most `shift` pixels each way and change the exposure slightly."""
    dy, dx = (int(v) for v in torch.randint(-shift, shift + 1, (2,), generator=rng))
    gain = 1.0 + 0.1 * torch.randn(image.shape[0], 1, 1, 1, generator=rng)
    return (torch.roll(image, (dy, dx), (2, 3)) * gain).clamp(0, 1)


def fit(name: str, folder: Path, images: Tensor, labels: Tensor, steps: int) -> Classifier:
    """Train one classifier on images in [-1, 1], or load it when it is already trained."""
    config = (CONFIGS | DIGITS)[name]
    torch.manual_seed(config.seed)
    model = Classifier(config)
    schedule = Schedule(steps=steps, lr=4e-3, warmup=min(100, steps // 10), ema=0.995, clip=5.0, seed=config.seed)

    def loss_of(_: int, rng: torch.Generator) -> Tensor:
        pick = torch.randint(len(images), (256,), generator=rng)
        image = jitter((images[pick] + 1) / 2, config.shift, rng)
        return F.cross_entropy(model(image), labels[pick], label_smoothing=0.05)

    model.load_state_dict(train(name, model, schedule, folder / f"{name}.pt", loss_of))
    return model.eval()


def load(name: str, folder: Path) -> Classifier:
    """A trained classifier, frozen."""
    model = Classifier((CONFIGS | DIGITS)[name])
    model.load_state_dict(load_checkpoint(folder / f"{name}.pt")["ema"])
    return model.eval().requires_grad_(False)


@torch.no_grad()
def accuracy(model: Classifier, images: Tensor, labels: Tensor, batch: int = 500) -> float:
    """Share of images in [-1, 1] that the classifier gives to their label."""
    hits = 0
    for i in range(0, len(images), batch):
        hits += int((model((images[i : i + batch] + 1) / 2).argmax(1) == labels[i : i + batch]).sum())
    return hits / len(images)


def macs_of(model: Classifier) -> int:
    return macs(model.eval(), torch.zeros(1, 1, 28, 28))
