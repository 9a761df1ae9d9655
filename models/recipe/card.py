"""The model card, written from the recorded scores."""

from __future__ import annotations

import json
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
    match: float


@dataclass(frozen=True)
class Subject:
    """The net of the card; `size` and `teacher_size` are parameters and multiply-accumulates of one call, `side` is
    the image's.
    """

    name: str
    config: NetConfig | TransformerConfig
    size: tuple[int, int]
    teacher_size: tuple[int, int] | None = None
    side: int = 28


def row(title: str, score: Score) -> str:
    return f"| {title} | {score['fd']:.3f} | {score['accuracy']:.3f} | {score['samples']:,} |"


def network(subject: Subject) -> str:
    config, (parameters, macs) = subject.config, subject.size
    size = f"{parameters:,} parameters and {macs / 1e6:.1f} million multiply-accumulates"
    if isinstance(config, NetConfig):
        return (
            f"A U-Net of {size}: pixel-unshuffle by 2, residual blocks with {config.narrow} channels at "
            f"{subject.side // 2}x{subject.side // 2} and {config.wide} at {subject.side // 4}x{subject.side // 4},\nnearest-neighbour doubling, one skip concatenation, pixel-shuffle. Every norm "
            f"stands behind a convolution.\nNorm: {NORMS[config.norm]}."
        )
    place = "before and behind each branch (Peri)" if config.placement == "peri" else "before each branch"
    return (
        f"A transformer of {size} (products of two activations not counted): patches of "
        f"{config.patch}x{config.patch}, {config.blocks} blocks of\nwidth {config.width} with {config.heads} heads and "
        f"a hidden width of {config.ratio * config.width}, norms {place}.\nNorm: {NORMS[config.norm]}."
    )


def solver(score: Score) -> str:
    how = f"{score['steps']} {str(score['method']).capitalize()} step{'s' if score['steps'] != 1 else ''}"
    end = score.get("end", 1.0)
    return how if end == 1.0 else f"{how} to t = {end} and one Euler step"


def teacher_rows(scores: dict[str, Score]) -> list[str]:
    def title(score: Score) -> str:
        return f"teacher, {solver(score)}, " + (
            "no guidance" if score["guidance"] == 1.0 else f"guidance {score['guidance']}"
        )

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
DRAFT = """| `*.flq` | what `flowlet quantize` makes of it alone: one step from noise in int8, a draft |
"""
FILES = """| `*.flq`, `student.json` | the int8 graph that `flowlet quantize` makes of the network, and its scores |
"""
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
    matched = (
        f"\nThere the distribution of features of what it draws is pulled to that of the real training images, with weight "
        f"{lengths.match:g} (`recipe.matching`),\nin the classifier of that distance."
        if lengths.match
        else ""
    )
    continued = (
        "\nThe pairs counted here are those of the last stage: it went on from a student of other pairs "
        "(`models/recipe/README.md`)."
        if student.get("continued")
        else ""
    )
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
{FILES if path.with_name(f"{name}.flq").exists() else ""}
## Network

{network(subject)}
Time ({subject.config.sinusoids} sinusoids) and label enter every block as one bias per channel; with the time fixed at 0
both paths are constants per class.

{CLASSES}

## Training

`models/recipe` holds everything. A teacher ({subject.teacher_size[0]:,} parameters, {subject.teacher_size[1] / 1e6:.1f} million
multiply-accumulates a call, GroupNorm) learns a class-conditional rectified flow on the 60,000 training images and
draws {pair_count:,} pairs of noise and image ({solver(teacher)}, guidance {teacher["guidance"]}).
The student learns those pairs as a flow ({steps[0]} batches of 64{annealed}), then at t = 0 only ({steps[1]} batches), with a
pseudo-Huber loss on the image and a distance in a small classifier; in the last {steps[2]} batches the statistics of norms
that have fixed ones are frozen at what noise at t = 0 gives.{matched}{continued}

## Scores

{MEASURE} Printed by
`python -m recipe score` and `python -m recipe settle`; all results: `models/RESULTS.md`.

| | FD | class accuracy | samples |
|---|---|---|---|
{table}

<!-- scores:begin -->
{deployed(name, path.with_name("student.json"))}<!-- scores:end -->

{LIMITS}"""
    )


def deployed(name: str, scored: Path, from_onnx: bool = False) -> str:
    """The scores that `flowlet score --json` printed, if they are there; `from_onnx` of a file that does not say itself
    which input is noise.
    """
    if not scored.exists():
        return ""
    found = json.loads(scored.read_text())
    file = f"models/{name}/{name}"
    call = f"{file}.onnx --noise noise" if from_onnx else f"{file}.flq --against {file}.onnx"
    samples, f32, int8 = found["scores_n"], found["scores"]["f32"], found["scores"]["int8"]
    return f"""In flowlet, on its own noise (seed i and label i modulo 10 for sample i); printed by
`flowlet score {call} --samples {samples}`, kept in `student.json`:

| | FD | class accuracy | PSNR against f32, median / 5th percentile |
|---|---|---|---|
| one step, f32 | {f32["fd"]:.3f} | {f32["accuracy"]:.4f} | |
| one step, **int8** | {int8["fd"]:.3f} | {int8["accuracy"]:.4f} | {int8["psnr_median_db"]:.2f} dB / {int8["psnr_p5_db"]:.2f} dB |
"""


def many_rows(scores: list[Score]) -> str:
    lines = []
    for s in scores:
        how = solver(s) + (", no guidance" if s["guidance"] == 1.0 else f", guidance {s['guidance']}")
        lines.append(row(how, s) + (f" {s['nearest']:.3f} |" if "nearest" in s else ""))
    return "\n".join(lines)


DIGITS_TEXT = {
    "digits": "Draws an 8x8 digit of a chosen class in many steps; a transformer small enough for a Cortex-M4.",
    "digits-unet": "Draws an 8x8 digit of a chosen class in many steps; a U-Net small enough for a Cortex-M4.",
    "digits-a": "Draws an 8x8 digit in many steps. Domain A of a pair with a known map; `digits-b` is the other.",
    "digits-b": "Draws an 8x8 digit, blurred and with contrast turned round, in many steps. Domain B of a pair with a\n"
    "known map from `digits-a`.",
}
DIGITS_DATA = {
    "digits-a": "every second of the 1,437 training images, the half that `digits-b` does not see",
    "digits-b": "every second of the 1,437 training images, the half that `digits-a` does not see, each mapped by\n"
    "`recipe.digits.inverted`: a 3x3 binomial blur (1 2 1, edges repeated), then -x",
}


# Without the bar that ends a row.
CRITIC = (
    "| `critic.onnx` | a small classifier: `sample` [1,1,8,8] -> `probability` [1,10], the energy of `critic_2`; trained "
    "on the training images only"
)


def write_digits(subject: Subject, steps: int, result: dict, accuracy: float, refiner: str, path: Path) -> None:
    """The card of one of the 8x8 flows; `refiner` is a further section or nothing."""
    name, real = subject.name, result["real"]
    data = DIGITS_DATA.get(name, "the 1,437 training images")
    what = "360 images [360,1,8,8] in [-1, 1] that no network was trained on, and their labels"
    held = {
        "digits": f"`held-out/` | the {what} |\n{CRITIC}",
        "digits-b": f"`held-out/` | the {what}, mapped to this domain; row by row those of `models/digits/held-out`",
    }.get(name, f"`../digits/held-out/` | the {what}")
    turned = (
        "Samples are judged with the contrast turned back, against held-out images blurred alike.\n"
        if name == "digits-b"
        else ""
    )
    path.write_text(
        f"""# {name}

{DIGITS_TEXT[name]}

![Ten classes, one row each; 50 steps](sheet.png)

| file | what it is |
|---|---|
| `{name}.onnx` | the network: `noise` [1,1,8,8] (the state x_t), `t` [1], `label` [1] -> `velocity` [1,1,8,8] (opset 17, batch 1) |
| `model.toml` | the flow convention, classes, pixel range, tolerance |
| `golden/` | sixteen inputs at t = 0, 1/16, ... and the velocities that PyTorch computes for them |
{DRAFT if path.with_name(f"{name}.flq").exists() else ""}| {held} |

## Network

{network(subject)}
Time ({subject.config.sinusoids} sinusoids) and label enter every block as one bias per channel. Labels 0 to 9 are the digits; 10 is
no label, for guidance v_10 + g (v_label - v_10).

## Training

`python -m recipe digits`: rectified flow (x_t = (1 - t) z + t x, noise z at t = 0, target x - z, t uniform) on
{data}; {steps:,} batches of 128, a tenth of the labels replaced by 10. The norms'
statistics are measured on that law afterwards.

## Scores

Frechet distance (FD) to the held-out images in the network `models/scoring/digits-features.onnx`, and the share that
`digits-accuracy.onnx` ({accuracy:.3f} on held-out images) gives to the class asked for. "Nearest" is the mean distance
(root mean square a pixel, data in [-1, 1]) to the nearest training image: far below that of held-out images would mean
learning by heart.
{turned}
| | FD | class accuracy | samples | nearest |
|---|---|---|---|---|
| real images: FD of training images, the rest of held-out ones | {real["fd"]:.3f} | {real["accuracy"]:.3f} | {real["samples"]:,} | {real["nearest"]:.3f} |
{many_rows(result["drawn"])}
{refiner}
## Data and licence

Optical Recognition of Handwritten Digits (E. Alpaydin, C. Kaynak; UCI Machine Learning Repository, CC BY 4.0), the part
that scikit-learn bundles; 360 random images are held out. The weights are under MIT OR Apache-2.0, like the rest of
this repository.
"""
    )


def refined_table(rows: list[dict]) -> str:
    """Schedules of FlowTurbo; work in million multiply-accumulates a sample."""
    lines = (
        f"| `{r['blocks']}` | {r['macs'] / 1e6:.2f} | {r['fd']:.3f} | {r['accuracy']:.3f} | {r['samples']:,} |"
        for r in rows
    )
    return "\n".join(["| blocks | work | FD | class accuracy | samples |", "|---|---|---|---|---|", *lines])


def refiner_section(
    size: tuple[int, int], share: float, reach: float, steps: int, gain: float, rows: list[dict]
) -> str:
    """`gain` is the refiner's squared error over that of the velocity kept; `share` its work over the flow's."""
    return f"""
## Refiner

`refiner.onnx` (FlowTurbo, NeurIPS 2024): `noise` (the state x_t), `previous` (the velocity a little before, of the same
label), `t`, `label` -> `velocity` at the state, `previous` already added; golden vectors in `golden-refiner/`.
{size[0]:,} parameters and {size[1] / 1e6:.2f} million multiply-accumulates, {100 * share:.0f} % of the flow's. Trained for {steps:,} batches of
64 on steps of up to {reach}; on fresh points its squared error is {gain:.2f} of that of keeping the previous velocity.

One letter a step: E Euler, H Heun, P pseudo-corrector (Heun with the last step's second velocity for its first), R both
velocities from the refiner. A last `E` after others starts at t = 0.95. Work is million multiply-accumulates a sample,
both calls of guidance counted.

{refined_table(rows)}
"""


def write_teacher(
    subject: Subject, steps: int, scores: dict[str, Score], real: dict[str, float], refiner: str, path: Path
) -> None:
    """The card of the many-step flow that the one-step networks were distilled from."""
    name = subject.name
    table = "\n".join(
        [
            row(
                "real images (FD of training, accuracy of test images)",
                {"fd": real["fd_of_10000_train_images"], "accuracy": real["accuracy"], "samples": 10_000},
            ),
            *teacher_rows(scores),
        ]
    )
    path.write_text(
        f"""# {name}

Draws a 28x28 grey picture of a chosen garment in many steps: the flow that the one-step networks beside it were
distilled from.

![Ten classes, one row each; 12 steps, guidance 1.75](sheet.png)

| file | what it is |
|---|---|
| `{name}.onnx` | the network: `noise` [1,1,28,28] (the state x_t), `t` [1], `label` [1] -> `velocity` [1,1,28,28] (opset 17, batch 1) |
| `model.toml` | the flow convention, classes, pixel range, tolerance |
| `golden/` | sixteen inputs at t = 0, 1/16, ... and the velocities that PyTorch computes for them |
{DRAFT if path.with_name(f"{name}.flq").exists() else ""}| `programs/` | samplers and inpainting as static programs, in int8: `flowlet program run` |
| `held-out/` | the first 64 test images [64,1,28,28] in [-1, 1] and their labels, which programs start from |

## Network

{network(subject)}
Time ({subject.config.sinusoids} sinusoids) and label enter every block as one bias per channel. Label 10 is no label, for guidance
v_10 + g (v_label - v_10).

{CLASSES}

## Training

`python -m recipe teacher`: rectified flow on the 60,000 training images, {steps:,} batches of 128, a tenth of the labels
replaced by 10.

## Scores

{MEASURE} Printed by `python -m recipe score`.

| | FD | class accuracy | samples |
|---|---|---|---|
{table}
{refiner}
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
{FILES if path.with_name(f"{name}.flq").exists() else ""}
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
frozen norms ({steps[4]}), where the distribution of features of decoded images is pulled to that of real ones (`recipe.matching`).

## Scores

{MEASURE}
Printed by `python -m recipe latent`.

| | FD | class accuracy | samples |
|---|---|---|---|
{table}

<!-- scores:begin -->
{deployed(name, path.with_name("student.json"), from_onnx=True)}<!-- scores:end -->

{LIMITS}"""
    )
