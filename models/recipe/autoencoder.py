"""An autoencoder of 28x28 images with latents [4, 7, 7] of mean 0 and deviation 1 per channel (LFM's setting, slim).

Loss: pseudo-Huber and feature distance of the reconstruction, and a small KL term that keeps the latent law smooth.
The latent's mean and deviation are measured after training and are constants of the decoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .loop import Schedule, load_checkpoint, save_atomic, train
from .losses import Distance
from .norm import UnifiedConfig, UnifiedNorm, recalibrate

LATENT = (4, 7, 7)
BATCH = 64


@dataclass(frozen=True)
class AutoencoderConfig:
    narrow: int = 32
    wide: int = 48
    kl: float = 1e-3
    unified: UnifiedConfig = UnifiedConfig(warmup=100)


def _layer(cin: int, cout: int, config: AutoencoderConfig, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
    return nn.Sequential(conv, UnifiedNorm(cout, config.unified), nn.SiLU())


class Encoder(nn.Module):
    """image [n, 1, 28, 28] -> mean and log variance, each [n, 4, 7, 7]."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _layer(4, config.narrow, config),
            _layer(config.narrow, config.wide, config, stride=2),
            _layer(config.wide, config.wide, config),
            nn.Conv2d(config.wide, 2 * LATENT[0], 1),
        )

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.layers(F.pixel_unshuffle(image, 2)).chunk(2, 1)
        return mean, log_variance.clamp(-12, 4)


class Decoder(nn.Module):
    """latent [n, 4, 7, 7] of mean 0 and deviation 1 -> image [n, 1, 28, 28]."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, LATENT[0], 1, 1))
        self.register_buffer("deviation", torch.ones(1, LATENT[0], 1, 1))
        self.stem = nn.Conv2d(LATENT[0], config.wide, 1)
        self.low = _layer(config.wide, config.wide, config)
        self.up = _layer(config.wide, config.narrow, config)
        self.high = _layer(config.narrow, config.narrow, config)
        self.head = nn.Conv2d(config.narrow, 4, 3, 1, 1)

    def forward(self, latent: Tensor) -> Tensor:
        x = self.low(self.stem(latent * self.deviation + self.mean))
        x = self.up(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return F.pixel_shuffle(self.head(self.high(x)), 2)


class Autoencoder(nn.Module):
    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder = Encoder(config), Decoder(config)

    @torch.no_grad()
    def encode(self, images: Tensor, batch: int = 500) -> Tensor:
        """Latents of mean 0 and deviation 1."""
        raw = torch.cat([self.encoder(part)[0] for part in images.split(batch)])
        return (raw - self.decoder.mean) / self.decoder.deviation

    @torch.no_grad()
    def decode(self, latents: Tensor, batch: int = 100) -> Tensor:
        return torch.cat([self.decoder(part) for part in latents.split(batch)])


@torch.no_grad()
def measure(model: Autoencoder, images: Tensor) -> None:
    """Set the statistics of every norm, and the mean and deviation of the latent, from images."""
    recalibrate(model.encoder, images)
    raw = model.encoder(images)[0]
    model.decoder.mean.copy_(raw.mean((0, 2, 3), keepdim=True))
    model.decoder.deviation.copy_(raw.std((0, 2, 3), keepdim=True))
    recalibrate(model.decoder, model.encode(images))


def fit(path: Path, images: Tensor, distance: Distance, schedule: Schedule) -> Autoencoder:
    """Train, measure every norm and the latent law, and keep the result beside the checkpoint."""
    finished = path.with_suffix(".measured.pt")
    if finished.exists():
        return load(finished)
    torch.manual_seed(schedule.seed)
    model = Autoencoder(AutoencoderConfig())

    def loss_of(_: int, rng: torch.Generator) -> Tensor:
        x = images[torch.randint(len(images), (BATCH,), generator=rng)]
        mean, log_variance = model.encoder(x)
        latent = mean + torch.exp(0.5 * log_variance) * torch.randn(mean.shape, generator=rng)
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        return distance(model.decoder(latent), x) + model.config.kl * kl

    model.load_state_dict(train("autoencoder", model, schedule, path, loss_of))
    measure(model.eval(), images[:2000])
    save_atomic({"ema": model.state_dict()}, finished)
    return load(finished)


def load(path: Path) -> Autoencoder:
    """The measured autoencoder, frozen."""
    model = Autoencoder(AutoencoderConfig())
    model.load_state_dict(load_checkpoint(path)["ema"])
    return model.eval().requires_grad_(False)
