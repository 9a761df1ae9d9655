"""Python peers behind one line protocol.

    python peers.py prepare MODEL.onnx OUT [--fixed t=0.0 ...]   samples for calibration, and one for timing
    python peers.py serve ENGINE MODEL.onnx SAMPLES --precision f32|int8 --threads N

A server prints `ready VERSION` or `refused REASON`, then answers the lines on its input: `run N` with `times MS ...`,
`output FILE` (every output of the timed sample, little-endian f32 in ONNX order) with `done`; it ends with its input.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np

CALIBRATION = 64
LABELS = 10

Feeds = dict[str, np.ndarray]
Run = Callable[[Feeds], list[np.ndarray]]


def prepare(model: Path, out: Path, fixed: dict[str, float]) -> None:
    """Noise for every float input, labels for every integer one, `[samples, ...]` each as `<input>.npy`."""
    import onnx

    rng = np.random.default_rng(7)
    graph = onnx.load(model, load_external_data=False).graph
    constants = {i.name for i in graph.initializer}
    for split, count in (("calibration", CALIBRATION), ("sample", 1)):
        (out / split).mkdir(parents=True, exist_ok=True)
        for value in graph.input:
            if value.name in constants:
                continue
            kind = value.type.tensor_type
            dims = [d.dim_value or 1 for d in kind.shape.dim]
            if value.name in fixed:
                data = np.full([count, *dims], fixed[value.name], np.float32)
            elif kind.elem_type == onnx.TensorProto.INT64:
                data = rng.integers(0, LABELS, [count, *dims])
            else:
                data = rng.standard_normal([count, *dims]).astype(np.float32)
            np.save(out / split / f"{value.name}.npy", data)


def samples(folder: Path, split: str) -> list[Feeds]:
    arrays = {f.stem: np.load(f) for f in sorted((folder / split).glob("*.npy"))}
    count = len(next(iter(arrays.values())))
    return [{name: array[i] for name, array in arrays.items()} for i in range(count)]


def onnxruntime(model: Path, folder: Path, precision: str, threads: int) -> tuple[str, Run]:
    """int8 is static QDQ, asymmetric u8 activations and s8 weights per channel, min-max on the calibration samples."""
    import onnxruntime as ort

    if precision == "int8":
        model = quantized_by_onnxruntime(model, folder)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    wanted = {i.name for i in session.get_inputs()}
    return ort.__version__, lambda feeds: session.run(None, {k: v for k, v in feeds.items() if k in wanted})


def quantized_by_onnxruntime(model: Path, folder: Path) -> Path:
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    done = folder / "onnxruntime-int8.onnx"
    if done.exists():
        return done

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(samples(folder, "calibration"))

        def get_next(self) -> Feeds | None:
            return next(self.left, None)

    shaped, part = folder / "shaped.onnx", folder / "part.onnx"
    quant_pre_process(str(model), str(shaped), skip_symbolic_shape=True)
    quantize_static(
        str(shaped),
        str(part),
        Reader(),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    part.rename(done)
    return done


def openvino(model: Path, folder: Path, precision: str, threads: int) -> tuple[str, Run]:
    """int8 is NNCF's default post-training quantization on the calibration samples."""
    import openvino as ov

    core = ov.Core()
    network = core.read_model(str(model))
    network.reshape({i.get_any_name(): list(samples(folder, "sample")[0][i.get_any_name()].shape) for i in network.inputs})
    if precision == "int8":
        import nncf

        network = nncf.quantize(network, nncf.Dataset(samples(folder, "calibration")))
    config = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(network, "CPU", config).create_infer_request()
    outputs = range(len(network.outputs))

    def run(feeds: Feeds) -> list[np.ndarray]:
        request.infer(feeds)
        return [request.get_output_tensor(i).data for i in outputs]

    return ov.__version__.split("-")[0], run


def ncnn(model: Path, folder: Path, precision: str, threads: int) -> tuple[str, Run]:
    """Converted by pnnx; its int8 needs another calibration tool and is not run."""
    import re
    import subprocess

    import ncnn
    import onnx

    if precision == "int8":
        raise ValueError("int8 of ncnn needs its own calibration tables")
    given = samples(folder, "sample")[0]
    sample = {value.name: given[value.name] for value in onnx.load(model).graph.input if value.name in given}
    shapes = ",".join(f"[{','.join(map(str, v.shape))}]{'i64' if v.dtype == np.int64 else 'f32'}" for v in sample.values())
    copy = folder / "ncnn" / "model.onnx"
    copy.parent.mkdir(exist_ok=True)
    copy.write_bytes(model.read_bytes())
    done = subprocess.run([Path(sys.executable).with_name("pnnx"), copy.name, f"inputshape={shapes}"], cwd=copy.parent, capture_output=True, text=True)
    if not copy.with_suffix(".ncnn.param").exists():
        raise ValueError(f"pnnx gave no network: {(done.stderr or done.stdout).strip().splitlines()[-1:]}")
    net = ncnn.Net()
    net.opt.num_threads = threads
    if net.load_param(str(copy.with_suffix(".ncnn.param"))) or net.load_model(str(copy.with_suffix(".ncnn.bin"))):
        left = re.search(r"ignore (\S+) \S+ param (.*)", done.stdout + done.stderr)
        raise ValueError("pnnx left operators that ncnn does not have" + (f", as {left[1]} with {left[2]}" if left else ""))
    # Which axis of an input or output is the batch, if any, stands only in the script that pnnx writes beside the network.
    script = copy.with_name("model_ncnn.py").read_text()
    in_batches, out_batches = ([int(axis) for axis in re.findall(rf"{call}.*batch_index=(\d+)", script)] for call in ("input", "from_numpy"))
    ins = list(zip(net.input_names(), sample, in_batches, strict=True))
    outs = list(zip(net.output_names(), out_batches, strict=True))

    def run(feeds: Feeds) -> list[np.ndarray]:
        extractor = net.create_extractor()
        for name, key, batch in ins:
            value = feeds[key].astype(np.int32) if feeds[key].dtype == np.int64 else feeds[key]
            extractor.input(name, ncnn.Mat(value, batch_index=batch).clone())
        return [extractor.extract(name)[1].numpy(batch_index=batch).copy() for name, batch in outs]

    return ncnn.__version__, run


def litert(model: Path, folder: Path, precision: str, threads: int) -> tuple[str, Run]:
    raise ValueError("ai-edge-litert reads TFLite only, and no converter from ONNX is installed beside it")


ENGINES = {"onnxruntime": onnxruntime, "openvino": openvino, "ncnn": ncnn, "litert": litert}


def serve(engine: str, model: Path, folder: Path, precision: str, threads: int) -> None:
    # What engines print must not get into the protocol.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    try:
        version, run = ENGINES[engine](model, folder, precision, threads)
        feeds = samples(folder, "sample")[0]
        run(feeds)
    except Exception as why:  # noqa: BLE001 - any engine may fail in any way, which is a row of the table
        answers.write(f"refused {' '.join(str(why).split())}\n")
        return
    answers.write(f"ready {version}\n")
    for line in sys.stdin:
        match line.split():
            case ["run", count]:
                times = []
                for _ in range(int(count)):
                    start = time.perf_counter()
                    run(feeds)
                    times.append((time.perf_counter() - start) * 1e3)
                answers.write("times " + " ".join(f"{t:.6f}" for t in times) + "\n")
            case ["output", path]:
                flat = [np.asarray(o, np.float32).ravel() for o in run(feeds)]
                Path(path).write_bytes(np.concatenate(flat).tobytes())
                answers.write("done\n")
            case _:
                answers.write(f"refused no command {line.strip()}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("prepare")
    one.add_argument("model", type=Path)
    one.add_argument("out", type=Path)
    one.add_argument("--fixed", action="append", default=[], metavar="NAME=VALUE")
    two = commands.add_parser("serve")
    two.add_argument("engine", choices=sorted(ENGINES))
    two.add_argument("model", type=Path)
    two.add_argument("samples", type=Path)
    two.add_argument("--precision", choices=["f32", "int8"], required=True)
    two.add_argument("--threads", type=int, required=True)
    words = parser.parse_args()
    if words.command == "prepare":
        fixed = dict(pair.split("=") for pair in words.fixed)
        prepare(words.model, words.out, {name: float(value) for name, value in fixed.items()})
    else:
        serve(words.engine, words.model, words.samples, words.precision, words.threads)


if __name__ == "__main__":
    main()
