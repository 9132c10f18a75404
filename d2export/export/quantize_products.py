"""The products of a graph that can be computed in INT8: those of an activation with a weight.

Found by how the graph reads its weights, so that a graph just traced and one read from a bundle
give the same answer. Left out are

- what only selection reads (importance, prior, grid): which tokens stay is decided as in FP16;
- the output head: logits are float32, and a table it may share with the embeddings is looked up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from d2export.export.ops import OPS
from d2export.models.safetensors_file import TensorRef

PRODUCTS = {"MatMul", "Conv"}
HEADS = ("text.head", "text.embedding")  # the second where head and embeddings are one table
VIEWS = {"Cast", "Transpose"}  # between a weight and the product that reads it
NORMS = {"Mul": "RMSNorm", "LayerNormalization": "LayerNorm"}

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Product:
    """One product.

    Attributes:
        name: its weight's, without `.weight`: `text.layers.0.attention.q`.
        node: a `MatMul` with its weight on the right, or a `Conv`.
        weight: the initializer.
        norm: name of the norm whose output it reads, `text.layers.0.norm1`; None if it reads
            something else.
    """

    name: str
    node: ir.Node
    weight: ir.Value
    norm: str | None

    @property
    def smoothed_at(self) -> str:
        """Where a factor for each channel of its activation belongs: its norm, or itself."""
        return self.norm or self.name

    @property
    def activation(self) -> ir.Value:
        """What is multiplied with the weight."""
        value = self.node.inputs[0]
        assert value is not None
        return value


def find_products(graph: ir.Graph) -> list[Product]:
    """The products of a graph in the order they are computed in; each weight comes once."""
    found: dict[str, Product] = {}
    wanted = _computing_outputs(graph)
    for node in graph:
        if node.op_type not in PRODUCTS or node not in wanted:
            continue
        weight = weight_of(node.inputs[1])
        if weight is None:
            continue
        name = canonical(weight)
        if name not in HEADS and name not in found:
            found[name] = Product(name, node, weight, _norm_of(node.inputs[0]))
    return list(found.values())


def product_names(refs: Mapping[str, TensorRef]) -> list[str]:
    """Names of all products of a model, as `find_products` finds them in its graphs.

    Args:
        refs: its weights, by canonical name.
    """
    names = [
        name.removesuffix(".weight")
        for name, ref in refs.items()
        if name.endswith(".weight") and len(ref.shape) > 1
    ]
    return [name for name in names if name not in HEADS]


def canonical(weight: ir.Value) -> str:
    """Name of a weight without what comes from its place in the modules: `tower.layers.0.norm1`."""
    return (weight.name or "").removeprefix("model.").removesuffix(".weight")


def weight_of(value: ir.Value | None) -> ir.Value | None:
    """The float initializer behind a value, cast and transposed at most; None if there is none."""
    while value is not None and (node := value.producer()) is not None:
        if node.op_type not in VIEWS:
            return None
        value = node.inputs[0]
    if value is None or not value.is_initializer() or value.dtype is None:
        return None
    return value if value.dtype.is_floating_point() else None


def as_read(op_type: str, stored: Float32) -> Float32:
    """A weight as its product reads it: `[in, out]` of a `MatMul`, `[out, in, h, w]` of a `Conv`.

    Args:
        stored: as PyTorch has it, `[out, in]` or `[out, in, h, w]`.
    """
    return stored.T if op_type == "MatMul" else stored


def _norm_of(value: ir.Value | None) -> str | None:
    """The norm that computes a value: a LayerNorm, or an RMSNorm's last step, times its weight."""
    node = value.producer() if value is not None else None
    if node is None or node.op_type not in NORMS:
        return None
    weight = weight_of(node.inputs[1])
    if weight is None or ".norm" not in f".{canonical(weight)}":
        return None
    return canonical(weight)


def _computing_outputs(graph: ir.Graph) -> set[ir.Node]:
    """Nodes the outputs need, when of what a pruning op reads only the tokens count."""
    found: set[ir.Node] = set()
    waiting: list[ir.Value | None] = list(graph.outputs)
    while waiting:
        value = waiting.pop()
        node = value.producer() if value is not None else None
        if node is not None and node not in found:
            found.add(node)
            waiting.extend(node.inputs[:1] if node.op_type in OPS else node.inputs)
    return found
