"""Q/DQ nodes: where they are, what is in them, and that smoothing by itself changes nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from d2export.engine.onnxruntime import open_session
from d2export.export.decoder import trace_decoder
from d2export.export.graph_file import write_graph
from d2export.export.quantize import Quantization, quantize
from d2export.export.quantize_products import find_products, product_names
from d2export.export.quantize_weights import NarrowWeight, place_narrow, quantize_channels
from d2export.export.vision import trace_vision, trace_whole_vision
from d2export.export.vision_graph import prior_slots
from d2export.models import layouts
from d2export.models.checkpoint import open_checkpoint
from d2export.models.decoder import inverse_frequencies
from d2export.models.presets import ModelSpec
from d2export.models.safetensors_file import TensorRef, read_header
from d2export.models.text_layouts import resolve_text
from d2export.options import ExportOptions
from tests.small_checkpoints import write_small_checkpoint

BACKBONES = {"internvl": "qwen2", "llava": "llama", "internvl-fused": "internlm2"}
QDQ = {"QuantizeLinear", "DequantizeLinear"}


@dataclass
class Small:
    """A checkpoint, and the graphs made of it, each once."""

    folder: Path
    spec: ModelSpec
    refs: dict[str, TensorRef]
    made: dict[tuple[object, ...], Path] = field(default_factory=dict)

    def quantization(self, alpha: int = 0) -> Quantization:
        """Every product, range 4; norms and mlp.down smoothed by powers up to `alpha`."""
        random, names = np.random.default_rng(0), product_names(self.refs)
        channels = {
            name.removesuffix(".weight"): ref.shape[-1]
            for name, ref in self.refs.items()
            if name.endswith((".norm1.weight", ".norm2.weight", ".norm.weight", ".down.weight"))
        }
        exponents = {
            name: random.integers(-alpha, alpha + 1, count).astype(np.int32)
            for name, count in channels.items()
        }
        return Quantization(dict.fromkeys(names, 4.0), exponents if alpha else {})

    def graph(self, which: str, alpha: int | None, precision: str = "fp32", opset=17) -> Path:
        """The file of a `decoder`, `vision` or `pruned` graph; `alpha` None leaves it in float."""
        key = (which, alpha, precision, opset)
        if key not in self.made:
            path = self.folder / str(len(self.made)) / f"{which}.onnx"
            path.parent.mkdir()
            given = Quantization({}) if alpha is None else self.quantization(alpha)
            model, constants = getattr(self, which)(opset)
            narrow = quantize(model, self.refs, given)
            weights = place_narrow(self.refs, narrow, [model], path.parent)
            write_graph(model, path, weights, constants, precision)
            self.made[key] = path
        return self.made[key]

    def decoder(self, opset: int = 17) -> tuple[ir.Model, dict[str, np.ndarray]]:
        plan = ExportOptions("m", scope="vlm", keep="2").plan(self.spec)
        model = trace_decoder(self.spec.text, plan, opset, self.spec.vision.tokens_per_side)
        frequencies = inverse_frequencies(self.spec.text).numpy()
        return model, {"model.text.inverse_frequencies": frequencies}

    def vision(self, opset: int = 17) -> tuple[ir.Model, dict[str, np.ndarray]]:
        return trace_whole_vision(self.spec, opset), {}

    def pruned(self, opset: int = 17) -> tuple[ir.Model, dict[str, np.ndarray]]:
        plan = ExportOptions("m", keep="2").plan(self.spec)
        model = trace_vision(self.spec, plan, prior=None, opset=opset)
        return model, prior_slots(self.spec, None)


@pytest.fixture(scope="module", params=BACKBONES)
def small(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Small:
    """The three language models; the last two also have the two vision towers."""
    folder = tmp_path_factory.mktemp(request.param) / "checkpoint"
    layout = request.param.removesuffix("-fused")
    write_small_checkpoint(folder, layout, backbone=BACKBONES[request.param])
    checkpoint = open_checkpoint(folder)
    refs = layouts.resolve(checkpoint.tensors, checkpoint.spec)
    refs |= resolve_text(checkpoint.tensors, checkpoint.spec)
    return Small(folder.parent, checkpoint.spec, refs)


def loaded(path: Path) -> onnx.ModelProto:
    return onnx.load(path, load_external_data=False)


def question(spec: ModelSpec, words: int = 5, visual: int = 4) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    text = spec.text
    none = np.zeros((1, text.kv_heads, 0, text.head_dim), np.float32)
    past = {
        f"past_key_values.{i}.{part}": none for i in range(text.layers) for part in ("key", "value")
    }
    return past | {
        "input_ids": random.integers(0, text.vocab, (1, words + visual)),
        "image_embeds": random.standard_normal((visual, text.hidden)).astype(np.float32),
        "visual_positions": np.arange(1, 1 + visual),
        "image_lengths": np.array([visual]),
        "token_grid": random.uniform(0, 4, (visual, 2)).astype(np.float32),
        "position_ids": np.arange(words + visual)[None],
    }


def pixels(spec: ModelSpec, tiles: int = 2) -> dict[str, np.ndarray]:
    size = spec.vision.image.size
    shape = (tiles, 3, size, size)
    return {"pixel_values": np.random.default_rng(1).standard_normal(shape).astype(np.float32)}


# --- Which products -------------------------------------------------------------------------------


def test_a_graph_has_the_products_of_its_weights(small: Small) -> None:
    graphs = [ir.load(small.graph(which, None)).graph for which in ("vision", "decoder")]
    found = [product.name for graph in graphs for product in find_products(graph)]
    assert sorted(found) == sorted(product_names(small.refs))
    qkv = ["qkv"] if small.spec.text.fused_qkv else ["q", "k", "v"]
    names = [*(f"attention.{part}" for part in (*qkv, "out")), "mlp.gate", "mlp.up", "mlp.down"]
    expected = [f"text.layers.{i}.{name}" for i in range(small.spec.text.layers) for name in names]
    assert sorted(name for name in found if name.startswith("text")) == sorted(expected)


def test_norms_are_known_by_name(small: Small) -> None:
    graph = ir.load(small.graph("decoder", None)).graph
    norms = {product.name: product.norm for product in find_products(graph)}
    assert norms["text.layers.1.mlp.gate"] == norms["text.layers.1.mlp.up"] == "text.layers.1.norm2"
    assert norms["text.layers.1.mlp.down"] is norms["text.layers.1.attention.out"] is None
    assert set(norms.values()) == {
        None, *(f"text.layers.{i}.norm{j}" for i in range(small.spec.text.layers) for j in (1, 2))
    }  # fmt: skip


@pytest.mark.parametrize("which", ["decoder", "pruned"])
def test_what_only_selection_reads_is_as_in_fp16(small: Small, which: str) -> None:
    """Behind the same weights: the row of the last layer below K, and the CLS token's."""
    narrow = selection(loaded(small.graph(which, 2, "int8")).graph)
    half = selection(loaded(small.graph(which, None, "fp16")).graph)
    assert not QDQ & narrow.keys()
    for op_type in ("Softmax", "Slice", "Gather"):
        assert narrow[op_type] == half[op_type]
    assert narrow["MatMul"] >= half["MatMul"] >= 2  # a query and scores; keys, if not shared


def selection(graph: onnx.GraphProto) -> Counter[str]:
    """Operators that only the pruning op's importance needs, with the type of what they compute."""
    made = {name: node for node in graph.node for name in node.output}
    (op,) = (node for node in graph.node if node.domain == "d2export")

    def behind(names: list[str]) -> set[str]:
        found: set[str] = set()
        while names:
            name = names.pop()
            if name in made and name not in found:
                found.add(name)
                names.extend(made[name].input)
        return found

    features = behind([op.input[0]]) | behind(
        [out.name for out in graph.output if out.name.startswith("present.")][:4]
    )
    only = behind([op.input[1]]) - features
    return Counter(made[name].op_type for name in only if made[name].op_type != "Cast")


# --- What TensorRT wants --------------------------------------------------------------------------


@pytest.mark.parametrize("opset", [17, 24])
def test_nodes_are_as_every_parser_takes_them(small: Small, opset: int) -> None:
    if opset > 17 and small.spec.text.fused_qkv:
        pytest.skip("the same nodes as with the other language models")
    graph = loaded(small.graph("decoder", 2, "int8", opset)).graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    made = {name: node for node in graph.node for name in node.output}
    readers = {name: node for node in graph.node for name in node.input}
    products = 0
    for node in graph.node:
        if node.op_type not in QDQ:
            continue
        _, scale, zero = node.input  # three, says the parser of TensorRT 8.6
        assert weights[scale].data_type == TensorProto.FLOAT
        assert weights[zero].data_type == TensorProto.INT8
        assert list(weights[zero].dims) == list(weights[scale].dims)
        assert not numpy_helper.to_array(weights[zero]).any()
        if node.op_type == "QuantizeLinear":
            assert not weights[scale].dims  # an activation has one scale
            assert numpy_helper.to_array(weights[scale]) > 0
            (after,) = (other for other in graph.node if node.output[0] in other.input)
            assert after.op_type == "DequantizeLinear"
        elif node.input[0] in weights:
            assert weights[node.input[0]].data_type == TensorProto.INT8
            axis = next(attribute.i for attribute in node.attribute if attribute.name == "axis")
            assert weights[node.input[0]].dims[axis] == weights[scale].dims[0]
            product = readers[node.output[0]]  # directly: a node between would hide the weight
            assert product.op_type in ("MatMul", "Conv")
            assert made[product.input[0]].op_type == "DequantizeLinear"
            assert axis == (1 if product.op_type == "MatMul" else 0)
            products += 1
    assert products == len([n for n in product_names(small.refs) if n.startswith("text")])


def test_types_around_a_product(small: Small) -> None:
    graph = loaded(small.graph("decoder", 2, "int8")).graph
    types = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    made = {name: node for node in graph.node for name in node.output}
    found: Counter[tuple[bool, int]] = Counter()
    for node in graph.node:
        if node.op_type == "MatMul":
            through_int8 = made[node.input[0]].op_type == "DequantizeLinear"
            found[through_int8, types[node.output[0]]] += 1
    products = [name for name in product_names(small.refs) if name.startswith("text")]
    assert found == {
        (True, TensorProto.FLOAT): len(products),
        # Scores and values of each layer, the query of the row that decides, and the head.
        (False, TensorProto.FLOAT16): 2 * small.spec.text.layers + 2,
        (False, TensorProto.FLOAT): 1,  # the scores of that row
    }
    outputs = {value.name: value.type.tensor_type.elem_type for value in graph.output}
    assert outputs.pop("logits") == TensorProto.FLOAT
    assert outputs.pop("positions") == TensorProto.INT32
    assert set(outputs.values()) == {TensorProto.FLOAT16}


def test_visual_tokens_leave_in_half_precision(small: Small) -> None:
    (out,) = loaded(small.graph("vision", 0, "int8")).graph.output
    assert (out.name, out.type.tensor_type.elem_type) == ("image_embeds", TensorProto.FLOAT16)


# --- What is computed -----------------------------------------------------------------------------


def without_rounding(path: Path, small: Small, given: Quantization) -> bytes:
    """A graph whose Q/DQ nodes let everything pass, its weights in float32."""
    model = onnx.load(path)
    graph = model.graph
    values = {}
    for name in given.ranges:
        ref, norm = small.refs[f"{name}.weight"], _norm(name)
        exponents = given.exponents.get(name, given.exponents.get(norm))
        op_type = "Conv" if len(ref.shape) == 4 else "MatMul"
        values[f"model.{name}.int8.float"] = NarrowWeight(name, op_type, ref, exponents).values()
    for node in graph.node:
        if node.op_type in QDQ:
            if node.output[0] in values:
                array = np.ascontiguousarray(values[node.output[0]])
                tensor = numpy_helper.from_array(array, f"{node.output[0]}.exact")
                graph.initializer.append(tensor)
                source = tensor.name
            else:
                source = node.input[0]
            node.CopyFrom(helper.make_node("Identity", [source], list(node.output), node.name))
    for value in graph.value_info:
        if value.name.endswith(".int8"):
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    return bytes(model.SerializeToString())


def _norm(name: str) -> str:
    layer, _, rest = name.rpartition(".")
    if name == "projector.linear1":
        return "projector.norm"
    before = {"attention": "norm1", "mlp": "norm2"}.get(layer.rpartition(".")[2], "")
    return f"{layer.rpartition('.')[0]}.{before}" if rest not in ("out", "down") else ""


@pytest.mark.parametrize("which", ["decoder", "vision"])
def test_smoothing_alone_changes_no_bit(small: Small, which: str) -> None:
    import onnxruntime

    inputs = question(small.spec) if which == "decoder" else pixels(small.spec)
    answers = []
    for alpha in (0, 2):
        given, path = small.quantization(alpha), small.graph(which, alpha)
        options = onnxruntime.SessionOptions()
        level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.graph_optimization_level = level  # fused nodes round elsewhere
        model = without_rounding(path, small, given)
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        answers.append(session.run(None, inputs))
        smoothed = [name for name in given.exponents if np.any(given.exponents[name])]
        assert bool(smoothed) == (alpha > 0)
    for plain, smoothed in zip(*answers, strict=True):
        np.testing.assert_array_equal(plain, smoothed)


def test_onnxruntime_computes_what_the_codes_say(small: Small) -> None:
    name = "text.layers.0.mlp.gate"
    path = small.graph("decoder", 0)
    graph = loaded(path).graph
    made = {output: node for node in graph.node for output in node.output}
    product = next(
        node for node in graph.node if any(f"model.{name}.int8" in text for text in node.input)
        and node.op_type == "MatMul"
    )  # fmt: skip
    activation = made[made[product.input[0]].input[0]].input[0]
    names = (activation, product.output[0])
    session = open_session(path, only_outputs=names)
    wanted = {value.name for value in session.get_inputs()}
    given_inputs = {key: value for key, value in question(small.spec).items() if key in wanted}
    x, found = session.run(list(names), given_inputs)
    codes, scale = NarrowWeight(name, "MatMul", small.refs[f"{name}.weight"]).quantized()
    rounded = np.rint(x / np.float32(4 / 127)).clip(-128, 127).astype(np.int64)
    expected = (rounded @ codes.astype(np.int64)) * (4 / 127 * scale.astype(np.float64))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_codes_of_a_weight() -> None:
    weight = np.array([[1, 0, -8], [-2, 0, 4], [0.5, 0, 0.04]], np.float32)
    codes, scale = quantize_channels(weight, 1)
    assert codes.tolist() == [[64, 0, -127], [-127, 0, 64], [32, 0, 1]]
    np.testing.assert_allclose(scale[[0, 2]], [2 / 127, 8 / 127], rtol=1e-6)
    assert scale[1] > 0
    by_row, _ = quantize_channels(weight, 0)
    assert by_row[0].tolist() == [16, 0, -127]


# --- Files ----------------------------------------------------------------------------------------


def test_a_weight_is_stored_once_unless_selection_reads_it(small: Small) -> None:
    graph = loaded(small.graph("decoder", 2, "int8")).graph
    stored = {tensor.name.removeprefix("model.") for tensor in graph.initializer}
    last = small.spec.text.layers - 1
    assert f"text.layers.{last}.mlp.up.int8" in stored
    assert f"text.layers.{last}.mlp.up.weight" not in stored
    query = "qkv" if small.spec.text.fused_qkv else "q"
    # The layer below K, whose attention decides.
    assert {f"text.layers.1.attention.{query}.{leaf}" for leaf in ("int8", "weight")} <= stored
    ranges = read_header(small.graph("decoder", 2, "int8").with_name("weights.safetensors"))
    assert f"text.layers.{last}.mlp.up.weight" not in ranges
