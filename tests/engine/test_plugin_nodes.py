"""Which layers are the plugin's: nodes by their types, whatever they are called."""

from __future__ import annotations

from onnx import helper

from d2export.engine.plugin_nodes import plugin_nodes


def test_nodes_of_the_plugin_are_found_by_their_types() -> None:
    nodes = [
        helper.make_node("MatMul", ["a", "b"], ["c"], name="D2Prune_like"),
        helper.make_node("D2Prune", ["c"], ["d"], name="node_d2prune__1"),
        helper.make_node("D2PrunePositions", ["d"], ["e"], name="positions"),
    ]
    model = helper.make_model(helper.make_graph(nodes, "g", [], []))
    assert plugin_nodes(model.SerializeToString()) == ("node_d2prune__1", "positions")
