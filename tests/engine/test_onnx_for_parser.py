"""What TensorRT's parser is given has no functions, known domains, and the same answers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from d2export.engine import plugin
from d2export.engine.onnx_for_parser import for_parser
from d2export.errors import BundleError
from d2export.export.decoder import trace_decoder
from d2export.export.onnx_function import prune_functions, prune_model
from d2export.export.ops import CORRELATION_OP_TYPE, OPS
from d2export.export.vision import trace_vision, trace_whole_vision
from d2export.models.presets import PRESETS, TextSpec
from d2export.options import ExportOptions
from d2export.pruning.parameters import DOMAIN, POSITIONS_OP_TYPE
from d2export.pruning.selectors import SELECTORS
from tests.plugins.drivers import ROOT

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime, to run the graphs")

ATTRIBUTES = {"keep": 5, "min_keep": 2, "max_keep": 7}
TOKENS, CHANNELS, HEADS = 20, 12, 2
AT = np.array([2, 3, 4, 5, 6, 9, 10, 11, 12, 13, 14], np.int64)  # visual tokens of two images


def inputs(op_type: str, seed: int) -> dict[str, Any]:
    """Random inputs of an op, by name."""
    rng = np.random.default_rng([seed, 7])

    def floats(*shape: int) -> Any:
        return rng.random(shape, np.float32)

    if op_type in (POSITIONS_OP_TYPE, CORRELATION_OP_TYPE):
        return {
            "hidden_states": floats(1, TOKENS, CHANNELS) - 0.5,
            "importance": floats(1, HEADS, TOKENS),
            "prior": floats(len(AT)) + 0.1,
            "grid": 9 * floats(len(AT), 2),
            "visual_positions": AT,
            "image_lengths": np.array([5, 6], np.int64),
            "attention": floats(3, len(AT)),
            "text_positions": np.array([15, 16], np.int64),
        }
    return {
        "features": floats(1, TOKENS, CHANNELS) - 0.5,
        "importance": floats(1, HEADS, TOKENS),
        "prior": floats(TOKENS) + 0.1,
        "grid": 9 * floats(TOKENS, 2),
    }


def op_model(op_type: str, opset: int) -> onnx.ModelProto:
    op = OPS[op_type]
    known = {name: value for name, value in ATTRIBUTES.items() if name in op.defaults()}
    return prune_model(op.parameters(**known), opset, TensorProto.FLOAT, op_type=op_type)


def answers(model: bytes, given: dict[str, Any]) -> list[Any]:
    session = onnxruntime.InferenceSession(model)
    found: list[Any] = session.run(
        None, {value.name: given[value.name] for value in session.get_inputs()}
    )
    return found


def nodes_in(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes, those of graphs inside nodes, too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            yield from nodes_in(attribute.g)


def assert_defined_once(graph: onnx.GraphProto, outside: frozenset[str] = frozenset()) -> None:
    """No value is defined twice where both could be read; branches beside each other may."""
    here = [value.name for value in (*graph.input, *graph.initializer)]
    here += [name for node in graph.node for name in node.output if name]
    assert len(here) == len(set(here))
    assert outside.isdisjoint(here)
    for node in graph.node:
        for attribute in node.attribute:
            assert_defined_once(attribute.g, outside.union(here))


def assert_for_parser(model: onnx.ModelProto, plugin_ops: Iterable[str]) -> None:
    """No functions; ops of d2export are plugins, by name, version and namespace."""
    assert not model.functions
    found = [node for node in nodes_in(model.graph) if node.domain]
    assert {node.domain for node in found} <= {DOMAIN}
    assert {node.op_type for node in found} == set(plugin_ops)
    for node in found:
        given = {one.name: helper.get_attribute_value(one) for one in node.attribute}
        assert given["plugin_version"] == b"1"
        assert given["plugin_namespace"] == b"d2export"
    domains = {entry.domain for entry in model.opset_import}
    assert domains == ({"", DOMAIN} if found else {""})
    for node in nodes_in(model.graph):
        assert not any(attribute.ref_attr_name for attribute in node.attribute)
    assert_defined_once(model.graph)


@pytest.mark.parametrize("opset", [17, 24])
@pytest.mark.parametrize("op_type", OPS)
def test_bodies_in_place_of_nodes_answer_the_same(op_type: str, opset: int) -> None:
    model = op_model(op_type, opset)
    found = for_parser(model.SerializeToString(), "graph", plugin_ops=())
    assert found.plugin_ops == ()
    assert found.inlined_ops == (op_type,)
    assert found.opset == opset
    inlined = onnx.ModelProto.FromString(found.model)
    assert_for_parser(inlined, ())
    onnx.checker.check_model(inlined, full_check=True)
    for seed in range(3):
        given = inputs(op_type, seed)
        wanted = answers(model.SerializeToString(), given)
        for answer, expected in zip(answers(found.model, given), wanted, strict=True):
            np.testing.assert_array_equal(answer, expected)


@pytest.mark.parametrize("op_type", plugin.OPS)
def test_what_the_plugin_implements_stays_a_node(op_type: str) -> None:
    model = op_model(op_type, 17)
    found = for_parser(model.SerializeToString(), "graph")
    assert found.plugin_ops == (op_type,)
    assert found.inlined_ops == ()
    rewritten = onnx.ModelProto.FromString(found.model)
    assert_for_parser(rewritten, [op_type])
    (node,), (before,) = rewritten.graph.node, model.graph.node
    assert list(node.attribute)[: len(before.attribute)] == list(before.attribute)
    assert (list(node.input), list(node.output)) == (list(before.input), list(before.output))


def test_what_a_body_calls_in_a_loop_can_be_the_plugin() -> None:
    """The body of D2PrunePositions calls D2Prune for each image; its attributes get there."""
    model = op_model(POSITIONS_OP_TYPE, 17).SerializeToString()
    found = for_parser(model, "graph", plugin_ops=["D2Prune"])
    assert found.plugin_ops == ("D2Prune",)
    rewritten = onnx.ModelProto.FromString(found.model)
    assert_for_parser(rewritten, ["D2Prune"])
    (node,) = (one for one in nodes_in(rewritten.graph) if one.domain)
    given = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    wanted = OPS[POSITIONS_OP_TYPE].parameters(keep=5).attributes()
    assert {name: given[name] for name in wanted} == pytest.approx(wanted)


def test_two_nodes_of_a_kind_do_not_share_names() -> None:
    model = op_model("DartPrune", 17)
    second = model.graph.node.add()
    second.CopyFrom(model.graph.node[0])
    second.output[:] = ["kept_again", "indices_again"]
    for name, like in zip(second.output, list(model.graph.output), strict=True):
        output = model.graph.output.add()
        output.CopyFrom(like)
        output.name = name
    found = for_parser(model.SerializeToString(), "graph")
    assert_for_parser(onnx.ModelProto.FromString(found.model), ())
    kept, indices, again, indices_again = answers(found.model, inputs("DartPrune", 0))
    np.testing.assert_array_equal(kept, again)
    np.testing.assert_array_equal(indices, indices_again)


# What the plugin has no form of becomes standard operators: Dart, the elbow and correlation.
BY_PLUGIN = {
    "divprune": "MaxMinPrune",
    "cdpruner": "DppPrune",
    "vispruner": "DeduplicatePrune",
    "dart": None,
    "sms": None,
}
TEXT = TextSpec("qwen2", 16, 4, 2, 1, 16, 20, 1e4, 64, 1e-5)
SMALL = replace(
    PRESETS["internvl2.5-1b"],
    text=TEXT,
    vision=replace(
        PRESETS["internvl2.5-1b"].vision,
        image=replace(PRESETS["internvl2.5-1b"].vision.image, size=56),
        hidden=16,
        layers=2,
        used_layers=2,
        heads=2,
        mlp=16,
    ),
)


def as_written(model: ir.Model) -> bytes:
    """A traced graph with the bodies of its ops, as bundles have it, but without weights."""
    used = {node.op_type for node in model.graph if node.domain == DOMAIN}
    for function in prune_functions(17, sorted(used)):
        model.functions[DOMAIN, function.name, ""] = ir.serde.deserialize_function(function)
    return ir.to_proto(model).SerializeToString()


def assert_prepared(data: bytes) -> tuple[str, ...]:
    """The rest of a graph is what it was; the plugins that its nodes ask for."""
    before = onnx.ModelProto.FromString(data)
    prepared = for_parser(data, "graph")
    after = onnx.ModelProto.FromString(prepared.model)
    assert_for_parser(after, prepared.plugin_ops)
    assert prepared.opset == 17
    for part in ("input", "output", "initializer"):
        assert list(getattr(after.graph, part)) == list(getattr(before.graph, part))
    return prepared.plugin_ops


@pytest.mark.parametrize(
    "selector", [name for name, one in SELECTORS.items() if one.fits("vision")]
)
def test_every_selector_behind_the_projector(selector: str) -> None:
    plan = ExportOptions("small", selector=selector).plan(SMALL)
    native = BY_PLUGIN.get(selector, "D2Prune")
    graph = as_written(trace_vision(SMALL, plan, prior=None, opset=17))
    assert assert_prepared(graph) == ((native,) if native else ())


@pytest.mark.parametrize("selector", ["d2", "d2+", "fastv", "sms"])
def test_every_selector_inside_the_language_model(selector: str) -> None:
    plan = ExportOptions("small", scope="vlm", selector=selector).plan(SMALL)
    native = BY_PLUGIN.get(selector, POSITIONS_OP_TYPE)
    graph = as_written(trace_decoder(TEXT, plan, 17, SMALL.vision.tokens_per_side))
    assert assert_prepared(graph) == ((native,) if native else ())


def test_a_graph_that_prunes_nothing() -> None:
    assert assert_prepared(as_written(trace_whole_vision(SMALL, 17))) == ()


def test_weights_stay_beside_the_file(small_bundle: Path) -> None:
    data = (small_bundle / "onnx" / "vision.onnx").read_bytes()
    assert assert_prepared(data) == ("D2Prune",)
    graph = onnx.ModelProto.FromString(for_parser(data, "graph").model).graph
    assert sum(bool(tensor.external_data) for tensor in graph.initializer) > 20


def test_the_plugin_is_the_one_in_plugins() -> None:
    """Its ops, version and namespace are written in C++, too."""
    core = ROOT / "plugins/core/include/d2export"
    headers = (core / "rule_parameters.h").read_text() + (core / "parameters.h").read_text()
    each = (ROOT / "plugins/tensorrt/src/ops.h").read_text()
    names = dict(
        re.findall(r"struct (\w+) [^{]*{\s*static constexpr const char\* kOp = (.*);", headers)
    )
    listed = set(re.findall(r"use\((\w*Parameters)\)", each))
    known = {"kOpName": '"D2Prune"'}
    assert {known.get(names[struct], names[struct]).strip('"') for struct in listed} == set(
        plugin.OPS
    )
    assert f'kPluginVersion[] = "{plugin.VERSION}"' in each


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\x3a\x05abc", "5 bytes wanted"),
        (b"not a model at all", "wire type"),
        (b"\x3a\x01\xff", "a number without an end"),
    ],
)
def test_what_is_no_model_is_refused(data: bytes, problem: str) -> None:
    with pytest.raises(BundleError, match=rf"vision\.onnx cannot be prepared .*{problem}"):
        for_parser(data, "vision.onnx")


@pytest.mark.parametrize("domain", ["d2export", "com.example"])
def test_an_op_of_nobody_is_refused(domain: str) -> None:
    node = helper.make_node("Guess", ["x"], ["y"], domain=domain)
    graph = helper.make_graph([node], "g", [], [])
    data = helper.make_model(graph).SerializeToString()
    problem = rf"node Guess of domain {domain} has neither plugin nor body"
    with pytest.raises(BundleError, match=problem):
        for_parser(data, "vision.onnx")
