"""`package --format triton`: what Triton's own messages and the graphs themselves say of it."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx
import pytest
from google.protobuf import text_format

from d2export.bundle.engine_records import BUILT
from d2export.bundle.folder import read_bundle, write_manifest
from d2export.engine import cuda_driver
from d2export.packaging.triton_choices import Choices
from d2export.packaging.triton_fields import TYPES
from tests.command import Caller
from tests.engine.stand_in_tensorrt import module
from tests.test_engine_building import H100, plugin

TENSOR_TYPES = {
    onnx.TensorProto.FLOAT: "TYPE_FP32",
    onnx.TensorProto.FLOAT16: "TYPE_FP16",
    onnx.TensorProto.INT64: "TYPE_INT64",
    onnx.TensorProto.INT32: "TYPE_INT32",
}


@pytest.fixture
def engines(vlm_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, d2: Caller) -> Any:
    """A function: the bundle with engines of a TensorRT that a stand-in plays."""

    def built(version: str) -> Path:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setitem(sys.modules, "tensorrt", module(version))
        monkeypatch.setattr(cuda_driver, "devices", lambda *_: (H100,))
        symbol = b"getPluginCreators" if version.startswith("8") else b"getCreators"
        library = plugin(tmp_path / "plugin", symbol)
        monkeypatch.setattr("d2export.engine.plugin.find_library", lambda: library)
        bundle = shutil.copytree(vlm_bundle, tmp_path / "built")
        answer = d2("build", bundle, "--target", "h100")
        assert answer.code == 0, answer.err
        return bundle

    return built


def configs(repository: Path, messages: ModuleType) -> dict[str, Any]:
    """What Triton reads, by model, after what it looks at when it starts."""
    found = {}
    for folder in sorted((repository / "models").iterdir()):
        config = text_format.Parse((folder / "config.pbtxt").read_text(), messages.ModelConfig())
        assert config.name == folder.name
        assert (folder / "1").is_dir()
        file = config.default_model_filename or ("model.py" if config.backend == "python" else None)
        assert file is None or (folder / "1" / file).is_file()
        found[folder.name] = config
    assert sorted(path.name for path in repository.iterdir() if path.is_file()) == ["README.md"]
    return found


def shapes(values: Iterable[Any], messages: ModuleType) -> dict[str, tuple[str, list[int]]]:
    names = messages.DataType.Name
    return {value.name: (names(value.data_type), list(value.dims)) for value in values}


def graph_shapes(values: Iterable[Any]) -> dict[str, tuple[str, list[int]]]:
    """The same of an ONNX graph."""
    return {
        value.name: (
            TENSOR_TYPES[value.type.tensor_type.elem_type],
            [
                dim.dim_value if dim.HasField("dim_value") else -1
                for dim in value.type.tensor_type.shape.dim
            ],
        )
        for value in values
    }


def packed(d2: Caller, bundle: Path, out: Path, *options: object) -> Path:
    answer = d2("package", bundle, "--format", "triton", "-o", out, *options)
    assert answer.code == 0, answer.err
    return out


def test_every_type_is_one_of_triton(triton_messages: ModuleType) -> None:
    assert {f"TYPE_{name}" for name in TYPES.values()} <= set(triton_messages.DataType.keys())


@pytest.mark.parametrize("backend", ["onnxruntime", "python"])
def test_inputs_and_outputs_are_the_graphs_own(
    d2: Caller, vlm_bundle: Path, tmp_path: Path, triton_messages: ModuleType, backend: str
) -> None:
    repository = packed(d2, vlm_bundle, tmp_path / "out", "--name", "small", "--backend", backend)
    found = configs(repository, triton_messages)
    assert sorted(found) == ["small", "small_decoder", "small_vision"]
    for name in ("small_decoder", "small_vision"):
        config = found[name]
        assert config.backend == backend
        folder = repository / "models" / name / "1"
        graph = onnx.load(str(folder / "model.onnx"), load_external_data=False).graph
        skip = 1 if config.max_batch_size else 0  # Triton adds the first dimension then
        for values, given in ((graph.input, config.input), (graph.output, config.output)):
            own = graph_shapes(values)
            assert skip == 0 or all(dims[0] == -1 for _, dims in own.values())
            own = {name: (dtype, dims[skip:]) for name, (dtype, dims) in own.items()}
            assert shapes(given, triton_messages) == own
        weights = {
            e.value for t in graph.initializer for e in t.external_data if e.key == "location"
        }
        assert weights
        assert all((folder / weight).is_file() for weight in weights)


def test_weights_are_not_copied(d2: Caller, vlm_bundle: Path, tmp_path: Path) -> None:
    repository = packed(d2, vlm_bundle, tmp_path / "out", "--name", "small")
    for name in ("small_decoder", "small_vision"):
        weights = repository / "models" / name / "1" / "model.safetensors"
        assert weights.samefile(vlm_bundle / "onnx" / "model.safetensors")


def test_tiles_of_several_requests_are_seen_together(
    d2: Caller, vlm_bundle: Path, tmp_path: Path, triton_messages: ModuleType
) -> None:
    repository = packed(d2, vlm_bundle, tmp_path / "out", "--name", "small")
    vision = configs(repository, triton_messages)["small_vision"]
    assert vision.max_batch_size == 13  # 12 tiles and the thumbnail: the largest picture fits
    assert vision.HasField("dynamic_batching")
    repository = packed(d2, vlm_bundle, tmp_path / "more", "--name", "s", "--batch-tiles", 40)
    assert configs(repository, triton_messages)["s_vision"].max_batch_size == 40


def test_each_gpu_has_a_decoder(
    d2: Caller, vlm_bundle: Path, tmp_path: Path, triton_messages: ModuleType
) -> None:
    options = ("--name", "s", "--gpus", "0,2", "--instances", 3)
    found = configs(packed(d2, vlm_bundle, tmp_path / "out", *options), triton_messages)
    assert sorted(found) == ["s", "s_decoder_gpu0", "s_decoder_gpu2", "s_vision"]
    gpu = triton_messages.ModelInstanceGroup.KIND_GPU
    groups = {
        name: [(g.kind, g.count, list(g.gpus)) for g in c.instance_group]
        for name, c in found.items()
    }
    assert groups == {
        "s": [(gpu, 6, [0, 2])],
        "s_decoder_gpu0": [(gpu, 3, [0])],
        "s_decoder_gpu2": [(gpu, 3, [2])],
        "s_vision": [(gpu, 3, [0, 2])],
    }
    # Each instance of the first asks the decoder of its own GPU.
    assert found["s"].parameters["decoder_model"].string_value == "s_decoder_gpu{gpu}"
    assert found["s"].parameters["vision_model"].string_value == "s_vision"
    assert found["s"].model_transaction_policy.decoupled


def test_scope_vision_is_an_ensemble(
    d2: Caller, text_bundle: Path, tmp_path: Path, triton_messages: ModuleType
) -> None:
    found = configs(packed(d2, text_bundle, tmp_path / "out", "--name", "seen"), triton_messages)
    assert sorted(found) == ["seen", "seen_preprocess", "seen_vision"]
    first, second = found["seen"].ensemble_scheduling.step
    assert (first.model_name, second.model_name) == ("seen_preprocess", "seen_vision")
    given = {value.name for value in found["seen"].input}
    assert given == {"image", "prompt"}
    passed = shapes(found["seen_preprocess"].output, triton_messages)
    assert passed == shapes(found["seen_vision"].input, triton_messages)
    assert set(first.input_map) == given
    assert set(first.output_map) == set(second.input_map) == set(passed)
    assert set(second.output_map) == {value.name for value in found["seen"].output}
    outputs = shapes(found["seen_vision"].output, triton_messages)
    assert outputs == shapes(found["seen"].output, triton_messages)
    assert found["seen_vision"].max_batch_size == 0


@pytest.mark.parametrize(("version", "integers"), [("8.6.1", "TYPE_INT32"), ("10.3", "TYPE_INT64")])
def test_engines_are_served_by_their_backend(
    d2: Caller,
    engines: Any,
    tmp_path: Path,
    triton_messages: ModuleType,
    version: str,
    integers: str,
) -> None:
    bundle = engines(version)
    repository = packed(d2, bundle, tmp_path / "out", "--name", "s", "--gpus", "1")
    found = configs(repository, triton_messages)
    decoder, vision = found["s_decoder_gpu1"], found["s_vision"]
    for config, engine in ((decoder, "decoder"), (vision, "vision")):
        assert (config.platform, config.default_model_filename) == ("tensorrt_plan", "model.plan")
        plan = repository / "models" / config.name / "1" / "model.plan"
        assert plan.samefile(bundle / "engines" / f"{engine}.plan")
        assert config.max_batch_size == 0
    assert shapes(decoder.input, triton_messages)["input_ids"] == (integers, [1, -1])
    expected = "int32" if version == "8.6.1" else "int64"
    assert found["s"].parameters["integers"].string_value == expected
    plans = json.loads((bundle / "engines" / "plan.json").read_text())["engines"]
    count = {one["plan"]["graph"]: len(one["plan"]["profiles"]) for one in plans}
    (group,) = decoder.instance_group
    assert count["decoder"] == len(group.profile) or count["decoder"] == 1
    library = repository / "plugins" / "libd2export_plugin.so"
    assert library.is_file()
    text = (repository / "README.md").read_text()
    assert "--backend-config=tensorrt,plugins=$PWD/plugins/libd2export_plugin.so" in text


def test_an_engine_that_was_changed_is_refused(d2: Caller, engines: Any, tmp_path: Path) -> None:
    bundle = engines("10.3")
    (bundle / "engines" / "vision.plan").write_bytes(b"another")
    message = d2.refused("package", bundle, "--format", "triton", "-o", tmp_path / "out")
    assert message.startswith(f"{bundle}/engines/vision.plan has the sha256 ")
    (bundle / "engines" / "vision.plan").unlink()
    message = d2.refused("package", bundle, "--format", "tar", "-o", tmp_path / "out")
    assert message.startswith(f"{bundle}/engines/vision.plan is missing")
    assert message.endswith(f"Build it again: d2export build {bundle}")
    (bundle / BUILT).unlink()
    assert d2("package", bundle, "--format", "tar", "-o", tmp_path / "out").code == 0


def test_the_ops_library_is_named_where_the_server_has_it(
    d2: Caller, vlm_bundle: Path, tmp_path: Path, triton_messages: ModuleType
) -> None:
    library = "/opt/d2export/lib/libd2export_onnxruntime.so"
    options = ("--name", "s", "--custom-op", library)
    found = configs(packed(d2, vlm_bundle, tmp_path / "out", *options), triton_messages)
    assert list(found["s_decoder"].model_operations.op_library_filename) == [library]
    assert list(found["s"].model_operations.op_library_filename) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--backend", "vllm"),
            "--backend is 'vllm', expected one of onnxruntime, tensorrt",
        ),
        (
            ("--backend", "tensorrt"),
            "--backend is 'tensorrt', and {bundle} has no engine of",
        ),
        (("--gpus", "0;1"), "--gpus is '0;1', expected numbers with commas between them"),
        (("--gpus", "1,1"), "--gpus is '1,1', which names a GPU twice"),
        (("--gpus", "0", "--backend", "python"), "--gpus is '0' with --backend python, which runs"),
        (("--instances", "0"), "--instances is 0, expected at least 1"),
        (("--batch-tiles", "12"), "--batch-tiles is 12, expected at least 13: the largest picture"),
        (("--name", "a/b"), "--name is 'a/b', expected letters, digits, '_', '-' and '.'"),
        (("--custom-op", "op.so"), "--custom-op is 'op.so', expected an absolute path"),
        (
            ("--custom-op", "/op.so", "--backend", "python"),
            "--custom-op is for --backend onnxruntime, not python",
        ),
    ],
)
def test_choices_that_make_no_sense(
    d2: Caller, vlm_bundle: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    out = tmp_path / "out"
    refused = d2.refused("package", vlm_bundle, "--format", "triton", "-o", out, *options)
    problem, *hint = refused.splitlines()
    assert problem.startswith(message.format(bundle=vlm_bundle))
    assert hint
    assert not out.exists()


def test_a_graph_that_prunes_sees_one_request_at_a_time(
    d2: Caller, text_bundle: Path, tmp_path: Path
) -> None:
    options = ("--format", "triton", "-o", tmp_path / "out", "--batch-tiles", "26")
    message = d2.refused("package", text_bundle, *options)
    assert message.startswith(
        "--batch-tiles is 26, and this bundle sees one request at a time: its"
    )


def test_a_bundle_without_words_is_refused(d2: Caller, vlm_bundle: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(vlm_bundle, tmp_path / "bundle")
    manifest = read_bundle(bundle).manifest
    files = {path: entry for path, entry in manifest.files.items() if "processor/" not in path}
    write_manifest(bundle, replace(manifest, files=files))
    message = d2.refused("package", bundle, "--format", "triton", "-o", tmp_path / "out")
    assert message == (
        f"{bundle} has no tokenizer, so a server cannot be asked in words\n"
        "  Export it again from a checkpoint that has one."
    )
    write_manifest(bundle, replace(manifest, precision="bf16"))
    message = d2.refused("package", bundle, "--format", "triton", "-o", tmp_path / "out")
    assert message.endswith("Export again with --precision fp16.")


def test_what_is_there_stays(d2: Caller, vlm_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    message = d2.refused("package", vlm_bundle, "--format", "triton", "-o", tmp_path / "out")
    assert message == f"output {tmp_path}/out exists\n  Choose another path, or remove it yourself."
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]
    message = d2.refused("package", tmp_path / "out", "--format", "triton", "-o", tmp_path / "o")
    assert message.startswith(f"{tmp_path}/out is not a bundle")


def test_nothing_half_written_stays(
    d2: Caller, vlm_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    out = tmp_path / "out" / "repository"
    message = d2.refused("package", vlm_bundle, "--format", "triton", "-o", out)
    assert message.startswith(f"no space left for {tmp_path}/out/")
    assert not out.parent.exists()


def test_weights_on_another_disk_are_copied(
    d2: Caller, vlm_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_disk(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", other_disk)
    repository = packed(d2, vlm_bundle, tmp_path / "out", "--name", "s")
    weights = repository / "models" / "s_decoder" / "1" / "model.safetensors"
    assert weights.stat().st_nlink == 1
    assert weights.read_bytes() == (vlm_bundle / "onnx" / "model.safetensors").read_bytes()


def test_the_defaults_of_the_command_are_those_of_the_record() -> None:
    assert Choices.parsed(None, None, None, 1, None, None) == Choices()
