"""Fashion-MNIST in memory, read from the IDX files that the Debian package `dataset-fashion-mnist` installs."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

CLASSES = [
    "t-shirt", "trouser", "pullover", "dress", "coat",
    "sandal", "shirt", "sneaker", "bag", "ankle-boot",
]  # fmt: skip
IMAGE_SHAPE = (1, 28, 28)


def read_idx(path: Path) -> np.ndarray:
    """Parse one gzipped IDX file of unsigned bytes."""
    raw = gzip.decompress(path.read_bytes())
    kind, rank = raw[2], raw[3]
    if kind != 8:
        raise ValueError(f"{path}: element type {kind:#x} is not unsigned byte")
    shape = struct.unpack(f">{rank}I", raw[4 : 4 + 4 * rank])
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)


def load(folder: Path, split: str) -> tuple[Tensor, Tensor]:
    """Images as float32 in [-1, 1], shape [n, 1, 28, 28], and int64 labels; `split` is "train" or "t10k"."""
    images = read_idx(folder / f"{split}-images-idx3-ubyte.gz").astype(np.float32)
    labels = read_idx(folder / f"{split}-labels-idx1-ubyte.gz").astype(np.int64)
    return torch.from_numpy(images / 127.5 - 1.0).unsqueeze(1), torch.from_numpy(labels)


def synthetic(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Ten kinds of blurred bars with a little noise: a stand-in for the data set in smoke runs."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 10
    rows = torch.arange(28.0).view(1, 28, 1)
    cols = torch.arange(28.0).view(1, 1, 28)
    centre = (4.0 + 2.0 * labels).view(-1, 1, 1) + torch.randn(count, 1, 1, generator=rng)
    axis = torch.where((labels % 2 == 0).view(-1, 1, 1), rows, cols)
    images = 2.0 * torch.exp(-((axis - centre) ** 2) / 18.0) - 1.0
    images = images + 0.05 * torch.randn(count, 28, 28, generator=rng)
    return images.clamp(-1, 1).unsqueeze(1), labels
