"""A float32 graph, one layer after the other: what each product reads, in little memory.

Of each layer only its own weights are loaded, and only what its products read comes out of it, of
one picture at a time. What a layer hands on waits on the disk for the next one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from d2export.bundle.disk import explained
from d2export.engine.onnxruntime import open_session
from d2export.errors import BundleError
from d2export.export.quantize_products import Product, find_products

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Segment:
    """A part of a graph.

    Attributes:
        given: names of values that the segments before have handed on.
        products: in it; may be none.
        handed_on: names of values that segments after it need.
    """

    given: tuple[str, ...]
    products: tuple[Product, ...]
    handed_on: tuple[str, ...]

    @property
    def read(self) -> dict[str, list[Product]]:
        """The products by the name of the activation they read."""
        found: dict[str, list[Product]] = {}
        for product in self.products:
            found.setdefault(product.activation.name or "", []).append(product)
        return found


def segments_of(graph: Path, layers: int, positions_behind: int | None = None) -> list[Segment]:
    """The segments of a graph whose layers hand on `layers.0`, `layers.1`, ....

    Args:
        positions_behind: the layer behind which a decoder decides which positions survive; the
            layers after it are given `positions`.
    """
    model = ir.load(graph)
    place = {node: index for index, node in enumerate(model.graph)}
    ends = [f"layers.{index}" for index in range(layers)]
    behind = {
        output.name: place[node]
        for node in model.graph
        for output in node.outputs
        if output.name in ends
    }
    products = find_products(model.graph)
    found, given = [], ()  # type: tuple[list[Segment], tuple[str, ...]]
    for index, end in enumerate([*ends, None]):
        stop = behind[end] if end is not None else len(place)
        here = tuple(product for product in products if place[product.node] < stop)
        products = products[len(here) :]
        handed_on = (end,) if end is not None else ()
        if index == positions_behind:
            handed_on = (*handed_on, "positions")
        found.append(Segment(given, here, handed_on))
        given = (*handed_on, *(name for name in given if name == "positions"))
    return found


class SegmentRunner:
    """A segment in ONNX Runtime.

    Args:
        graph: the file.
        segment: a part of it.
        provider: `cpu` or `cuda`.
        threads: of one operator; all cores if None.
    """

    def __init__(
        self, graph: Path, segment: Segment, *, provider: str = "cpu", threads: int | None = None
    ) -> None:
        self.graph = graph
        self._inside = [name for name in segment.read if not _is_input(segment, name)]
        self._fed = [name for name in segment.read if name not in self._inside]
        self.handed_on = segment.handed_on
        outputs = (*self._inside, *segment.handed_on)
        self._session = None
        if outputs:
            self._session = open_session(
                graph,
                provider=provider,
                threads=threads,
                only_outputs=outputs,
                given=segment.given,
            )
        self._outputs = outputs

    def __call__(self, values: Mapping[str, npt.NDArray[Any]]) -> tuple[Arrays, Arrays]:
        """What the products read, by name; and what is handed on.

        Raises:
            BundleError: ONNX Runtime cannot run it, or a value is not finite.
        """
        found: Arrays = {name: values[name] for name in self._fed}
        if self._session is not None:
            wanted = {value.name for value in self._session.get_inputs()}
            try:
                answers = self._session.run(self._outputs, {name: values[name] for name in wanted})
            except Exception as error:  # bare types of C++ bindings
                if type(error).__module__.startswith("onnxruntime"):
                    raise BundleError(
                        f"ONNX Runtime cannot run a part of {self.graph}: "
                        f"{' '.join(str(error).split())[:400]}",
                        "Is there enough memory? Else build the bundle again.",
                    ) from None
                raise
            found |= dict(zip(self._outputs, answers, strict=True))
        for name in (*self._inside, *self._fed):
            if not np.isfinite(found[name]).all():
                raise BundleError(
                    f"'{name}' in {self.graph} is not finite", "Check the model's weights."
                )
        handed_on = {name: found.pop(name) for name in self.handed_on}
        return found, handed_on


class Samples:
    """Inputs of a graph, one file each, with what the last segment handed on.

    Args:
        folder: an empty one for the files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: list[Path] = []

    def __len__(self) -> int:
        return len(self._files)

    def append(self, values: Mapping[str, npt.NDArray[Any]]) -> None:
        """Store one more."""
        self._files.append(self._folder / f"{len(self._files)}.npz")
        self.replace(-1, values)

    def __iter__(self) -> Iterator[Arrays]:
        for path in self._files:
            with np.load(path, allow_pickle=False) as stored:
                yield dict(stored)

    def replace(self, index: int, values: Mapping[str, npt.NDArray[Any]]) -> None:
        """Store another instead of the one at `index`.

        Raises:
            OutputError: the disk is full.
        """
        with explained(self._folder):
            np.savez(self._files[index], **values)  # type: ignore[arg-type]


def _is_input(segment: Segment, name: str) -> bool:
    return any(
        product.activation.name == name and product.activation.is_graph_input()
        for product in segment.products
    )


def evenly(count: int, wanted: int) -> Sequence[int]:
    """At most `wanted` of `count` indices, evenly spaced."""
    return sorted({int(index) for index in np.linspace(0, count - 1, min(count, wanted))})
