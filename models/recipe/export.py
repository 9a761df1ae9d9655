"""ONNX files, golden vectors, model description, contact sheet."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from . import classifiers, data
from .autoencoder import LATENT
from .flow import blend
from .latent import LatentGenerator
from .scoring import Moments

OPSET = 17
GOLDEN = 16


def onnx_export(model: nn.Module, inputs: tuple[Tensor, ...], names: list[str], output: str, path: Path) -> None:
    """Static batch of one; constants are folded, so that a fixed-statistics norm is Div, Mul and Add."""
    path.parent.mkdir(parents=True, exist_ok=True)
    model.eval()
    torch.onnx.export(
        model,
        inputs,
        str(path),
        input_names=names,
        output_names=[output],
        opset_version=OPSET,
        do_constant_folding=True,
        dynamo=False,
    )


def flow_onnx(
    model: nn.Module, path: Path, shape: tuple[int, ...] = data.IMAGE_SHAPE, output: str = "velocity"
) -> None:
    inputs = (torch.zeros(1, *shape), torch.zeros(1), torch.zeros(1, dtype=torch.int64))
    onnx_export(model, inputs, ["noise", "t", "label"], output, path)


@torch.no_grad()
def golden(
    model: nn.Module,
    folder: Path,
    shape: tuple[int, ...] = data.IMAGE_SHAPE,
    output: str = "velocity",
    seed: int = 2024,
) -> None:
    """Sixteen inputs at the deployed time with the outputs PyTorch computes for them."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = torch.randn(GOLDEN, *shape, generator=torch.Generator().manual_seed(seed))
    t = torch.zeros(GOLDEN)
    label = torch.arange(GOLDEN) % 10
    made = model.eval()(noise, t, label)
    for name, value in (("noise", noise), ("t", t), ("label", label), (output, made)):
        np.save(folder / f"{name}.npy", np.ascontiguousarray(value.numpy()))


@torch.no_grad()
def golden_path(model: nn.Module, folder: Path, x: Tensor, labels: int, seed: int = 2024) -> None:
    """Sixteen inputs on the way from noise (t = 0) to the images x [16, ...], with what PyTorch computes for them."""
    z = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    t = torch.arange(GOLDEN) / GOLDEN
    save_golden(model.eval(), folder, noise=blend(z, x, t), t=t, label=torch.arange(GOLDEN) % labels)


@torch.no_grad()
def save_golden(model: nn.Module, folder: Path, **inputs: Tensor) -> None:
    """Inputs by the names of the net's arguments, and its `velocity`, as arrays with samples first."""
    save_arrays(folder, **inputs, velocity=model(**inputs))


def save_arrays(folder: Path, **arrays: Tensor) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in arrays.items():
        np.save(folder / f"{name}.npy", np.ascontiguousarray(value.numpy()))


def png(image: np.ndarray, path: Path) -> None:
    """Write an 8-bit grey image [height, width]."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width = image.shape
    rows = b"".join(b"\0" + row.tobytes() for row in image)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    path.write_bytes(body)


def tile(images: Tensor, columns: int, scale: int = 2, gap: int = 2) -> np.ndarray:
    """Lay images in [-1, 1] out row by row on a white ground."""
    pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)[:, 0].numpy()
    pixels = pixels.repeat(scale, 1).repeat(scale, 2)
    size = pixels.shape[1] + gap
    rows = -(-len(pixels) // columns)
    sheet = np.full((rows * size + gap, columns * size + gap), 255, np.uint8)
    for i, picture in enumerate(pixels):
        y, x = gap + i // columns * size, gap + i % columns * size
        sheet[y : y + size - gap, x : x + size - gap] = picture
    return sheet


@torch.no_grad()
def one_step(model: nn.Module, z: Tensor, label: Tensor) -> Tensor:
    """x = z + v(z, 0, label)."""
    return z + model(z, torch.zeros(len(z)), label)


def sheet_inputs(shape: tuple[int, ...], per_class: int = 8, seed: int = 7) -> tuple[Tensor, Tensor]:
    """Noise and labels of a contact sheet with one row per class."""
    label = torch.arange(10).repeat_interleave(per_class)
    return torch.randn(len(label), *shape, generator=torch.Generator().manual_seed(seed)), label


HEAD = """# What the importer cannot know from the ONNX file alone.
name = "{name}"
onnx = "{name}.onnx"
flq = "{name}.flq"
licence = "MIT OR Apache-2.0"
targets = ["qemu-mps2-an386"]

# Largest absolute difference allowed between golden/{output}.npy and the imported float32 graph.
tolerance = 1e-3
"""
FLOW = """
[flow]
noise = "noise"
time = "t"
{steps}time_value = 0.0
noise_at = 0
prediction = "v"
output = "image"
# Where the data lies in the model's terms, and where the output image shall lie.
pixel_range = [-1.0, 1.0]
output_range = [0.0, 1.0]
"""
WHOLE = """
# The step x = z + v and the map to pixels lie in the graph already, before and behind the decoder: there is no [flow],
# and `flowlet quantize` is told which input reads noise by `--noise noise`.
[set]
t = 0.0
"""
TAIL = """
[inputs.label]
count = {count}
classes = [{classes}]
{scoring}
[golden]
noise = "golden/noise.npy"
time = "golden/t.npy"
label = "golden/label.npy"
{output} = "golden/{output}.npy"
"""


MANY = """# Trained for many steps: what this value makes of it, one step from noise, is a draft.
"""

# The networks that `flowlet score` finds by itself do not know these data. `digits-b` draws other pictures.
DIGITS = ("digits", "digits-unet", "digits-a")
DIGITS_SCORING = """
[scoring]
features = "../scoring/digits-features.onnx"
reference = "../scoring/digits-reference.npz"
accuracy = "../scoring/digits-accuracy.onnx"
"""


def model_toml(
    name: str, path: Path, output: str = "velocity", classes: Sequence[str] = data.CLASSES, many: bool = False
) -> None:
    """`many` is a flow of many steps."""
    names = ", ".join(f'"{c}"' for c in classes)
    middle = FLOW if output == "velocity" else WHOLE
    text = (HEAD + middle + TAIL).format(
        name=name,
        output=output,
        classes=names,
        count=len(classes),
        steps=MANY if many else "",
        scoring=DIGITS_SCORING if name in DIGITS else "",
    )
    path.write_text(text)


def model_folder(model: nn.Module, name: str, folder: Path) -> None:
    """Everything of a velocity net but its card."""
    folder.mkdir(parents=True, exist_ok=True)
    flow_onnx(model, folder / f"{name}.onnx")
    golden(model, folder / "golden")
    model_toml(name, folder / "model.toml")
    z, label = sheet_inputs(data.IMAGE_SHAPE)
    png(tile(one_step(model.eval(), z, label), 8), folder / "sheet.png")


def path_folder(
    model: nn.Module, name: str, folder: Path, x: Tensor, classes: Sequence[str], sheet: Tensor, scale: int
) -> None:
    """Everything of a flow of many steps but its card; x [16, ...] are images for the golden inputs."""
    folder.mkdir(parents=True, exist_ok=True)
    flow_onnx(model, folder / f"{name}.onnx", x.shape[1:])
    golden_path(model, folder / "golden", x, len(classes))
    model_toml(name, folder / "model.toml", classes=classes, many=True)
    png(tile(sheet, 8, scale), folder / "sheet.png")


def refiner_folder(model: nn.Module, folder: Path, inputs: Sequence[Tensor]) -> None:
    """`refiner.onnx` and its golden vectors, beside the flow that it belongs to; inputs of `GOLDEN` rows."""
    names = ["noise", "previous", "t", "label"]
    onnx_export(model, tuple(x[:1] for x in inputs), names, "velocity", folder / "refiner.onnx")
    save_golden(model, folder / "golden-refiner", **dict(zip(names, inputs, strict=True)))


def latent_folder(model: LatentGenerator, folder: Path) -> None:
    """Everything of the latent generator but its card; its output is an image in [0, 1]."""
    name = folder.name
    folder.mkdir(parents=True, exist_ok=True)
    flow_onnx(model, folder / f"{name}.onnx", LATENT, "image")
    golden(model, folder / "golden", LATENT, "image")
    model_toml(name, folder / "model.toml", "image")
    z, label = sheet_inputs(LATENT)
    with torch.no_grad():
        png(tile(2 * model(z, torch.zeros(len(z)), label) - 1, 8), folder / "sheet.png")


def scoring_onnx(checkpoints: Path, folder: Path) -> None:
    """The feature network and the independent classifier, both fed pixels in [0, 1]."""
    classifier_onnx(checkpoints, folder, "", data.IMAGE_SHAPE)


def classifier_onnx(checkpoints: Path, folder: Path, prefix: str, shape: tuple[int, ...]) -> None:
    image = torch.zeros(1, *shape)
    for name, output in (("features", "features"), ("accuracy", "logits")):
        model = classifiers.load(prefix + name, checkpoints)
        model = classifiers.FeatureNet(model) if name == "features" else model
        onnx_export(model, (image,), ["image"], output, folder / f"{prefix}{name}.onnx")


def critic_onnx(checkpoints: Path, folder: Path) -> None:
    """The critic of the digits: `sample` [1,1,8,8] in [-1, 1] -> `probability` [1,10]."""
    critic = classifiers.Critic(classifiers.load("digits-critic", checkpoints))
    onnx_export(critic, (torch.zeros(1, 1, 8, 8),), ["sample"], "probability", folder / "critic.onnx")


def digits_scoring(checkpoints: Path, reference: Moments, folder: Path) -> None:
    """The classifiers of the 8x8 digits and the moments of the held-out ones, `mu` and `sigma` in one archive."""
    classifier_onnx(checkpoints, folder, "digits-", (1, 8, 8))
    np.savez(folder / "digits-reference.npz", mu=reference.mu, sigma=reference.sigma)


def scoring_folder(checkpoints: Path, reference: Moments, folder: Path) -> None:
    scoring_onnx(checkpoints, folder)
    np.save(folder / "reference_mu.npy", reference.mu)
    np.save(folder / "reference_sigma.npy", reference.sigma)
