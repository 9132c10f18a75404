"""The exported vision graph answers what PyTorch answers, whatever it was exported from and as."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from d2export.engine.onnxruntime import open_session
from d2export.export.graph_file import describe
from d2export.export.pruned_vision import PrunedVision
from d2export.export.vision import layer_names
from d2export.export.vision_graph import write_graphs
from d2export.export.weights import load_into
from d2export.models import layouts
from d2export.models.checkpoint import open_checkpoint
from d2export.models.presets import ModelSpec
from d2export.pruning.parameters import PruneParameters
from d2export.pruning.plan import d2_plan
from d2export.pruning.prior import Prior
from tests.small_checkpoints import LAYOUT_NAMES, write_small_checkpoint

LAYER = 1
KEEP = PruneParameters(keep=3, theta=0.5)


@dataclass
class Exported:
    folder: Path
    spec: ModelSpec
    module: PrunedVision
    precision: str = "fp32"

    @property
    def graph(self) -> onnx.GraphProto:
        return self.model.graph

    @property
    def model(self) -> onnx.ModelProto:
        return onnx.load(self.folder / "vision.onnx", load_external_data=False)

    def session(self) -> onnxruntime.InferenceSession:
        return open_session(self.folder / "vision.onnx", precision=self.precision)

    def inputs(self, tiles: int, seed: int = 0) -> dict[str, np.ndarray]:
        random = np.random.default_rng(seed)
        tokens = tiles * self.spec.vision.tokens_per_tile
        size = self.spec.vision.image.size
        return {
            "pixel_values": random.standard_normal((tiles, 3, size, size), np.float32),
            "token_grid": random.uniform(0, 8, (tokens, 2)).astype(np.float32),
        }

    def pytorch(self, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        with torch.inference_mode():
            answer = self.module(**{name: torch.from_numpy(x) for name, x in inputs.items()})
        return [value.numpy() for value in answer]


def export(
    folder: Path,
    layout: str = "internvl",
    *,
    parameters: PruneParameters = KEEP,
    importance: str = "cls",
    prior: Prior | None = None,
    precision: str = "fp32",
    opset: int = 17,
    dtype: str = "F32",
    sharded: bool = False,
    copy_weights: bool = False,
) -> Exported:
    checkpoint = open_checkpoint(
        write_small_checkpoint(folder / "checkpoint", layout, dtype=dtype, sharded=sharded)
    )
    refs = layouts.resolve(checkpoint.tensors, checkpoint.spec)
    target = folder / "onnx"
    target.mkdir()
    weights = write_graphs(
        target,
        checkpoint.spec,
        refs,
        d2_plan(parameters, importance, LAYER),
        prior=prior,
        precision=precision,
        opset=opset,
        copy_weights=copy_weights,
    )
    assert weights.mode == ("copied" if copy_weights else "linked")
    module = PrunedVision(checkpoint.spec, d2_plan(parameters, importance, LAYER), prior).eval()
    load_into(module.model, refs)
    return Exported(target, checkpoint.spec, module, precision)


def assert_same_answer(exported: Exported, tiles: int, error: float = 1e-5) -> None:
    inputs = exported.inputs(tiles, seed=tiles)
    embeds, indices = exported.session().run(None, inputs)
    expected_embeds, expected_indices = exported.pytorch(inputs)
    np.testing.assert_array_equal(indices, expected_indices)
    limit = error * np.abs(expected_embeds).max()
    np.testing.assert_allclose(embeds.astype(np.float32), expected_embeds, rtol=0, atol=limit)


@pytest.mark.parametrize("layout", LAYOUT_NAMES)
def test_every_layout_answers_like_pytorch_for_any_number_of_tiles(layout, tmp_path):
    exported = export(tmp_path, layout)
    for tiles in (1, 2, 5):
        assert_same_answer(exported, tiles)


@pytest.mark.parametrize("family", ["internvl", "llava"])
def test_both_layouts_of_a_family_sharded_or_not_give_the_same_bits(family, tmp_path):
    answers = []
    for layout in (family, f"{family}-hf"):
        for sharded in (False, True):
            exported = export(tmp_path / f"{layout}{sharded}", layout, sharded=sharded)
            answers.append(exported.session().run(None, exported.inputs(3)))
    for embeds, indices in answers[1:]:
        np.testing.assert_array_equal(embeds, answers[0][0])
        np.testing.assert_array_equal(indices, answers[0][1])


def test_the_number_of_tiles_is_dynamic_and_keep_is_static(tmp_path):
    inputs, outputs = describe(export(tmp_path).folder / "vision.onnx")
    assert inputs == [
        ("pixel_values", "float32", ("tiles", 3, 56, 56)),
        ("token_grid", "float32", ("tokens", 2)),
    ]
    assert outputs == [
        ("image_embeds", "float32", (3, 48)),
        ("kept_indices", "int32", (3,)),
    ]


@pytest.mark.parametrize(
    ("parameters", "kept"),
    [
        (PruneParameters(keep=6), {1: 4, 3: 6}),  # more than one tile has
        (PruneParameters(keep_permille=250), {1: 1, 3: 3}),
        (PruneParameters(keep_permille=1000), {1: 4, 3: 12}),
    ],
)
def test_a_budget_that_depends_on_the_tiles_makes_the_output_dynamic(parameters, kept, tmp_path):
    exported = export(tmp_path, parameters=parameters)
    assert describe(exported.folder / "vision.onnx")[1][1] == ("kept_indices", "int32", ("kept",))
    for tiles, count in kept.items():
        assert_same_answer(exported, tiles)
        assert len(exported.session().run(None, exported.inputs(tiles))[1]) == count


@pytest.mark.parametrize("opset", [17, 18, 19, 20, 21, 22, 23, 24])
def test_every_opset_is_what_it_says_and_runs(opset, tmp_path):
    exported = export(tmp_path, opset=opset)
    versions = {entry.domain: entry.version for entry in exported.model.opset_import}
    assert versions == {"": opset, "d2export": 1}
    assert {f.name: f.opset_import[0].version for f in exported.model.functions} == {
        "D2Prune": opset
    }
    assert_same_answer(exported, 2)


@pytest.mark.parametrize("importance", ["text", "uniform"])
def test_other_sources_of_importance(importance, tmp_path):
    exported = export(tmp_path, importance=importance)
    inputs = exported.inputs(3)
    if importance == "text":
        inputs["prompt_embeds"] = np.random.default_rng(1).standard_normal((5, 48), np.float32)
    embeds, indices = exported.session().run(None, inputs)
    expected_embeds, expected_indices = exported.pytorch(inputs)
    np.testing.assert_array_equal(indices, expected_indices)
    np.testing.assert_allclose(embeds, expected_embeds, rtol=0, atol=1e-4)


def test_a_prior_changes_what_is_kept_and_the_last_tile_has_the_thumbnails(tmp_path):
    """A prior that is huge everywhere but in one token of the thumbnail leaves that one on top."""
    tile, thumbnail = np.full(4, 1e6, np.float32), np.full(4, 1e6, np.float32)
    thumbnail[2] = 1e-6
    exported = export(
        tmp_path, parameters=PruneParameters(keep=1, pivot_ratio=1), prior=Prior(tile, thumbnail)
    )
    for tiles in (1, 4):
        _, indices = exported.session().run(None, exported.inputs(tiles))
        assert indices.tolist() == [(tiles - 1) * 4 + 2]
        assert_same_answer(exported, tiles)


@pytest.mark.parametrize(
    ("precision", "opset", "dtype", "error"),
    [
        ("fp16", 17, "float16", 5e-3),
        ("fp16", 23, "float16", 5e-3),
        ("bf16", 17, "float32", 4e-2),  # emulated on the CPU: numpy has no bfloat16
        ("bf16", 22, "float32", 4e-2),
    ],
)
@pytest.mark.parametrize("layout", ["internvl", "llava"])
def test_half_precision_stays_near_pytorch(layout, precision, opset, dtype, error, tmp_path):
    exported = export(
        tmp_path, layout, precision=precision, opset=opset, dtype="BF16",
        parameters=PruneParameters(keep_permille=1000),
    )  # fmt: skip
    assert exported.session().get_outputs()[0].type == f"tensor({dtype.replace('32', '')})"
    assert_same_answer(exported, 2, error)


def test_norms_softmax_importance_and_residual_stream_stay_float32(tmp_path):
    exported = export(tmp_path, precision="fp16", dtype="BF16")
    inferred = onnx.shape_inference.infer_shapes(_without_external_data(exported.model))
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output)
    }
    wide, narrow = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
    for node in inferred.graph.node:
        if node.op_type in ("LayerNormalization", "Softmax"):
            assert types[node.output[0]] == wide, node.name
    products = [node for node in inferred.graph.node if node.op_type in ("MatMul", "Conv")]
    wide_products = [node for node in products if types[node.output[0]] == wide]
    # Of the matrix products only those of the CLS row are wide: query, keys, query times keys.
    assert len(wide_products) == 3
    assert len(products) == 1 + 3 * 8 + 3 + 2
    assert all(types[f"layers.{index}"] == wide for index in range(3))
    op = next(node for node in inferred.graph.node if node.op_type == "D2Prune")
    assert types[op.input[0]] == narrow
    assert [types[name] for name in op.input[1:]] == [wide] * 3


def test_the_layers_named_for_comparison_are_in_the_graph(tmp_path):
    exported = export(tmp_path)
    produced = {name for node in exported.graph.node for name in node.output}
    assert set(layer_names(exported.spec, d2_plan(KEEP, "cls", LAYER))) <= produced


def test_nothing_of_the_exporting_machine_is_in_the_file(tmp_path):
    exported = export(tmp_path)
    raw = (exported.folder / "vision.onnx").read_bytes()
    assert b".py" not in raw
    assert b"/home" not in raw
    assert str(tmp_path).encode() not in raw
    assert not any(node.metadata_props or node.doc_string for node in exported.graph.node)


def test_the_graph_has_no_shape_arithmetic_around_the_tiles(tmp_path):
    """What tracing wrote as Shape, Gather, Concat and Reshape is one Reshape with a constant."""
    counts: dict[str, int] = {}
    for node in export(tmp_path).graph.node:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    assert counts.get("Shape", 0) <= 1
    assert counts["Concat"] <= 2
    assert "CastLike" not in counts
    assert "Identity" not in counts


def _without_external_data(model: onnx.ModelProto) -> onnx.ModelProto:
    for tensor in model.graph.initializer:
        if tensor.external_data:
            model.graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    kept = [tensor for tensor in model.graph.initializer if not tensor.external_data]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model
