"""The graph, cast: each node gets the type it is computed in, weights are cast where they are read.

Strongly typed TensorRT takes the types from the graph, so they are decided here. With a half type:

- matrix products and convolutions are narrow, and so are visual tokens, keys and values, which
  pass from graph to graph and from call to call;
- LayerNorm, softmax, the residual stream, logits, and whatever only importance depends on are
  float32, but for products with weights inside the language model;
- an elementwise node follows its inputs: wide if one of them is;
- a product of values that went through INT8 is float32 (`quantize.py`), the rest is as it was.
"""

from __future__ import annotations

import onnx_ir as ir

from d2export.export import headroom
from d2export.export.ops import OPS

# Of what is narrow: with INT8, that is what no product with an INT8 weight computes.
TYPES = {
    "fp32": ir.DataType.FLOAT,
    "fp16": ir.DataType.FLOAT16,
    "bf16": ir.DataType.BFLOAT16,
    "int8": ir.DataType.FLOAT16,
}
WIDE = ir.DataType.FLOAT
NARROW_OPS = {"MatMul", "Conv", "Gemm"}
WIDE_OPS = {
    *("LayerNormalization", "Softmax", "ReduceSum", "ReduceMean", "Sqrt", "Reciprocal"),
    *("QuantizeLinear", "DequantizeLinear"),
}
SHAPE_OPS = {"Transpose", "Reshape", "Slice", "Gather", "Split", "Squeeze", "Unsqueeze"}
# Of each pruning op the outputs that are tokens; its features are the first input.
PRUNED_TOKENS = {
    op_type: [index for index, value in enumerate(op.outputs) if value.type == "T"]
    for op_type, op in OPS.items()
}
BFLOAT16_CONV_OPSET = 22  # before it, ONNX has no bfloat16 convolution
# The residual stream starts where these are added, or written into the prompt; it follows them
# into float32.
RESIDUAL_WEIGHTS = ("tower.position_embedding",)
RESIDUAL_INPUTS = ("image_embeds",)
# Powers of two that are multiplied in float32: some of `quantize.py` exceed half precision.
FACTORS = (".smoothing", headroom.FACTOR)
NARROW_INPUTS = ("image_embeds", "past_key_values.")


def cast_graph(model: ir.Model, narrow: ir.DataType) -> None:
    """Insert the casts that give every node one floating-point type.

    Args:
        model: float32 graph whose initializers already have the type they are stored in.
        narrow: type of the matrix products.
    """
    if narrow == ir.DataType.FLOAT16:
        headroom.make_room(model)
    graph = model.graph
    casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
    types: dict[ir.Value, ir.DataType] = {}
    for value in graph.inputs:
        if value.dtype == WIDE:
            types[value] = narrow if _named(value, NARROW_INPUTS) else WIDE
            value.dtype = types[value]
    importance_only = _importance_only(graph)
    opset = model.opset_imports[""]

    def cast(value: ir.Value, wanted: ir.DataType, before: ir.Node) -> ir.Value:
        if (value, wanted) not in casts:
            number = _float_constant(value)
            if number is not None:
                node = ir.node("Constant", [], attributes={"value": _converted(number, wanted)})
            else:
                node = ir.node("Cast", [value], attributes={"to": int(wanted)})
            graph.insert_before(before, node)  # nodes come in order: the first reader is here
            result = node.outputs[0]
            result.name = f"{value.name}.{wanted.name.lower()}"
            result.dtype, result.shape = wanted, value.shape
            casts[value, wanted] = result
        return casts[value, wanted]

    for node in list(graph):
        if _is_lookup(node):
            table = node.inputs[0]
            assert table is not None
            assert table.dtype is not None
            types[node.outputs[0]] = node.outputs[0].dtype = table.dtype
            continue
        if node.op_type == "Cast" and _has_float_output(node, node.outputs[0]):
            types[node.outputs[0]] = ir.DataType(node.attributes["to"].as_int())
            continue
        floating = [
            (index, value)
            for index, value in enumerate(node.inputs)
            if value is not None and (value in types or _is_weight(value) or _float_constant(value))
        ]
        if node.op_type == "Constant" or not floating:
            continue
        wanted = _computed_in(
            node, [value for _, value in floating], types, narrow, importance_only, opset
        )
        for index, value in floating:
            want = WIDE if node.op_type in PRUNED_TOKENS and index > 0 else wanted
            number = _float_constant(value)
            have = types.get(value) or (number.dtype if number else value.dtype)
            if have != want:
                node.replace_input_with(index, cast(value, want, node))
        for output in node.outputs:
            if _has_float_output(node, output):
                types[output] = output.dtype = wanted
    _type_outputs(graph, types, narrow)


def _type_outputs(graph: ir.Graph, types: dict[ir.Value, ir.DataType], narrow: ir.DataType) -> None:
    """Logits leave the graph in float32 and tokens narrow, whatever computes them."""
    for index, value in enumerate(graph.outputs):
        wanted = WIDE if value.name == "logits" else narrow
        if value in types and types[value] != wanted:
            node = ir.node("Cast", [value], attributes={"to": int(wanted)})
            graph.append(node)
            result, name = node.outputs[0], value.name
            value.name = f"{name}.{types[value].name.lower()}"
            result.name, result.dtype, result.shape = name, wanted, value.shape
            graph.outputs[index] = result


def _computed_in(
    node: ir.Node,
    values: list[ir.Value],
    types: dict[ir.Value, ir.DataType],
    narrow: ir.DataType,
    importance_only: set[ir.Node],
    opset: int,
) -> ir.DataType:
    if PRUNED_TOKENS.get(node.op_type):
        return narrow
    if node.op_type in WIDE_OPS or node in importance_only:
        return WIDE
    if any((value.name or "").endswith((*RESIDUAL_WEIGHTS, *FACTORS)) for value in values):
        return WIDE
    if any(_named(value, RESIDUAL_INPUTS) for value in values):
        return WIDE
    if node.op_type == "Concat" and _named(values[0], NARROW_INPUTS):
        return narrow
    if node.op_type in NARROW_OPS and _is_dequantized(node.inputs[0]):
        return WIDE
    if node.op_type == "Conv" and narrow == ir.DataType.BFLOAT16 and opset < BFLOAT16_CONV_OPSET:
        return WIDE
    if node.op_type in NARROW_OPS:
        return narrow
    computed = [types[value] for value in values if value in types]
    if not computed:  # only weights and constants: the reader decides, a Transpose of W is narrow
        return narrow
    return narrow if all(dtype == narrow for dtype in computed) else WIDE


def _importance_only(graph: ir.Graph) -> set[ir.Node]:
    """Nodes that the op's importance, prior and grid depend on and its features do not.

    Inside the language model without products with weights: what is read ahead has many.
    """
    op = next((node for node in graph if node.op_type in PRUNED_TOKENS), None)
    if op is None:
        return set()
    features = _ancestors(op.inputs[0])
    rest: set[ir.Node] = set()
    for value in op.inputs[1:]:
        rest |= _ancestors(value)
    if PRUNED_TOKENS[op.op_type]:
        return rest - features
    shaped = _shaped_weights(graph)
    products = {node for node in rest if node.op_type in NARROW_OPS and node.inputs[1] in shaped}
    return {node for node in rest - features - products if shaped.isdisjoint(node.outputs)}


def _shaped_weights(graph: ir.Graph) -> set[ir.Value | None]:
    """Weights, and what is left of them when parts are taken and axes moved."""
    found: set[ir.Value | None] = {
        value for value in graph.initializers.values() if _is_weight(value)
    }
    for node in graph:
        if node.op_type in SHAPE_OPS and node.inputs[0] in found:
            found.update(node.outputs)
    return found


def _ancestors(value: ir.Value | None) -> set[ir.Node]:
    found: set[ir.Node] = set()
    waiting = [value]
    while waiting:
        current = waiting.pop()
        node = current.producer() if current is not None else None
        if node is not None and node not in found:
            found.add(node)
            waiting.extend(node.inputs)
    return found


def _named(value: ir.Value, prefixes: tuple[str, ...]) -> bool:
    return value.is_graph_input() and (value.name or "").startswith(prefixes)


def _is_lookup(node: ir.Node) -> bool:
    """Whether it gathers rows of a weight: these are cast, not the whole table."""
    table = node.inputs[0] if node.inputs else None
    return node.op_type == "Gather" and table is not None and _is_weight(table)


def _is_dequantized(value: ir.Value | None) -> bool:
    producer = value.producer() if value is not None else None
    return producer is not None and producer.op_type == "DequantizeLinear"


def _is_weight(value: ir.Value) -> bool:
    return value.is_initializer() and value.dtype is not None and value.dtype.is_floating_point()


def _float_constant(value: ir.Value) -> ir.TensorProtocol | None:
    producer = value.producer()
    if producer is None or producer.op_type != "Constant":
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return tensor if tensor is not None and tensor.dtype.is_floating_point() else None


def _converted(tensor: ir.TensorProtocol, dtype: ir.DataType) -> ir.TensorProtocol:
    return ir.tensor(tensor.numpy().astype(dtype.numpy()))


def _has_float_output(node: ir.Node, output: ir.Value) -> bool:
    if node.op_type == "Cast":
        return ir.DataType(node.attributes["to"].as_int()).is_floating_point()
    if node.op_type in PRUNED_TOKENS:
        return output.index() in PRUNED_TOKENS[node.op_type]
    predicates = {"Equal", "Greater", "Less", "LessOrEqual", "IsNaN"}
    return node.op_type not in {"Shape", "Size", "QuantizeLinear", *predicates}
