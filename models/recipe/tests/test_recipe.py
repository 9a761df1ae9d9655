"""Conventions, resuming and scores."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from recipe import card, nets
from recipe.loop import Schedule, train
from recipe.scoring import Moments, frechet


def test_students_have_their_frozen_sizes() -> None:
    count = {name: nets.parameters(nets.FlowNet(config)) for name, config in nets.STUDENTS.items()}
    assert count["fashion"] < 310_000
    assert count["fashion-tiny"] <= 100_000


def test_frechet_of_known_gaussians() -> None:
    """For commuting covariances the distance is |mu|^2 + sum (sqrt a - sqrt b)^2."""
    a = Moments(np.zeros(3), np.diag([1.0, 4.0, 9.0]))
    b = Moments(np.array([1.0, 2.0, 0.0]), np.diag([4.0, 4.0, 1.0]))
    assert np.isclose(frechet(a, b), 5 + 1 + 0 + 4)
    assert np.isclose(frechet(a, a), 0, atol=1e-9)


def test_a_killed_stage_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    def run(path: Path, stop: int | None) -> torch.Tensor:
        torch.manual_seed(0)
        model = torch.nn.Linear(4, 1)

        def loss_of(step: int, rng: torch.Generator) -> torch.Tensor:
            if step == stop:
                raise KeyboardInterrupt
            return (model(torch.randn(8, 4, generator=rng)) - 1).square().mean()

        average = train("test", model, Schedule(steps=20, lr=0.01, warmup=2), path, loss_of, save_seconds=0)
        return average["weight"]

    whole = run(tmp_path / "whole.pt", None)
    try:
        run(tmp_path / "killed.pt", 11)
    except KeyboardInterrupt:
        pass
    assert torch.equal(run(tmp_path / "killed.pt", None), whole)


def test_a_card_states_the_int8_scores_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "student.json"
    assert card.deployed("net", path) == ""
    f32 = {"fd": 0.82588, "accuracy": 0.96883}
    int8 = {"fd": 0.87413, "accuracy": 0.9684, "psnr_median_db": 40.126, "psnr_p5_db": 37.828}
    path.write_text(json.dumps({"scores": {"f32": f32, "int8": int8}, "scores_n": 2000}))
    text = card.deployed("net", path)
    assert "models/net/net.flq" in text and "--samples 2000" in text
    assert "| 0.826 | 0.9688 | |" in text and "| 0.874 | 0.9684 | 40.13 dB / 37.83 dB |" in text
