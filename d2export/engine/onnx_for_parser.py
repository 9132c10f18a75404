"""The ONNX that TensorRT's parser is given: plugins by name, every other op as standard operators.

A graph of d2export carries the bodies of its ops as model-local functions. From TensorRT 10.1 to
10.14 such a function hides the plugin of its name, and 8.6 knows none at all. So the functions go:
nodes that the plugin implements say which plugin, the others are replaced by their bodies.

Weights stay where they are: the file has to lie beside them. Field numbers are those of
`onnx.proto`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import NamedTuple

from d2export.engine import plugin
from d2export.engine.protobuf import Message
from d2export.errors import BundleError
from d2export.pruning.parameters import DOMAIN

STANDARD = ("", "ai.onnx")

# ModelProto, GraphProto, OperatorSetIdProto
MODEL_GRAPH, MODEL_OPSETS, MODEL_FUNCTIONS = 7, 8, 25
GRAPH_NODES, GRAPH_INITIALIZERS, INITIALIZER_NAME = 1, 5, 8
GRAPH_VALUES, VALUE_NAME = (11, 12, 13), 1  # inputs, outputs, values inside
OPSET_DOMAIN, OPSET_VERSION = 1, 2
# NodeProto
INPUTS, OUTPUTS, NAME, OP_TYPE, ATTRIBUTES, NODE_DOMAIN = 1, 2, 3, 4, 5, 7
# AttributeProto
ATTRIBUTE_NAME, STRING, GRAPH, TYPE, REFERENCE, TYPE_STRING = 1, 4, 6, 20, 21, 3
# FunctionProto
FUNCTION_NAME, FUNCTION_INPUTS, FUNCTION_OUTPUTS, FUNCTION_NODES = 1, 4, 5, 7
FUNCTION_DOMAIN, FUNCTION_DEFAULTS = 10, 11

Rename = Callable[[str], str]


class ForParser(NamedTuple):
    """A model without functions.

    Attributes:
        model: an ONNX file.
        plugin_ops: types of its nodes that are plugins.
        inlined_ops: types of nodes that were replaced by their bodies.
        opset: of the standard operators.
    """

    model: bytes
    plugin_ops: tuple[str, ...]
    inlined_ops: tuple[str, ...]
    opset: int


def for_parser(model: bytes, where: object, plugin_ops: Collection[str] = plugin.OPS) -> ForParser:
    """A model as TensorRT's parser takes it.

    Args:
        model: an ONNX file.
        where: names it in messages.
        plugin_ops: what the plugin implements; other nodes of d2export become standard operators.

    Raises:
        BundleError: it is no ONNX file of d2export.
    """
    try:
        found = Message(model)
        rewriting = _Rewriting(found.all(MODEL_FUNCTIONS), plugin_ops)
        ours = {op for graph in found.all(MODEL_GRAPH) for op in _own_ops(graph)}
        found.change(MODEL_GRAPH, rewriting.graph)
        opsets = [Message(opset) for opset in found.all(MODEL_OPSETS)]
    except (ValueError, RecursionError) as error:
        raise BundleError(
            f"{where} cannot be prepared for TensorRT: {error}", "Build the bundle again."
        ) from None
    found.remove(MODEL_FUNCTIONS)
    known = (*STANDARD, DOMAIN) if rewriting.used else STANDARD
    kept = [opset for opset in opsets if opset.text(OPSET_DOMAIN) in known]
    found.replace(MODEL_OPSETS, [opset.encoded() for opset in kept])
    versions = (_standard_version(opset) for opset in kept)
    return ForParser(
        found.encoded(),
        tuple(sorted(rewriting.used)),
        tuple(sorted(ours.difference(plugin_ops))),
        max(versions, default=0),
    )


def _own_ops(graph: bytes) -> Iterator[str]:
    """The types of a graph's nodes that are ops of d2export."""
    for node in map(Message, Message(graph).all(GRAPH_NODES)):
        if node.text(NODE_DOMAIN) == DOMAIN:
            yield node.text(OP_TYPE)


def _standard_version(opset: Message) -> int:
    if opset.text(OPSET_DOMAIN) not in STANDARD:
        return 0
    return next(int(one.value) for one in opset.fields if one.number == OPSET_VERSION)


class _Rewriting:
    """One model being rewritten: `used` collects the plugins that its nodes ask for."""

    def __init__(self, functions: list[bytes], plugin_ops: Collection[str]) -> None:
        parsed = map(Message, functions)
        self._functions = {
            (one.text(FUNCTION_DOMAIN), one.text(FUNCTION_NAME)): one for one in parsed
        }
        self._plugin_ops = plugin_ops
        self._inlined = 0
        self.used: set[str] = set()

    def graph(self, data: bytes) -> bytes:
        """A graph with rewritten nodes."""
        graph = Message(data)
        nodes = [done for node in graph.all(GRAPH_NODES) for done in self._nodes(Message(node))]
        graph.replace(GRAPH_NODES, nodes)
        return graph.encoded()

    def _nodes(self, node: Message) -> Iterator[bytes]:
        """What stands in place of a node."""
        domain, op_type = node.text(NODE_DOMAIN), node.text(OP_TYPE)
        if domain in STANDARD:
            node.change(ATTRIBUTES, self._attribute)
            yield node.encoded()
        elif domain == DOMAIN and op_type in self._plugin_ops:
            self.used.add(op_type)
            node.add(ATTRIBUTES, _string("plugin_version", plugin.VERSION))
            node.add(ATTRIBUTES, _string("plugin_namespace", plugin.NAMESPACE))
            yield node.encoded()
        elif (domain, op_type) in self._functions:
            for inner in self._body(node, self._functions[domain, op_type]):
                yield from self._nodes(inner)
        else:
            raise ValueError(f"node {op_type} of domain {domain} has neither plugin nor body")

    def _attribute(self, data: bytes) -> bytes:
        attribute = Message(data)
        attribute.change(GRAPH, self.graph)
        return attribute.encoded()

    def _body(self, node: Message, function: Message) -> Iterator[Message]:
        """The nodes of a function, with the names and attributes of its caller."""
        self._inlined += 1
        prefix = f"{node.text(OP_TYPE)}.{self._inlined}/"
        outer: dict[str, str] = {}
        for ours, theirs in ((INPUTS, FUNCTION_INPUTS), (OUTPUTS, FUNCTION_OUTPUTS)):
            names, given = function.texts(theirs), node.texts(ours)
            missing = [""] * len(names) if ours == INPUTS else [prefix + name for name in names]
            given = [*given, *missing[len(given) :]]
            outer |= {
                name: actual or substitute
                for name, actual, substitute in zip(names, given, missing, strict=True)
            }

        def rename(name: str) -> str:
            return outer.get(name, prefix + name) if name else name

        attributes = {
            attribute.text(ATTRIBUTE_NAME): attribute
            for data in (*function.all(FUNCTION_DEFAULTS), *node.all(ATTRIBUTES))
            for attribute in (Message(data),)
        }
        for data in function.all(FUNCTION_NODES):
            yield _called(Message(data), rename, attributes)


def _called(node: Message, rename: Rename, attributes: Mapping[str, Message]) -> Message:
    """A node of a function's body, as it is in one call of it."""

    def renamed(name: bytes) -> bytes:
        return rename(name.decode("utf-8")).encode("utf-8")

    for number in (INPUTS, OUTPUTS, NAME):
        node.change(number, renamed)
    given = []
    for data in node.all(ATTRIBUTES):
        attribute = Message(data)
        reference = attribute.text(REFERENCE)
        if reference:
            if reference not in attributes:
                continue  # optional, and not given
            actual = Message(attributes[reference].encoded())
            actual.replace(ATTRIBUTE_NAME, [attribute.text(ATTRIBUTE_NAME).encode("utf-8")])
            attribute = actual
        else:
            attribute.change(GRAPH, lambda graph: _called_graph(graph, rename, attributes))
        given.append(attribute.encoded())
    node.replace(ATTRIBUTES, given)
    return node


def _called_graph(data: bytes, rename: Rename, attributes: Mapping[str, Message]) -> bytes:
    """A graph inside a function's body, of an If or a Loop, in one call of the function."""

    def named(number: int) -> Callable[[bytes], bytes]:
        def change(data: bytes) -> bytes:
            value = Message(data)
            value.replace(number, [rename(value.text(number)).encode("utf-8")])
            return value.encoded()

        return change

    graph = Message(data)
    graph.change(GRAPH_NODES, lambda node: _called(Message(node), rename, attributes).encoded())
    graph.change(GRAPH_INITIALIZERS, named(INITIALIZER_NAME))
    for number in GRAPH_VALUES:
        graph.change(number, named(VALUE_NAME))
    return graph.encoded()


def _string(name: str, value: str) -> bytes:
    """An attribute with a string."""
    attribute = Message()
    attribute.add(ATTRIBUTE_NAME, name.encode("utf-8"))
    attribute.add(STRING, value.encode("utf-8"))
    attribute.add(TYPE, TYPE_STRING)
    return attribute.encoded()
