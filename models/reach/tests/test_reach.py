"""The network's conventions, and that a killed recipe goes on."""

from __future__ import annotations

from pathlib import Path

import torch

from reach import export, stages
from reach.nets import ACTION_SHAPE, REACH, SMALL, Cloned, OneStep, PolicyNet, TeacherStep


def inputs(count: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    rng = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(count, *shape, generator=rng) for shape in (ACTION_SHAPE, (3,), (5,)))


def parameters(net: PolicyNet) -> int:
    return sum(p.numel() for p in net.parameters())


def test_sizes() -> None:
    assert parameters(PolicyNet(SMALL)) < 120_000
    assert parameters(PolicyNet(REACH)) < 250_000


def test_normalisers_measure_what_they_undo() -> None:
    demos = stages.made_up_demos()
    net = stages.new_net(SMALL, demos, 0)
    normal = net.normal(demos.actions)
    assert abs(float(normal.mean())) < 1e-5 and abs(float(normal.std()) - 1) < 1e-4
    assert torch.allclose(net.real(normal), demos.actions, atol=1e-6)
    seen = net.normalisers["scene"](demos.scene)
    assert torch.allclose(seen.std(0), torch.ones(5), atol=1e-4)
    assert torch.allclose(seen, (demos.scene - demos.scene.mean(0)) / demos.scene.std(0), atol=1e-5)


def test_the_exported_forms_are_steps_of_the_same_flow() -> None:
    net = stages.new_net(SMALL, stages.made_up_demos(), 0).eval()
    noise, joints, scene = inputs(4)
    zero = torch.zeros(4)
    with torch.no_grad():
        velocity, ahead = TeacherStep(net)(noise, zero, joints, scene)
        assert torch.allclose(OneStep(net)(noise, joints, scene), net.real(noise + velocity), atol=1e-6)
        assert torch.allclose(ahead, net.real(noise + velocity / 50), atol=1e-6)
        assert torch.allclose(Cloned(net)(joints, scene), net.real(net(0 * noise, zero, joints, scene)), atol=1e-6)
        x = noise
        for k in range(50):
            velocity, actions = TeacherStep(net)(x, torch.full((4,), k / 50), joints, scene)
            x = x + velocity / 50
        whole = export.teacher_actions(net, noise, joints, scene)
        assert torch.allclose(actions, whole, atol=1e-5)


def test_what_is_seen_matters() -> None:
    net = stages.new_net(SMALL, stages.made_up_demos(), 0).eval()
    torch.nn.init.normal_(net.leave.gain.weight)
    noise, joints, scene = inputs(2)
    with torch.no_grad():
        here = net(noise, torch.zeros(2), joints, scene)
        for changed in ((joints + 1, scene), (joints, scene + 1)):
            assert (net(noise, torch.zeros(2), *changed) - here).abs().max() > 1e-3


def test_a_killed_teacher_ends_where_an_uninterrupted_one_does(tmp_path: Path, monkeypatch) -> None:
    demos, plan = stages.made_up_demos(), stages.SMOKE
    stages.fit_teacher(tmp_path / "whole", demos, plan)
    rows, calls = stages.rows, []

    def killed(*args):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return rows(*args)

    original = stages.train
    monkeypatch.setattr(stages, "rows", killed)
    monkeypatch.setattr(stages, "train", lambda *a: original(*a, save_seconds=0))
    try:
        stages.fit_teacher(tmp_path / "killed", demos, plan)
    except KeyboardInterrupt:
        pass
    stages.fit_teacher(tmp_path / "killed", demos, plan)
    whole, resumed = (stages.load_checkpoint(tmp_path / n / "teacher.pt")["ema"] for n in ("whole", "killed"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
