"""Traces of modules, kept for the time of a test run: torch takes seconds for each.

The same module is traced again and again, by tests that want to know something else. What is kept
is the graph as `d2export.export.tracing.trace` gives it, by all that it depends on.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir import serde

from d2export.export import decoder, tracing, vision

ORDER = "d2export.initializers"  # names of all, weights without values among them
Make = Callable[[], Any]


def remember(folder: Path) -> None:
    """From now on, trace nothing a second time."""
    folder.mkdir(exist_ok=True)

    def trace(make: Make, name: str, opset: int) -> ir.Model:
        path = folder / f"{key(make, name, opset)}.onnx"
        if not path.exists():
            store(tracing.trace(make, name, opset), path)
        return stored(path)

    for module in (decoder, vision):
        module.trace = trace  # type: ignore[attr-defined]


def key(make: Make, name: str, opset: int) -> str:
    """Of a trace: who makes its module, and from what."""
    code, cells = make.__code__, make.__closure__ or ()
    values = [said(cell.cell_contents) for cell in cells]
    parts = [make.__qualname__, name, opset, *zip(code.co_freevars, values, strict=True)]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def said(value: object) -> str:
    """A value in full: numpy leaves out the middle of what it prints."""
    with np.printoptions(threshold=10**9, floatmode="unique"):
        return repr(value)


def store(model: ir.Model, path: Path) -> None:
    """Write a graph; weights without values as inputs behind its own."""
    initializers = model.graph.initializers
    model.metadata_props[ORDER] = "\n".join(initializers)
    for value in [value for value in initializers.values() if value.const_value is None]:
        del initializers[str(value.name)]
        model.graph.inputs.append(value)
    unfinished = path.with_suffix(f".{os.getpid()}")
    onnx.save(serde.serialize_model(model), unfinished)
    unfinished.rename(path)


def stored(path: Path) -> ir.Model:
    """What `store` wrote."""
    model = serde.deserialize_model(onnx.load(path))
    names, found = model.metadata_props.pop(ORDER).split("\n"), model.graph.initializers
    given = {str(value.name): value for value in model.graph.inputs if value.name in names}
    model.graph.inputs[:] = [v for v in model.graph.inputs if v.name not in given]
    for name in names:
        value = given.get(name) or found.pop(name)
        found[name] = value
    return model
