"""A module like TensorRT's whose engines compute: by ONNX Runtime, on a stand-in GPU.

It has what `stand_in_tensorrt` has. An engine it builds names the bundle's ONNX graph and has the
profiles it was told. What a real context refuses it refuses: a shape outside the profile, an
input without an address, memory that nobody allocated, outputs where inputs lie.
"""

from __future__ import annotations

import ctypes
import enum
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from d2export.engine.onnxruntime import open_session
from d2export.engine.plugin_nodes import plugin_nodes
from tests.engine import tensorrt_headers as headers
from tests.engine.stand_in_tensorrt import HostMemory, Severity, module

SOURCE = Path(__file__).with_name("stand_in_cudart.cpp")
TYPES = {
    TensorProto.FLOAT: "FLOAT",
    TensorProto.FLOAT16: "HALF",
    TensorProto.BFLOAT16: "BF16",
    TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64",
}
NUMPY = {"FLOAT": np.float32, "HALF": np.float16, "BF16": np.uint16, "INT32": np.int32}
NUMPY["INT64"] = np.int64
# What only some versions have.
SINCE = {
    "set_all_tensors_debug_state": (10, 0),
    "set_debug_listener": (10, 0),
    "device_memory_size_v2": (10, 1),
}
UNTIL = {"device_memory_size": (11, 0)}
ACTIVATIONS = 12345  # bytes


class Dims:
    """Sizes, as TensorRT's bindings have them: a sequence, and no tuple."""

    def __init__(self, sizes: Any) -> None:
        self._sizes = tuple(sizes)

    def __len__(self) -> int:
        return len(self._sizes)

    def __getitem__(self, index: Any) -> Any:
        return self._sizes[index]

    def __eq__(self, other: object) -> bool:
        return self._sizes == tuple(other)  # type: ignore[call-overload]

    __hash__ = None  # type: ignore[assignment]


class Doings:
    """What the engines did, and what a test wants them to do."""

    def __init__(self) -> None:
        self.runs: list[tuple[str, int]] = []  # graph and profile
        self.host_code: list[bool] = []
        self.reads = True  # an engine can be read
        self.works = True  # and be run
        self.wrong: dict[str, float] = {}  # added to an output
        self.unknown_before: set[str] = set()  # outputs whose shapes depend on numbers
        self.says_layers = True  # by the names of nodes


def compute_module(version: str, gpu: ctypes.CDLL) -> Any:
    """The module of a version; `module.did` is what its engines did."""
    trt = module(version)
    trt.__spec__ = ModuleSpec("tensorrt", None)  # torch looks at it
    numbers = headers.numbers(version)
    trt.did = did = Doings()
    trt.TensorIOMode = enum.Enum("TensorIOMode", "NONE INPUT OUTPUT")
    trt.TensorLocation = enum.Enum("TensorLocation", "DEVICE HOST")
    trt.TensorFormat = enum.Enum("TensorFormat", "LINEAR CHW16 HWC")
    names = "FLOAT HALF INT8 INT32 BOOL UINT8" + (" INT64 BF16" if numbers >= (10,) else "")
    trt.DataType = enum.Enum("DataType", names)
    for short, name in {"float32": "FLOAT", "float16": "HALF", "int32": "INT32"}.items():
        setattr(trt, short, trt.DataType[name])
    trt.int8, trt.bool, trt.uint8 = (trt.DataType[name] for name in ("INT8", "BOOL", "UINT8"))
    if numbers >= (10,):
        trt.int64, trt.bfloat16 = trt.DataType.INT64, trt.DataType.BF16
    for name in ("IOutputAllocator", "IProfiler", "IDebugListener"):
        setattr(trt, name, type(name, (), {"__init__": lambda self: None}))

    class Builder(trt.Builder):  # type: ignore[misc]
        def create_builder_config(self) -> Any:
            trt.told.profiles.clear()
            return super().create_builder_config()

        def build_serialized_network(self, network: Any, config: Any) -> Any:
            super().build_serialized_network(network, config)
            graph = str(trt.told.parsed).replace(".tensorrt.onnx", ".onnx")
            content = {"version": version, "graph": graph, "profiles": trt.told.profiles}
            return HostMemory(json.dumps(content).encode())

    trt.Builder = Builder

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self.logger = logger
            self.engine_host_code_allowed = False

        def deserialize_cuda_engine(self, serialized: Any) -> ICudaEngine | None:
            did.host_code.append(self.engine_host_code_allowed)
            content = json.loads(bytes(serialized))
            if content["version"] != version or not did.reads:
                self.logger.log(Severity.ERROR, "the engine plan file is not compatible")
                return None
            return ICudaEngine(content, self.logger)

    class ICudaEngine:
        def __init__(self, content: dict[str, Any], logger: Any) -> None:
            path = Path(content["graph"])
            graph = onnx.load(str(path), load_external_data=False).graph
            self.logger, self.path, self.profiles = logger, path, content["profiles"]
            self.tensors = {value.name: value for value in (*graph.input, *graph.output)}
            self.inputs = {value.name for value in graph.input}
            self.names = list(self.tensors)
            kinds = {value.type.tensor_type.elem_type for value in self.tensors.values()}
            precision = "bf16" if TensorProto.BFLOAT16 in kinds else "fp32"
            self.session = open_session(path, precision=precision, threads=1)
            parsed = path.with_suffix(".tensorrt.onnx").read_bytes()
            self.layers = ["tower", *plugin_nodes(parsed), "projector"]

        @property
        def num_io_tensors(self) -> int:
            return len(self.names)

        @property
        def num_optimization_profiles(self) -> int:
            return len(self.profiles)

        @property
        def device_memory_size(self) -> int:
            return ACTIVATIONS

        @property
        def device_memory_size_v2(self) -> int:
            return ACTIVATIONS

        def get_tensor_name(self, index: int) -> str:
            return self.names[index]

        def get_tensor_mode(self, name: str) -> Any:
            return trt.TensorIOMode.INPUT if name in self.inputs else trt.TensorIOMode.OUTPUT

        def get_tensor_dtype(self, name: str) -> Any:
            kind = TYPES[self.tensors[name].type.tensor_type.elem_type]
            return trt.DataType["INT32" if kind == "INT64" and numbers < (10,) else kind]

        def get_tensor_format(self, name: str, profile: int) -> Any:
            return trt.TensorFormat.LINEAR

        def is_shape_inference_io(self, name: str) -> bool:
            return False

        def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Dims]:
            return list(map(Dims, self.profiles[profile_index][name]))

        def create_execution_context(self) -> IExecutionContext:
            return IExecutionContext(self)

    class IExecutionContext:
        def __init__(self, engine: ICudaEngine) -> None:
            self.engine = engine
            self.active_optimization_profile = 0
            self.profiler: Any = None
            self.addresses: dict[str, int] = {}
            self.allocators: dict[str, Any] = {}
            self.shapes: dict[str, tuple[int, ...]] = {}

        def set_all_tensors_debug_state(self, flag: bool) -> bool:
            return True

        def set_debug_listener(self, listener: Any) -> bool:
            return True

        def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
            if profile_index >= len(self.engine.profiles):
                return False
            self.active_optimization_profile = profile_index
            self.shapes.clear()
            return True

        def get_tensor_address(self, name: str) -> int:
            return self.addresses.get(name, 0)

        def set_tensor_address(self, name: str, memory: int) -> bool:
            self.addresses[name] = memory
            return name in self.engine.tensors

        def set_output_allocator(self, name: str, output_allocator: Any) -> bool:
            self.allocators[name] = output_allocator
            return name in self.engine.tensors

        def get_tensor_shape(self, name: str) -> Dims:
            value = self.engine.tensors[name].type.tensor_type.shape.dim
            known = self.shapes.get(name)
            if name in did.unknown_before:
                return Dims(-1 for _ in value)
            if known is None:
                return Dims(size.dim_value if size.HasField("dim_value") else -1 for size in value)
            return Dims(known)

        def set_input_shape(self, name: str, shape: Any) -> bool:
            profile = self.engine.profiles[self.active_optimization_profile]
            low, _, high = profile[name]
            shape = tuple(shape)
            if not all(a <= size <= b for a, size, b in zip(low, shape, high, strict=True)):
                return False
            self.shapes[name] = shape
            return True

        def execute_async_v3(self, stream_handle: int) -> bool:
            try:
                self._execute()
            except Refused as why:
                self.engine.logger.log(Severity.ERROR, str(why))
                return False
            return True

        def _execute(self) -> None:
            engine = self.engine
            if not did.works:
                raise Refused("an illegal memory access was encountered")
            if gpu.stand_in_records():
                if did.unknown_before:
                    raise Refused("operation not permitted when stream is capturing")
                return
            did.runs.append((engine.path.stem, self.active_optimization_profile))
            feeds, taken = {}, []
            for name in engine.inputs:
                kind = engine.get_tensor_dtype(name).name
                array, address = self._input(name, kind), self.addresses[name]
                taken.append((address, address + max(array.nbytes, 1)))
                graph_kind = TYPES[engine.tensors[name].type.tensor_type.elem_type]
                feeds[name] = unpacked(array, graph_kind)
            outputs = [name for name in engine.names if name not in engine.inputs]
            for name, value in zip(outputs, engine.session.run(outputs, feeds), strict=True):
                kind = engine.get_tensor_dtype(name).name
                wrong = value + did.wrong[name] if name in did.wrong else value
                self._output(name, packed(wrong.astype(value.dtype), kind), taken)
            if self.profiler is not None:
                layers = engine.layers if did.says_layers else ["one", "two"]
                for number, layer in enumerate(layers):
                    self.profiler.report_layer_time(layer, 1.0 + number)

        def _input(self, name: str, kind: str) -> Any:
            if name not in self.shapes:
                raise Refused(f"the shape of {name} is not set")
            address = self.addresses.get(name, 0)
            array = np.empty(self.shapes[name], NUMPY[kind])
            if not address or not gpu.stand_in_has(ctypes.c_size_t(address), array.nbytes):
                raise Refused(f"{name} lies where no memory is")
            ctypes.memmove(array.ctypes.data, address, array.nbytes)
            return array

        def _output(self, name: str, array: Any, taken: list[tuple[int, int]]) -> None:
            allocator = self.allocators[name]
            address = allocator.reallocate_output(name, 0, array.nbytes, 256)
            if not address or not gpu.stand_in_has(ctypes.c_size_t(address), array.nbytes):
                raise Refused(f"{name} has no memory")
            if any(address < end and start < address + array.nbytes for start, end in taken):
                raise Refused(f"{name} would be written where an input is read")
            ctypes.memmove(address, array.ctypes.data, array.nbytes)
            self.shapes[name] = array.shape
            allocator.notify_shape(name, Dims(array.shape))

    for name, since in SINCE.items():
        for kind in (IExecutionContext, ICudaEngine):
            if hasattr(kind, name) and numbers < since:
                delattr(kind, name)
    for name, until in UNTIL.items():
        if numbers >= until:
            delattr(ICudaEngine, name)
    trt.Runtime, trt.ICudaEngine, trt.IExecutionContext = Runtime, ICudaEngine, IExecutionContext
    return trt


class Refused(Exception):
    """What a real context would not do."""


def unpacked(array: Any, kind: str) -> Any:
    """As ONNX Runtime takes it: bfloat16 is emulated in float32."""
    if kind == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(NUMPY[kind])


def packed(array: Any, kind: str) -> Any:
    """As an engine has it."""
    if kind == "BF16":
        return (np.ascontiguousarray(array, np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return np.ascontiguousarray(array, NUMPY[kind])


def build_cudart(folder: Path) -> Path:
    """The stand-in for the CUDA runtime, compiled into a folder."""
    library = folder / "libcudart.so"
    command = ["c++", "-std=c++17", "-shared", "-fPIC", "-o", library, SOURCE]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a C++ compiler: {done.stderr.strip()[-200:]}")
    return library


@contextmanager
def loaded(trt: Any, library: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Python, polygraphy and d2export find these two, and no others."""
    import polygraphy.backend.trt
    import polygraphy.cuda.cuda  # noqa: F401 - it is patched

    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    monkeypatch.setenv("LD_LIBRARY_PATH", os.fspath(library.parent))
    monkeypatch.setattr("polygraphy.cuda.cuda.G_CUDA", None)
    seen = [
        vars(found)["trt"]
        for name, found in list(sys.modules.items())
        if name.startswith("polygraphy.") and "trt" in vars(found)
    ]
    lazy = [one for one in seen if type(one).__name__ == "LazyModule"]
    for one in lazy:
        object.__setattr__(one, "module", trt)
    try:
        yield
    finally:
        for one in lazy:
            object.__setattr__(one, "module", None)
