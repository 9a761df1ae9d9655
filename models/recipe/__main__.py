"""Command line: `python -m recipe STAGE [--model NAME]`, run from the folder `models`.

Every stage continues where its last checkpoint (at most a minute old) stands and returns at once when done.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from . import card, classifiers, data, export, pairs, scoring, student, teacher
from .loop import Schedule, save_atomic
from .nets import STUDENTS, TEACHER, FlowNet, flow_macs, parameters

STAGES = ("classifiers", "teacher", "guidance", "pairs", "reflow", "distill", "settle", "score", "export", "count")


@dataclass(frozen=True)
class Plan:
    """The length of everything. The defaults are the released models; `SMOKE` is a two-minute rehearsal."""

    classifier_steps: int = 1400
    teacher: Schedule = Schedule(steps=2900, lr=1.5e-3, warmup=150, ema=0.9985, seed=1)
    pairs: pairs.PairConfig = pairs.PairConfig(count=12_000, steps=5, guidance=1.75)
    reflow: Schedule = Schedule(steps=800, lr=1.5e-3, warmup=100, floor=0.2, ema=0.998, seed=4)
    distill: Schedule = Schedule(steps=3600, lr=1.2e-3, warmup=50, floor=0.05, ema=0.998, seed=5)
    settle: Schedule = Schedule(steps=600, lr=3e-4, warmup=20, floor=0.01, ema=0.995, seed=6)
    guidance_trial: int = 1000
    scored: int = 10_000


SMOKE = Plan(
    classifier_steps=20,
    teacher=Schedule(steps=20, lr=1e-3, warmup=5, seed=1),
    pairs=pairs.PairConfig(count=500, steps=2, guidance=1.5),
    reflow=Schedule(steps=15, lr=1e-3, warmup=5, seed=4),
    distill=Schedule(steps=15, lr=1e-3, warmup=5, seed=5),
    settle=Schedule(steps=5, lr=1e-4, warmup=2, seed=6),
    guidance_trial=100,
    scored=500,
)


@dataclass(frozen=True)
class Run:
    """One invocation: where things lie and how long they take."""

    plan: Plan
    work: Path
    data: Path
    out: Path
    smoke: bool
    part: tuple[int, int] = (0, 1)

    def images(self, split: str) -> tuple[torch.Tensor, torch.Tensor]:
        if self.smoke:
            return data.synthetic(2000, seed=len(split))
        return data.load(self.data, split)

    @property
    def nets(self) -> Path:
        return self.work / "classifiers"

    def checkpoint(self, stage: str, model: str = "") -> Path:
        return self.work / (f"{model}.{stage}.pt" if model else f"{stage}.pt")

    def scorer(self) -> scoring.Scorer:
        features = classifiers.load("features", self.nets)
        reference = scoring.moments(features, self.images("t10k")[0])
        return scoring.Scorer(features, classifiers.load("accuracy", self.nets), reference)

    def teacher(self) -> FlowNet:
        return teacher.load(self.checkpoint("teacher"))

    def note(self, name: str, value: object) -> None:
        """Keep a result for the export and print it."""
        self.work.mkdir(parents=True, exist_ok=True)
        (self.work / f"{name}.json").write_text(json.dumps(value, indent=2) + "\n")
        print(name, json.dumps(value), flush=True)

    def noted(self, name: str) -> dict:
        return json.loads((self.work / f"{name}.json").read_text())


def stage_classifiers(run: Run) -> None:
    images, labels = run.images("train")
    test = run.images("t10k")
    result = {}
    for name in classifiers.CONFIGS:
        model = classifiers.fit(name, run.nets, images, labels, run.plan.classifier_steps)
        result[name] = round(classifiers.accuracy(model, *test), 4)
    scorer = run.scorer()
    result["fd_of_10000_train_images"] = round(
        scoring.frechet(scoring.moments(scorer.features, images[:10_000]), scorer.reference), 4
    )
    run.note("classifiers", result)


def stage_teacher(run: Run) -> None:
    teacher.fit(run.checkpoint("teacher"), *run.images("train"), run.plan.teacher)


def stage_guidance(run: Run) -> None:
    """A quick look at how guidance trades distance against class accuracy."""
    model, scorer = run.teacher(), run.scorer()
    count = run.plan.guidance_trial
    z, label = torch.randn(count, 1, 28, 28, generator=torch.Generator().manual_seed(9)), torch.arange(count) % 10
    result = {}
    for guidance in (1.0, 1.5, 2.0):
        images = teacher.sample_all(model, z, label, run.plan.pairs.steps, guidance)
        result[str(guidance)] = scorer.score(images, label)
        print(guidance, result[str(guidance)], flush=True)
    run.note("guidance", result)


def stage_pairs(run: Run) -> None:
    pairs.draw(run.teacher(), run.work / "pairs", run.plan.pairs, *run.part)


def new_student(run: Run, name: str) -> FlowNet:
    return student.build(STUDENTS[name], warmup=max(20, run.plan.reflow.steps // 10), seed=run.plan.reflow.seed)


def one_step_score(run: Run, model: FlowNet) -> dict[str, float | int]:
    count = run.plan.scored
    z, label = torch.randn(count, 1, 28, 28, generator=torch.Generator().manual_seed(10)), torch.arange(count) % 10
    model.eval()
    images = torch.cat([export.one_step(model, *part) for part in zip(z.split(50), label.split(50), strict=True)])
    return run.scorer().score(images, label)


def stage_reflow(run: Run, name: str) -> None:
    model = new_student(run, name)
    student.reflow(model, pairs.load(run.work / "pairs"), run.plan.reflow, run.checkpoint("reflow", name))


def stage_distill(run: Run, name: str) -> None:
    model = student.restore(new_student(run, name), run.checkpoint("reflow", name))
    net = classifiers.load("perceptual", run.nets)
    data_pairs = pairs.load(run.work / "pairs")
    path = run.checkpoint("distill", name)
    model = student.distill(model, data_pairs, net, run.plan.distill, path, frozen=False)
    save_atomic({"ema": model.state_dict()}, run.checkpoint("calibrated", name))
    run.note(f"{name}.distill", one_step_score(run, model))


def stage_settle(run: Run, name: str) -> None:
    model = student.restore(new_student(run, name), run.checkpoint("calibrated", name))
    net = classifiers.load("perceptual", run.nets)
    path = run.checkpoint("settle", name)
    model = student.distill(model, pairs.load(run.work / "pairs"), net, run.plan.settle, path, frozen=True)
    run.note(f"{name}.settle", one_step_score(run, model))


def stage_score(run: Run) -> None:
    """The teacher with many guided and unguided steps, and with a single one."""
    scorer, model, plan = run.scorer(), run.teacher(), run.plan
    drawn = pairs.load(run.work / "pairs")
    count = min(plan.scored, len(drawn.z))
    z, label = drawn.z[:count], drawn.label[:count]

    def sampled(steps: int, guidance: float, heun: bool) -> torch.Tensor:
        return teacher.sample_all(model, z, label, steps, guidance, heun)

    how = {"steps": plan.pairs.steps, "method": "heun"}
    result = {
        "teacher": scorer.score(drawn.x[:count], label) | how | {"guidance": plan.pairs.guidance},
        "teacher_one_euler": scorer.score(sampled(1, 1.0, False), label)
        | {"steps": 1, "method": "euler", "guidance": 1.0},
    }
    run.note("teacher", result)
    result["teacher_unguided"] = scorer.score(sampled(plan.pairs.steps, 1.0, True), label) | how | {"guidance": 1.0}
    run.note("teacher", result)


def stage_export(run: Run, name: str) -> None:
    """Write the model folder and the scoring networks."""
    model = student.restore(new_student(run, name), run.checkpoint("settle", name))
    export.model_folder(model, name, run.out / name)
    scores = run.noted("teacher")
    (run.out / name / "scores.json").write_text(json.dumps(scores, indent=2) + "\n")
    guide = FlowNet(TEACHER)
    card.write(
        name,
        STUDENTS[name],
        (parameters(model), flow_macs(model)),
        (parameters(guide), flow_macs(guide)),
        len(list((run.work / "pairs").glob("*.pt"))) * pairs.CHUNK,
        scores,
        run.noted(f"{name}.settle"),
        run.noted("classifiers"),
        run.out / name / "README.md",
    )
    scorer = run.scorer()
    export.scoring_folder(run.nets, scorer.reference, run.out / "scoring")


def stage_count(_: Run) -> None:
    for name, config in {"teacher": TEACHER, **STUDENTS}.items():
        net = FlowNet(config)
        print(f"{name}: {parameters(net)} parameters, {flow_macs(net) / 1e6:.2f} million MACs")
    for name, config in classifiers.CONFIGS.items():
        net = classifiers.Classifier(config)
        print(f"{name}: {parameters(net)} parameters, {classifiers.macs_of(net) / 1e6:.2f} million MACs")


def main() -> None:
    parser = argparse.ArgumentParser(prog="recipe", description=__doc__)
    parser.add_argument("stage", choices=(*STAGES, "all"))
    parser.add_argument("--model", choices=tuple(STUDENTS), action="append", help="default: every student")
    parser.add_argument("--work", type=Path, default=Path("work"), help="checkpoints and pairs")
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--out", type=Path, default=Path("."), help="folder that holds the model folders")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, help="other number of pairs")
    parser.add_argument("--part", type=int, nargs=2, default=(0, 1), metavar=("I", "N"), help="share `pairs` out")
    parser.add_argument("--guidance", type=float, help="other guidance of the pairs")
    parser.add_argument("--steps", type=int, help="other length of the stage that is run")
    parser.add_argument("--smoke", action="store_true", help="synthetic data, a few steps of everything")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    plan = SMOKE if args.smoke else Plan()
    changed = {k: v for k, v in (("count", args.pairs), ("guidance", args.guidance)) if v is not None}
    plan = replace(plan, pairs=replace(plan.pairs, **changed))
    if args.steps is not None and args.stage in ("teacher", "reflow", "distill", "settle"):
        plan = replace(plan, **{args.stage: replace(getattr(plan, args.stage), steps=args.steps)})
    if args.smoke and args.out == Path("."):
        args.out = args.work / "models"
    run = Run(plan, args.work, args.data, args.out, args.smoke, tuple(args.part))

    stages = STAGES if args.stage == "all" else (args.stage,)
    for stage in stages:
        action = globals()[f"stage_{stage}"]
        if stage in ("reflow", "distill", "settle", "export"):
            for name in args.model or STUDENTS:
                action(run, name)
        else:
            action(run)


if __name__ == "__main__":
    main()
