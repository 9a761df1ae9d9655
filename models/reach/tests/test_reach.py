"""The network's conventions, and that a killed recipe goes on."""

from __future__ import annotations

from pathlib import Path

import torch

from reach import camera, export, stages
from reach.nets import ACTION_SHAPE, REACH, SMALL, Cloned, OneStep, PolicyNet, TeacherStep


def inputs(count: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    rng = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(count, *shape, generator=rng) for shape in (ACTION_SHAPE, (3,), (5,)))


def parameters(net: PolicyNet) -> int:
    return sum(p.numel() for p in net.parameters())


def test_sizes() -> None:
    assert parameters(PolicyNet(SMALL)) < 200_000
    assert parameters(PolicyNet(REACH)) < 450_000


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


def test_the_picture_shows_post_and_goal_where_they_are() -> None:
    image = camera.picture(torch.tensor([[0.2, -0.1, -0.15, 0.05, 0.04]]))[0, 0]
    assert image.shape == (camera.PIXELS, camera.PIXELS)
    at = ((torch.arange(camera.PIXELS) + 0.5) / camera.PIXELS - 0.5) * camera.VIEW
    for sign, x, y, radius in ((1, -0.15, 0.05, 0.04), (-1, 0.2, -0.1, 0.02)):
        share = (sign * image).clamp(min=0)
        assert abs(float((share.sum(0) * at).sum() / share.sum()) - x) < 1e-3
        assert abs(float(-(share.sum(1) * at).sum() / share.sum()) - y) < 1e-3
        assert abs(float(share.sum()) * (camera.VIEW / camera.PIXELS) ** 2 / (torch.pi * radius**2) - 1) < 0.05


def test_the_camera_policy_is_exported_as_it_is_trained() -> None:
    demos = stages.made_up_demos()
    net = camera.CameraNet(stages.new_net(SMALL, demos, 0)).eval()
    noise, joints, scene = inputs(2)
    with torch.no_grad():
        whole = net.policy.real(noise + net(noise, torch.zeros(2), joints, scene))
        assert torch.allclose(camera.OneLook(net)(noise, joints, camera.picture(scene)), whole, atol=1e-6)
