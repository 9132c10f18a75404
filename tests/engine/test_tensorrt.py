"""The builder does what the plan says, in the words of each TensorRT."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper

from d2export.engine import tensorrt
from d2export.engine.build_options import BuildOptions
from d2export.engine.builder_plan import EnginePlan
from d2export.engine.tensorrt import build_engine, tensorrt_module, version_of
from d2export.errors import EnvironmentMismatch, OutputError
from d2export.progress import Progress
from tests.engine import tensorrt_headers as headers
from tests.engine.plans import decoder_graph, plan, vision_graph
from tests.engine.stand_in_tensorrt import Layer, module

TYPES = {"image_embeds": TensorProto.FLOAT16, "norm": TensorProto.FLOAT, "ids": TensorProto.INT64}


@pytest.fixture
def onnx(tmp_path: Path) -> Path:
    """A graph whose values have types."""
    values = [helper.make_tensor_value_info(name, kind, [2]) for name, kind in TYPES.items()]
    graph = helper.make_graph([], "g", [], values[:1], value_info=values[1:])
    path = tmp_path / "vision.tensorrt.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    return path


@pytest.fixture
def library(tmp_path: Path) -> Path:
    path = tmp_path / "libd2export_plugin.so"
    path.write_bytes(b"\x7fELF")
    return path


def build(trt: Any, found: EnginePlan, onnx: Path, library: Path, **options: Any) -> Path:
    engine = onnx.parent / "engines" / "vision.plan"
    progress = options.pop("progress", Progress(level="quiet"))
    build_engine(trt, found, onnx, engine, library=library, progress=progress)
    return engine


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("version", headers.VERSIONS)
def test_what_the_plan_says_is_what_it_is_told(
    version: str, precision: str, onnx: Path, library: Path
) -> None:
    trt = module(version)
    options = BuildOptions(2**30, None, True, True, 5)
    found = plan(version_of(trt), decoder_graph(precision), options, "h100")
    engine = build(trt, found, onnx, library)
    assert engine.read_bytes() == b"engine of " + version.encode()
    assert names(engine.parent) == ["vision.plan"]
    told = trt.told
    assert told.parsed == onnx
    assert told.network_flags == set(found.network_flags)
    assert told.flags == set(found.builder_flags)
    assert "VERSION_COMPATIBLE" in told.flags
    assert told.tactics == {"EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS"}
    assert told.pools == {"WORKSPACE": 2**30}
    level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    assert told.settings["hardware_compatibility_level"] == level
    assert told.settings["builder_optimization_level"] == 5
    assert told.settings["plugins_to_serialize"] == [str(library)]
    assert ("progress_monitor" in told.settings) == (version_of(trt) >= (10,))
    prefill, decode = told.profiles
    assert prefill["input_ids"] == ((1, 1), (1, 3392), (1, 3840))
    assert decode["past_key_values.0.key"][0] == (1, 2, 1, 64)


@pytest.mark.parametrize("version", headers.VERSIONS)
def test_a_plan_for_another_version_names_what_is_missing(
    version: str, onnx: Path, library: Path
) -> None:
    trt = module(version)
    other = (11, 1) if version_of(trt) < (11,) else (8, 6)
    found = replace(plan(other), builder_flags=("FP17",))
    if version_of(trt) >= (10,):
        found = replace(found, network_flags=(), plugin=None)
    with pytest.raises(EnvironmentMismatch) as raised:
        build(trt, replace(found, plugin=None), onnx, library)
    assert f"TensorRT {version} has no BuilderFlag.FP17" in raised.value.problem


def test_flags_of_8_do_not_pass_in_11(onnx: Path, library: Path) -> None:
    with pytest.raises(
        EnvironmentMismatch,
        match=r"TensorRT 11\.1 has no NetworkDefinitionCreationFlag\.EXPLICIT_BATCH",
    ):
        build(module("11.1"), replace(plan((8, 6)), plugin=None), onnx, library)


def test_layers_of_8_keep_the_types_of_the_graph(onnx: Path, library: Path) -> None:
    trt = module("8.6.1")
    kinds = trt.LayerType
    trt.told.layers = [
        Layer(kinds.MATRIX_MULTIPLY, "image_embeds"),
        Layer(kinds.NORMALIZATION, "norm"),
        Layer(kinds.GATHER, "ids"),
        Layer(kinds.CONSTANT, "norm"),
        Layer(kinds.TOPK, "norm", "ids"),
        Layer(kinds.SOFTMAX, "(Unnamed Layer* 5)"),
    ]
    build(trt, plan((8, 6, 1)), onnx, library)
    pinned = [(getattr(one, "precision", None), one.types) for one in trt.told.layers]
    assert pinned == [
        ("float16", {0: "float16"}),
        ("float32", {0: "float32"}),
        (None, {}),
        (None, {}),
        ("float32", {0: "float32"}),
        (None, {}),
    ]


def test_layers_of_10_have_the_types_already(onnx: Path, library: Path) -> None:
    trt = module("10.3")
    trt.told.layers = [Layer(trt.LayerType.MATRIX_MULTIPLY, "image_embeds")]
    build(trt, plan((10, 3)), onnx, library)
    assert trt.told.layers[0].types == {}


@pytest.mark.parametrize("version", ["8.6.1", "10.3"])
def test_the_parser_says_which_node_it_cannot_read(version: str, onnx: Path, library: Path) -> None:
    trt = module(version)
    error = {
        "node": 17,
        "node_name": "prune",
        "node_operator": "D2Prune",
        "desc": "Plugin not found",
        "code": "INVALID_NODE",
        "func": "parseNode",
        "line": 42,
    }
    trt.told.parser_errors = [error, {**error, "node": 18, "desc": "no importer"}]
    with pytest.raises(EnvironmentMismatch) as raised:
        build(trt, plan(version_of(trt)), onnx, library)
    named = " 'prune' (D2Prune)" if version == "10.3" else ""
    assert raised.value.problem == (
        f"the parser of TensorRT {version} cannot read {onnx}\n"
        f"    node 17{named}: Plugin not found [INVALID_NODE, parseNode:42]\n"
        f"    node 18{named}: no importer [INVALID_NODE, parseNode:42]"
    )
    assert not (onnx.parent / "engines").exists()


def test_a_build_that_fails_says_what_tensorrt_said(onnx: Path, library: Path) -> None:
    trt = module("10.16")
    trt.told.builds = False
    trt.told.builder_errors = [f"no tactic for layer {index}" for index in range(25)]
    with pytest.raises(EnvironmentMismatch) as raised:
        build(trt, plan((10, 16)), onnx, library)
    lines = raised.value.problem.splitlines()
    assert lines[0] == f"TensorRT 10.16 cannot build engines/vision.plan from {onnx}"
    assert lines[1] == "    no tactic for layer 0"
    assert lines[-1] == "    and 5 more; -v shows all"
    assert not (onnx.parent / "engines").exists()


@pytest.mark.parametrize("version", ["8.6.1", "10.3", "11.1"])
def test_a_plugin_that_is_not_in_its_library(version: str, onnx: Path, library: Path) -> None:
    trt = module(version)
    trt.told.plugins_in_library = {"MaxMinPrune"}
    with pytest.raises(EnvironmentMismatch) as raised:
        build(trt, plan(version_of(trt)), onnx, library)
    assert raised.value.problem == (
        f"TensorRT {version} finds no plugin D2Prune, version 1, namespace d2export, in {library}"
    )


def test_a_plugin_that_is_registered_is_not_loaded_again(onnx: Path, library: Path) -> None:
    trt = module("10.3")
    trt.told.plugins.add("D2Prune")
    build(trt, plan((10, 3)), onnx, library.with_name("nowhere.so"))
    assert trt.told.plugins == {"D2Prune"}


def test_a_graph_without_plugins_needs_no_library(onnx: Path, library: Path) -> None:
    trt = module("10.3")
    build(trt, plan((10, 3), replace(vision_graph(), plugin_ops=())), onnx, library)
    assert trt.told.plugins == set()


def test_timings_are_remembered(onnx: Path, library: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache" / "timings"
    found = plan((10, 3), options=BuildOptions(timing_cache=str(cache)))
    trt = module("10.3")
    build(trt, found, onnx, library)
    assert trt.told.timing_cache == b""
    assert cache.read_bytes() == b"timings of 10.3"
    build(trt, found, onnx, library)
    assert trt.told.timing_cache == b"timings of 10.3"
    assert names(cache.parent) == ["timings"]


def test_timings_of_another_gpu_are_refused(onnx: Path, library: Path, tmp_path: Path) -> None:
    cache = tmp_path / "timings"
    cache.write_bytes(b"of another")
    trt = module("10.3")
    trt.told.takes_timing_cache = False
    with pytest.raises(EnvironmentMismatch) as raised:
        build(trt, plan((10, 3), options=BuildOptions(timing_cache=str(cache))), onnx, library)
    assert raised.value.problem == f"the timing cache {cache} is of another TensorRT or GPU"
    assert raised.value.hint == "Pass another --timing-cache, or delete the file."
    assert cache.read_bytes() == b"of another"


def test_timings_that_cannot_be_read(onnx: Path, library: Path, tmp_path: Path) -> None:
    found = plan((10, 3), options=BuildOptions(timing_cache=str(tmp_path)))
    with pytest.raises(EnvironmentMismatch, match=r"the timing cache .* cannot be read: Is a dir"):
        build(module("10.3"), found, onnx, library)


def test_a_profile_that_is_refused(onnx: Path, library: Path) -> None:
    trt = module("11.1")
    trt.told.takes_profiles = False
    with pytest.raises(EnvironmentMismatch, match="refuses the optimization profile vision"):
        build(trt, plan((11, 1)), onnx, library)


def test_progress(onnx: Path, library: Path) -> None:
    lines = io.StringIO()
    progress = Progress(level="verbose", stream=lines)
    build(module("10.3"), plan((10, 3)), onnx, library, progress=progress)
    assert lines.getvalue().splitlines() == [
        "  TensorRT: a warning of the builder",
        "  TensorRT: Building Engine",
        "  TensorRT: Building Engine: Tactics",
        "  TensorRT: Building Engine: 2 of 8",
        "  TensorRT: Building Engine: 4 of 8",
        "  TensorRT: Building Engine: 6 of 8",
        "  TensorRT: Building Engine: 8 of 8",
    ]


def test_ctrl_c_ends_a_build(onnx: Path, library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    progress = Progress(level="quiet")

    def note(text: str) -> None:
        if text.endswith("4 of 8"):
            raise KeyboardInterrupt

    monkeypatch.setattr(progress, "note", note)
    with pytest.raises(KeyboardInterrupt):
        build(module("10.3"), plan((10, 3)), onnx, library, progress=progress)
    assert not (onnx.parent / "engines").exists()


def test_an_engine_that_cannot_be_written(onnx: Path, library: Path) -> None:
    (onnx.parent / "engines").write_text("in the way")
    with pytest.raises(OutputError, match=r"cannot write .*vision\.plan: "):
        build(module("10.3"), plan((10, 3)), onnx, library)


def test_no_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(EnvironmentMismatch) as raised:
        tensorrt_module()
    assert raised.value.problem.startswith("TensorRT ")
    assert raised.value.hint == tensorrt.INSTALL


@pytest.mark.parametrize("error", ["ImportError", "OSError"])
def test_tensorrt_without_its_libraries(
    error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tensorrt.py").write_text(f"raise {error}('libnvinfer.so.10: no such file')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(EnvironmentMismatch) as raised:
        tensorrt_module()
    assert raised.value.problem == "TensorRT cannot be loaded: libnvinfer.so.10: no such file"


def test_the_module_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    trt = module("10.3")
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    assert tensorrt_module() is trt
