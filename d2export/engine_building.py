"""What `build` does about engines: plan them, and build them where the device is at hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from d2export.bundle.engine_records import LOG, PLAN, BuiltEngines, PlannedEngines, write_record
from d2export.bundle.folder import Bundle, read_bundle
from d2export.bundle.strict_json import encode
from d2export.engine import plugin as plugins
from d2export.engine.atomic_file import write_whole
from d2export.engine.build_options import BuildOptions
from d2export.engine.builder_plan import GraphToBuild, plan_engine
from d2export.engine.misfit import Misfit, mismatch
from d2export.engine.target import Target, Version, version_text
from d2export.engine.targets import target
from d2export.engine.this_machine import look
from d2export.engine_files import build_all
from d2export.engine_fit import misfits_here
from d2export.engine_planning import chosen, plan_engines, prepared_graphs
from d2export.errors import EnvironmentMismatch
from d2export.progress import Progress


@dataclass(frozen=True)
class EngineRequest:
    """What a user asks for; what is left out is as the bundle's plan says.

    Attributes:
        target: name of a device, file of one, or `auto`.
        options: fields of `BuildOptions`, by name.
        plugin: library of the plugin; None: that of this installation.
        tensorrt: version to plan for; None: that of this machine if it is the device, else the one
            that the device is expected to have.
    """

    target: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    plugin: Path | None = None
    tensorrt: Version | None = None


@dataclass(frozen=True)
class EngineOutcome:
    """What became of it: a plan, and engines, or why there are none."""

    root: Path
    planned: PlannedEngines
    built: BuiltEngines | None
    why_not: EnvironmentMismatch | None

    def require(self) -> None:
        """Raise what kept engines from being built."""
        if self.why_not is not None:
            raise self.why_not

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "target": self.planned.target.name,
            "planned": encode(self.planned.engines),
            "built": None if self.built is None else encode(self.built),
        }

    def text(self) -> str:
        """A line per engine."""
        version = self.planned.engines[0].plan.tensorrt
        lines = [f"Engines for {self.planned.target.name}, TensorRT {version}:"]
        built = {one.graph: one for one in self.built.engines} if self.built else {}
        for planned in self.planned.engines:
            plan = planned.plan
            profiles = ", ".join(profile.name for profile in plan.profiles)
            lines.append(f"  {plan.engine}  {plan.precision}, profiles: {profiles}")
            if plan.graph in built:
                one = built[plan.graph]
                lines.append(f"    {one.bytes / 1e6:.1f} MB, took {one.seconds:.0f} s")
            lines.append(f"    {planned.trtexec}")
            lines += [f"    (trtexec: {words})" for words in planned.differences]
        lines.append(f"The plan: {self.root / PLAN}")
        return "\n".join(lines)


def has_plan(bundle: Path) -> bool:
    """Whether engines are planned for the bundle in a folder."""
    return (bundle / PLAN).is_file()


def require_fit(request: EngineRequest, precision: str, opset: int) -> None:
    """Refuse what no engine could be built from, before a model is exported.

    Raises:
        UsageError: there is no such target.
        EnvironmentMismatch: precision, opset, options and the target do not fit each other.
    """
    device = target(str(request.target))
    graph = GraphToBuild("vision", "the export", precision, opset, (), ())
    version = request.tensorrt or device.tensorrt.expected
    plan_engine(graph, device, version, BuildOptions(**request.options))


def build_engines(
    bundle: Path, request: EngineRequest, *, progress: Progress | None = None
) -> EngineOutcome:
    """Plan the engines of a bundle, and build them if this is the device.

    An engine that is there already, in the bundle or in the cache, is not built again.

    Raises:
        BundleError: the bundle is damaged.
        UsageError: there is no such target.
        EnvironmentMismatch: bundle, target and options do not fit each other, or TensorRT refuses
            a graph. That this is not the device is no error: it is in the outcome.
    """
    progress = progress or Progress(level="quiet")
    opened = read_bundle(bundle, verify=False)
    device, options = chosen(opened, request.target, request.options)
    library = request.plugin or plugins.find_library()
    with progress.stage(f"planning engines for {device.name}"):
        prepared = prepared_graphs(opened)
        machine = look()
        not_here = misfits_here(prepared, device, options, library, machine, bundle)
        not_here += _other_version(request.tensorrt, machine.version)
        planned_for = request.tensorrt or device.tensorrt.expected
        version = planned_for if not_here else machine.version
        assert version is not None, "else TensorRT is missing"
        planned = plan_engines(prepared, device, version, options, _shown(library, opened))
        for one in prepared:
            write_whole(opened.root / one.graph.onnx, one.onnx)
            for op in one.inlined_ops:
                progress.warning(
                    f"{op} of the {one.graph.name} graph has no plugin: the parser gets its body "
                    "of standard operators, which no TensorRT has been seen to take"
                )
        write_record(opened.root / PLAN, planned)
    built = None
    if not not_here:
        built = build_all(opened, planned, prepared, library, machine, progress)
        progress.write_log(opened.root / LOG)
    why_not = _error(bundle, device, not_here) if not_here else None
    return EngineOutcome(opened.root, planned, built, why_not)


def _other_version(asked: Version | None, here: Version | None) -> Iterator[Misfit]:
    """That another TensorRT is planned for; 10.16 is every 10.16."""
    if asked is not None and here is not None and here[: len(asked)] != asked:
        yield Misfit(
            f"--tensorrt is {version_text(asked)}, Python has TensorRT {version_text(here)}",
            "Leave it out; or build by the plan with d2export-engine and the libraries of that "
            "version: docs/engines.md.",
        )


def _error(bundle: Path, device: Target, found: Sequence[Misfit]) -> EnvironmentMismatch:
    return mismatch(
        found,
        f"no engine was built for {device.name}",
        f"The ONNX graphs and the plan are in {bundle}. Copy it to the device and run there: "
        f"d2export build {bundle.name}",
    )


def _shown(library: Path | None, bundle: Bundle) -> str | None:
    """The plugin's library, relative to the bundle where it lies in it."""
    if library is None:
        return None
    absolute = library.absolute()
    inside = absolute.is_relative_to(bundle.root)
    return str(absolute.relative_to(bundle.root) if inside else library)
