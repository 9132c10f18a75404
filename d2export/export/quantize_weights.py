"""Weights in INT8: a byte for each number, and a float32 scale for each output channel.

Symmetric, from -127 to 127, rounded to nearest. They lie in a file of their own beside the graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from d2export.export.quantize_products import Float32, as_read
from d2export.export.weights import PlacedWeights, place
from d2export.models.safetensors_file import TensorRef, TensorToWrite, load, read_header, write

FILE = "int8.safetensors"
LARGEST = 127
SMALLEST_SCALE = float(np.finfo(np.float32).tiny)  # a scale must be above 0; so are its multiples
CODES, SCALES = "int8", "int8_scale"  # behind the weight's name


@dataclass(frozen=True, eq=False)
class NarrowWeight:
    """A weight that becomes INT8.

    Attributes:
        name: as `quantize_products.canonical` has it.
        op_type: of the product, `MatMul` or `Conv`.
        ref: where its numbers lie.
        exponents: `[in]`, powers of two that its input channels are multiplied with before, because
            the activation is divided by them; None for ones.
    """

    name: str
    op_type: str
    ref: TensorRef
    exponents: npt.NDArray[np.int32] | None = None

    @property
    def axis(self) -> int:
        """Of the output channels, in the weight as the product reads it."""
        return 1 if self.op_type == "MatMul" else 0

    def values(self) -> Float32:
        """As the product reads it, smoothed: `[in, out]` or `[out, in, h, w]`."""
        values = as_read(self.op_type, load(self.ref))
        if self.exponents is None:
            return values
        channels = self.exponents.reshape(-1, *[1] * (values.ndim - 1 - (self.axis == 0)))
        return np.ldexp(values, channels)

    def matrices(self) -> tuple[Float32, Float32]:
        """`[in, out]`, smoothed: as it is, and through INT8 and back."""
        codes, scale = self.quantized()
        values = self.values()
        if self.axis == 1:
            return values, codes * scale
        out = len(codes)
        return values.reshape(out, -1).T, codes.reshape(out, -1).T * scale

    def quantized(self) -> tuple[npt.NDArray[np.int8], Float32]:
        """The codes, shaped as `values`, and the scale of each output channel."""
        return quantize_channels(self.values(), self.axis)


def quantize_channels(values: Float32, axis: int) -> tuple[npt.NDArray[np.int8], Float32]:
    """Codes of a weight and the scale of each channel along `axis`.

    A channel's largest magnitude becomes 127; one of zeros stays zeros.
    """
    others = tuple(other for other in range(values.ndim) if other != axis)
    scale = np.maximum(np.abs(values).max(axis=others) / np.float32(LARGEST), SMALLEST_SCALE)
    scale = scale.astype(np.float32)
    shape = [-1 if index == axis else 1 for index in range(values.ndim)]
    codes = np.rint(values / scale.reshape(shape)).clip(-LARGEST, LARGEST)
    return codes.astype(np.int8), scale


def activation_scale(largest: float) -> np.float32:
    """The scale with which the magnitude `largest` becomes 127."""
    return np.float32(max(largest / LARGEST, SMALLEST_SCALE))


def round_trip(values: Float32, scale: np.float32) -> Float32:
    """Values through `QuantizeLinear` and `DequantizeLinear`; what is out of range saturates."""
    return np.rint(values / scale).clip(-LARGEST - 1, LARGEST) * scale


def place_narrow(
    refs: Mapping[str, TensorRef],
    narrow: Sequence[NarrowWeight],
    models: Sequence[ir.Model],
    folder: Path,
) -> PlacedWeights:
    """Put weights into `folder`: the INT8 ones, and a copy of those that are read as floats.

    Args:
        refs: where each weight of the model lies, by canonical name.
        models: the graphs with their Q/DQ nodes; they may read a weight in both forms.

    Raises:
        OutputError: a file cannot be written.
    """
    read = {
        (name or "").removeprefix("model.") for model in models for name in model.graph.initializers
    }
    only_narrow = {f"{weight.name}.weight" for weight in narrow} - read
    kept = {name: ref for name, ref in refs.items() if name not in only_narrow}
    placed = place(kept, folder, copy=True)
    target = folder / FILE
    write(target, [tensor for weight in narrow for tensor in _tensors(weight)])
    outside = {name: refs[name] for name in only_narrow}
    return replace(placed, refs={**placed.refs, **read_header(target)}, outside=outside)


def _tensors(weight: NarrowWeight) -> Iterator[TensorToWrite]:
    out, *_ = weight.ref.shape
    stored = weight.ref.shape
    shape = tuple(reversed(stored)) if weight.op_type == "MatMul" else stored
    yield TensorToWrite(f"{weight.name}.{CODES}", "I8", shape, partial(_part, weight, 0))
    yield TensorToWrite(f"{weight.name}.{SCALES}", "F32", (out,), partial(_part, weight, 1))


def _part(weight: NarrowWeight, index: int) -> Iterator[npt.NDArray[Any]]:
    """The codes or the scales."""
    yield _quantized(weight)[index]


@lru_cache(maxsize=1)
def _quantized(weight: NarrowWeight) -> tuple[npt.NDArray[np.int8], Float32]:
    """Codes and scales are written one after the other; no more than one weight is in memory."""
    return weight.quantized()
