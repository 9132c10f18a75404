"""Layer by layer through the whole model: nothing drifts but what is damaged, and that is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from d2export.bundle.folder import read_bundle
from d2export.engine.subgraph import keep_only
from d2export.options import ExportOptions
from d2export.pipeline import export
from d2export.pruning.parameters import POSITIONS_OP_TYPE
from d2export.session import check, check_layers
from tests.command import Caller
from tests.sample_bundle import edit, renew
from tests.small_checkpoints import write_small_checkpoint
from tests.small_language_models import LAYERS, Backbone

VISION, DECODER = "onnx/vision.onnx", "onnx/decoder.onnx"
DECODER_LAYERS = [f"decoder.layers.{index}" for index in range(LAYERS)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pruned before layer 2 of four, 2 of 4 tokens."""
    folder = tmp_path_factory.mktemp("layers")
    model = write_small_checkpoint(folder / "small", "internvl", backbone="qwen2")
    export(ExportOptions(str(model), scope="vlm", keep="2"), folder / "bundle")
    return folder / "bundle"


@pytest.fixture(scope="module")
def shallow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With fused projections, and layer 0 for a prior."""
    folder = tmp_path_factory.mktemp("shallow")
    model = write_small_checkpoint(folder / "small", "internvl", backbone="internlm2")
    export(ExportOptions(str(model), scope="vlm", keep="2", prior="shallow"), folder / "bundle")
    return folder / "bundle"


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(bundle, tmp_path / "copy")


def multiply(bundle: Path, path: str, name: str) -> None:
    """Have a graph make 1 % more of a value than it computed."""
    model = onnx.load(bundle / path, load_external_data=False)
    graph = model.graph
    at, node = next((i, n) for i, n in enumerate(graph.node) if name in n.output)
    node.output[0] = f"{name}.exact"
    graph.initializer.append(onnx.numpy_helper.from_array(np.float32(1.01), "factor"))
    graph.node.insert(at + 1, onnx.helper.make_node("Mul", [f"{name}.exact", "factor"], [name]))
    onnx.save(model, bundle / path)
    renew(bundle, path)


def test_every_layer_is_compared(d2: Caller, bundle: Path) -> None:
    answer = d2("check", bundle, "--per-layer")
    assert (answer.code, answer.last_line) == (0, "PASSED")
    assert "no layer exceeds an error of 1e-05\n" in answer.out
    report = json.loads(d2("check", bundle, "--per-layer", "--json").out)
    vision = read_bundle(bundle).manifest.layers
    assert len(vision) == 3
    assert [layer["name"] for layer in report["layers"]] == [
        *(f"vision.{name}" for name in vision),
        "vision.image_embeds",
        *DECODER_LAYERS[:2],
        "decoder.importance",
        *DECODER_LAYERS[2:],
        "decoder.logits",
    ]
    assert all(0 < layer["error"] < 1e-5 for layer in report["layers"])


@pytest.mark.parametrize(
    ("layout", "backbone", "precision", "prior", "prune_layer"),
    [
        ("internvl-hf", "qwen2", "fp16", "none", 3),
        ("llava-hf", "llama", "bf16", "none", 1),
        ("llava", "llama", "fp32", "file", 2),
    ],
)
def test_nothing_drifts(
    tmp_path: Path, layout: str, backbone: Backbone, precision: str, prior: str, prune_layer: int
) -> None:
    model = write_small_checkpoint(tmp_path / "small", layout, backbone=backbone)  # type: ignore[arg-type]
    if prior == "file":
        places = [float(place) for place in range(1, 17)]
        document = {"tile": places, "thumbnail": places}
        prior = str(tmp_path / "prior.json")
        Path(prior).write_text(
            json.dumps({"format": "d2export-prior", "version": 1, "slots": document})
        )
    options = ExportOptions(
        str(model), scope="vlm", keep="2", precision=precision, prune_layer=prune_layer,
        prior=prior,
    )  # fmt: skip
    export(options, tmp_path / "bundle")
    report = check_layers(tmp_path / "bundle")
    assert report.first_drift is None, report
    names = [layer.name for layer in report.layers]
    assert [name for name in names if "layers" in name and "decoder" in name] == DECODER_LAYERS
    assert names.index("decoder.importance") == names.index(DECODER_LAYERS[prune_layer - 1]) + 1


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (VISION, "layers.1", "vision.layers.1"),
        (VISION, "image_embeds", "vision.image_embeds"),
        (DECODER, "layers.0", "decoder.layers.0"),
        (DECODER, "layers.1", "decoder.layers.1"),
        (DECODER, "importance", "decoder.importance"),
        (DECODER, "layers.2", "decoder.layers.2"),
        (DECODER, "layers.3", "decoder.layers.3"),
        (DECODER, "logits", "decoder.logits"),
    ],
)
def test_a_damaged_layer_is_named(
    d2: Caller, copy: Path, path: str, value: str, named: str
) -> None:
    multiply(copy, path, value)
    answer = d2("check", copy, "--per-layer")
    assert (answer.code, answer.last_line) == (1, "FAILED")
    assert f"the first layer to exceed an error of 1e-05 is {named}\n" in answer.out
    errors = {layer.name: layer.error for layer in check_layers(copy).layers}
    assert errors[named] == pytest.approx(0.01, rel=1e-3)
    if path == VISION:  # the decoder was given PyTorch's visual tokens
        assert max(error for name, error in errors.items() if "decoder" in name) < 1e-5


def test_a_damaged_prior_is_named(shallow: Path, tmp_path: Path) -> None:
    report = check_layers(shallow)
    assert report.first_drift is None, report
    assert [layer.name for layer in report.layers if layer.name[-1].isalpha()] == [
        "vision.image_embeds",
        "decoder.prior",
        "decoder.importance",
        "decoder.logits",
    ]
    multiply(shutil.copytree(shallow, tmp_path / "copy"), DECODER, "prior")
    assert check_layers(tmp_path / "copy").first_drift == "decoder.prior"


def test_layers_are_right_though_the_graph_keeps_other_tokens(copy: Path) -> None:
    """It is `check` that compares which tokens stay: here the least important ones."""
    model = onnx.load(copy / DECODER, load_external_data=False)
    nodes = model.graph.node
    at, op = next((i, node) for i, node in enumerate(nodes) if node.op_type == POSITIONS_OP_TYPE)
    op.input[1] = "unimportance"
    nodes.insert(at, onnx.helper.make_node("Neg", ["importance"], ["unimportance"]))
    onnx.save(model, copy / DECODER)
    renew(copy, DECODER)
    assert not check(copy).passed
    assert check_layers(copy).first_drift is None


def test_a_layer_at_a_time_reads_its_own_weights_only(bundle: Path) -> None:
    graph = onnx.load(bundle / DECODER, load_external_data=False).graph
    keep_only(graph, ["layers.3"], ["layers.2", "positions"])
    read = {tensor.name for tensor in graph.initializer if tensor.external_data}
    assert len(read) == 12  # two norms, q, k and v with biases, out, gate, up, down
    assert all(name.startswith("model.text.layers.3.") for name in read)


def test_a_bundle_without_references(d2: Caller, copy: Path) -> None:
    edit(copy, ("references",), [])
    message = d2.refused("check", copy, "--per-layer")
    assert message == f"{copy} stores no references\n  Build the bundle again."
