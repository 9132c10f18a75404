"""What a server needs of an ONNX file: its weight files, and visual tokens tile by tile.

Field numbers are those of `onnx.proto`.
"""

from __future__ import annotations

import struct
from pathlib import Path

from d2export.engine.protobuf import VARINT, Message
from d2export.errors import BundleError

MODEL_GRAPH = 7
NODES, INITIALIZERS, OUTPUTS = 1, 5, 12  # of GraphProto
DIMS, DATA_TYPE, TENSOR_NAME, RAW_DATA, EXTERNAL_DATA = 1, 2, 8, 9, 13  # of TensorProto
KEY, VALUE = 1, 2  # of StringStringEntryProto
INPUT, OUTPUT, NODE_NAME, OP_TYPE = 1, 2, 3, 4  # of NodeProto
VALUE_NAME, VALUE_TYPE, TENSOR_TYPE, ELEMENT_TYPE, SHAPE = 1, 2, 1, 1, 2  # of ValueInfoProto
DIM, DIM_VALUE, DIM_PARAM = 1, 1, 2  # of TensorShapeProto
INT64 = 7

EMBEDS, TILE_EMBEDS = "image_embeds", "tile_embeds"


def weight_files(model: Path) -> list[str]:
    """Names of the files beside an ONNX file that hold its weights, sorted.

    Raises:
        BundleError: it is no ONNX file.
    """
    found = set()
    try:
        for data in Message(model.read_bytes()).all(MODEL_GRAPH):
            for tensor in Message(data).all(INITIALIZERS):
                entries = map(Message, Message(tensor).all(EXTERNAL_DATA))
                found |= {one.text(VALUE) for one in entries if one.text(KEY) == "location"}
    except ValueError as error:
        raise BundleError(f"{model} is no ONNX file: {error}", "Build the bundle again.") from None
    return sorted(found)


def tile_by_tile(model: bytes, tokens_per_tile: int, hidden: int) -> bytes:
    """A vision graph whose output has an axis of tiles in front.

    Its `image_embeds` `[tiles * tokens_per_tile, hidden]` become `tile_embeds`
    `[tiles, tokens_per_tile, hidden]`: the same values in the same order. A server that puts the
    tiles of several requests into one call can then tell whose is what.

    Raises:
        ValueError: `model` is no ONNX file with that output.
    """
    file = Message(model)
    file.change(MODEL_GRAPH, lambda data: _reshaped(Message(data), tokens_per_tile, hidden))
    return file.encoded()


def _reshaped(graph: Message, tokens_per_tile: int, hidden: int) -> bytes:
    outputs = {Message(output).text(VALUE_NAME): output for output in graph.all(OUTPUTS)}
    shape = f"{TILE_EMBEDS}.shape"
    graph.add(INITIALIZERS, _sizes(shape, (-1, tokens_per_tile, hidden)).encoded())
    node = Message()
    for number, value in (
        (INPUT, EMBEDS),
        (INPUT, shape),
        (OUTPUT, TILE_EMBEDS),
        (NODE_NAME, TILE_EMBEDS),
        (OP_TYPE, "Reshape"),
    ):
        node.add(number, value.encode())
    graph.add(NODES, node.encoded())
    element_type = _element_type(outputs.pop(EMBEDS, b""))
    output = _value(TILE_EMBEDS, element_type, ("tiles", tokens_per_tile, hidden))
    graph.replace(OUTPUTS, [*outputs.values(), output.encoded()])
    return graph.encoded()


def _sizes(name: str, sizes: tuple[int, ...]) -> Message:
    tensor = Message()
    tensor.add(DIMS, len(sizes))
    tensor.add(DATA_TYPE, INT64)
    tensor.add(TENSOR_NAME, name.encode())
    tensor.add(RAW_DATA, struct.pack(f"<{len(sizes)}q", *sizes))
    return tensor


def _element_type(value: bytes) -> int:
    for kind in Message(value).all(VALUE_TYPE):
        for tensor in Message(kind).all(TENSOR_TYPE):
            for field in Message(tensor).fields:
                if field.number == ELEMENT_TYPE and field.wire == VARINT:
                    return int(field.value)
    raise ValueError(f"the graph has no output {EMBEDS}")


def _value(name: str, element_type: int, shape: tuple[int | str, ...]) -> Message:
    dimensions = Message()
    for size in shape:
        dimension = Message()
        if isinstance(size, str):
            dimension.add(DIM_PARAM, size.encode())
        else:
            dimension.add(DIM_VALUE, size)
        dimensions.add(DIM, dimension.encoded())
    tensor = Message()
    tensor.add(ELEMENT_TYPE, element_type)
    tensor.add(SHAPE, dimensions.encoded())
    kind = Message()
    kind.add(TENSOR_TYPE, tensor.encoded())
    value = Message()
    value.add(VALUE_NAME, name.encode())
    value.add(VALUE_TYPE, kind.encoded())
    return value
