"""The model card, written from the recorded scores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from .loop import Schedule
from .nets import NetConfig
from .transformer import TransformerConfig

Score = dict[str, float | int | str]

NORMS = {
    "unified": "Unified Normalization (ACM MM 2022): fixed statistics, folds into the layer beside it",
    "batch": "BatchNorm: fixed statistics, folds into the layer beside it",
    "power": "PowerNorm (ICML 2020) without GroupScaling: fixed statistics, folds into the layer beside it",
    "group": "GroupNorm: statistics of the sample, does not fold",
    "layer": "LayerNorm: statistics of the sample, does not fold",
    "batch-channel": "Batch-Channel Normalization with weight standardization: its group part does not fold",
}


class Lengths(Protocol):
    reflow: Schedule
    distill: Schedule
    settle: Schedule
    anneal: bool


@dataclass(frozen=True)
class Subject:
    """The net of the card; `size` and `teacher_size` are parameters and multiply-accumulates of one call."""

    name: str
    config: NetConfig | TransformerConfig
    size: tuple[int, int]
    teacher_size: tuple[int, int]


def row(title: str, score: Score) -> str:
    return f"| {title} | {score['fd']:.3f} | {score['accuracy']:.3f} | {score['samples']:,} |"


def network(subject: Subject) -> str:
    config, (parameters, macs) = subject.config, subject.size
    size = f"{parameters:,} parameters and {macs / 1e6:.1f} million multiply-accumulates"
    if isinstance(config, NetConfig):
        return (
            f"A U-Net of {size}: pixel-unshuffle by 2, residual blocks with {config.narrow} channels at 14x14 and "
            f"{config.wide} at 7x7,\nnearest-neighbour doubling, one skip concatenation, pixel-shuffle. Every norm "
            f"stands behind a convolution.\nNorm: {NORMS[config.norm]}."
        )
    place = "before and behind each branch (Peri)" if config.placement == "peri" else "before each branch"
    return (
        f"A transformer of {size} (products of two activations not counted): patches of "
        f"{config.patch}x{config.patch}, {config.blocks} blocks of\nwidth {config.width} with {config.heads} heads and "
        f"a hidden width of {config.ratio * config.width}, norms {place}.\nNorm: {NORMS[config.norm]}."
    )


def teacher_rows(scores: dict[str, Score]) -> list[str]:
    def title(score: Score) -> str:
        how = f"{score['steps']} {str(score['method']).capitalize()} step{'s' if score['steps'] != 1 else ''}"
        return f"teacher, {how}, " + ("no guidance" if score["guidance"] == 1.0 else f"guidance {score['guidance']}")

    return [row(title(score), score) for score in scores.values()]


LIMITS = """## Limits

It is an example for a compiler, trained for minutes: fine textures and prints are blurred, rare kinds of bag and
sandal are missing, and t-shirt, shirt, pullover and coat run into one another as they do in the data set.

## Data and licence

Trained on Fashion-MNIST (Xiao, Rasul, Vollgraf; Zalando SE), which is under the MIT licence. The weights are under
MIT OR Apache-2.0, like the rest of this repository.
"""
MEASURE = """Frechet distance (FD, lower is better) to the 10,000 real test images in the network of `models/scoring`, and the
share of samples that an independent classifier gives to the class asked for; labels in equal shares. Guidance
raises the accuracy above that of real images because it avoids pictures between two classes."""
CLASSES = "Classes 0 to 9: t-shirt, trouser, pullover, dress, coat, sandal, shirt, sneaker, bag, ankle-boot."


def write(
    subject: Subject,
    pair_count: int,
    lengths: Lengths,
    scores: dict[str, Score],
    student: Score,
    real: dict[str, float],
    path: Path,
) -> None:
    name, teacher = subject.name, scores["teacher"]
    steps = (lengths.reflow.steps, lengths.distill.steps, lengths.settle.steps)
    annealed = ", the first of them with fresh noise mixed in (annealing reflow)" if lengths.anneal else ""
    real_score = {"fd": real["fd_of_10000_train_images"], "accuracy": real["accuracy"], "samples": 10_000}
    table = "\n".join(
        [
            row("real images (FD of training, accuracy of test images)", real_score),
            *teacher_rows(scores),
            row("**this network, one step, float32 in PyTorch**", student),
        ]
    )
    path.write_text(
        f"""# {name}

Draws a 28x28 grey picture of a chosen garment from noise in one step: x = z + v(z, 0, label).

![Ten classes, one row each; one step](sheet.png)

| file | what it is |
|---|---|
| `{name}.onnx` | the network: `noise` [1,1,28,28], `t` [1], `label` [1] -> `velocity` [1,1,28,28] (opset 17, batch 1) |
| `model.toml` | what the ONNX file cannot say: the flow convention, classes, pixel range, tolerance |
| `golden/` | sixteen inputs and the velocities that PyTorch computes for them |
| `scores.json` | the teacher's figures |

## Network

{network(subject)}
Time ({subject.config.sinusoids} sinusoids) and label enter every block as one bias per channel; with the time fixed at 0
both paths are constants per class.

{CLASSES}

## Training

`models/recipe` holds everything. A teacher ({subject.teacher_size[0]:,} parameters, {subject.teacher_size[1] / 1e6:.1f} million
multiply-accumulates a call, GroupNorm) learns a class-conditional rectified flow on the 60,000 training images and
draws {pair_count:,} pairs of noise and image ({teacher["steps"]} {str(teacher["method"]).capitalize()} steps, guidance {teacher["guidance"]}).
The student learns those pairs as a flow ({steps[0]} batches of 64{annealed}), then at t = 0 only ({steps[1]} batches), with a
pseudo-Huber loss on the image and a distance in a small classifier; in the last {steps[2]} batches the statistics of norms
that have fixed ones are frozen at what noise at t = 0 gives.

## Scores

{MEASURE} Printed by
`python -m recipe score` and `python -m recipe settle`; all results: `models/RESULTS.md`.

| | FD | class accuracy | samples |
|---|---|---|---|
{table}

<!-- scores:begin -->
<!-- scores:end -->

{LIMITS}"""
    )


def write_latent(
    name: str,
    sizes: tuple[tuple[int, int], tuple[int, int], tuple[int, int]],
    steps: tuple[int, int, int, int, int],
    pair_count: int,
    scores: dict[str, Score],
    path: Path,
) -> None:
    """`sizes` of the mixer, the decoder and the teacher; `steps` of autoencoder, teacher and the student's stages."""
    mixer, decoder, guide = (f"{p:,} parameters, {m / 1e6:.1f} million multiply-accumulates" for p, m in sizes)
    teacher = scores["teacher"]
    table = "\n".join(
        [
            row("autoencoder, real test images", scores["reconstruction"]),
            row(f"teacher, {teacher['steps']} Euler steps, guidance {teacher['guidance']}", teacher),
            row("**this network, one step, float32 in PyTorch**", scores["student"]),
        ]
    )
    path.write_text(
        f"""# {name}

Draws a 28x28 grey picture of a chosen garment from 196 numbers of noise in one step, decoder included:
image = decode(z + v(z, 0, label)).

![Ten classes, one row each; one step](sheet.png)

| file | what it is |
|---|---|
| `{name}.onnx` | the whole generator: `noise` [1,4,7,7], `t` [1], `label` [1] -> `image` [1,1,28,28] in about [0, 1] (opset 17, batch 1) |
| `model.toml` | what the ONNX file cannot say; int8 with `flowlet quantize {name}.onnx --noise noise -o {name}.flq` |
| `golden/` | sixteen inputs and the images that PyTorch computes for them |

## Network

The flow is a pre-norm mixer of convolutions at 7x7 ({mixer}); the decoder doubles
twice, the second time by pixel-shuffle ({decoder}). Every norm is a Unified
Normalization (ACM MM 2022) before a 1x1 convolution or behind a convolution and folds into it, so that none is left after
compiling; time and label are constants per class in the hidden layers' biases.

{CLASSES}

## Training

`python -m recipe latent`. An autoencoder with latents [4,7,7] ({steps[0]} batches of 64: pseudo-Huber, distance in a small
classifier, small KL). A teacher in its latent space, a LayerNorm transformer ({guide}),
learns a class-conditional rectified flow ({steps[1]} batches of 128) and draws {pair_count:,} pairs. The student learns them as a
flow ({steps[2]} batches of 64), then at t = 0 only ({steps[3]}), compared in the latent and after the fixed decoder, and settles with
frozen norms ({steps[4]}).

## Scores

{MEASURE}
Printed by `python -m recipe latent`.

| | FD | class accuracy | samples |
|---|---|---|---|
{table}

{LIMITS}"""
    )
