"""The TensorRT that engine.py finds, and how it is told to build, run and time: part of engine.py.

Either the Python package, or the libraries alone through the C++ tool of engines/tool.
"""

from __future__ import annotations

import ctypes
import json
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from engine_parts import Arrays
from engine_table import NotRun
from launch import ROOT, graphed, microseconds

from d2export import __version__
from d2export.bundle.engine_records import SCHEMA, PlannedEngine, PlannedEngines
from d2export.bundle.records import Tool
from d2export.bundle.strict_json import encode
from d2export.engine.build_options import BuildOptions
from d2export.engine.builder_plan import EnginePlan
from d2export.engine.target import Target, Version, version_text
from d2export.engine.tensorrt import build_engine, tensorrt_module, version_of
from d2export.engine.tensorrt_api import MAJORS, parse_version
from d2export.errors import D2ExportError
from d2export.progress import Progress

HEADERS = Path.home() / ".cache" / "d2export" / "tensorrt"
RUNS, WARM_UP = 50, 10


@dataclass(frozen=True)
class Timing:
    """Median milliseconds on the GPU of one run, of one replay, and of layers by name."""

    ms: float
    graph_ms: float | None
    layers: dict[str, float]

    def selection_ms(self, nodes: Sequence[str]) -> float | None:
        """The layers of these nodes of the plugin; None if TensorRT calls none of its layers so."""
        found = [ms for name, ms in self.layers.items() if any(node in name for node in nodes)]
        return sum(found) if found else None


class Runner(Protocol):
    """A TensorRT."""

    version: Version
    name: str
    nvinfer: Path | None  # its library; None: the system finds it
    plugin: Path | None

    def build(self, plan: EnginePlan, target: Target, onnx: Path, engine: Path) -> None:
        """Write the engine of a plan."""

    def run(self, engine: Path, inputs: Arrays) -> Arrays:
        """The engine's outputs, in its first profile."""

    def time(self, engine: Path, inputs: Arrays) -> Timing:
        """How long that takes."""


class ToolRunner:
    """Libraries without Python: d2export-engine, compiled with headers of the same version.

    Args:
        program: the tool.
        libraries: the folder they lie in; None: the system finds them.
        plugin: library of the plugin.
    """

    def __init__(self, program: Path, libraries: Path | None, plugin: Path | None) -> None:
        self._program = program
        self.plugin = plugin
        self._places = [] if libraries is None else ["--libraries", str(libraries)]
        self._plugin = [] if plugin is None else ["--plugin", str(plugin)]
        said = self._call("--version")
        self.version: Version = parse_version(said.split()[-1])
        self.name = f"TensorRT {version_text(self.version)} or newer, its libraries alone"
        library = f"libnvinfer.so.{self.version[0]}"
        self.nvinfer = None if libraries is None else libraries / library

    def build(self, plan: EnginePlan, target: Target, onnx: Path, engine: Path) -> None:
        """By `d2export-engine build`."""
        planned = PlannedEngines(
            SCHEMA,
            Tool("d2export", __version__),
            target,
            BuildOptions(),
            (PlannedEngine(plan, "", ()),),
        )
        file = engine.with_suffix(".json")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(encode(planned)))
        self._call("build", file, onnx, "-o", engine, *self._plugin, *self._places)

    def run(self, engine: Path, inputs: Arrays) -> Arrays:
        """By `d2export-engine run`."""
        with tempfile.TemporaryDirectory() as folder:
            given, out = self._given(inputs, Path(folder)), Path(folder, "out")
            self._call("run", engine, *given, "-o", out, *self._plugin, *self._places)
            return {file.stem: np.load(file) for file in out.glob("*.npy")}

    def time(self, engine: Path, inputs: Arrays) -> Timing:
        """By `d2export-engine bench`."""
        counts = ("--warm-up", str(WARM_UP), "--runs", str(RUNS), "--layers")
        with tempfile.TemporaryDirectory() as folder:
            given = self._given(inputs, Path(folder))
            said = self._call("bench", engine, *given, *counts, *self._plugin, *self._places)
        report = json.loads(said)
        graph = report["graph"].get("gpu_ms", {}).get("p50")
        layers = {layer["name"]: layer["ms"] for layer in report["layers"]}
        return Timing(report["stream"]["gpu_ms"]["p50"], graph, layers)

    def _given(self, inputs: Arrays, folder: Path) -> list[str]:
        words = []
        for number, (name, array) in enumerate(inputs.items()):
            file = folder / f"{number}.npy"
            np.save(file, array)
            words += ["--input", f"{name}={file}"]
        return words

    def _call(self, *words: object) -> str:
        command = [str(self._program), *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr.strip())
        return done.stdout


class PackageRunner:
    """TensorRT's Python module, with torch's memory and streams."""

    def __init__(self, trt: Any, plugin: Path | None) -> None:
        self._trt, self.plugin = trt, plugin
        self.nvinfer = loaded_nvinfer()
        self._logger = trt.Logger(trt.Logger.ERROR)
        self._runtime = trt.Runtime(self._logger)
        self.version = version_of(trt)
        self.name = f"TensorRT {trt.__version__}, its Python package"

    def build(self, plan: EnginePlan, target: Target, onnx: Path, engine: Path) -> None:
        """By `d2export.engine.tensorrt`; it loads the plugin, too."""
        progress = Progress(level="quiet")
        build_engine(self._trt, plan, onnx, engine, library=self.plugin, progress=progress)

    def run(self, engine: Path, inputs: Arrays) -> Arrays:
        """Once, on torch's stream."""
        context, tensors = self._context(engine, inputs)
        self._enqueue(context)
        torch.cuda.synchronize()
        return {
            name: tensor.cpu().numpy() for name, tensor in tensors.items() if name not in inputs
        }

    def time(self, engine: Path, inputs: Arrays) -> Timing:
        """By events around each run."""
        context, _tensors = self._context(engine, inputs)
        torch.cuda.synchronize()  # other streams do not wait for the copies
        stream = torch.cuda.Stream()  # TensorRT waits more on the default one
        with torch.cuda.stream(stream):
            ms = microseconds(lambda: self._enqueue(context), RUNS, 1) / 1e3
            graph_ms = self._replayed(context)
            layers = self._layers(context)
        return Timing(ms, graph_ms, layers)

    def _context(self, engine: Path, inputs: Arrays) -> tuple[Any, dict[str, torch.Tensor]]:
        """A context that is ready to run, and its inputs and outputs by name."""
        found = self._runtime.deserialize_cuda_engine(engine.read_bytes())
        if found is None:
            raise RuntimeError(f"TensorRT cannot read {engine}")
        context = found.create_execution_context()
        tensors: dict[str, torch.Tensor] = {}
        names = [found.get_tensor_name(index) for index in range(found.num_io_tensors)]
        # The shapes of outputs follow from those of all inputs.
        for name in sorted(names, key=lambda name: name not in inputs):
            dtype = np.dtype(self._trt.nptype(found.get_tensor_dtype(name)))
            if name in inputs:
                context.set_input_shape(name, inputs[name].shape)
                array = np.ascontiguousarray(inputs[name], dtype)
            else:
                array = np.zeros(tuple(context.get_tensor_shape(name)), dtype)
            # With room behind it: an empty tensor has no address, and TensorRT wants one.
            room = torch.zeros(array.nbytes + 1, dtype=torch.uint8, device="cuda")
            tensors[name] = room[: array.nbytes].view(torch.from_numpy(array).dtype)
            tensors[name].copy_(torch.from_numpy(array.reshape(-1)))
            context.set_tensor_address(name, room.data_ptr())
            tensors[name] = tensors[name].view(array.shape)
        self._held = (found, tensors)  # a context keeps neither its engine nor its memory
        return context, tensors

    def _enqueue(self, context: Any) -> None:
        if not context.execute_async_v3(torch.cuda.current_stream().cuda_stream):
            raise RuntimeError("TensorRT cannot run the engine")

    def _replayed(self, context: Any) -> float | None:
        """Milliseconds as a CUDA graph; None if the engine cannot be recorded."""
        try:
            replay = graphed(lambda: self._enqueue(context))
        except RuntimeError:
            return None
        return microseconds(replay, RUNS, 1) / 1e3

    def _layers(self, context: Any) -> dict[str, float]:
        times: dict[str, list[float]] = {}

        class Profiler(self._trt.IProfiler):  # type: ignore[misc, name-defined]
            def report_layer_time(self, layer_name: str, ms: float) -> None:
                times.setdefault(layer_name, []).append(ms)

        context.profiler = profiler = Profiler()
        for _ in range(RUNS):
            self._enqueue(context)
            torch.cuda.current_stream().synchronize()
        del profiler
        return {name: statistics.median(found) for name, found in times.items()}


def loaded_nvinfer() -> Path | None:
    """The libnvinfer that this process has open."""
    mapped = (line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines())
    found = [Path(name) for name in mapped if "/libnvinfer.so" in name]
    return found[0] if found else None


# --- Finding one ----------------------------------------------------------------------------------


def major_in(folder: Path) -> int:
    """The major version of the libraries in a folder.

    Raises:
        NotRun: there is no libnvinfer of a version that is known.
    """
    for major in reversed(MAJORS):
        if (folder / f"libnvinfer.so.{major}").exists():
            return major
    versions = ", ".join(map(str, MAJORS))
    raise NotRun(f"{folder} has no libnvinfer.so.N, N one of {versions}")


def headers_for(major: int, given: Path | None) -> Path:
    """Headers of a major version: those given, the system's, else the oldest in the cache.

    A tool compiled with older headers takes newer libraries, not the other way.

    Raises:
        NotRun: there are none.
    """
    places = [given] if given is not None else [Path("/usr/include"), Path("/usr/local/include")]
    if given is None:
        places += sorted(Path("/usr/include").glob("*-linux-gnu"))
        cached = HEADERS.glob("*/include")
        places += sorted(cached, key=lambda folder: parse_version(folder.parent.name))
    for place in places:
        version = place / "NvInferVersion.h"
        if not version.is_file() or not (place / "NvOnnxParser.h").is_file():
            continue
        text = version.read_text(encoding="utf-8", errors="replace")
        if f"_MAJOR {major}" in text or f"MAJOR_ENTERPRISE {major}" in text:
            return place
    raise NotRun(
        f"no headers of TensorRT {major} with NvOnnxParser.h: pass their folder as --headers, or "
        "get them with scripts/tensorrt_headers.py"
    )


def system_major() -> int | None:
    """The major version of the TensorRT that the system's loader finds."""
    for major in reversed(MAJORS):
        try:
            ctypes.CDLL(f"libnvinfer.so.{major}")
        except OSError:
            continue
        return major
    return None


def built(source: str, folder: Path, target: str, *options: str) -> Path:
    """Something of ours, compiled.

    Raises:
        NotRun: it cannot be, and what CMake said.
    """
    if shutil.which("cmake") is None:
        raise NotRun("no CMake")
    commands = (
        ["cmake", "-S", str(ROOT / source), "-B", str(folder), *options],
        ["cmake", "--build", str(folder), "--target", target, "--parallel"],
    )
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = " ".join((done.stdout + done.stderr).split())[-400:]
            raise NotRun(f"{source} cannot be built: {said}")
    return folder


def find_runner(
    libraries: Path | None, headers: Path | None, plugin: Path | None, folder: Path
) -> Runner:
    """Libraries that were named, else the Python package, else those of the system.

    Args:
        folder: for what has to be compiled: the tool, and the plugin unless it is given.

    Raises:
        NotRun: there is no TensorRT, or something of ours cannot be compiled for it.
    """
    if libraries is None:
        try:
            trt = tensorrt_module()
        except D2ExportError as error:
            package = error.problem
        else:
            library = plugin or build_plugin(version_of(trt)[0], headers, folder)
            return PackageRunner(trt, library)
        major = system_major()
        if major is None:
            raise NotRun(f"{package}, and the system has no libnvinfer: pass --libraries FOLDER")
    else:
        major = major_in(libraries)
    include = headers_for(major, headers)
    library = plugin or build_plugin(major, headers, folder)
    place = built("engines/tool", folder / "tool", "all", f"-DTENSORRT_INCLUDE_DIR={include}")
    return ToolRunner(place / "d2export-engine", libraries, library)


def build_plugin(major: int, headers: Path | None, folder: Path) -> Path:
    """The plugin for this GPU and a TensorRT.

    Raises:
        NotRun: it cannot be compiled.
    """
    capability = "{}{}".format(*torch.cuda.get_device_capability())
    place = built(
        "plugins",
        folder / "plugin",
        "d2export_plugin",
        "-DD2EXPORT_CUDA=ON",
        f"-DCMAKE_CUDA_ARCHITECTURES={capability}",
        f"-DTENSORRT_INCLUDE_DIR={headers_for(major, headers)}",
    )
    return place / "tensorrt" / "libd2export_plugin.so"
