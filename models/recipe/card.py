"""The model card, written from the recorded scores."""

from __future__ import annotations

from pathlib import Path

from .nets import NetConfig

Score = dict[str, float | int | str]


def row(title: str, score: Score) -> str:
    return f"| {title} | {score['fd']:.3f} | {score['accuracy']:.3f} |"


def write(
    name: str,
    config: NetConfig,
    size: tuple[int, int],
    teacher_size: tuple[int, int],
    pair_count: int,
    scores: dict[str, Score],
    student: Score,
    real: dict[str, float],
    path: Path,
) -> None:
    """`size` and `teacher_size` are parameters and multiply-accumulates of one call."""
    teacher = scores["teacher"]
    rows = [
        row("real training images", {"fd": real["fd_of_10000_train_images"], "accuracy": real["accuracy"]}),
        row(f"teacher, {teacher['steps']} Heun steps, guidance {teacher['guidance']}", teacher),
        *(
            row(f"teacher, {s['steps']} Heun steps, no guidance", s)
            for s in [scores.get("teacher_unguided")]
            if s is not None
        ),
        row("teacher, one Euler step, no guidance", scores["teacher_one_euler"]),
        row("**this network, one step, float32 in PyTorch**", student),
    ]
    table = "\n".join(rows)
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

A U-Net of {size[0]:,} parameters and {size[1] / 1e6:.1f} million multiply-accumulates: pixel-unshuffle by 2, residual
blocks with {config.narrow} channels at 14x14 and {config.wide} at 7x7, nearest-neighbour doubling, one skip
concatenation, pixel-shuffle. Every normalization is a Unified Normalization behind a convolution and has fixed
statistics. Time ({config.sinusoids} sinusoids) and label enter every block as one bias per channel; with the time fixed
at 0 both paths are constants per class.

Classes 0 to 9: t-shirt, trouser, pullover, dress, coat, sandal, shirt, sneaker, bag, ankle-boot.

## Training

`models/recipe` holds everything. A teacher ({teacher_size[0]:,} parameters, {teacher_size[1] / 1e6:.1f} million
multiply-accumulates a call, GroupNorm) learns a class-conditional rectified flow on the 60,000 training images and
draws {pair_count:,} pairs of noise and image ({teacher["steps"]} Heun steps, guidance {teacher["guidance"]}).
The student learns those pairs first as a flow, then at t = 0 only, with a pseudo-Huber loss on the image and a
distance in a small classifier; the last steps run with the normalization statistics frozen at what noise at t = 0
gives. All of it ran on two CPU cores in about an hour and a half.

## Scores

10,000 samples, 1,000 a class; Frechet distance (FD, lower is better) to the real test images in the network of
`models/scoring`, and the share of samples that an independent classifier gives to the class asked for. Guidance
raises the accuracy above that of real images because it avoids pictures between two classes.

| | FD | class accuracy |
|---|---|---|
{table}

<!-- scores:begin -->
<!-- scores:end -->

## Limits

It is an example for a compiler, trained for minutes: fine textures and prints are blurred, rare kinds of bag and
sandal are missing, and t-shirt, shirt, pullover and coat run into one another as they do in the data set.

## Data and licence

Trained on Fashion-MNIST (Xiao, Rasul, Vollgraf; Zalando SE), which is under the MIT licence. The weights are under
MIT OR Apache-2.0, like the rest of this repository.
"""
    )
