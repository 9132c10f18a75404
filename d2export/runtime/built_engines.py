"""The engines of a bundle: do they fit this TensorRT, GPU and plugin? If so, they are opened.

Nothing of an engine is read before what the bundle says of it was compared with this machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from d2export.bundle.engine_records import (
    BUILT,
    BuiltEngine,
    read_built,
    read_planned,
)
from d2export.bundle.folder import Bundle
from d2export.engine import plugin as plugins
from d2export.engine.builder_plan import EnginePlan
from d2export.engine.cuda_driver import Device
from d2export.engine.custom_op import Implementation
from d2export.engine.engine_cache import file_sha256
from d2export.engine.misfit import mismatch
from d2export.engine.plugin_nodes import plugin_nodes
from d2export.engine.tensorrt import load_plugin
from d2export.engine.tensorrt_engine import Engine
from d2export.engine.tensorrt_log import Log
from d2export.engine.this_machine import look
from d2export.errors import BundleError, UsageError
from d2export.progress import Progress
from d2export.runtime.engine_misfits import SHOWN_DIGITS, misfits, shown_digits


class BuiltBundle:
    """A bundle's engines on the machine that runs them.

    Args:
        bundle: an opened bundle with engines.
        library: of the plugin; None: that of this installation. Never the bundle's by itself,
            which may come from anywhere.

    Raises:
        UsageError: the bundle has no engines.
        EnvironmentMismatch: they do not fit this machine, each misfit with its remedy.
    """

    def __init__(self, bundle: Bundle, library: Path | None = None) -> None:
        planned, built = read_planned(bundle), read_built(bundle)
        if planned is None or built is None:
            raise UsageError(
                f"{bundle.root} has no engines",
                f"On the device, run: d2export build {bundle.root} --target auto",
            )
        self.bundle, self.built = bundle, built
        self._plans = {one.plan.graph: one.plan for one in planned.engines}
        self._library = library or plugins.find_library()
        machine = look()
        found = list(misfits(bundle, planned, built, self._library, machine))
        if found:
            raise mismatch(
                found,
                f"the engines of {bundle.root} do not run here",
                f"Build them on this machine: d2export build {bundle.root} --target auto",
            )
        assert machine.device is not None, "else it is a misfit"
        self.trt: Any = machine.trt
        self.device: Device = machine.device

    @property
    def backend(self) -> str:
        """`TensorRT 10.3.0`."""
        return f"TensorRT {self.trt.__version__}"

    @property
    def selection_implementation(self) -> Implementation:
        """What runs the pruning op: the plugin, or standard operators in its place."""
        planned = any(plan.plugin is not None for plan in self._plans.values())
        return "TensorRT plugin" if planned else "ONNX function"

    def open(self, graph: str) -> OpenedEngine:
        """The engine of a graph, `vision` or `decoder`, after comparing its file with its SHA-256.

        Raises:
            BundleError: the file is damaged.
            EnvironmentMismatch: TensorRT cannot read it, or finds no plugin.
        """
        built = next((one for one in self.built.engines if one.graph == graph), None)
        if built is None:
            raise BundleError(
                f"{self.bundle.path(BUILT)} has no {graph} engine",
                f"Finish the build: d2export build {self.bundle.root}",
            )
        file = self.bundle.path(built.path)
        _compare(file, built, self.bundle)
        plan, log = self._plans[graph], Log(self.trt, self._progress)
        if plan.plugin is not None:
            load_plugin(self.trt, plan.plugin, self._library, log)
        serialized = plan.plugin is not None and plan.plugin.serialized
        return OpenedEngine(
            Engine(self.trt, file, log, host_code=serialized), plan, self.bundle.path(plan.onnx)
        )

    @cached_property
    def _progress(self) -> Progress:
        return Progress(level="quiet")  # errors are in messages


@dataclass(frozen=True, eq=False)
class OpenedEngine:
    """An engine, what was planned for it, and the ONNX file that TensorRT's parser was given."""

    engine: Engine
    plan: EnginePlan
    onnx: Path

    @cached_property
    def plugin_layers(self) -> tuple[str, ...]:
        """What TensorRT calls the layers of the plugin.

        Raises:
            BundleError: the ONNX file is gone, or none.
        """
        try:
            return plugin_nodes(self.onnx.read_bytes())
        except (OSError, ValueError) as error:
            raise BundleError(
                f"{self.onnx}, from which the engine was built, cannot be read: {error}",
                "Build the engines again.",
            ) from None


def _compare(file: Path, built: BuiltEngine, bundle: Bundle) -> None:
    """Make sure that an engine is what was built."""
    if not file.is_file():
        raise BundleError(f"{file} is missing", f"Build it: d2export build {bundle.root}")
    if file_sha256(file) != built.sha256:
        raise BundleError(
            f"{file} was changed after the build: its SHA-256 is {shown_digits(file)}, expected "
            f"{built.sha256[:SHOWN_DIGITS]}...",
            f"Copy it again, or build it: d2export build {bundle.root}",
        )
