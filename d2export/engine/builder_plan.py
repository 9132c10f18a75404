"""All that decides an engine, worked out without TensorRT: what its builder will be told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from d2export.engine import plugin, tensorrt_api
from d2export.engine.build_options import BuildOptions
from d2export.engine.misfit import Misfit
from d2export.engine.optimization_profiles import Profile
from d2export.engine.target import Target, Version, version_text
from d2export.engine.tensorrt_api import api_of
from d2export.errors import EnvironmentMismatch


@dataclass(frozen=True)
class GraphToBuild:
    """One graph of a bundle.

    Attributes:
        name: `vision` or `decoder`.
        onnx: the file for the parser, relative to the bundle.
        precision: that it was cast to.
        opset: of ONNX.
        plugin_ops: types of its nodes that the plugin implements.
        profiles: the sizes it is to take.
    """

    name: str
    onnx: str
    precision: str
    opset: int
    plugin_ops: tuple[str, ...]
    profiles: tuple[Profile, ...]


@dataclass(frozen=True)
class PluginUse:
    """The plugin of an engine: nodes of these types, and how its library gets to them.

    The library is always loaded into the registry before parsing. `serialized` puts it into the
    engine, too, which TensorRT does for version-compatible engines alone; whoever runs such an
    engine must allow host code in it.
    """

    library: str
    version: str
    namespace: str
    ops: tuple[str, ...]
    serialized: bool


@dataclass(frozen=True)
class EnginePlan:
    """What the builder is told, by the names of `NvInfer.h` without their `k`.

    Attributes:
        graph, onnx, precision: as in `GraphToBuild`.
        engine: file of the engine, relative to the bundle.
        tensorrt: version that this is for.
        network_flags: of `NetworkDefinitionCreationFlag`.
        builder_flags, cleared_flags: of `BuilderFlag`: to set, and to clear.
        preview_features: of `PreviewFeature`, to turn on.
        tactic_sources: of `TacticSource`, these alone.
        memory_pools: bytes by `MemoryPoolType`; others have no limit.
        hardware_compatibility: of `HardwareCompatibilityLevel`.
        optimization_level: 0 to 5.
        pins_layer_types: whether each layer is told to keep the type the graph gives it.
        progress_monitor: whether TensorRT reports how far it is.
        plugin: None if no node needs it.
        profiles: in the order of their indices.
        timing_cache: file to read and write; None: there is none.
    """

    graph: str
    onnx: str
    engine: str
    precision: str
    tensorrt: str
    network_flags: tuple[str, ...]
    builder_flags: tuple[str, ...]
    cleared_flags: tuple[str, ...]
    preview_features: tuple[str, ...]
    tactic_sources: tuple[str, ...]
    memory_pools: dict[str, int]
    hardware_compatibility: str
    optimization_level: int
    pins_layer_types: bool
    progress_monitor: bool
    plugin: PluginUse | None
    profiles: tuple[Profile, ...]
    timing_cache: str | None


def plan_engine(
    graph: GraphToBuild, target: Target, version: Version, options: BuildOptions
) -> EnginePlan:
    """The plan for one graph.

    Args:
        version: of the TensorRT that will build it.

    Raises:
        EnvironmentMismatch: that version, or the target, cannot build such an engine.
    """
    for misfit in misfits(graph, target, version, options):
        raise EnvironmentMismatch(misfit.problem, misfit.remedy)
    api = api_of(version)
    flags = api.precision_flags[graph.precision]
    if options.version_compatible:
        flags += (tensorrt_api.VERSION_COMPATIBLE,)
    use = None
    if graph.plugin_ops:
        use = PluginUse(
            plugin.LIBRARY,
            plugin.VERSION,
            plugin.NAMESPACE,
            graph.plugin_ops,
            serialized=options.version_compatible,
        )
    return EnginePlan(
        graph=graph.name,
        onnx=graph.onnx,
        engine=f"engines/{graph.name}.plan",
        precision=graph.precision,
        tensorrt=version_text(version),
        network_flags=api.network_flags,
        builder_flags=flags,
        cleared_flags=tensorrt_api.CLEARED_FLAGS,
        preview_features=tensorrt_api.PREVIEW_FEATURES,
        tactic_sources=tensorrt_api.TACTIC_SOURCES,
        memory_pools={tensorrt_api.WORKSPACE: options.workspace or target.workspace},
        hardware_compatibility=tensorrt_api.HARDWARE_LEVELS[options.hardware_compatible],
        optimization_level=options.optimization_level,
        pins_layer_types=api.pins_layer_types and bool(api.precision_flags[graph.precision]),
        progress_monitor=api.progress,
        plugin=use,
        profiles=graph.profiles,
        timing_cache=options.timing_cache,
    )


def misfits(
    graph: GraphToBuild, target: Target, version: Version, options: BuildOptions
) -> Iterator[Misfit]:
    """Why no engine of a graph can be built like that."""
    text = version_text(version)
    if version not in target.tensorrt:
        yield Misfit(
            f"TensorRT {text} is not one that {target.name} can have: "
            f"{version_text(target.tensorrt.oldest)} to {version_text(target.tensorrt.newest)}",
            "Install one of these, or pass --target auto on the device itself.",
        )
    if graph.precision not in target.precisions:
        yield Misfit(
            f"{target.name} has no {graph.precision}, only {', '.join(target.precisions)}",
            "Export again with one of these as --precision, or pass another --target.",
        )
    try:
        api = api_of(version)
    except EnvironmentMismatch as error:
        yield Misfit(error.problem, error.hint or "")
        return
    if graph.precision not in api.precision_flags:
        yield Misfit(
            f"TensorRT {text} has no {graph.precision}, only {', '.join(api.precision_flags)}",
            "Export again with one of these as --precision, or use TensorRT 10 or newer.",
        )
    if graph.opset > api.opset:
        yield Misfit(
            f"{graph.onnx} has opset {graph.opset}, TensorRT {text} reads up to {api.opset}",
            f"Export again with --opset {api.opset}.",
        )
    workspace = options.workspace or target.workspace
    if target.memory is not None and workspace > target.memory:
        yield Misfit(
            f"--workspace is {workspace} bytes, {target.name} has {target.memory}",
            f"Leave it out for {target.workspace}.",
        )
    # "Not supported on JetPack": TensorRT's developer guide, "Hardware Compatibility".
    if options.hardware_compatible and target.shared:
        yield Misfit(
            f"--hw-compat is for graphics cards; {target.name} shares its memory with the CPU",
            "Leave it out: an engine for a module is built on the module.",
        )
    if options.hardware_compatible and (target.compute_capability or (8, 0)) < (8, 0):
        yield Misfit(
            f"--hw-compat needs compute capability 8.0, {target.name} has "
            f"{version_text(target.compute_capability or ())}",
            "Leave it out.",
        )
