"""Command line: `python -m reach [STAGE ...]`, run from the folder `models`.

Stages: teacher clone pairs students camera export; all of them in this order without an argument. Each continues
where its last checkpoint (at most a minute old) stands and returns at once when it is done. Demonstrations come from
`cargo run --release --manifest-path reach/sim/Cargo.toml -- demos -o WORK/demos`.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from . import camera, export, stages

STAGES = ("teacher", "clone", "pairs", "students", "camera", "export")


def run(stage: str, work: Path, out: Path, demos: stages.Demos, plan: stages.Plan) -> None:
    if stage == "teacher":
        stages.fit_teacher(work, demos, plan)
    elif stage == "clone":
        stages.fit_clone(work, demos, plan)
    elif stage == "pairs":
        stages.make_pairs(work, demos, plan)
    elif stage == "students":
        for name in reversed(stages.STUDENTS):
            stages.fit_student(work, demos, plan, name)
    elif stage == "camera":
        camera.fit(work, demos, plan)
    else:
        teacher = stages.restore(stages.new_net(stages.TEACHER, demos, 0), work / "teacher.pt")
        for name, config in stages.STUDENTS.items():
            net = stages.restore(stages.new_net(config, demos, 0), work / f"{name}.pt")
            error = stages.one_step_error(net, stages.load_pairs(work / "pairs").head(2000))
            print(f"{name}: {error:.5f} rad from the teacher", flush=True)
            export.student_folder(net, out / name, demos)
        export.teacher_onnx(teacher, out / "reach" / "teacher.onnx")
        camera.folder(camera.fit(work, demos, plan), out / camera.NAME, demos)
        clone = stages.restore(stages.new_net(stages.TEACHER, demos, 0), work / "clone.pt")
        export.clone_onnx(clone, out / "reach" / "bc.onnx")


def main() -> None:
    parser = argparse.ArgumentParser(prog="reach", description=__doc__)
    parser.add_argument("stages", nargs="*", choices=[*STAGES, []], metavar="STAGE")
    parser.add_argument("--work", type=Path, default=Path("reach/work"), help="demonstrations and checkpoints")
    parser.add_argument(
        "--out", type=Path, help="folder that holds reach/, reach-small/ and reach-camera/; default: the work folder"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--smoke", action="store_true", help="a rehearsal of seconds on made-up demonstrations")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    work = args.work / "smoke" if args.smoke else args.work
    demos = stages.made_up_demos() if args.smoke else stages.load_demos(work / "demos")
    plan = stages.SMOKE if args.smoke else stages.Plan()
    for stage in args.stages or STAGES:
        start = time.monotonic()
        run(stage, work, args.out or work / "models", demos, plan)
        print(f"{stage}: {(time.monotonic() - start) / 60:.1f} min", flush=True)


main()
