"""`python -m networks OUT [--small] [--dynamo OPSET | --opset OPSET] [NAME ...]`: see README.md."""

from __future__ import annotations

import argparse
import logging
import os
import warnings
from pathlib import Path

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from .zoo import LARGE, SMALL, Network


def build(name: str, network: Network) -> nn.Module:
    """The network with seeded weights; norms get gains and shifts of their own, and statistics that fit the data."""
    seed = sum(ord(c) * 31**i for i, c in enumerate(name)) % 2**31
    torch.manual_seed(seed)
    model = network.make().eval()
    for module in model.modules():
        for gain in ("weight", "bias"):
            parameter = getattr(module, gain, None)
            if "Norm" in type(module).__name__ and parameter is not None:
                nn.init.normal_(parameter, 1.0 if gain == "weight" else 0.0, 0.2)
    observers = [m for m in model.modules() if hasattr(m, "observing")]
    with torch.no_grad():
        for observer in observers:
            observer.observing = True
        generator = torch.Generator().manual_seed(seed)
        for _ in range(2 if observers else 0):
            model(**network.sample(generator, 32))
        for observer in observers:
            observer.observing = False
    return model


def export(model: nn.Module, network: Network, path: Path, opset: int, dynamo: bool) -> None:
    inputs = network.sample(torch.Generator().manual_seed(0))
    names = {"input_names": list(inputs), "output_names": list(network.outputs)}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            torch.onnx.export(
                model,
                (),
                path,
                kwargs=inputs,
                opset_version=opset,
                dynamo=True,
                external_data=False,
                verbose=False,
                **names,
            )
        else:
            extra = {"dynamo": False} if int(torch.__version__.split(".")[1]) >= 9 else {}
            torch.onnx.export(model, tuple(inputs.values()), str(path), opset_version=opset, **names, **extra)
    without_traces(path)


def without_traces(path: Path) -> None:
    """Drops source locations, which would make most of a small file and hold the exporting machine's paths."""
    model = onnx.load(path)
    graph = model.graph
    for part in [model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer]:
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    del graph.value_info[:]
    onnx.save(model, path)


def golden(network: Network, path: Path, folder: Path, samples: int) -> None:
    """Inputs and onnxruntime's outputs of a few samples as `<tensor>.npy`, samples along the first axis."""
    generator = torch.Generator().manual_seed(1)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    wanted = [i.name for i in session.get_inputs()]
    arrays: dict[str, list[np.ndarray]] = {}
    for _ in range(samples):
        feeds = {k: v.numpy() for k, v in network.sample(generator).items()}
        if "t" in feeds:
            feeds["t"] = feeds["t"] * 0 + torch.rand(1, generator=generator).numpy()
        feeds = {k: v for k, v in feeds.items() if k in wanted}
        results = dict(zip((o.name for o in session.get_outputs()), session.run(None, feeds)))
        for name, array in {**feeds, **results}.items():
            arrays.setdefault(name, []).append(array)
    folder.mkdir(parents=True, exist_ok=True)
    for name, parts in arrays.items():
        np.save(folder / f"{name}.npy", np.concatenate(parts))


def main() -> None:
    parser = argparse.ArgumentParser(prog="networks", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--small", action="store_true", help="the narrow versions that are committed")
    parser.add_argument("--opset", type=int, default=17, help="of the legacy exporter")
    parser.add_argument("--dynamo", type=int, metavar="OPSET", help="use the dynamo exporter")
    parser.add_argument("--samples", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(2)
    logging.disable(logging.WARNING)
    zoo = SMALL if args.small else LARGE
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.names or zoo:
        network = zoo[name]
        model = build(name, network)
        opset = args.dynamo or args.opset
        path = args.out / f"{name}.{'dynamo' if args.dynamo else 'legacy'}{opset}.onnx"
        export(model, network, path, opset, args.dynamo is not None)
        golden(network, path, args.out / "golden" / path.stem, args.samples)
        parameters = sum(p.numel() for p in model.parameters())
        print(f"{path.name}: {parameters} parameters, {path.stat().st_size} bytes", flush=True)


main()
