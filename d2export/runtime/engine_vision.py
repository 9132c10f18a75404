"""Run a bundle's vision engine, as `VisionRunner` runs its vision graph."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from d2export.bundle.records import Graph
from d2export.engine.custom_op import Implementation
from d2export.errors import UsageError
from d2export.runtime.built_engines import BuiltBundle, OpenedEngine
from d2export.runtime.vision import VisionRunner

if TYPE_CHECKING:
    import onnxruntime


class EngineVisionRunner(VisionRunner):
    """The vision engine of a bundle, opened when it is first needed."""

    shows_inside = False

    def __init__(self, engines: BuiltBundle) -> None:
        super().__init__(engines.bundle)
        self._engines = engines

    @cached_property
    def opened(self) -> OpenedEngine:
        """The engine."""
        return self._engines.open("vision")

    @property
    def backend(self) -> str:
        """TensorRT and its version."""
        return self._engines.backend

    @property
    def selection_implementation(self) -> Implementation:
        """What runs the pruning op."""
        return self._engines.selection_implementation

    def prepare(self) -> None:
        """Open the engine, if it is not open yet."""
        _ = self.opened

    def open(
        self, graph: Graph, extra_outputs: tuple[str, ...] = ()
    ) -> onnxruntime.InferenceSession:
        """Refused: an engine has its outputs, and shows nothing inside."""
        raise UsageError(
            f"an engine cannot show {', '.join(extra_outputs) or graph.path}",
            "Leave --provider tensorrt out: the ONNX graph shows it.",
        )

    def _answer(self, names: list[str], inputs: Mapping[str, Any]) -> list[npt.NDArray[Any]]:
        engine = self.opened.engine
        found = engine.run(inputs)
        return [engine.read(name, found[name]) for name in names]
