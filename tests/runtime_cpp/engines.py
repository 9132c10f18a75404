"""The C++ runtime with TensorRT: compiled for a version, with libraries that stand in for
TensorRT's and for CUDA's driver, and bundles with engines for these. Such an engine computes what
the bundle's ONNX graph computes; engines/runtime/tensorrt/tests says how strict the stand-ins are.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from pathlib import Path

import onnx

from d2export import __version__
from d2export.bundle.engine_records import (
    BUILT,
    PLAN,
    SCHEMA,
    BuiltEngine,
    BuiltEngines,
    Gpu,
    write_record,
)
from d2export.bundle.folder import Bundle, read_bundle
from d2export.bundle.records import Tool
from d2export.engine.atomic_file import write_whole
from d2export.engine.bfloat16 import compute_in_float32
from d2export.engine.build_options import BuildOptions
from d2export.engine.builder_plan import EnginePlan
from d2export.engine.engine_cache import file_sha256
from d2export.engine.optimization_profiles import Profile
from d2export.engine.plugin import LIBRARY
from d2export.engine.targets import target
from d2export.engine_files import PLUGINS
from d2export.engine_planning import plan_engines, prepared_graphs
from d2export.pruning.plan import Plan
from tests.engine.engine_tool import DATA_TYPES, header_folder
from tests.engine.tensorrt_headers import numbers
from tests.runtime_cpp.drivers import ROOT, make
from tests.runtime_cpp.runtime import need_backend, onnxruntime_library

VERSIONS = ("8.6.1", "10.3", "10.13", "10.16", "11.0", "11.1")
TARGET = "jetson-orin-nano-8gb"
GPU = Gpu("Stand-in GPU", (8, 7), 8 << 30)
THREAD_SANITIZER = ("-DD2EXPORT_SANITIZE=thread", "-DCMAKE_CXX_FLAGS_RELEASE=-O1 -g1")
KEY = "0" * 64  # of what an engine was made from; nobody compares it
PARTS = re.compile(r"define (?:NV_TENSORRT|TRT)_(?:MAJOR|MINOR|PATCH)(?:_ENTERPRISE)? (\d+)")


@cache
def build(version: str, *targets: str, settings: tuple[str, ...] = ()) -> Path:
    """The build folder of the runtime for that TensorRT, with the stand-ins and these targets.

    Args:
        settings: of CMake, such as -DD2EXPORT_SANITIZE=thread; each set has a folder of its own.
    """
    need_backend()
    folder = ROOT / "build" / "-".join(["runtime-tensorrt", version, *map(_in_a_name, settings)])
    headers = f"-DTENSORRT_INCLUDE_DIR={header_folder(version)}"
    stand_ins = ("stand_in_cuda", "stand_in_nvinfer")
    make(*stand_ins, *targets, folder=folder, settings=(headers, *settings))
    return folder


def libraries(folder: Path) -> Path:
    """Where the stand-ins lie in a build folder."""
    return folder / "tensorrt" / "tests" / "libraries"


def environment(folder: Path, told: Path | None = None, **others: str) -> dict[str, str]:
    """Variables for a program that is to find the stand-ins of a build folder.

    Args:
        told: file that they write to what they are told; see stand_in.h.
        others: such as STAND_IN_REFUSES="memory".
    """
    found = {**os.environ, "LD_LIBRARY_PATH": str(libraries(folder))}
    found["STAND_IN_ORT"] = onnxruntime_library()
    if told is not None:
        found["STAND_IN_TOLD"] = str(told)
    return {**found, **others}


def add_engines(
    root: Path, version: str, *, unknown: Collection[str] = (), on_host: Collection[str] = ()
) -> BuiltEngines:
    """Give a bundle engines, a plan and a record of them, as `d2export build` does.

    Args:
        unknown: names of dimensions that only a run is to tell, such as `surviving`.
        on_host: names of inputs that are to lie on the host.
    """
    bundle = read_bundle(root, verify=False)
    planned = plan_engines(
        prepared := prepared_graphs(bundle), target(TARGET), numbers(version), BuildOptions()
    )
    for one in prepared:
        write_whole(bundle.root / one.graph.onnx, one.onnx)
    write_record(bundle.root / PLAN, planned)
    engines = []
    for planned_engine in planned.engines:
        plan = planned_engine.plan
        path = bundle.path(plan.engine)
        lines = engine_text(bundle, plan, version, unknown, on_host)
        write_whole(path, ("\n".join(lines) + "\n").encode())
        engines.append(
            BuiltEngine(
                plan.graph, plan.engine, path.stat().st_size, file_sha256(path), KEY, seconds=1.0
            )
        )
    plugin = None
    if any(one.plan.plugin is not None for one in planned.engines):
        plugin = f"{PLUGINS}/{LIBRARY}"
        write_whole(bundle.path(plugin), b"the stand-in only looks whether there is a file")
    built = BuiltEngines(
        SCHEMA,
        Tool("d2export", __version__),
        TARGET,
        library_version(version),
        GPU,
        plugin,
        tuple(engines),
    )
    write_record(bundle.root / BUILT, built)
    return built


def library_version(version: str) -> str:
    """What TensorRT calls itself: 10.3.0 for headers of 10.3."""
    text = (header_folder(version) / "NvInferVersion.h").read_text("utf-8")
    return ".".join(PARTS.findall(text)[:3])


# An engine, see engine_text.h


def engine_text(
    bundle: Bundle,
    plan: EnginePlan,
    version: str,
    unknown: Collection[str] = (),
    on_host: Collection[str] = (),
) -> Iterator[str]:
    """The lines of an engine for a graph of a bundle."""
    manifest = bundle.manifest
    graph = manifest.graphs.vision if plan.graph == "vision" else manifest.graphs.decoder
    assert graph is not None, "it is planned"
    yield "d2export stand-in engine"
    yield f"graph {_computable(bundle.path(graph.path), manifest.precision).absolute()}"
    for value in graph.inputs:
        kind = "host" if value.name in on_host else "in"
        sizes = _joined(",", value.shape)
        shapes = _shapes(value.name, value.shape, plan.profiles)
        yield f"{kind} {value.name} {_type(value.dtype, version)} {sizes} {shapes}"
    tokens = manifest.model.vision.tokens_per_tile
    known = {
        "tokens": f"tiles:{tokens}:*",
        "total": "past:sequence:+",
        **_kept(manifest.plan, tokens, {value.name for value in graph.inputs}),
    }
    for value in graph.outputs:
        named = ["?" if size in unknown else known.get(str(size), size) for size in value.shape]
        yield f"out {value.name} {_type(value.dtype, version)} {_joined(',', named)}"


def _kept(plan: Plan, tokens: int, inputs: Collection[str]) -> dict[str, str]:
    """How many tokens stay, as a plugin tells it before a run."""
    if not plan.selector.counted:
        return dict.fromkeys(("kept", "surviving", "total_kept"), "?")
    keep, permille = plan.parameters.keep, plan.parameters.keep_permille
    images = "images" if "image_lengths" in inputs else "1"
    of_prompt = f"{images}:{keep}:*" if keep else f"{images}:visual_tokens:{permille}:*:1000:/:max"
    of_picture = str(keep) if keep else f"1:tiles:{tokens * permille}:*:1000:/:max"
    if plan.by_tile:
        of_picture = f"tiles:{plan.kept(tokens, 1)}:*"
    surviving = f"sequence:visual_tokens:-:{of_prompt}:visual_tokens:min:+"
    return {
        "kept": f"{of_picture}:tiles:{tokens}:*:min",
        "surviving": surviving,
        "total_kept": f"past_kept:{surviving}:+",
    }


def _computable(graph: Path, precision: str) -> Path:
    """The graph, or beside it one that ONNX Runtime's CPU provider has kernels for."""
    if precision != "bf16":
        return graph
    emulated = graph.with_suffix(".float32.onnx")
    model = onnx.load(str(graph), load_external_data=False)
    compute_in_float32(model)
    emulated.write_bytes(model.SerializeToString())
    return emulated


def _type(name: str, version: str) -> int:
    """A number of nvinfer1::DataType; before TensorRT 10 there is no int64."""
    return DATA_TYPES["int32" if name == "int64" and numbers(version) < (10,) else name]


def _shapes(name: str, shape: tuple[int | str, ...], profiles: Iterable[Profile]) -> str:
    """The smallest and the largest of each profile."""
    found: list[tuple[int | str, ...]] = []
    for profile in profiles:
        shapes = profile.shapes.get(name)
        found += [shape, shape] if shapes is None else [shapes.min, shapes.max]
    return " ".join(_joined("x", one) for one in found)


def _joined(separator: str, sizes: Iterable[int | str]) -> str:
    return separator.join(map(str, sizes)) or "-"


def _in_a_name(setting: str) -> str:
    return re.sub(r"\W+", "-", setting.removeprefix("-D"))
