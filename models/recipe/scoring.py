"""Frechet distance between feature sets, and the reference statistics the distance is taken against.

FD = |mu1 - mu2|^2 + tr(S1 + S2 - 2 sqrt(S1 S2)), on the 64 pooled features of the `features` classifier. The
reference is the 10,000 real test images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .classifiers import Classifier, accuracy


@dataclass(frozen=True)
class Moments:
    mu: np.ndarray
    sigma: np.ndarray


@torch.no_grad()
def moments(features: Classifier, images: Tensor, batch: int = 500) -> Moments:
    """Mean and unbiased covariance, in float64, of the features of images in [-1, 1]."""
    rows = [features.features((images[i : i + batch] + 1) / 2) for i in range(0, len(images), batch)]
    table = torch.cat(rows).double().numpy()
    return Moments(table.mean(0), np.cov(table, rowvar=False))


def _root(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T


def frechet(a: Moments, b: Moments) -> float:
    """tr sqrt(S1 S2) equals tr sqrt(R S2 R) with R = sqrt(S1), which is symmetric and safe to decompose."""
    root = _root(a.sigma)
    cross = np.sqrt(np.linalg.eigvalsh(root @ b.sigma @ root).clip(0)).sum()
    shift = a.mu - b.mu
    return float(shift @ shift + np.trace(a.sigma) + np.trace(b.sigma) - 2 * cross)


@dataclass(frozen=True)
class Scorer:
    """Everything that is needed to score a set of generated images."""

    features: Classifier
    judge: Classifier
    reference: Moments

    def score(self, images: Tensor, labels: Tensor) -> dict[str, float | int]:
        images = images.clamp(-1, 1)
        return {
            "fd": round(frechet(moments(self.features, images), self.reference), 4),
            "accuracy": round(accuracy(self.judge, images, labels), 4),
            "samples": len(images),
        }
