"""INT8 by explicit Q/DQ: a traced graph gets the nodes that say which products are INT8.

In front of a product stand `QuantizeLinear` and `DequantizeLinear` on its activation, with one
scale for all of it, and `DequantizeLinear` on its INT8 weight, with a scale for each output
channel. An engine builder multiplies the codes; a runtime without such a kernel computes the same
in float32. Zero points are there, and zero: TensorRT 8.6 wants to see them.

Everything around stays float32 or half precision as `precision.py` says. Scales are float32, and so
is what a product reads and returns: opset 17, all that TensorRT 8.6 reads, knows no others, and a
strongly typed network takes it at its word, with a kernel that multiplies INT8 and writes float32.

SmoothQuant (Xiao et al., arXiv 2211.10438) moves range from the channels of an activation to the
weights that read it: these are multiplied with a factor for each channel, the activation is divided
by it. A norm before takes the division up in its own weight; elsewhere it is a `Mul` in front of
`QuantizeLinear`, which a builder computes on the way. Factors are powers of two, so that without
rounding to INT8 the graph would compute the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from d2export.export.quantize_products import Product, find_products, weight_of
from d2export.export.quantize_weights import CODES, SCALES, NarrowWeight, activation_scale
from d2export.export.simplify import simplify
from d2export.models.safetensors_file import TensorRef, load


@dataclass(frozen=True, eq=False)
class Quantization:
    """Which products become INT8, and with which numbers.

    Attributes:
        ranges: by product, the magnitude of its activation (smoothed, if it is) that becomes 127.
        exponents: by `Product.smoothed_at`, powers of two `[channels]` that the activation is
            divided by.
    """

    ranges: Mapping[str, float]
    exponents: Mapping[str, npt.NDArray[np.int32]] = field(default_factory=dict)


def quantize(
    model: ir.Model, refs: Mapping[str, TensorRef], quantization: Quantization
) -> list[NarrowWeight]:
    """Insert Q/DQ nodes in a traced graph, before weights are attached and types are cast.

    Args:
        model: float32, its initializers without values.
        refs: where each weight lies, by canonical name.

    Returns:
        The weights that the graph now reads in INT8: as initializers `NAME.int8` and
        `NAME.int8_scale`, without values.
    """
    writer = _Writer(model.graph, refs, quantization)
    chosen = [p for p in find_products(model.graph) if p.name in quantization.ranges]
    narrow = [writer.narrow(product) for product in chosen]
    simplify(model)  # nothing reads some of the float weights any more
    return narrow


class _Writer:
    """Nodes and initializers, each made once."""

    def __init__(
        self, graph: ir.Graph, refs: Mapping[str, TensorRef], quantization: Quantization
    ) -> None:
        self.graph, self.refs, self.quantization = graph, refs, quantization
        self._values: dict[tuple[object, ...], ir.Value] = {}

    def narrow(self, product: Product) -> NarrowWeight:
        """Have a product read dequantised values."""
        exponents = self.quantization.exponents.get(product.smoothed_at)
        ref = self.refs[f"{product.name}.weight"]
        weight = NarrowWeight(product.name, product.node.op_type, ref, exponents)
        activation = product.activation
        if exponents is not None and product.norm is not None:
            activation = self._smoothed_norm(activation, product.norm, exponents)
        elif exponents is not None:
            activation = self._divided(activation, product, exponents)
        largest = self.quantization.ranges[product.name]
        dequantized = self._rounded(activation, largest, product.node)
        product.node.replace_input_with(0, dequantized)
        product.node.replace_input_with(1, self._dequantized_weight(weight, product.node))
        return weight

    def _divided(
        self, value: ir.Value, product: Product, exponents: npt.NDArray[np.int32]
    ) -> ir.Value:
        """A value times powers of two, one for each channel."""
        factors = np.ldexp(np.float32(1), -exponents)
        inverse = self._initializer(f"{product.name}.smoothing", factors)
        node = ir.node("Mul", [value, inverse])
        self.graph.insert_before(product.node, node)
        return _described(node, f"{value.name}.smoothed", value)

    def _smoothed_norm(
        self, value: ir.Value, norm: str, exponents: npt.NDArray[np.int32]
    ) -> ir.Value:
        """A norm's output divided by powers of two: the same node, with other weights."""
        key = (value, "smoothed")
        if key not in self._values:
            node = value.producer()
            assert node is not None
            inputs = list(node.inputs)
            for index, given in enumerate(inputs[1:], 1):
                parameter = weight_of(given)
                assert parameter is not None
                leaf = (parameter.name or "").rpartition(".")[2]
                values = np.ldexp(load(self.refs[f"{norm}.{leaf}"]), -exponents)
                inputs[index] = self._initializer(f"{norm}.{leaf}.smoothed", values)
            made = ir.Node(
                node.domain, node.op_type, inputs, list(node.attributes.values()), num_outputs=1
            )
            self.graph.insert_after(node, made)
            self._values[key] = _described(made, f"{value.name}.smoothed", value)
        return self._values[key]

    def _rounded(self, value: ir.Value, largest: float, before: ir.Node) -> ir.Value:
        """A value through INT8 and back."""
        key = (value, largest)
        if key not in self._values:
            scale = np.array(activation_scale(largest))
            name = f"{value.name}.{CODES}"
            number = len([known for known in self._values if known[0] is value]) or ""
            inputs = self._initializer(f"{value.name}.{SCALES}{number}", scale), self._zeros(())
            narrow = ir.node("QuantizeLinear", [value, *inputs])
            wide = ir.node("DequantizeLinear", [narrow.outputs[0], *inputs])
            self.graph.insert_before(before, [narrow, wide])
            _described(narrow, f"{name}{number}", value).dtype = ir.DataType.INT8
            self._values[key] = _described(wide, f"{name}{number}.float", value)
        return self._values[key]

    def _dequantized_weight(self, weight: NarrowWeight, before: ir.Node) -> ir.Value:
        out, *_ = weight.ref.shape
        codes = self._initializer(f"model.{weight.name}.{CODES}", None, ir.DataType.INT8)
        codes.shape = ir.Shape(
            tuple(reversed(weight.ref.shape)) if weight.axis == 1 else weight.ref.shape
        )
        scale = self._initializer(f"model.{weight.name}.{SCALES}", None)
        scale.shape = ir.Shape((out,))
        node = ir.node(
            "DequantizeLinear",
            [codes, scale, self._zeros((out,))],
            attributes={"axis": weight.axis},
        )
        self.graph.insert_before(before, node)
        result = _described(node, f"{codes.name}.float", codes)
        result.dtype = ir.DataType.FLOAT
        return result

    def _zeros(self, shape: tuple[int, ...]) -> ir.Value:
        """Zero points; one initializer for each shape."""
        key = ("zeros", shape)
        if key not in self._values:
            name = ".".join(["zero_point", *map(str, shape)])
            self._values[key] = self._initializer(name, np.zeros(shape, np.int8))
        return self._values[key]

    def _initializer(
        self, name: str, values: npt.NDArray[Any] | None, dtype: ir.DataType = ir.DataType.FLOAT
    ) -> ir.Value:
        tensor = None if values is None else ir.tensor(values, name=name)
        value = ir.Value(name=name, const_value=tensor)
        value.dtype = dtype if tensor is None else tensor.dtype
        if values is not None:
            value.shape = ir.Shape(values.shape)
        self.graph.initializers[name] = value  # without a value: `weights.attach` gives it one
        return value


def _described(node: ir.Node, name: str, like: ir.Value) -> ir.Value:
    """A node's output, named, with the type and shape of another value."""
    result = node.outputs[0]
    result.name, result.shape = name, like.shape
    if like.dtype is not None:
        result.dtype = like.dtype
    return result
