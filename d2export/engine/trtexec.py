"""The `trtexec` command line that builds the engine of a plan, to be typed in the bundle's folder.

Its options are those of `samples/common/sampleOptions.cpp` of the version.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from d2export.engine.builder_plan import EnginePlan
from d2export.engine.optimization_profiles import Profile, spanning
from d2export.engine.target import MIB
from d2export.engine.tensorrt_api import (
    TRTEXEC_HARDWARE,
    VERSION_COMPATIBLE,
    WORKSPACE,
    TensorRTApi,
    api_of,
    parse_version,
)


def trtexec(plan: EnginePlan, plugin: str | None = None) -> str:
    """The command line; `differences` says what it cannot express.

    Args:
        plugin: file of the plugin library; its name alone if None.
    """
    api = api_of(parse_version(plan.tensorrt))
    return shlex.join(["trtexec", *_options(plan, api, plugin)])


def differences(plan: EnginePlan) -> tuple[str, ...]:
    """What the engine that trtexec builds has otherwise than the plan, in words."""
    api = api_of(parse_version(plan.tensorrt))
    found = []
    if len(plan.profiles) > 1 and not api.trtexec_profiles:
        names = " and ".join(profile.name for profile in plan.profiles)
        found.append(f"one optimization profile for {names}, since it builds no more than one")
    if plan.pins_layer_types:
        found.append("layers are not told to keep the types of the graph")
    return tuple(found)


def _options(plan: EnginePlan, api: TensorRTApi, plugin: str | None) -> Iterator[str]:
    yield f"--onnx={plan.onnx}"
    yield f"--saveEngine={plan.engine}"
    yield from api.trtexec_typing[plan.precision]
    yield "--noTF32"
    workspace = plan.memory_pools[WORKSPACE] / MIB
    yield f"--memPoolSize=workspace:{workspace:g}"
    yield f"--builderOptimizationLevel={plan.optimization_level}"
    if api.trtexec_tactics is not None:
        yield f"--tacticSources={api.trtexec_tactics}"
    hardware = TRTEXEC_HARDWARE[plan.hardware_compatibility]
    if hardware is not None:
        yield f"--hardwareCompatibilityLevel={hardware}"
    if VERSION_COMPATIBLE in plan.builder_flags:
        yield "--versionCompatible"
    if plan.plugin is not None:
        yield f"--dynamicPlugins={plugin or plan.plugin.library}"
        if plan.plugin.serialized:
            yield f"--setPluginsToSerialize={plugin or plan.plugin.library}"
    if plan.timing_cache is not None:
        yield f"--timingCacheFile={plan.timing_cache}"
    if len(plan.profiles) == 1:
        yield from _shapes(plan.profiles[0])
    elif not api.trtexec_profiles:
        yield from _shapes(spanning(plan.profiles))
    else:
        for index, profile in enumerate(plan.profiles):
            yield f"--profile={index}"
            yield from _shapes(profile)
    yield "--skipInference"


def _shapes(profile: Profile) -> Iterator[str]:
    for which in ("min", "opt", "max"):
        shapes = (
            f"{name}:{'x'.join(map(str, getattr(found, which)))}"
            for name, found in profile.shapes.items()
        )
        yield f"--{which}Shapes={','.join(shapes)}"
