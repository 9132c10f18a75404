"""Weights stay where they are: ONNX external data points into the checkpoint's own safetensors.

An ONNX file may only refer to files beside it, so a shard is hard-linked into the bundle: no byte
is copied, and the bundle keeps its weights when the checkpoint is moved or deleted. Where no hard
link can be made (another filesystem) or a self-contained bundle is wanted, the tensors in use are
copied.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import torch
from onnx import numpy_helper
from torch import nn

from d2export.errors import BundleError, UsageError
from d2export.models.safetensors_file import TensorRef, TensorToWrite, load, read_header, write
from d2export.pruning.prior import Prior

COPY_NAME = "weights.safetensors"
CHUNK_BYTES = 16 * 2**20
ONNX_TYPES = {
    "F32": ir.DataType.FLOAT,
    "F16": ir.DataType.FLOAT16,
    "BF16": ir.DataType.BFLOAT16,
    "I8": ir.DataType.INT8,
}
STORED_TYPES = {dtype: name for name, dtype in ONNX_TYPES.items()}


@dataclass(frozen=True)
class PlacedWeights:
    """Weights beside the graph.

    Attributes:
        refs: where each lies, by canonical name.
        mode: "linked" or "copied".
        outside: where those lie that no graph reads as floats.
    """

    refs: dict[str, TensorRef]
    mode: str
    outside: dict[str, TensorRef] = field(default_factory=dict)

    @property
    def floats(self) -> dict[str, TensorRef]:
        """Every weight as the checkpoint has it, by canonical name."""
        return {**self.refs, **self.outside}

    def ranges(self) -> dict[Path, list[tuple[int, int]]]:
        """Byte ranges in use, per file."""
        used: dict[Path, list[tuple[int, int]]] = {}
        for ref in self.refs.values():
            used.setdefault(ref.path, []).append((ref.offset, ref.offset + ref.nbytes))
        return {path: sorted(set(ranges)) for path, ranges in used.items()}


def place(refs: Mapping[str, TensorRef], folder: Path, *, copy: bool) -> PlacedWeights:
    """Put the files with these weights into `folder`: hard links, or one file with copies.

    Raises:
        OutputError: the copy cannot be written.
    """
    if not copy:
        linked = _link(refs, folder)
        if linked is not None:
            return PlacedWeights(linked, "linked")
    target = folder / COPY_NAME
    write(
        target,
        [
            TensorToWrite(name, ref.dtype, ref.shape, partial(_stored_bytes, ref))
            for name, ref in refs.items()
        ],
    )
    copied = read_header(target)
    return PlacedWeights({name: copied[name] for name in refs}, "copied")


def attach(
    model: ir.Model, weights: PlacedWeights, constants: Mapping[str, npt.NDArray[Any]]
) -> None:
    """Give every initializer of a traced graph its value and stored type.

    Args:
        constants: values by name of those that are no weights.
    """
    for name, value in model.graph.initializers.items():
        if value.const_value is not None:  # folded while tracing
            continue
        if name in constants:
            value.const_value = ir.tensor(constants[name], name=name)
            continue
        ref = weights.refs[name.removeprefix("model.")]
        value.const_value = ir.ExternalTensor(
            ref.path.name,
            ref.offset,
            ref.nbytes,
            ONNX_TYPES[ref.dtype],
            shape=ir.Shape(ref.shape),
            name=name,
            base_dir=ref.path.parent,
        )
        value.dtype = ONNX_TYPES[ref.dtype]


def load_into(module: nn.Module, refs: Mapping[str, TensorRef]) -> None:
    """Load the weights of `VisionModel` into `module`, float32, one tensor at a time."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(torch.from_numpy(load(refs[name])))


def stored_prior_slots(graph: Path) -> Prior:
    """The prior inside a vision graph with pruning."""
    model = onnx.load(os.fspath(graph), load_external_data=False)
    slots = {
        tensor.name.removesuffix("_prior"): numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.name.endswith("_prior")
    }
    return Prior(slots["tile"], slots["thumbnail"])


def stored_refs(graph: Path) -> dict[str, TensorRef]:
    """Where the weights of a graph lie, by canonical name.

    Raises:
        BundleError: the graph refers to a file that is not beside it.
        UsageError: some of them are INT8.
    """
    model = onnx.load(os.fspath(graph), load_external_data=False)
    refs: dict[str, TensorRef] = {}
    for tensor in model.graph.initializer:
        if tensor.external_data and tensor.data_type == onnx.TensorProto.INT8:
            raise UsageError(
                f"{graph} has INT8 weights, which PyTorch cannot be asked with",
                "Check against the stored answers, or ask PyTorch with a bundle of --precision "
                "fp32.",
            )
        if tensor.external_data:
            entry = {item.key: item.value for item in tensor.external_data}
            name = entry.get("location", "")
            if not name or Path(name).name != name:
                raise BundleError(
                    f"{graph}: '{tensor.name}' lies at '{name}', expected a file beside the graph",
                    "Build the bundle again.",
                )
            refs[tensor.name.removeprefix("model.")] = TensorRef(
                graph.parent / name,
                int(entry.get("offset", 0)),
                int(entry.get("length", 0)),
                STORED_TYPES[ir.DataType(tensor.data_type)],
                tuple(tensor.dims),
            )
    return refs


def _link(refs: Mapping[str, TensorRef], folder: Path) -> dict[str, TensorRef] | None:
    """References into hard links, None if one cannot be made."""
    targets: dict[Path, Path] = {}
    for source in dict.fromkeys(ref.path for ref in refs.values()):
        target = folder / source.name
        if target.exists() and target.samefile(source):
            targets[source] = target
            continue
        try:
            # The hub's cache holds symbolic links to its blobs; ONNX Runtime wants the file itself.
            os.link(source.resolve(), target)
        except OSError:
            for made in targets.values():
                with suppress(OSError):
                    made.unlink()
            return None
        targets[source] = target
    return {name: replace(ref, path=targets[ref.path]) for name, ref in refs.items()}


def _stored_bytes(ref: TensorRef) -> Iterator[npt.NDArray[Any]]:
    with ref.path.open("rb") as file:
        file.seek(ref.offset)
        left = ref.nbytes
        while left:
            chunk = file.read(min(CHUNK_BYTES, left))
            left -= len(chunk)
            yield np.frombuffer(chunk, np.uint8)
