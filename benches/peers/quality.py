"""Other toolchains' int8 of one model, drawn on the noise that `cargo xtask quality` hands over.

    python quality.py METHOD MODEL.onnx FOLDER --noise z --noise-at 0 --range=-1,1 [--label y --labels 10] [--set t=0 ...]

FOLDER holds `calibration.f32` and `heldout.f32`, samples of the noise input one after the other as little-endian f32;
sample i has label i modulo --labels. Inputs of --set become constants of the network before anything else sees it, so
that every method may fold what hangs on them. The sampler's one step, z + v or z - v, is taken here in float32.

int8 networks are evaluated in f32 between their quantise and dequantise nodes, so that what is judged is the numbers that
a method chose: on processors without VNNI the int8 kernels of both runtimes saturate sums of two products and are worse.

Writes `METHOD.npy`, pictures in [0, 1], `[samples, ...]` float32, and prints one JSON object: method, version, bytes of
the network's file.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnx

Feeds = dict[str, np.ndarray]
Run = Callable[[Feeds], np.ndarray]


def with_constants(model: Path, constants: dict[str, float], out: Path) -> Path:
    """The same network with inputs turned into initializers."""
    network = onnx.load(model)
    for name, value in constants.items():
        found = [i for i in network.graph.input if i.name == name]
        if not found:
            raise SystemExit(f"{model} has no input {name}")
        dims = [d.dim_value or 1 for d in found[0].type.tensor_type.shape.dim]
        network.graph.input.remove(found[0])
        network.graph.initializer.append(onnx.numpy_helper.from_array(np.full(dims, value, np.float32), name))
    onnx.save(network, out)
    return out


class Samples:
    """Feeds of one split, in order."""

    def __init__(self, folder: Path, split: str, network: onnx.ModelProto, noise: str, label: str | None, labels: int):
        shapes = {i.name: [d.dim_value or 1 for d in i.type.tensor_type.shape.dim] for i in network.graph.input}
        self.noise, self.label, self.labels = noise, label, labels
        self.values = np.fromfile(folder / f"{split}.f32", "<f4").reshape(-1, *shapes[noise])
        self.label_shape = shapes[label] if label else None

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[Feeds]:
        for i, value in enumerate(self.values):
            feeds = {self.noise: value}
            if self.label:
                feeds[self.label] = np.full(self.label_shape, i % self.labels, np.int64)
            yield feeds


def session(model: Path, fused: bool) -> Run:
    import onnxruntime as ort

    options = ort.SessionOptions()
    if not fused:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    running = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return lambda feeds: running.run(None, feeds)[0]


def onnxruntime_static(model: Path, calibration: Samples, folder: Path, method: str) -> tuple[str, int, Run]:
    """Static QDQ after onnxruntime's own preprocessing: u8 activations, s8 weights per channel.

    Its entropy calibration has 128 bins for 128 levels, which leaves one candidate for the threshold: the whole range.
    """
    import onnxruntime as ort
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(calibration)

        def get_next(self) -> Feeds | None:
            return next(self.left, None)

    shaped, done = folder / f"{method}.shaped.onnx", folder / f"ort-{method}.onnx"
    quant_pre_process(str(model), str(shaped), skip_symbolic_shape=True)
    quantize_static(
        str(shaped),
        str(done),
        Reader(),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method={"minmax": CalibrationMethod.MinMax, "entropy": CalibrationMethod.Entropy}[method],
    )
    return f"onnxruntime {ort.__version__}", done.stat().st_size, session(done, fused=False)


def onnxruntime_f32(model: Path, _calibration: Samples, _folder: Path) -> tuple[str, int, Run]:
    import onnxruntime as ort

    return f"onnxruntime {ort.__version__}", model.stat().st_size, session(model, fused=True)


def nncf_default(model: Path, calibration: Samples, folder: Path) -> tuple[str, int, Run]:
    """`nncf.quantize` with its defaults on an OpenVINO network."""
    import nncf
    import openvino as ov

    core = ov.Core()
    network = core.read_model(str(model))
    first = next(iter(calibration))
    network.reshape({i.get_any_name(): list(first[i.get_any_name()].shape) for i in network.inputs})
    network = nncf.quantize(network, nncf.Dataset(list(calibration)))
    path = folder / "nncf.xml"
    ov.save_model(network, str(path), compress_to_fp16=False)
    exact = {"INFERENCE_PRECISION_HINT": "f32", "LP_TRANSFORMS_MODE": "NO"}
    request = core.compile_model(network, "CPU", exact).create_infer_request()

    def run(feeds: Feeds) -> np.ndarray:
        request.infer(feeds)
        return request.get_output_tensor(0).data.copy()

    size = path.stat().st_size + path.with_suffix(".bin").stat().st_size
    return f"NNCF {nncf.__version__}, OpenVINO {ov.__version__.split('-')[0]}", size, run


METHODS: dict[str, Callable[[Path, Samples, Path], tuple[str, int, Run]]] = {
    "f32": onnxruntime_f32,
    "ort-minmax": lambda model, samples, folder: onnxruntime_static(model, samples, folder, "minmax"),
    "ort-entropy": lambda model, samples, folder: onnxruntime_static(model, samples, folder, "entropy"),
    "nncf": nncf_default,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=list(METHODS))
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--noise", required=True, metavar="NAME")
    parser.add_argument("--noise-at", type=int, choices=[0, 1], required=True)
    parser.add_argument("--range", required=True, metavar="LO,HI")
    parser.add_argument("--label", metavar="NAME")
    parser.add_argument("--labels", type=int, default=1, metavar="COUNT")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    words = parser.parse_args()
    # What toolchains print must not get into the answer.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    constants = {name: float(value) for name, value in (pair.split("=") for pair in words.set)}
    model = with_constants(words.model, constants, words.folder / f"{words.method}.fixed.onnx")
    network = onnx.load(model)
    split = lambda name: Samples(words.folder, name, network, words.noise, words.label, words.labels)  # noqa: E731
    version, size, run = METHODS[words.method](model, split("calibration"), words.folder)
    lo, hi = (float(x) for x in words.range.split(","))
    sign = 1 if words.noise_at == 0 else -1
    pictures, heldout = [], split("heldout")
    for i, feeds in enumerate(heldout):
        sample = feeds[words.noise] + sign * run(feeds)
        pictures.append(((sample[0] - lo) / (hi - lo)).clip(0, 1).astype(np.float32))
        if sys.stderr.isatty() and i % 100 == 0:
            print(f"\r{words.method}: {i} of {len(heldout)}", end="", file=sys.stderr)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    np.save(words.folder / f"{words.method}.npy", np.stack(pictures))
    answers.write(json.dumps({"method": words.method, "version": version, "bytes": size}) + "\n")


if __name__ == "__main__":
    main()
