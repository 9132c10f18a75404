"""The ops on the GPU, through `libd2export_device_driver.so`."""

from __future__ import annotations

import ctypes
import statistics
import subprocess
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
DTYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}  # d2export::DataType
# What the names of an op's two functions start with.
FUNCTIONS = {
    "D2Prune": "d2export",
    "MaxMinPrune": "d2export_max_min",
    "DppPrune": "d2export_dpp",
    "DeduplicatePrune": "d2export_deduplicate",
}
C_TYPES = {"int": ctypes.c_int64, "float": ctypes.c_float, "bool": ctypes.c_bool}


class Shape(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int32) for name in ("batch", "heads", "tokens", "channels")]


class Inputs(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("features", "importance", "prior", "grid")),
        ("type", ctypes.c_int32),
    ]


def attributes_of(parameters: Any) -> ctypes.Structure:
    """An op's parameters as its struct in C++, whose members have the same order."""
    layout = [(field.name, C_TYPES[str(field.type)]) for field in fields(parameters)]
    struct = type("Attributes", (ctypes.Structure,), {"_fields_": layout})
    made: ctypes.Structure = struct(**parameters.attributes())
    return made


class Launch:
    """One op with its memory: call it to enqueue it on the current stream.

    Args:
        inputs: on the GPU, as many of features, importance, prior and grid as the op has.
    """

    def __init__(
        self, library: ctypes.CDLL, op_type: str, inputs: tuple[Tensor, ...], parameters: Any
    ) -> None:
        features = inputs[0]
        batch, tokens, channels = features.shape
        has_heads = len(inputs) > 1 and inputs[1].dim() == 3
        kept = parameters.kept(tokens)
        self.inputs = inputs
        self.kept = features.new_empty(batch, kept, channels)
        self.indices = torch.empty(batch, kept, dtype=torch.int32, device=features.device)
        self._prune = getattr(library, f"{FUNCTIONS[op_type]}_prune")
        self._prune.restype = ctypes.c_char_p
        heads = inputs[1].shape[1] if has_heads else 1
        self._shape = Shape(batch, heads, tokens, channels)
        pointers = [tensor.data_ptr() for tensor in inputs] + [None] * (4 - len(inputs))
        self._pointers = Inputs(*pointers, DTYPES[features.dtype])
        self._attributes = attributes_of(parameters)
        workspace_bytes = getattr(library, f"{FUNCTIONS[op_type]}_workspace_bytes")
        workspace_bytes.restype = ctypes.c_size_t
        size = workspace_bytes(ctypes.byref(self._shape), ctypes.byref(self._attributes))
        self.workspace = torch.empty(size, dtype=torch.uint8, device=features.device)

    def __call__(self) -> None:
        fault = self._prune(
            ctypes.byref(self._shape),
            ctypes.byref(self._pointers),
            ctypes.byref(self._attributes),
            ctypes.c_void_p(self.kept.data_ptr()),
            ctypes.c_void_p(self.indices.data_ptr()),
            ctypes.c_void_p(self.workspace.data_ptr()),
            ctypes.c_void_p(torch.cuda.current_stream().cuda_stream),
        )
        if fault is not None:
            raise RuntimeError(f"the launch failed: {fault.decode()}")

    def answers(self, expected: Tensor) -> bool:
        """Whether it keeps the tokens `expected` `[B, M]`, and returns their rows."""
        rows = expected.long().unsqueeze(-1).expand(-1, -1, self.kept.shape[2])
        kept = self.inputs[0].cpu().gather(1, rows)
        return self.indices.cpu().equal(expected) and self.kept.cpu().equal(kept)


def build(folder: Path) -> Path:
    """The library, compiled for this GPU."""
    major, minor = torch.cuda.get_device_capability()
    settings = [
        "-DD2EXPORT_TESTS=ON",
        "-DD2EXPORT_CUDA=ON",
        f"-DCMAKE_CUDA_ARCHITECTURES={major}{minor}",
    ]
    subprocess.run(["cmake", "-S", ROOT / "plugins", "-B", folder, *settings], check=True)
    target = ["--target", "d2export_device_driver", "--parallel"]
    subprocess.run(["cmake", "--build", folder, *target], check=True)
    return folder / "tests" / "libd2export_device_driver.so"


def microseconds(call: Callable[[], Any], runs: int, at_once: int) -> float:
    """Median time of one call on the GPU, by events around `at_once` of them."""
    for _ in range(3):
        call()
    times = []
    for _ in range(runs):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(at_once):
            call()
        end.record()
        end.synchronize()
        times.append(1e3 * start.elapsed_time(end) / at_once)
    return statistics.median(times)


def graphed(call: Callable[[], Any]) -> Callable[[], None]:
    """The call as a CUDA graph: what the GPU takes, without the launches of the host."""
    call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay
