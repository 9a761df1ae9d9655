"""AdamP (ICLR 2021): Adam without the radial part of the step for scale-invariant weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn


def _by_channel(x: Tensor) -> Tensor:
    return x.reshape(len(x), -1)


def _by_layer(x: Tensor) -> Tensor:
    return x.reshape(1, -1)


def project(weight: Tensor, gradient: Tensor, step: Tensor, delta: float, eps: float) -> tuple[Tensor, bool]:
    """The step without its part along the weight, and whether that applied.

    A weight counts as scale-invariant when max |cos(gradient, weight)| < delta / sqrt(dim), seen by output channel
    first and as one vector then; the first view that passes is used.
    """
    for view in (_by_channel, _by_layer):
        w, g = view(weight), view(gradient)
        cosine = (w * g).sum(1).abs() / (w.norm(dim=1) * g.norm(dim=1) + eps)
        if cosine.max() < delta / w.shape[1] ** 0.5:
            direction = w / (w.norm(dim=1, keepdim=True) + eps)
            p = view(step)
            return (p - direction * (direction * p).sum(1, keepdim=True)).view_as(step), True
    return step, False


class AdamP(torch.optim.Optimizer):
    """w -= lr * p, p the Adam step, projected by `project` where w has more than one axis.

    Weight decay is decoupled, and multiplied by `decay_ratio` where the projection applied.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        delta: float = 0.1,
        decay_ratio: float = 0.1,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(parameters, defaults | {"delta": delta, "decay_ratio": decay_ratio})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, group)
        return loss

    def _update(self, weight: nn.Parameter, group: dict) -> None:
        state, gradient = self.state[weight], weight.grad
        if not state:
            state["step"] = 0
            state["mean"], state["square"] = torch.zeros_like(weight), torch.zeros_like(weight)
        state["step"] += 1
        first, second = group["betas"]
        state["mean"].lerp_(gradient, 1 - first)
        state["square"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        spread = (state["square"] / (1 - second ** state["step"])).sqrt() + group["eps"]
        step = state["mean"] / (1 - first ** state["step"]) / spread
        projected = False
        if weight.dim() > 1:
            step, projected = project(weight, gradient, step, group["delta"], group["eps"])
        decay = group["weight_decay"] * (group["decay_ratio"] if projected else 1.0)
        weight.mul_(1 - group["lr"] * decay)
        weight.add_(step, alpha=-group["lr"])


def adamp(parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """For `train(optimiser=...)`."""
    return AdamP(parameters, lr=lr)
