"""The floating-point types of the values in an ONNX graph, by name.

Field numbers are those of `onnx.proto`.
"""

from __future__ import annotations

from collections.abc import Iterator

from d2export.engine.protobuf import VARINT, Message

MODEL_GRAPH = 7
GRAPH_OUTPUTS, GRAPH_INSIDE = 12, 13
VALUE_NAME, VALUE_TYPE = 1, 2
TENSOR_TYPE, ELEMENT_TYPE = 1, 1
FLOATS = {1: "float32", 10: "float16"}  # of TensorProto.DataType, as TensorRT calls them


def float_values(model: bytes) -> dict[str, str]:
    """`float32` or `float16` for each value that is one, of the main graph."""
    found = {}
    for data in Message(model).all(MODEL_GRAPH):
        graph = Message(data)
        for value in (*graph.all(GRAPH_OUTPUTS), *graph.all(GRAPH_INSIDE)):
            for number in _element_types(Message(value)):
                if number in FLOATS:
                    found[Message(value).text(VALUE_NAME)] = FLOATS[number]
    return found


def _element_types(value: Message) -> Iterator[int]:
    """The type of a tensor's elements; nothing for what is no tensor."""
    for data in value.all(VALUE_TYPE):
        for tensor in Message(data).all(TENSOR_TYPE):
            for field in Message(tensor).fields:
                if field.number == ELEMENT_TYPE and field.wire == VARINT:
                    yield int(field.value)
