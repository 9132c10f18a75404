"""The graph that reads attention ahead decides as the module it was traced from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from d2export.export.decoder import trace_decoder
from d2export.export.graph_file import write_graph
from d2export.export.pruned_decoder import PrunedDecoder
from d2export.export.vision_graph import write_prune_graph
from d2export.models.decoder import KeyValue, inverse_frequencies
from d2export.models.presets import TextSpec
from d2export.pruning.parameters import PruneParameters
from d2export.pruning.plan import Plan, d2_plan
from d2export.pruning.selectors import SELECTORS
from tests.export.test_decoder_graph import deeper, error, generate, placed, prompt_of
from tests.models.test_decoder import SPECS, ours, theirs

pytest.importorskip("onnxruntime", reason="onnxruntime, to run the graphs")

SIDE, LAYER, STEPS = 2, 2, 3
IMAGES = (12, 8)  # visual tokens, in tiles of 2 by 2
PARAMETERS = PruneParameters(keep=3, alpha=0.7, theta=0.5, pivot_ratio=0.0)
CASES = {name: (name, "two") for name in SPECS} | {
    f"{name}, {rows}": (name, rows) for name in ("internlm2",) for rows in ("both", "ahead")
}


def plan_of(rows: str) -> Plan:
    settings = {"rows": rows, "smoothing": 0.6}
    return replace(d2_plan(PARAMETERS, layer=LAYER), selector=SELECTORS["d2+"], settings=settings)


def export(folder: Path, spec: TextSpec, rows: str, precision: str = "fp32") -> Path:
    model = trace_decoder(spec, plan_of(rows), 17, SIDE)
    constants = {"model.text.inverse_frequencies": inverse_frequencies(spec).numpy()}
    path = folder / "decoder.onnx"
    weights = placed(folder, spec, theirs(spec).state_dict())
    write_graph(model, path, weights, constants, precision)
    return path


def module_of(spec: TextSpec, rows: str) -> PrunedDecoder:
    module = PrunedDecoder(spec, plan_of(rows), SIDE)
    module.model.text = ours(spec, theirs(spec).state_dict())
    return module.eval()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_graph_and_module_decide_alike(tmp_path: Path, case: tuple[str, str]) -> None:
    name, rows = case
    spec, model = deeper(SPECS[name]), theirs(deeper(SPECS[name]))
    path, module = export(tmp_path, spec, rows), module_of(spec, rows)
    below, others = module_of(spec, "below"), 0
    empty = torch.zeros(1, spec.kv_heads, 0, spec.head_dim)
    nothing = [KeyValue(empty, empty)] * spec.layers
    for seed in range(3):
        prompt, ids, visual = prompt_of(model, spec, *IMAGES, seed=seed)
        inputs = (
            torch.from_numpy(ids),
            torch.from_numpy(visual),
            torch.from_numpy(prompt.visual_positions),
            torch.arange(ids.shape[1])[None],
            nothing,
            torch.from_numpy(prompt.image_lengths),
            torch.from_numpy(prompt.grid),
        )
        answered = generate(path, spec, prompt, ids, visual, steps=STEPS)
        with torch.inference_mode():
            expected = module.decode(*inputs)
            others += below.decode(*inputs).positions.tolist() != answered.positions
        assert answered.positions == expected.positions.tolist()
        assert len(answered.positions) == ids.shape[1] - sum(IMAGES) + 3 * len(IMAGES)
        assert error(answered.logits[0], expected.logits) < 1e-4
    assert others  # else it would not matter which layer is read


def test_float16(tmp_path: Path) -> None:
    """Products with weights are narrow; what is made of them to decide is float32."""
    spec = deeper(SPECS["qwen2"])
    wide, narrow = tmp_path / "wide", tmp_path / "narrow"
    for folder in (wide, narrow):
        folder.mkdir()
    full, half = export(wide, spec, "two"), export(narrow, spec, "two", "fp16")
    for seed in range(3):
        question = prompt_of(theirs(spec), spec, *IMAGES, seed=seed)
        expected, answered = (generate(path, spec, *question, steps=1) for path in (full, half))
        assert answered.positions == expected.positions
        assert error(answered.logits[0], expected.logits[0]) < 1e-2
    graph = onnx.shape_inference.infer_shapes(onnx.load(half, load_external_data=False)).graph
    types = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    assert types["importance"] == onnx.TensorProto.FLOAT
    products = [node for node in graph.node if node.op_type == "MatMul"]
    wide_products = [
        node for node in products if types.get(node.output[0]) == onnx.TensorProto.FLOAT
    ]
    assert len(wide_products) == 3  # of each row the scores, and of one what it finds


def test_nobody_reads_where_there_is_no_image(tmp_path: Path) -> None:
    """In a decode step no token goes through the layers ahead: their products have no rows."""
    spec = deeper(SPECS["llama"])
    path = export(tmp_path, spec, "two")
    graph = onnx.load(path)
    readers = next(node for node in graph.graph.node if node.op_type == "Expand")
    graph.graph.output.append(
        onnx.helper.make_tensor_value_info(readers.output[0], onnx.TensorProto.FLOAT, None)
    )
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    cache = np.zeros((1, spec.kv_heads, 5, spec.head_dim), np.float32)
    for images in (0, 2):
        feeds = {
            "input_ids": np.zeros((1, 1 + 4 * images), np.int64),
            "image_embeds": np.ones((4 * images, spec.hidden), np.float32),
            "visual_positions": np.arange(4 * images),
            "image_lengths": np.full(images, 4),
            "token_grid": np.zeros((4 * images, 2), np.float32),
            "position_ids": np.arange(5, 6 + 4 * images)[None],
        }
        past = [item.name for item in session.get_inputs() if item.name.startswith("past")]
        found = session.run([readers.output[0]], feeds | dict.fromkeys(past, cache))[0]
        assert found.shape == (1, images, spec.hidden)


def test_selection_alone_takes_one_row(tmp_path: Path) -> None:
    """Of what the decoder's op gets; of `d2` that is a row for each head."""
    shapes = {}
    for name, plan in {"d2": d2_plan(PARAMETERS), "d2+": plan_of("two")}.items():
        path = tmp_path / f"{name}.onnx"
        write_prune_graph(path, plan, "fp32", 17)
        importance = onnx.load(path).graph.input[1].type.tensor_type
        shapes[name] = [size.dim_param for size in importance.shape.dim]
    assert shapes == {"d2": ["B", "H", "N"], "d2+": ["B", "N"]}
