"""Build an engine with TensorRT's Python module, as a plan says.

Everything is looked up by the names in the plan; one that this TensorRT lacks is an error that
names both. Nothing of TensorRT is imported before it is needed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from d2export.engine.atomic_file import write_whole
from d2export.engine.builder_plan import EnginePlan, PluginUse
from d2export.engine.onnx_types import float_values
from d2export.engine.optimization_profiles import Profile
from d2export.engine.target import Version
from d2export.engine.tensorrt_api import api_of, parse_version
from d2export.engine.tensorrt_log import Log, monitor
from d2export.errors import EnvironmentMismatch
from d2export.progress import Progress

INSTALL = "On a Jetson, TensorRT is part of JetPack: apt install python3-libnvinfer. Elsewhere: "
INSTALL += "pip install tensorrt"
# Of TensorRT 8: layers whose types are not theirs to choose.
UNPINNED_LAYERS = ("CONSTANT", "SHAPE", "CAST", "PLUGIN_V2")


def tensorrt_module() -> Any:
    """TensorRT's Python module.

    Raises:
        EnvironmentMismatch: it is not installed, or its libraries cannot be loaded.
    """
    try:
        return import_module("tensorrt")
    except (ImportError, OSError) as error:  # it loads libraries as it is imported
        missing = isinstance(error, ModuleNotFoundError) and error.name == "tensorrt"
        problem = "is not installed" if missing else f"cannot be loaded: {error}"
        raise EnvironmentMismatch(f"TensorRT {problem}", INSTALL) from None


def version_of(trt: Any) -> Version:
    """The version of a module: major, minor, patch."""
    return parse_version(trt.__version__)[:3]


def build_engine(
    trt: Any,
    plan: EnginePlan,
    onnx: Path,
    engine: Path,
    *,
    library: Path | None,
    progress: Progress,
) -> None:
    """Build the engine of a plan, and write it.

    Args:
        trt: TensorRT's module.
        onnx: what `for_parser` made, with the weights beside it.
        engine: the file to write; it appears complete or not at all.
        library: of the plugin; None if the plan has none.

    Raises:
        EnvironmentMismatch: TensorRT refuses something, and what it said.
        OutputError: the engine or the timing cache cannot be written.
    """
    log = Log(trt, progress)
    if plan.plugin is not None:
        load_plugin(trt, plan.plugin, library, log)
    builder = trt.Builder(log.logger)
    network = builder.create_network(
        _mask(trt, "NetworkDefinitionCreationFlag", plan.network_flags)
    )
    _parse(trt, network, log, onnx)
    if plan.pins_layer_types:
        _pin_types(trt, network, float_values(onnx.read_bytes()))
    config = builder.create_builder_config()
    _configure(trt, config, plan, library)
    for profile in plan.profiles:
        _add_profile(builder, config, profile, log)
    cache = None if plan.timing_cache is None else Path(plan.timing_cache)
    if cache is not None:
        _use_timing_cache(config, cache, log)
    watch = monitor(trt, progress) if plan.progress_monitor else None
    if watch is not None:
        config.progress_monitor = watch
    built = builder.build_serialized_network(network, config)
    if watch is not None and watch.interrupted:
        raise KeyboardInterrupt
    if built is None:
        raise log.failure(f"TensorRT {trt.__version__} cannot build {plan.engine} from {onnx}")
    write_whole(engine, memoryview(built))
    if cache is not None:
        write_whole(cache, memoryview(config.get_timing_cache().serialize()))


def _named(trt: Any, enum: str, name: str) -> Any:
    """A member of an enum of TensorRT.

    Raises:
        EnvironmentMismatch: this TensorRT has no such name.
    """
    member = getattr(getattr(trt, enum, None), name, None)
    if member is None:
        raise EnvironmentMismatch(
            f"TensorRT {trt.__version__} has no {enum}.{name}, which the plan needs",
            "Plan anew for this TensorRT: d2export build BUNDLE --target NAME.",
        )
    return member


def _mask(trt: Any, enum: str, names: Sequence[str]) -> int:
    """The bits of members of an enum."""
    return sum(1 << int(_named(trt, enum, name)) for name in names)


def load_plugin(trt: Any, use: PluginUse, library: Path | None, log: Log) -> None:
    """Make sure that the registry has a creator for every op of the plugin.

    Args:
        library: to look in, if the registry has not all of them; None if there is none.

    Raises:
        EnvironmentMismatch: one is in neither.
    """
    registry = trt.get_plugin_registry()
    find = getattr(registry, api_of(version_of(trt)).plugin_getter)

    def missing() -> list[str]:
        return [op for op in use.ops if find(op, use.version, use.namespace) is None]

    if missing() and library is not None:
        registry.load_library(os.fspath(library))
    if absent := missing():
        raise log.failure(
            f"TensorRT {trt.__version__} finds no plugin {', '.join(absent)}, version "
            f"{use.version}, namespace {use.namespace}, in {library or 'its registry'}"
        )


def _parse(trt: Any, network: Any, log: Log, onnx: Path) -> None:
    parser = trt.OnnxParser(network, log.logger)
    if parser.parse_from_file(os.fspath(onnx)):
        return
    errors = [_parser_error(parser.get_error(index)) for index in range(parser.num_errors)]
    raise log.failure(
        f"the parser of TensorRT {trt.__version__} cannot read {onnx}",
        errors or ["it does not say why"],
    )


def _parser_error(error: Any) -> str:
    """Where in the graph, and what."""
    at = f"node {error.node()}"
    if hasattr(error, "node_name"):  # from TensorRT 10 on
        at += f" '{error.node_name()}' ({error.node_operator()})"
    code = getattr(error.code(), "name", error.code())
    return f"{at}: {error.desc()} [{code}, {error.func()}:{error.line()}]"


def _pin_types(trt: Any, network: Any, types: Mapping[str, str]) -> None:
    """Tell the layers of TensorRT 8 to compute in the types that the ONNX graph has.

    Args:
        types: `float32` or `float16` by name of a value in the graph.
    """
    unpinned = {getattr(trt.LayerType, name, None) for name in UNPINNED_LAYERS}
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type in unpinned:
            continue
        for output in range(layer.num_outputs):
            dtype = types.get(layer.get_output(output).name)
            if dtype is not None:
                layer.precision = getattr(trt, dtype)
                layer.set_output_type(output, getattr(trt, dtype))


def _configure(trt: Any, config: Any, plan: EnginePlan, library: Path | None) -> None:
    for name in plan.builder_flags:
        config.set_flag(_named(trt, "BuilderFlag", name))
    for name in plan.cleared_flags:
        config.clear_flag(_named(trt, "BuilderFlag", name))
    for name in plan.preview_features:
        config.set_preview_feature(_named(trt, "PreviewFeature", name), True)
    config.set_tactic_sources(_mask(trt, "TacticSource", plan.tactic_sources))
    for name, size in plan.memory_pools.items():
        config.set_memory_pool_limit(_named(trt, "MemoryPoolType", name), size)
    config.builder_optimization_level = plan.optimization_level
    config.hardware_compatibility_level = _named(
        trt, "HardwareCompatibilityLevel", plan.hardware_compatibility
    )
    if plan.plugin is not None and plan.plugin.serialized:
        config.plugins_to_serialize = [os.fspath(library or plan.plugin.library)]


def _add_profile(builder: Any, config: Any, profile: Profile, log: Log) -> None:
    found = builder.create_optimization_profile()
    for name, shapes in profile.shapes.items():
        found.set_shape(name, shapes.min, shapes.opt, shapes.max)
    if config.add_optimization_profile(found) < 0:
        raise log.failure(f"TensorRT refuses the optimization profile {profile.name}")


def _use_timing_cache(config: Any, file: Path, log: Log) -> None:
    """Let the builder use what `file` remembers; an empty cache if there is none yet."""
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        content = b""
    except OSError as error:
        raise EnvironmentMismatch(
            f"the timing cache {file} cannot be read: {error.strerror}",
            "Pass another --timing-cache.",
        ) from None
    cache = config.create_timing_cache(content)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        raise log.failure(
            f"the timing cache {file} is of another TensorRT or GPU",
            hint="Pass another --timing-cache, or delete the file.",
        )
