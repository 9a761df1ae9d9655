"""ONNX files, golden vectors, calibration samples."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from recipe.export import onnx_export, save_arrays
from recipe.flow import integrate

from .nets import ACTION_SHAPE, SEEN, TEACHER_STEPS, Cloned, OneStep, PolicyNet, TeacherStep
from .stages import Demos

GOLDEN, CALIBRATION = 16, 256


def zeros(*names: str) -> tuple[Tensor, ...]:
    return tuple(torch.zeros(1, SEEN[name]) if name in SEEN else torch.zeros(1, *ACTION_SHAPE) for name in names)


def inputs(demos: Demos, count: int, seed: int) -> dict[str, Tensor]:
    """Noise, and what is seen in demonstrations drawn at random."""
    rng = torch.Generator().manual_seed(seed)
    index = torch.randint(len(demos.joints), (count,), generator=rng)
    noise = torch.randn(count, *ACTION_SHAPE, generator=rng)
    return {"noise": noise, "joints": demos.joints[index], "scene": demos.scene[index]}


@torch.no_grad()
def student_folder(net: PolicyNet, folder: Path, demos: Demos) -> None:
    """`<name>.onnx`, golden vectors by PyTorch, samples for calibration."""
    model = OneStep(net).eval()
    onnx_export(model, zeros("noise", *SEEN), ["noise", *SEEN], "actions", folder / f"{folder.name}.onnx")
    golden = inputs(demos, GOLDEN, 7)
    save_arrays(folder / "golden", **golden, actions=model(**golden))
    save_arrays(folder / "calibration", **inputs(demos, CALIBRATION, 8))


def clone_onnx(net: PolicyNet, path: Path) -> None:
    onnx_export(Cloned(net), zeros(*SEEN), [*SEEN], "actions", path)


@torch.no_grad()
def teacher_onnx(net: PolicyNet, path: Path) -> None:
    """One Euler step with two outputs."""
    step = TeacherStep(net).eval()
    torch.onnx.export(
        step,
        (zeros("noise")[0], torch.zeros(1), *zeros(*SEEN)),
        str(path),
        input_names=["x", "t", *SEEN],
        output_names=["velocity", "actions"],
        opset_version=17,
        dynamo=False,
    )


@torch.no_grad()
def teacher_actions(net: PolicyNet, noise: Tensor, joints: Tensor, scene: Tensor) -> Tensor:
    """What `teacher.onnx` gives after all its steps, in rad."""
    return net.real(integrate(net.eval(), noise, (joints, scene), TEACHER_STEPS))
