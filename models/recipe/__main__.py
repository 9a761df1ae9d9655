"""Command line: `python -m recipe STAGE [--model NAME]`, run from the folder `models`.

Every stage continues where its last checkpoint (at most a minute old) stands and returns at once when done.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import get_args

import torch

from . import (
    ablation,
    card,
    classifiers,
    data,
    digits,
    export,
    latent,
    quantization,
    refiner,
    results,
    scoring,
    student,
    teacher,
)
from .digits import DIGITS_SMOKE, DigitsPlan
from .distillation import CHUNK, PairConfig, Pairs, draw_pairs, load_pairs
from .flow import Method, guided
from .loop import Schedule, save_atomic, step_rng
from .losses import image_distance
from .nets import NULL_LABEL, STUDENTS, TEACHER, FlowNet, flow_macs, macs, parameters
from .norm import UnifiedConfig, skipped
from .refiner import RefinerPlan
from .transformer import LATENT_STUDENT, LATENT_TEACHER, VITS, MixerFlow, TransformerFlow

STAGES = (
    *("classifiers", "teacher", "guidance", "pairs", "reflow", "distill", "settle", "spread", "qat", "score"),
    *("export", "card", "scoring", "solvers", "ablation", "latent", "latent-export", "refiner", "teacher-export"),
    *("digits", "digits-refiner", "digits-export", "results", "count"),
)
PER_MODEL = ("reflow", "distill", "settle", "spread", "qat", "export", "card")
MODELS = (*STUDENTS, *VITS)
IMAGE = (1, 28, 28)
HELD_OUT = 64
"""Test images that the teacher's programs start from."""


@dataclass(frozen=True)
class Lengths:
    """The three stages of one student; `anneal` mixes fresh noise into the pairs in the first part of reflow, `match`
    weighs the distribution of its samples in the last stage, where activations are `rounded` to steps of int8.
    """

    reflow: Schedule = Schedule(steps=800, lr=1.5e-3, warmup=100, floor=0.2, ema=0.998, seed=4)
    distill: Schedule = Schedule(steps=2000, lr=1.2e-3, warmup=50, floor=0.05, ema=0.998, seed=5)
    settle: Schedule = Schedule(steps=800, lr=6e-4, warmup=20, floor=0.01, ema=0.995, seed=6)
    anneal: bool = False
    match: float = 5.0
    rounded: bool = True

    def shortened(self, reflow: int, distill: int, settle: int) -> Lengths:
        return replace(
            self,
            reflow=replace(self.reflow, steps=reflow),
            distill=replace(self.distill, steps=distill),
            settle=replace(self.settle, steps=settle),
        )


@dataclass(frozen=True)
class Plan:
    """The length of everything; `SMOKE` is a rehearsal of seconds. `Plan.of` gives a student's own lengths."""

    classifier_steps: int = 1400
    teacher: Schedule = Schedule(steps=2900, lr=1.5e-3, warmup=150, ema=0.9985, seed=1)
    pairs: PairConfig = PairConfig(count=12_000, steps=5, method="heun", end=0.95, clamp=(-1.0, 1.0), seed=8)
    guidance: float = 1.75
    students: Lengths = Lengths()
    vits: Lengths = replace(
        Lengths().shortened(200, 500, 60),
        settle=Schedule(steps=60, lr=3e-4, warmup=20, floor=0.01, ema=0.995, seed=6),
        match=0.0,
        rounded=False,
    )
    qat: Schedule = Schedule(steps=200, lr=1e-4, warmup=10, floor=0.01, ema=0.99, seed=7)
    ablation: ablation.AblationConfig = ablation.AblationConfig()
    latent: latent.LatentPlan = latent.LatentPlan()
    refined: RefinerPlan = refiner.FASHION_PLAN
    refined_digits: RefinerPlan = refiner.DIGITS_PLAN
    digits: DigitsPlan = DigitsPlan()
    guidance_trial: int = 1000
    scored: int = 10_000
    few_steps: int = 12
    many_steps: int = 50
    many_scored: int = 1000
    draws: int = 5
    measured: int = 2000

    def of(self, model: str) -> Lengths:
        if model in VITS:
            return self.vits
        return replace(self.students, anneal=model in ("fashion-tiny", "fashion-large"))


_SMOKE_REFINED = {"schedule": Schedule(steps=3, lr=1e-3, warmup=1, seed=41), "scored": 50, "measured": 100}
SMOKE = Plan(
    classifier_steps=6,
    teacher=Schedule(steps=6, lr=1e-3, warmup=2, seed=1),
    pairs=PairConfig(count=250, steps=2, method="heun", end=0.95, clamp=(-1.0, 1.0)),
    students=Lengths().shortened(4, 4, 2),
    vits=Lengths().shortened(3, 3, 2),
    qat=Schedule(steps=2, lr=1e-4, warmup=1, seed=7),
    ablation=ablation.AblationConfig(
        Schedule(steps=3, lr=1e-3, warmup=1, seed=4), Schedule(steps=3, lr=1e-3, warmup=1, seed=5), 2, 100
    ),
    latent=latent.LATENT_SMOKE,
    refined=replace(refiner.FASHION_PLAN, **_SMOKE_REFINED),
    digits=DIGITS_SMOKE,
    refined_digits=replace(refiner.DIGITS_PLAN, **_SMOKE_REFINED),
    guidance_trial=50,
    scored=100,
    few_steps=2,
    many_steps=4,
    many_scored=50,
    draws=2,
    measured=100,
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
    scales: Path | None = None
    called: str | None = None
    start: Path | None = None

    def images(self, split: str) -> tuple[torch.Tensor, torch.Tensor]:
        if self.smoke:
            return data.synthetic(1000, seed=len(split))
        return data.load(self.data, split)

    @property
    def nets(self) -> Path:
        return self.work / "classifiers"

    def checkpoint(self, stage: str, model: str = "") -> Path:
        return self.work / (f"{model}.{stage}.pt" if model else f"{stage}.pt")

    @cached_property
    def scorer(self) -> scoring.Scorer:
        features = classifiers.load("features", self.nets)
        reference = scoring.moments(features, self.images("t10k")[0])
        return scoring.Scorer(features, classifiers.load("accuracy", self.nets), reference)

    def teacher(self) -> FlowNet:
        return teacher.load(self.checkpoint("teacher"))

    def pairs(self) -> Pairs:
        return load_pairs(self.work / "pairs")

    def perceptual(self) -> classifiers.Classifier:
        return classifiers.load("perceptual", self.nets)

    def note(self, name: str, value: object) -> None:
        """Keep a result for the export and print it."""
        self.work.mkdir(parents=True, exist_ok=True)
        (self.work / f"{name}.json").write_text(json.dumps(value, indent=2) + "\n")
        print(name, json.dumps(value), flush=True)

    def noted(self, name: str) -> dict:
        return json.loads((self.work / f"{name}.json").read_text())


def noise_and_labels(count: int, seed: int, shape: tuple[int, ...] = IMAGE) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed)), torch.arange(count) % 10


def announce(done: int, chunks: int) -> None:
    print(f"pairs: {done * CHUNK}/{chunks * CHUNK}", flush=True)


def stage_classifiers(run: Run) -> None:
    images, labels = run.images("train")
    test = run.images("t10k")
    result = {}
    for name in classifiers.CONFIGS:
        model = classifiers.fit(name, run.nets, images, labels, run.plan.classifier_steps)
        result[name] = round(classifiers.accuracy(model, *test), 4)
    scorer = run.scorer
    result["fd_of_10000_train_images"] = round(
        scoring.frechet(scoring.moments(scorer.features, images[:10_000]), scorer.reference), 4
    )
    run.note("classifiers", result)


def stage_teacher(run: Run) -> None:
    teacher.fit(run.checkpoint("teacher"), *run.images("train"), run.plan.teacher)


def stage_guidance(run: Run) -> None:
    """A quick look at how guidance trades distance against class accuracy."""
    model, scorer = run.teacher(), run.scorer
    z, label = noise_and_labels(run.plan.guidance_trial, 9)
    result = {}
    for guidance in (1.0, 1.5, 2.0):
        images = teacher.draw(model, z, label, run.plan.few_steps, guidance)
        result[str(guidance)] = scorer.score(images, label)
        print(guidance, result[str(guidance)], flush=True)
    run.note("guidance", result)


def stage_pairs(run: Run) -> None:
    velocity = guided(run.teacher(), NULL_LABEL, run.plan.guidance)

    def labels(_: torch.Generator) -> tuple[torch.Tensor]:
        return (torch.arange(CHUNK) % 10,)

    draw_pairs(velocity, IMAGE, run.plan.pairs, run.work / "pairs", labels, *run.part, announce)


def new_student(run: Run, name: str) -> FlowNet | TransformerFlow:
    schedule = run.plan.of(name).reflow
    warmup = max(20, schedule.steps // 10)
    if name in STUDENTS:
        return student.build(STUDENTS[name], warmup, schedule.seed)
    torch.manual_seed(schedule.seed)
    return TransformerFlow(replace(VITS[name], unified=UnifiedConfig(warmup=warmup)))


def one_step_score(run: Run, model: torch.nn.Module, seed: int = 10) -> dict[str, float | int]:
    z, label = noise_and_labels(run.plan.scored, seed)
    model.eval()
    images = torch.cat([export.one_step(model, *part) for part in zip(z.split(50), label.split(50), strict=True)])
    return run.scorer.score(images, label)


def stage_reflow(run: Run, name: str) -> None:
    lengths = run.plan.of(name)
    student.reflow(new_student(run, name), run.pairs(), lengths.reflow, run.checkpoint("reflow", name), lengths.anneal)


def stage_distill(run: Run, name: str) -> None:
    model = student.restore(new_student(run, name), run.start or run.checkpoint("reflow", name))
    path = run.checkpoint("distill", name)
    schedule, measured = run.plan.of(name).distill, run.plan.measured
    model = student.distill(model, run.pairs(), run.perceptual(), schedule, path, measured)
    save_atomic({"ema": model.state_dict()}, run.checkpoint("calibrated", name))
    run.note(f"{name}.distill", one_step_score(run, model) | {"outliers": skipped(model)})


def stage_settle(run: Run, name: str) -> None:
    model = student.restore(new_student(run, name), run.start or run.checkpoint("calibrated", name))
    path, net, lengths = run.checkpoint("settle", name), run.perceptual(), run.plan.of(name)
    match = student.image_match(net, run.images("train")[0]) if lengths.match else None
    model = student.settle(model, run.pairs(), net, lengths.settle, path, match, lengths.match, lengths.rounded)
    result = one_step_score(run, model) | {"parameters": parameters(model), "match": lengths.match}
    run.note(f"{name}.settle", result | {"continued": run.start is not None})


def stage_spread(run: Run, name: str) -> None:
    """The score of one trained student on several draws of noise: how far sampling alone moves it."""
    model = student.restore(new_student(run, name), run.checkpoint("settle", name))
    draws = [one_step_score(run, model, seed) for seed in range(10, 10 + run.plan.draws)]
    result = {key: [min(d[key] for d in draws), max(d[key] for d in draws)] for key in ("fd", "accuracy")}
    run.note(f"{name}.spread", result | {"draws": len(draws), "samples": draws[0]["samples"]})


def stage_qat(run: Run, name: str) -> None:
    """Fine-tune the folded net on the int8 grids of `--scales`, or of the largest magnitudes where none is given."""
    if name not in STUDENTS:
        raise SystemExit(f"qat folds norms into the convolution before them, as the U-Nets have it; {name} is none")
    model = student.restore(new_student(run, name), run.checkpoint("settle", name)).eval()
    quantization.fold_norms(model, quantization.conv_before)
    plain = one_step_score(run, model)
    if run.scales is None:
        layers = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Conv2d)]
        scales = quantization.largest_scales(model, layers, *student.deployed_noise(IMAGE, 200))
    else:
        scales = quantization.Scales.read(run.scales)
    quantization.attach(model, scales)
    result = {"float32": plain, "int8_grids": one_step_score(run, model)}
    student.settle(model, run.pairs(), run.perceptual(), run.plan.qat, run.checkpoint("qat", name))
    result["int8_grids_tuned"] = one_step_score(run, model)
    run.note(f"{name}.qat", result)
    quantization.detach(model)
    export.flow_onnx(model, run.work / f"{name}.qat.onnx")


def stage_score(run: Run) -> None:
    """The teacher as the pairs have it, by few and many Euler steps and by one, guided and not; keeps what it has."""
    scorer, model, plan = run.scorer, run.teacher(), run.plan
    drawn = run.pairs()
    count = min(plan.scored, len(drawn))
    label = drawn.conditions[0]
    known = run.noted("teacher") if (run.work / "teacher.json").exists() else {}
    how = {"steps": plan.pairs.steps, "method": plan.pairs.method, "guidance": plan.guidance, "end": plan.pairs.end}
    result = {"teacher": scorer.score(drawn.x[:count], label[:count]) | how}
    for name, steps, guidance, samples in (
        ("teacher_one_euler", 1, 1.0, count),
        ("teacher_one_euler_guided", 1, plan.guidance, count),
        ("teacher_few", plan.few_steps, plan.guidance, plan.many_scored),
        ("teacher_unguided", plan.few_steps, 1.0, plan.many_scored),
        ("teacher_many", plan.many_steps, plan.guidance, plan.many_scored),
        ("teacher_many_unguided", plan.many_steps, 1.0, plan.many_scored),
    ):
        how = {"steps": steps, "method": "euler", "guidance": guidance}
        before = known.get(name, {})
        if before.get("samples", 0) >= samples and how.items() <= before.items():
            result[name] = before
            continue
        images = teacher.draw(model, drawn.z[:samples], label[:samples], steps, guidance)
        result[name] = scorer.score(images, label[:samples]) | how
        run.note("teacher", result)


def stage_solvers(run: Run) -> None:
    """The guided teacher by Heun's method and by Euler's, at about the same number of network calls."""
    scorer, model, plan = run.scorer, run.teacher(), run.plan
    z, label = noise_and_labels(plan.many_scored, 9)
    result = []
    for method, steps, end in (("heun", 5, 1.0), ("heun", 5, 0.95), ("euler", 10, 1.0), ("euler", 12, 1.0)):
        images = teacher.draw(model, z, label, steps, plan.guidance, method, end)
        calls = steps * (2 if method == "heun" else 1) + (end < 1)
        result.append(scorer.score(images, label) | {"method": method, "steps": steps, "end": end, "calls": calls})
        run.note("solvers", result)


def stage_ablation(run: Run) -> None:
    config = run.plan.ablation
    z, label = noise_and_labels(config.samples, 10)
    bench = ablation.Bench(
        lambda: student.build(STUDENTS["fashion-tiny"], max(20, config.reflow.steps // 10), config.reflow.seed),
        run.pairs(),
        student.image_guided(run.perceptual()),
        run.scorer.score,
        z,
        label,
    )
    cells = []
    for cell in ablation.CELLS:
        known = run.work / "ablation" / f"{cell.name}.json"
        if not known.exists():
            result = ablation.run_cell(cell, bench, config, run.work / "ablation")
            known.write_text(json.dumps(result) + "\n")
        cells.append(json.loads(known.read_text()))
        print(json.dumps(cells[-1]), flush=True)
    run.note("ablation", cells)
    print(ablation.table(cells, config.several))


def stage_latent(run: Run) -> None:
    """All of `fashion-latent` up to its score."""
    folder, plan, scorer = run.work / "latent", run.plan.latent, run.scorer
    images, labels = run.images("train")
    pixels = image_distance(run.perceptual().maps)
    coder = latent.autoencode(folder, images, pixels, plan)
    guide = latent.teach(folder, coder, images, labels, plan)
    match = student.image_match(run.perceptual(), images, coder.decoder)
    net = latent.student(folder, coder, guide, pixels, match, plan, announce)
    count = run.plan.scored
    test, test_label = run.images("t10k")
    pairs = load_pairs(folder / "pairs")
    z, label = noise_and_labels(count, 10, latent.LATENT)
    made = export.one_step(net, z, label)
    result = {
        "reconstruction": scorer.score(coder.decode(coder.encode(test)), test_label),
        "teacher": scorer.score(coder.decode(pairs.x[:count]), pairs.conditions[0][:count])
        | {"steps": plan.pairs.steps, "method": plan.pairs.method, "guidance": plan.guidance},
        "student": scorer.score(coder.decode(made), label),
    }
    run.note("latent", result)


def stage_latent_export(run: Run) -> None:
    plan, folder = run.plan.latent, run.out / "fashion-latent"
    model = latent.generator(run.work / "latent", plan)
    export.latent_folder(model, folder)
    guide, decoder = TransformerFlow(LATENT_TEACHER), model.decoder
    card.write_latent(
        folder.name,
        (
            (parameters(model.flow), flow_macs(model.flow, latent.LATENT)),
            (parameters(decoder), macs(decoder, torch.zeros(1, *latent.LATENT))),
            (parameters(guide), flow_macs(guide, latent.LATENT)),
        ),
        tuple(s.steps for s in (plan.autoencoder, plan.teacher, plan.reflow, plan.distill, plan.settle)),
        len(load_pairs(run.work / "latent" / "pairs")),
        run.noted("latent"),
        folder / "README.md",
    )


def stage_export(run: Run, name: str) -> None:
    """Write the model folder."""
    model = student.restore(new_student(run, name), run.checkpoint("settle", name))
    called = run.called or name
    folder = run.out / called
    export.model_folder(model, called, folder)
    (folder / "scores.json").write_text(json.dumps(run.noted("teacher"), indent=2) + "\n")
    stage_card(run, name)


def stage_card(run: Run, name: str) -> None:
    """The model card again, with the scores in int8 if `student.json` has them."""
    called, model, guide = run.called or name, new_student(run, name), FlowNet(TEACHER)
    folder = run.out / called
    card.write(
        card.Subject(
            called, model.config, (parameters(model), flow_macs(model)), (parameters(guide), flow_macs(guide))
        ),
        len(run.pairs()),
        run.plan.of(name),
        run.noted("teacher"),
        run.noted(f"{name}.settle"),
        run.noted("classifiers"),
        folder / "README.md",
    )


REFINED = ("EEEE", "EEEEEE", "EEEEEEEE", "HH", "HPE", "HPRE", "HRRE", "ERRE", "ERRRE")


def stage_refiner(run: Run) -> None:
    """FlowTurbo's refiner of the teacher, and its schedules against Euler's at their work."""
    guide, plan = run.teacher(), run.plan
    model = refiner.fit(guide, *run.images("train"), plan.refined, run.checkpoint("refiner"))
    z, label = noise_and_labels(plan.refined.scored, 9)
    macs = flow_macs(guide), flow_macs(model.net, (2, 28, 28))
    result = {
        "gain": refiner.gain(model, guide, *run.images("t10k"), plan.refined.reach, plan.refined.measured // 2),
        "rows": refiner.compare(guide, model, z, label, plan.guidance, macs, REFINED, run.scorer.score),
    }
    run.note("refiner", result)


def refiner_section(plan: RefinerPlan, shape: tuple[int, ...], work: int, noted: dict) -> str:
    net = refiner.build(plan).net
    size = parameters(net), flow_macs(net, (2, *shape[1:]))
    return card.refiner_section(size, size[1] / work, plan.reach, plan.schedule.steps, noted["gain"], noted["rows"])


def stage_teacher_export(run: Run) -> None:
    """The flow of many steps as a model folder, with its refiner if that is trained."""
    guide, plan, folder = run.teacher(), run.plan, run.out / "fashion-teacher"
    images, labels = run.images("t10k")
    z, label = export.sheet_inputs(IMAGE)
    sheet = teacher.draw(guide, z, label, plan.few_steps, plan.guidance)
    classes = [*data.CLASSES, "none"]
    export.path_folder(guide, folder.name, folder, images[: export.GOLDEN], classes, sheet, 2)
    export.save_arrays(folder / "held-out", images=images[:HELD_OUT], label=labels[:HELD_OUT])
    work, section = flow_macs(guide), ""
    if (run.work / "refiner.json").exists():
        inputs = refiner.example(guide, images, labels, export.GOLDEN, plan.refined.reach, step_rng(0, 1))[0]
        export.refiner_folder(refiner.restore(plan.refined, run.checkpoint("refiner")), folder, inputs)
        section = refiner_section(plan.refined, IMAGE, work, run.noted("refiner"))
    scores = run.noted("teacher")
    (folder / "scores.json").write_text(json.dumps(scores, indent=2) + "\n")
    card.write_teacher(
        card.Subject(folder.name, TEACHER, (parameters(guide), work)),
        plan.teacher.steps,
        scores,
        run.noted("classifiers"),
        section,
        folder / "README.md",
    )


def stage_digits(run: Run) -> None:
    """Classifiers, flows and scores of the 8x8 digits."""
    run.note("digits", digits.train_all(run.work / "digits", run.plan.digits))


def stage_digits_refiner(run: Run) -> None:
    """FlowTurbo's refiner of `digits-unet`."""
    plan, folder = run.plan, run.work / "digits"
    train, held = digits.load()
    guide = digits.restore("digits-unet", folder, plan.digits.of("digits-unet"))
    model = refiner.fit(guide, train.x, train.label, plan.refined_digits, folder / "refiner.pt")
    z, label = noise_and_labels(plan.refined_digits.scored, 9, digits.SHAPE)
    macs = flow_macs(guide, digits.SHAPE), flow_macs(model.net, (2, 8, 8))
    score = digits.scorer(folder, held).score
    result = {
        "gain": refiner.gain(model, guide, held.x, held.label, plan.refined_digits.reach),
        "rows": refiner.compare(guide, model, z, label, digits.GUIDANCE, macs, REFINED, score),
    }
    run.note("digits-refiner", result)


def stage_digits_export(run: Run) -> None:
    """The folders of the digits and their scoring networks."""
    plan, work = run.plan.digits, run.work / "digits"
    train, held = digits.load()
    noted = run.noted("digits")
    export.digits_scoring(work, digits.scorer(work, held).reference, run.out / "scoring")
    z, label = export.sheet_inputs(digits.SHAPE)
    classes = [*map(str, range(10)), "none"]
    for name in digits.NETS:
        model, folder = digits.restore(name, work, plan.of(name)), run.out / name
        own = held.mapped(digits.inverted) if name == "digits-b" else held
        sheet = teacher.draw(model, z, label, plan.many_steps, digits.GUIDANCE)
        export.path_folder(model, name, folder, own.x[: export.GOLDEN], classes, sheet, 4)
        if name in ("digits", "digits-b"):
            export.save_arrays(folder / "held-out", images=own.x, label=own.label)
        if name == "digits":
            export.critic_onnx(work, folder)
        size, section = (parameters(model), flow_macs(model, digits.SHAPE)), ""
        if name == "digits-unet" and (run.work / "digits-refiner.json").exists():
            small = refiner.restore(run.plan.refined_digits, work / "refiner.pt")
            reach = run.plan.refined_digits.reach
            inputs = refiner.example(model, own.x, own.label, export.GOLDEN, reach, step_rng(0, 1))[0]
            export.refiner_folder(small, folder, inputs)
            section = refiner_section(run.plan.refined_digits, digits.SHAPE, size[1], run.noted("digits-refiner"))
        subject = card.Subject(name, model.config, size, side=8)
        judge = noted["classifiers"]["digits-accuracy"]
        card.write_digits(subject, plan.of(name).steps, noted[name], judge, section, folder / "README.md")


def stage_scoring(run: Run) -> None:
    """The networks of the scores and the reference moments."""
    export.scoring_folder(run.nets, run.scorer.reference, run.out / "scoring")


def stage_results(run: Run) -> None:
    run.out.mkdir(parents=True, exist_ok=True)
    plan = run.plan
    (run.out / "RESULTS.md").write_text(results.page(run.work, plan.students, plan.vits, plan.ablation.several))


def stage_count(_: Run) -> None:
    nets = {name: FlowNet(config) for name, config in {"teacher": TEACHER, **STUDENTS}.items()}
    nets |= {name: TransformerFlow(config) for name, config in VITS.items()}
    for name, net in nets.items():
        print(f"{name}: {parameters(net)} parameters, {flow_macs(net) / 1e6:.2f} million MACs")
    for name, net in (
        ("latent teacher", TransformerFlow(LATENT_TEACHER)),
        ("latent student", MixerFlow(LATENT_STUDENT)),
    ):
        print(f"{name}: {parameters(net)} parameters, {flow_macs(net, latent.LATENT) / 1e6:.2f} million MACs")
    for name, config in classifiers.CONFIGS.items():
        net = classifiers.Classifier(config)
        print(f"{name}: {parameters(net)} parameters, {classifiers.macs_of(net) / 1e6:.2f} million MACs")


def changed_plan(args: argparse.Namespace) -> Plan:
    plan = SMOKE if args.smoke else Plan()
    wanted = {"count": args.pairs, "steps": args.solver_steps, "method": args.solver, "end": args.solver_end}
    pairs = replace(plan.pairs, **{key: value for key, value in wanted.items() if value is not None})
    plan = replace(plan, pairs=pairs, guidance=plan.guidance if args.guidance is None else args.guidance)
    if args.steps is None:
        return plan
    if args.stage == "teacher":
        return replace(plan, teacher=replace(plan.teacher, steps=args.steps))
    if args.stage not in PER_MODEL[:3]:
        raise SystemExit(f"--steps is for teacher, reflow, distill and settle, not for {args.stage}")

    def with_steps(lengths: Lengths) -> Lengths:
        return replace(lengths, **{args.stage: replace(getattr(lengths, args.stage), steps=args.steps)})

    return replace(plan, students=with_steps(plan.students), vits=with_steps(plan.vits))


def main() -> None:
    parser = argparse.ArgumentParser(prog="recipe", description=__doc__)
    parser.add_argument("stage", choices=(*STAGES, "all"))
    parser.add_argument("--model", choices=MODELS, action="append", help="default: every student")
    parser.add_argument("--work", type=Path, default=Path("work"), help="checkpoints and pairs")
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--out", type=Path, default=Path("."), help="folder that holds the model folders")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, help="other number of pairs")
    parser.add_argument("--solver", choices=get_args(Method), help="other solver of the pairs")
    parser.add_argument("--solver-steps", type=int, help="other number of solver steps")
    parser.add_argument("--solver-end", type=float, metavar="T", help="where the pairs' solver stops; Euler goes on")
    parser.add_argument("--start", type=Path, metavar="FILE", help="checkpoint that distill or settle starts from")
    parser.add_argument("--part", type=int, nargs=2, default=(0, 1), metavar=("I", "N"), help="share `pairs` out")
    parser.add_argument("--guidance", type=float, help="other guidance of the pairs")
    parser.add_argument("--steps", type=int, help="other length of the stage that is run")
    parser.add_argument("--scales", type=Path, help="JSON of the compiler's int8 scales, for qat")
    parser.add_argument("--as", dest="called", metavar="NAME", help="another name for the exported model")
    parser.add_argument("--smoke", action="store_true", help="synthetic data, a few steps of everything")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    plan = changed_plan(args)
    if args.smoke and args.out == Path("."):
        args.out = args.work / "models"
    run = Run(plan, args.work, args.data, args.out, args.smoke, tuple(args.part), args.scales, args.called, args.start)

    for stage in STAGES if args.stage == "all" else (args.stage,):
        action = globals()[f"stage_{stage.replace('-', '_')}"]
        started = time.monotonic()
        if stage in PER_MODEL:
            for name in args.model or MODELS:
                if stage != "qat" or name in STUDENTS or args.stage != "all":
                    action(run, name)
        else:
            action(run)
        print(f"{stage}: {(time.monotonic() - started) / 60:.1f} min", flush=True)


if __name__ == "__main__":
    main()
