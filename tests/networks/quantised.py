"""`python -m networks.quantised FOLDER OUT`: networks of FOLDER as onnxruntime's static quantiser writes them.

Needs onnx, onnxruntime and numpy, and no torch. The golden outputs are onnxruntime's own, without its rewriting of the
graph.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

QDQ = QuantFormat.QDQ
# Products of more bits saturate at 16 bits in onnxruntime's kernels for processors without VNNI.
SEVEN_BITS = dict(quant_format=QuantFormat.QOperator, reduce_range=True)
UNSIGNED, SIGNED = QuantType.QUInt8, QuantType.QInt8

# Network, name of the variant, and what is asked of the quantiser.
VARIANTS: list[tuple[str, str, dict]] = [
    ("resnet.legacy17", "qoperator", dict(activation_type=UNSIGNED, per_channel=True, **SEVEN_BITS)),
    ("mlp.legacy17", "qdq", dict(quant_format=QDQ, activation_type=SIGNED, per_channel=False)),
    ("mlp.legacy17", "qoperator", dict(activation_type=UNSIGNED, per_channel=False, **SEVEN_BITS)),
    ("vit_ln.dynamo20", "qdq", dict(quant_format=QDQ, activation_type=UNSIGNED, per_channel=True)),
    ("vit_un.legacy17", "qdq", dict(quant_format=QDQ, activation_type=UNSIGNED, per_channel=True)),
    (
        "slim.legacy17",
        "qdq_islands",
        dict(quant_format=QDQ, activation_type=UNSIGNED, per_channel=True, op_types_to_quantize=["Conv", "MatMul"]),
    ),
]


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class Samples(CalibrationDataReader):
    """Standard normal inputs; a time between 0 and 1; labels in turn."""

    def __init__(self, path: Path, seed: int, count: int) -> None:
        generator = np.random.default_rng(seed)
        inputs = [(i.name, i.type, [d if isinstance(d, int) else 1 for d in i.shape]) for i in session(path).get_inputs()]

        def draw(k: int, name: str, kind: str, shape: list[int]) -> np.ndarray:
            if "int" in kind:
                return np.full(shape, k % 3, np.int64)
            if name == "t":
                return np.full(shape, 0.5, np.float32)
            return generator.standard_normal(shape).astype(np.float32)

        self.feeds = [{n: draw(k, n, t, s) for n, t, s in inputs} for k in range(count)]
        self.rest = iter(self.feeds)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.rest, None)


def make(source: Path, path: Path, asked: dict) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / "ready.onnx"
        quant_pre_process(str(source), str(ready))
        quantize_static(str(ready), str(path), Samples(source, 0, 16), weight_type=SIGNED, **asked)
    model = onnx.load(path)
    graph = model.graph
    for part in [model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer]:
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    del graph.value_info[:]
    onnx.save(model, path)


def golden(path: Path, folder: Path) -> None:
    run = session(path)
    arrays: dict[str, list[np.ndarray]] = {}
    for feeds in Samples(path, 1, 2).feeds:
        results = dict(zip((o.name for o in run.get_outputs()), run.run(None, feeds)))
        for name, array in {**feeds, **results}.items():
            arrays.setdefault(name, []).append(array)
    folder.mkdir(parents=True, exist_ok=True)
    for name, parts in arrays.items():
        np.save(folder / f"{name}.npy", np.concatenate(parts))


def main() -> None:
    parser = argparse.ArgumentParser(prog="networks.quantised", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for network, variant, asked in VARIANTS:
        path = args.out / f"{network.split('.')[0]}.{variant}.onnx"
        make(args.folder / f"{network}.onnx", path, asked)
        golden(path, args.out / "golden" / path.stem)
        operators = sorted({n.op_type for n in onnx.load(path).graph.node})
        print(f"{path.name}: {path.stat().st_size} bytes, {' '.join(operators)}", flush=True)


main()
