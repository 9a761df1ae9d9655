"""One page of all recorded scores: `RESULTS.md`. A part whose stages have not run is left out."""

from __future__ import annotations

import json
from pathlib import Path

from . import ablation
from .card import Lengths, Score, refined_table, row, solver, teacher_rows
from .transformer import VITS

UNETS = {
    "fashion": "Unified Normalization",
    "fashion-matched": "the first again, its last stage on new pairs and on the distribution of real images",
    "fashion-bn": "BatchNorm",
    "fashion-gn": "GroupNorm",
    "fashion-tiny": "Unified Normalization, 24 and 32 channels, annealed",
    "fashion-large": "Unified Normalization, 64 and 96 channels, annealed",
}
VIT_TITLES = {
    "fashion-vit": "Unified Normalization, before each branch",
    "fashion-vit-ln": "LayerNorm, before each branch",
    "fashion-vit-bn": "BatchNorm, before each branch",
    "fashion-vit-pn": "PowerNorm, before each branch",
    "fashion-vit-peri": "Unified Normalization, before and behind (Peri)",
}
HEAD = "| | FD | class accuracy | samples |\n|---|---|---|---|"


def _noted(work: Path, name: str) -> dict | None:
    path = work / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def _lengths(lengths: Lengths) -> str:
    steps = (lengths.reflow.steps, lengths.distill.steps)
    return f"{steps[0]} batches of 64 of reflow, {steps[1]} of distillation, settling as the cards say"


def _students(work: Path, titles: dict[str, str]) -> list[str]:
    """Scores at the end, and how often the outlier filter of Unified Normalization fired in distillation."""
    lines = []
    for name, title in titles.items():
        score, before = _noted(work, f"{name}.settle"), _noted(work, f"{name}.distill") or {}
        if score is not None:
            outliers = before.get("outliers", "-") if "Unified" in title else "-"
            size, spread = score.get("parameters", "-"), _noted(work, f"{name}.spread")
            between = "-" if spread is None else f"{spread['fd'][0]:.3f} to {spread['fd'][1]:.3f}"
            lines.append(f"{row(f'`{name}`: {title}', score)} {between} | {size} | {outliers} |")
    return lines


def _teacher(scores: dict[str, Score], student: Score | None) -> str:
    text = "## Teacher\n\n`python -m recipe score`\n\n" + "\n".join([HEAD, *teacher_rows(scores)])
    if student is None or "teacher_many" not in scores:
        return text
    many, one = scores["teacher_many"]["fd"], scores["teacher_one_euler"]["fd"]
    return (
        f"{text}\n\nOne step of `fashion`, FD {student['fd']:.3f}: {student['fd'] / many:.2f} x its teacher's with "
        f"{scores['teacher_many']['steps']} guided steps,\n{student['fd'] / one:.2f} x one Euler step of that teacher "
        "without guidance."
    )


def _solvers(results: list[dict]) -> str:
    def title(r: dict) -> str:
        end = "" if r["end"] == 1.0 else f" to t = {r['end']}, then one Euler step"
        return f"{r['method'].capitalize()}, {r['steps']} steps{end}: {r['calls']} calls"

    lines = "\n".join(row(title(r), r) for r in results)
    return f"## Solver of the pairs\n\n`python -m recipe solvers`; the guided teacher.\n\n{HEAD}\n{lines}"


def _refined(noted: dict) -> str:
    return (
        f"The refiner's squared error is {noted['gain']:.3f} of that of keeping the previous velocity. Blocks as in the "
        "model card; work in\nmillion multiply-accumulates a sample.\n\n"
        f"{refined_table(noted['rows'])}"
    )


def _digits(noted: dict) -> str:
    """Frechet distances of different domains are in different features and do not compare."""
    lines = []
    for name in (n for n in noted if n != "classifiers"):
        lines += [
            f"| `{name}` | {solver(r)} | {r['guidance']} | {r['fd']:.3f} | {r['accuracy']:.3f} | {r['nearest']:.3f} |"
            for r in noted[name]["drawn"]
        ]
    samples = noted["digits"]["drawn"][0]["samples"]
    head = "| | solver | guidance | FD | class accuracy | nearest |\n|---|---|---|---|---|---|"
    return (
        f"## Digits, 8x8\n\n`python -m recipe digits`; {samples:,} samples, classifier and moments of the digits' own; "
        "`nearest` is the distance to\nthe nearest training image (held-out images: "
        f"{noted['digits']['real']['nearest']:.3f}).\n\n{head}\n" + "\n".join(lines)
    )


def page(work: Path, students: Lengths, vits: Lengths, several: int) -> str:
    wide = "| | FD | class accuracy | samples | FD, five draws | parameters | outliers |\n" + "|---" * 7 + "|"
    parts = [
        "# Scores of the recipes\n\nWritten by `python -m recipe results` from what the stages recorded. Frechet distance "
        "(FD, lower is better) is to the\n10,000 real test images in the network of `models/scoring`; class accuracy is by "
        "an independent classifier that no loss\nuses; labels come in equal shares. One training run each: differences of "
        "a few hundredths between runs are not a finding."
    ]
    scores, solvers = _noted(work, "teacher"), _noted(work, "solvers")
    if scores is not None:
        parts.append(_teacher(scores, _noted(work, "fashion.settle")))
    if solvers is not None:
        parts.append(_solvers(solvers))
    for title, names, lengths, command in (
        ("One-step U-Nets from one teacher and pair set", UNETS, students, "reflow`, `distill`, `settle"),
        ("Norms in a transformer", {n: VIT_TITLES[n] for n in VITS}, vits, "reflow`, `distill`, `settle"),
    ):
        lines = _students(work, names)
        if lines:
            how = (
                f'`{command}`, one step; {_lengths(lengths)}.\n"Five draws": least and largest FD over five draws of '
                'noise (`spread`). "Outliers": how often the filter of a\nUnified Normalization fired in distillation, '
                "summed over layers."
            )
            parts.append(f"## {title}\n\n{how}\n\n{wide}\n" + "\n".join(lines))
    cells, latent = _noted(work, "ablation"), _noted(work, "latent")
    if cells is not None:
        how = (
            "`python -m recipe ablation`, on `fashion-tiny`; FD / class accuracy, "
            f"{cells[0]['distill_1']['samples']:,} samples each.\nCells are short: only large differences count."
        )
        parts.append(f"## Ablation\n\n{how}\n\n{ablation.table(cells, several)}")
    refined, small, small_refined = (_noted(work, n) for n in ("refiner", "digits", "digits-refiner"))
    if refined is not None:
        parts.append(f"## FlowTurbo on the teacher\n\n`python -m recipe refiner`\n\n{_refined(refined)}")
    if small is not None:
        parts.append(_digits(small))
    if small_refined is not None:
        parts.append(f"## FlowTurbo on `digits-unet`\n\n`python -m recipe digits-refiner`\n\n{_refined(small_refined)}")
    if latent is not None:
        coder, guide, student = latent["reconstruction"], latent["teacher"], latent["student"]
        lines = [
            row("autoencoder, real test images", coder),
            row(f"teacher, {guide['steps']} Euler steps, guidance {guide['guidance']}", guide),
            row("**`fashion-latent`, one step**", student),
        ]
        parts.append(f"## In latent space\n\n`python -m recipe latent`\n\n{HEAD}\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"
