"""What engines a bundle is to have: its graphs as TensorRT's parser takes them, and their plans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from d2export import __version__
from d2export.bundle.engine_records import SCHEMA, PlannedEngine, PlannedEngines, read_planned
from d2export.bundle.folder import Bundle
from d2export.bundle.records import Tool
from d2export.engine.build_options import BuildOptions
from d2export.engine.builder_plan import GraphToBuild, plan_engine
from d2export.engine.onnx_for_parser import for_parser
from d2export.engine.optimization_profiles import decoder_profiles, vision_profiles
from d2export.engine.target import Target, Version
from d2export.engine.targets import target
from d2export.engine.trtexec import differences, trtexec
from d2export.errors import UsageError

SUFFIX = ".tensorrt.onnx"  # of what the parser is given, beside the weights


@dataclass(frozen=True)
class Prepared:
    """A graph of a bundle, and the ONNX of it that TensorRT's parser takes.

    `inlined_ops` are those that no plugin implements: standard operators stand in their place.
    """

    graph: GraphToBuild
    onnx: bytes
    inlined_ops: tuple[str, ...]


def prepared_graphs(bundle: Bundle) -> list[Prepared]:
    """The vision graph, and in scope `vlm` the decoder, of a bundle.

    Raises:
        BundleError: a graph is damaged.
    """
    manifest = bundle.manifest
    model, graphs = manifest.model, manifest.graphs
    vision = vision_profiles(graphs.vision.inputs, model.vision, model.text)
    listed = [("vision", graphs.vision, vision)]
    if graphs.decoder is not None:
        profiles = decoder_profiles(graphs.decoder.inputs, model.vision, model.text, manifest.plan)
        listed.append(("decoder", graphs.decoder, profiles))
    found = []
    for name, graph, profiles in listed:
        path = bundle.path(graph.path)
        parsed = for_parser(path.read_bytes(), path)
        found.append(
            Prepared(
                GraphToBuild(
                    name,
                    f"onnx/{name}{SUFFIX}",
                    manifest.precision,
                    parsed.opset,
                    parsed.plugin_ops,
                    profiles,
                ),
                parsed.model,
                parsed.inlined_ops,
            )
        )
    return found


def plan_engines(
    prepared: Sequence[Prepared],
    device: Target,
    version: Version,
    options: BuildOptions,
    plugin: str | None = None,
) -> PlannedEngines:
    """Plans for a device with that TensorRT.

    Args:
        plugin: file of the plugin's library, for trtexec; its name alone if None.

    Raises:
        EnvironmentMismatch: a graph, the device and that TensorRT do not fit each other.
    """
    plans = [plan_engine(one.graph, device, version, options) for one in prepared]
    return PlannedEngines(
        SCHEMA,
        Tool("d2export", __version__),
        device,
        options,
        tuple(PlannedEngine(plan, trtexec(plan, plugin), differences(plan)) for plan in plans),
    )


def chosen(
    bundle: Bundle, name: str | None, options: dict[str, Any]
) -> tuple[Target, BuildOptions]:
    """The device and the options of a build: those given, else those of the bundle's plan.

    But for the timing cache: where a file is written is not for a bundle to say.

    Args:
        name: of the target; None if none was given.
        options: fields of `BuildOptions` that were given.

    Raises:
        UsageError: there is no plan, and no target was given.
    """
    planned = read_planned(bundle)
    before = planned.options if planned is not None else BuildOptions()
    if name is not None:
        device = target(name)
    elif planned is not None:
        device = planned.target
    else:
        raise UsageError(
            f"{bundle.root} has no plan of engines, and --target is missing",
            "Pass --target auto for this machine; `d2export targets` lists the others.",
        )
    return device, replace(before, **{"timing_cache": None, **options})
