"""The C++ tool: what it tells TensorRT is what the plan says; what it cannot do, it explains."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from d2export.bundle.engine_records import SCHEMA, PlannedEngine, PlannedEngines
from d2export.bundle.records import Tool as Wrote
from d2export.bundle.strict_json import encode
from d2export.engine.build_options import BuildOptions
from d2export.engine.builder_plan import EnginePlan
from d2export.engine.targets import target
from tests.engine import tensorrt_headers as headers
from tests.engine.engine_tool import DATA_TYPES, Tool, build, run
from tests.engine.plans import decoder_graph, plan, vision_graph

OLD, NEW = "8.6.1", "10.3"
NO_PLUGIN = replace(vision_graph(), plugin_ops=())
TYPES = {"image_embeds": TensorProto.FLOAT16, "norm": TensorProto.FLOAT, "ids": TensorProto.INT64}


@pytest.fixture
def tool(tmp_path: Path) -> Tool:
    return Tool(NEW, tmp_path)


def write_plans(folder: Path, *plans: EnginePlan) -> Path:
    """plan.json, as `d2export build --target` writes it."""
    planned = PlannedEngines(
        SCHEMA,
        Wrote("d2export", "0"),
        target("h100"),
        BuildOptions(),
        tuple(PlannedEngine(one, "trtexec", ()) for one in plans),
    )
    path = folder / "plan.json"
    path.write_text(json.dumps(encode(planned), indent=2))
    return path


def write_onnx(folder: Path, name: str = "vision") -> Path:
    """A graph whose values have types."""
    values = [helper.make_tensor_value_info(value, kind, [2]) for value, kind in TYPES.items()]
    graph = helper.make_graph([], "g", [], values[:1], value_info=values[1:])
    path = folder / f"{name}.tensorrt.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    return path


def edit(path: Path, change: Any) -> None:
    """Change the first plan of a file."""
    content = json.loads(path.read_text())
    change(content["engines"][0]["plan"])
    path.write_text(json.dumps(content))


def numbers(version: str, enum: str) -> dict[str, int]:
    """Enumerators by name, as the header numbers them."""
    body = re.search(rf"enum class {enum}\b[^{{;]*\{{(.*?)\n\}};", headers.text(version), re.DOTALL)
    assert body is not None
    code = re.sub(r"/\*.*?\*/|//[^\n]*", "", body[1], flags=re.DOTALL)
    return {name: int(value) for name, value in re.findall(r"k(\w+)[^=,]*=\s*(\d+)", code)}


def text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def expected(version: str, found: EnginePlan, onnx: Path, library: Path) -> list[str]:
    """What TensorRT has to hear, in order."""

    def bits(enum: str, names: tuple[str, ...]) -> int:
        return sum(1 << numbers(version, enum)[name] for name in names)

    flags, pools = numbers(version, "BuilderFlag"), numbers(version, "MemoryPoolType")
    level = numbers(version, "HardwareCompatibilityLevel")[found.hardware_compatibility]
    lines = [f"plugin {library}"] if found.plugin else []
    lines.append(f"network {bits('NetworkDefinitionCreationFlag', found.network_flags)}")
    lines.append(f"parse {onnx}")
    if found.pins_layer_types:
        half, single = DATA_TYPES["float16"], DATA_TYPES["float32"]
        lines += [f"precision image_embeds {half}", f"type image_embeds 0 {half}"]
        lines += [f"precision norm {single}", f"type norm 0 {single}"]
    lines += [f"flag {flags[name]}" for name in found.builder_flags]
    lines += [f"no flag {flags[name]}" for name in found.cleared_flags]
    lines.append(f"tactics {bits('TacticSource', found.tactic_sources)}")
    lines += [f"pool {pools[name]} {size}" for name, size in found.memory_pools.items()]
    lines += [f"level {found.optimization_level}", f"hardware {level}"]
    if found.plugin and found.plugin.serialized:
        lines.append(f"serialize {library}")
    for index, profile in enumerate(found.profiles):
        lines.append(f"profile {index}")
        for name, shapes in sorted(profile.shapes.items()):
            sizes = (text(shapes.min), text(shapes.opt), text(shapes.max))
            lines.append("  {} min {} opt {} max {}".format(name, *sizes))
    if found.timing_cache:
        lines.append("timings, mismatches refused")
    return [*lines, "build"]


@pytest.mark.parametrize("version", headers.VERSIONS)
def test_what_the_plan_says_is_what_tensorrt_hears(version: str, tmp_path: Path) -> None:
    tool = Tool(version, tmp_path)
    onnx, library = write_onnx(tmp_path), tmp_path / "libd2export_plugin.so"
    for precision in ("fp32", "fp16", "int8"):
        for options in (
            BuildOptions(),
            BuildOptions(2**30, str(tmp_path / "timings"), True, True, 5),
        ):
            for graph in (vision_graph(precision), decoder_graph(precision)):
                found = plan(headers.numbers(version)[:2], graph, options, "h100")
                plans = write_plans(tmp_path, found)
                engine = tmp_path / "engines" / "one.plan"
                words = ("build", plans, onnx, "-o", engine, "--plugin", library)
                assert tool.ok(*words).startswith(f"{engine}: {graph.name}, {precision}, TensorRT ")
                assert tool.told == expected(version, found, onnx, library)
                assert engine.read_bytes() == f"engine of {headers.numbers(version)[0]}".encode()
                assert [file.name for file in engine.parent.iterdir()] == ["one.plan"]


# --- Plans that do not fit ------------------------------------------------------------------------


def test_a_plan_for_another_tensorrt(tool: Tool, tmp_path: Path) -> None:
    onnx = write_onnx(tmp_path)
    for other in ((8, 6), (11, 0), (10, 4)):
        plans = write_plans(tmp_path, plan(other, name="h100"))
        said = tool.error(3, "build", plans, onnx, "-o", "x")
        wanted = ".".join(map(str, other))
        assert f"the plan is for TensorRT {wanted}, the library is 10.3.0" in said
        assert "d2export build BUNDLE --target NAME" in said
        assert tool.told == []


def test_a_plan_for_an_older_library_of_the_same_major_version(tool: Tool, tmp_path: Path) -> None:
    plans = write_plans(tmp_path, plan((10, 2), NO_PLUGIN, name="h100"))
    tool.ok("build", plans, write_onnx(tmp_path), "-o", "x", STAND_IN_VERSION="101601")
    assert tool.told[-1] == "build"


@pytest.mark.parametrize(
    ("version", "change", "says"),
    [
        (NEW, {"builder_flags": ["FP17"]}, "TensorRT 10.3.0 has no BuilderFlag.FP17, which the"),
        (NEW, {"builder_flags": ["FP16"]}, "TensorRT 10.3.0 has no BuilderFlag.FP16, which the"),
        (NEW, {"network_flags": ["EXPLICIT_BATCH"]}, "no NetworkDefinitionCreationFlag.EXPLICIT"),
        (NEW, {"preview_features": ["X"]}, "has no PreviewFeature.X"),
        (NEW, {"pins_layer_types": True}, "TensorRT 10.3.0 takes the types of the graph"),
        (OLD, {"progress_monitor": True}, "TensorRT 8.6.1 has no IProgressMonitor"),
    ],
)
def test_what_this_tensorrt_does_not_have(
    version: str, change: dict[str, Any], says: str, tmp_path: Path
) -> None:
    tool = Tool(version, tmp_path)
    plans = write_plans(tmp_path, plan(headers.numbers(version)[:2], NO_PLUGIN, name="h100"))
    edit(plans, lambda one: one.update(change))
    assert says in tool.error(3, "build", plans, write_onnx(tmp_path), "-o", "x")
    assert "build" not in tool.told
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda one: one.pop("precision"), ".engines[0].plan has no 'precision'"),
        (lambda one: one.update(new=1), ".engines[0].plan has 'new', which this tool does not"),
        (lambda one: one.update(optimization_level="3"), '.optimization_level is "3", expected a'),
        (lambda one: one.update(builder_flags=[1]), ".builder_flags[0] is 1, expected a text"),
        (lambda one: one["memory_pools"].update(WORKSPACE=2**63), ".WORKSPACE is 92233720368547"),
        (
            lambda one: one["profiles"][0]["shapes"]["token_grid"].update(min=[4000, 2]),
            ".profiles[0].shapes.token_grid does not hold 0 <= min <= opt <= max",
        ),
        (
            lambda one: one["profiles"][0]["shapes"]["token_grid"].update(opt=[256]),
            ".profiles[0].shapes.token_grid does not hold 0 <= min <= opt <= max",
        ),
        (lambda one: one.update(profiles={}), ".profiles is {}, expected a list"),
        (lambda one: one["plugin"].pop("namespace"), ".plan.plugin has no 'namespace'"),
    ],
)
def test_a_plan_that_is_damaged(tool: Tool, tmp_path: Path, change: Any, says: str) -> None:
    plans = write_plans(tmp_path, plan((10, 3)))
    edit(plans, change)
    assert says in tool.error(2, "build", plans, write_onnx(tmp_path), "-o", "x")
    assert tool.told == []


def test_no_plan_at_all(tool: Tool, tmp_path: Path) -> None:
    onnx = write_onnx(tmp_path)
    assert "there is no nowhere" in tool.error(2, "build", "nowhere", onnx, "-o", "x")
    (tmp_path / "cut").write_text('{"schema": 1,')
    assert "cut is no JSON" in tool.error(2, "build", "cut", onnx, "-o", "x")
    (tmp_path / "new").write_text('{"schema": 2}')
    assert "new has schema 2, expected 1" in tool.error(2, "build", "new", onnx, "-o", "x")
    assert ". is a folder" in tool.error(2, "build", ".", onnx, "-o", "x")


def test_the_plan_is_the_one_for_the_file(tool: Tool, tmp_path: Path) -> None:
    vision = plan((10, 3), NO_PLUGIN)
    decoder = plan((10, 3), replace(decoder_graph(), plugin_ops=()))
    plans = write_plans(tmp_path, vision, decoder)
    onnx = write_onnx(tmp_path, "decoder")
    assert "decoder, fp16" in tool.ok("build", plans, onnx, "-o", "x")
    assert "vision, fp16" in tool.ok("build", plans, onnx, "-o", "x", "--graph", "vision")
    said = tool.error(2, "build", plans, onnx, "-o", "x", "--graph", "sound")
    assert "--graph is 'sound', the plan has vision, decoder" in said
    other = onnx.rename(tmp_path / "other.onnx")
    said = tool.error(2, "build", plans, other, "-o", "x")
    assert "no plan is for a file named other.onnx; there are plans for vision, decoder" in said


# --- What TensorRT refuses ------------------------------------------------------------------------


def test_a_plugin_that_is_not_given(tool: Tool, tmp_path: Path) -> None:
    plans = write_plans(tmp_path, plan((10, 3)))
    said = tool.error(2, "build", plans, write_onnx(tmp_path), "-o", "x")
    assert "the plan needs the plugin D2Prune, and --plugin is missing" in said
    assert "Pass its library, libd2export_plugin.so." in said


@pytest.mark.parametrize(
    ("refused", "says"),
    [
        ("plugin", "TensorRT 10.3.0 cannot load the plugin p.so"),
        ("builder", "TensorRT 10.3.0 makes no builder\n    CUDA is too old"),
        (
            "parser",
            "vision.tensorrt.onnx\n    node 3 'prune/loop' (Loop): no importer for Loop "
            "[parseNode:725]",
        ),
        ("profile", "TensorRT refuses the optimization profile vision"),
        ("timings", "the timing cache timings is of another TensorRT or GPU"),
        ("build", "vision.tensorrt.onnx\n    no kernel fits node 3"),
        ("gpu", "no NVIDIA GPU that CUDA sees: no CUDA-capable device is detected"),
    ],
)
def test_what_tensorrt_refuses(tool: Tool, tmp_path: Path, refused: str, says: str) -> None:
    plans = write_plans(tmp_path, plan((10, 3), options=BuildOptions(timing_cache="timings")))
    words = ("build", plans, write_onnx(tmp_path), "-o", "x", "--plugin", "p.so")
    assert says in tool.error(3, *words, STAND_IN_REFUSES=refused)
    assert {file.name for file in tmp_path.iterdir()} <= {
        "plan.json",
        "vision.tensorrt.onnx",
        "told",
    }


def test_the_parser_of_8_names_numbers_alone(tmp_path: Path) -> None:
    tool = Tool(OLD, tmp_path)
    plans = write_plans(tmp_path, plan((8, 6), NO_PLUGIN))
    words = ("build", plans, write_onnx(tmp_path), "-o", "x")
    said = tool.error(3, *words, STAND_IN_REFUSES="parser")
    assert "\n    node 3: no importer for Loop [parseNode:725]\n" in said


def test_types_of_a_file_that_is_no_onnx(tmp_path: Path) -> None:
    tool = Tool(OLD, tmp_path)
    plans = write_plans(tmp_path, plan((8, 6), NO_PLUGIN))
    onnx = write_onnx(tmp_path)
    onnx.write_bytes(onnx.read_bytes()[:-3])
    said = tool.error(2, "build", plans, onnx, "-o", "x")
    assert f"{onnx} is no ONNX file, or it is cut short" in said


def test_timings_are_remembered(tool: Tool, tmp_path: Path) -> None:
    options = BuildOptions(timing_cache=str(tmp_path / "cache" / "timings"))
    plans = write_plans(tmp_path, plan((10, 3), NO_PLUGIN, options))
    words = ("build", plans, write_onnx(tmp_path), "-o", "x")
    tool.ok(*words)
    tool.ok(*words)
    assert (tmp_path / "cache" / "timings").read_text() == "timings;timings;"


def test_progress_and_warnings(tool: Tool, tmp_path: Path) -> None:
    plans = write_plans(tmp_path, plan((10, 3), NO_PLUGIN))
    words = ("build", plans, write_onnx(tmp_path), "-o", "x")
    steps = [f"  TensorRT: Building Engine: {done} of 8" for done in (2, 4, 6, 8)]
    assert tool(*words).stderr.splitlines() == ["  TensorRT: Building Engine", *steps]
    loud = tool(*words, "--verbose").stderr.splitlines()
    assert loud == ["  TensorRT: a warning of the builder", "  TensorRT: Building Engine", *steps]


def test_an_engine_that_cannot_be_written(tool: Tool, tmp_path: Path) -> None:
    plans = write_plans(tmp_path, plan((10, 3), NO_PLUGIN))
    (tmp_path / "engines").write_text("in the way")
    said = tool.error(2, "build", plans, write_onnx(tmp_path), "-o", "engines/vision.plan")
    assert "cannot write engines/vision.plan: " in said


# --- Libraries ------------------------------------------------------------------------------------


def test_no_tensorrt(tmp_path: Path) -> None:
    plans = write_plans(tmp_path, plan((10, 3)))
    program = build(NEW) / "d2export-engine"
    words = ("build", plans, write_onnx(tmp_path), "-o", "x")
    done = run(program, *words, cwd=tmp_path)
    assert done.returncode == 3
    assert "cannot open libnvinfer.so.10: " in done.stderr
    assert "this tool was compiled with the headers of TensorRT 10.3.0" in done.stderr
    assert "Install TensorRT, or pass the folder of its libraries as --libraries." in done.stderr
    done = run(program, *words, "--libraries", tmp_path, cwd=tmp_path)
    assert done.returncode == 3
    assert f"cannot open {tmp_path}/libnvinfer.so.10: " in done.stderr


@pytest.mark.parametrize(
    ("claimed", "shown"), [("8601", "8.6.1"), ("100001", "10.0.1"), ("110100", "11.1.0")]
)
def test_a_library_of_another_version(tool: Tool, tmp_path: Path, claimed: str, shown: str) -> None:
    plans = write_plans(tmp_path, plan((10, 3)))
    words = ("build", plans, write_onnx(tmp_path), "-o", "x")
    said = tool.error(3, *words, STAND_IN_VERSION=claimed)
    assert f"the library is TensorRT {shown}; this tool was compiled with the headers" in said
    assert f"Compile it with the headers of TensorRT {shown}." in said


def test_it_needs_the_driver_alone() -> None:
    """Neither TensorRT nor a CUDA runtime is linked: both are looked for by the program itself."""
    needed = run("readelf", "-d", build(NEW) / "d2export-engine").stdout
    libraries = re.findall(r"\(NEEDED\).*\[(.*)\]", needed)
    assert {name.split(".so")[0] for name in libraries} <= {
        "libstdc++",
        "libm",
        "libgcc_s",
        "libc",
        "ld-linux-x86-64",
        "ld-linux-aarch64",
        "libpthread",
        "libdl",
        "librt",
    }


def test_the_parser_of_8_gets_what_it_needs_of_the_plugin_library(tmp_path: Path) -> None:
    """The stand-in parser needs libnvinfer_plugin.so.8, as TensorRT's does, which is not there."""
    tool = Tool(OLD, tmp_path)
    parser = tool.built / "tests" / "libraries" / "libnvonnxparser.so.8"
    assert "[libnvinfer_plugin.so.8]" in run("readelf", "-d", parser).stdout
    assert not (parser.parent / "libnvinfer_plugin.so.8").exists()
    plans = write_plans(tmp_path, plan((8, 6), NO_PLUGIN))
    tool.ok("build", plans, write_onnx(tmp_path), "-o", "x")


# --- Running --------------------------------------------------------------------------------------


def write_engine(folder: Path, *lines: str) -> str:
    """An engine as the stand-in reads it."""
    (folder / "engine").write_text("\n".join(lines) + "\n")
    return "engine"


def given(folder: Path, **arrays: np.ndarray[Any, Any]) -> list[str]:
    """Options for inputs, each in a file."""
    words = []
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
        words += ["--input", f"{name}={name}.npy"]
    return words


@pytest.mark.parametrize(
    "dtype", ["float32", "float16", "int8", "int32", "bool", "uint8", "int64", "bfloat16"]
)
@pytest.mark.parametrize("shape", [(), (5,), (0, 3), (2, 3, 4), (3, 1, 2, 1, 2)])
def test_arrays_come_back_as_they_were(
    tool: Tool, tmp_path: Path, dtype: str, shape: tuple[int, ...]
) -> None:
    kind = np.dtype("V2" if dtype == "bfloat16" else dtype)
    values = np.arange(kind.itemsize * int(np.prod(shape))) * 37
    array = (values % (2 if dtype == "bool" else 251)).astype(np.uint8).view(kind).reshape(shape)
    size = text(shape) or "-"
    number = DATA_TYPES[dtype]
    engine = write_engine(tmp_path, f"in x {number} 0 {size} {size}", f"out y {number} x")
    tool.ok("run", engine, *given(tmp_path, x=array), "-o", "out")
    back = np.load(tmp_path / "out" / "y.npy")
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert back.tobytes() == array.tobytes()


ENGINE = ("in x 0 0 1x4 3x4 4x4 8x4", "in ids 3 1 1 9 1 9", "out y 0 x", "out kept 3 ids")
X, IDS = np.arange(8, dtype=np.float32).reshape(2, 4), np.arange(5, dtype=np.int32)


def test_a_run(tool: Tool, tmp_path: Path) -> None:
    engine = write_engine(tmp_path, *ENGINE)
    printed = tool.ok("run", engine, *given(tmp_path, x=X, ids=IDS), "-o", "out")
    assert printed == "out/kept.npy <i4 [5]\nout/y.npy <f4 [2,4]\n"
    assert tool.told == ["host code refused", "runs profile 0", "enqueue"]
    assert np.array_equal(np.load(tmp_path / "out" / "y.npy"), X)
    assert np.array_equal(np.load(tmp_path / "out" / "kept.npy"), IDS)


def test_another_profile_and_an_engine_with_code(tool: Tool, tmp_path: Path) -> None:
    engine = write_engine(tmp_path, *ENGINE)
    words = given(tmp_path, x=np.repeat(X, 2, axis=0), ids=IDS)
    tool.ok("run", engine, *words, "-o", "out", "--profile", "1", "--allow-host-code")
    assert tool.told == ["host code allowed", "runs profile 1", "enqueue"]


def test_int64_of_a_file_becomes_int32_of_an_engine(tool: Tool, tmp_path: Path) -> None:
    engine = write_engine(tmp_path, *ENGINE)
    words = given(tmp_path, x=X, ids=np.array([-(2**31), 2**31 - 1]))
    tool.ok("run", engine, *words, "-o", "out")
    kept = np.load(tmp_path / "out" / "kept.npy")
    assert kept.dtype == np.int32
    assert kept.tolist() == [-(2**31), 2**31 - 1]
    words = given(tmp_path, x=X, ids=np.array([1, 2**31]))
    said = tool.error(2, "run", engine, *words, "-o", "out")
    assert "input ids holds 2147483648, and the engine takes int32" in said


TAKES = "  The engine takes:\n    x float32 [1,4] to [3,4]\n    ids int32 [1] to [9]\n"


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"x": X}, "input ids is missing"),
        ({"x": X, "ids": IDS, "z": X}, "the engine has no input z"),
        ({"x": X.astype("f8"), "ids": IDS}, "input x is <f8 [2,4], expected <f4 [1,4] to [3,4]"),
        ({"x": np.zeros((4, 4), "f4"), "ids": IDS}, "input x is <f4 [4,4], expected <f4 [1,4]"),
        ({"x": X[0], "ids": IDS}, "input x is <f4 [4], expected <f4 [1,4] to [3,4] in profile 0"),
    ],
)
def test_inputs_that_do_not_fit(
    tool: Tool, tmp_path: Path, arrays: dict[str, Any], says: str
) -> None:
    engine = write_engine(tmp_path, *ENGINE)
    said = tool.error(2, "run", engine, *given(tmp_path, **arrays), "-o", "out")
    assert says in said
    assert said.endswith(TAKES)
    assert "enqueue" not in tool.told


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"PK\x03\x04 a zip file", "it does not begin like a .npy file"),
        (b"\x93NUMPY\x01\x00\xff\xff{}", "it is cut short"),
        (b"\x93NUMPY\x01\x00\x02\x00{}", "its header has no 'descr'"),
    ],
)
def test_files_that_are_no_arrays(tool: Tool, tmp_path: Path, content: bytes, says: str) -> None:
    engine = write_engine(tmp_path, *ENGINE)
    (tmp_path / "x.npy").write_bytes(content)
    said = tool.error(2, "run", engine, "--input", "x=x.npy", "-o", "out")
    assert f"x.npy is no array this tool reads: {says}" in said


def test_arrays_that_are_cut_short_or_of_another_kind(tool: Tool, tmp_path: Path) -> None:
    engine = write_engine(tmp_path, *ENGINE)
    words = ("run", engine, *given(tmp_path, x=X), "-o", "out")
    path = tmp_path / "x.npy"
    path.write_bytes(path.read_bytes()[:-1])
    said = tool.error(2, *words)
    assert "it has 31 bytes of elements, [2,4] <f4 needs 32" in said
    np.save(path, np.asfortranarray(X))
    assert "its order is Fortran's" in tool.error(2, *words)
    np.save(path, X.astype(">f4"))
    assert "its elements are '>f4'" in tool.error(2, *words)
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    assert "its elements are '|O'" in tool.error(2, *words)


def test_engines_that_tensorrt_refuses(tool: Tool, tmp_path: Path) -> None:
    engine = write_engine(tmp_path, *ENGINE)
    words = (*given(tmp_path, x=X, ids=IDS), "-o", "out")
    said = tool.error(3, "run", engine, *words, STAND_IN_REFUSES="engine")
    assert "TensorRT 10.3.0 cannot read the engine\n    the engine is of another GPU\n" in said
    said = tool.error(2, "run", engine, *words, "--profile", "2")
    assert "--profile is 2, the engine has 2, counted from 0" in said
    assert "there is no other" in tool.error(2, "run", "other", *words)
    said = tool.error(3, "run", engine, *words, STAND_IN_REFUSES="run")
    assert "TensorRT cannot run the engine" in said


# --- Timing ---------------------------------------------------------------------------------------


def test_bench(tool: Tool, tmp_path: Path) -> None:
    engine = write_engine(tmp_path, *ENGINE)
    words = (*given(tmp_path, x=X, ids=IDS), "--warm-up", "2", "--runs", "7", "--layers")
    report = json.loads(tool.ok("bench", engine, *words))
    facts = {name: report[name] for name in ("tensorrt", "gpu", "profile", "warm_up", "runs")}
    assert facts == {
        "tensorrt": "10.3.0",
        "gpu": "Stand-in GPU",
        "profile": 0,
        "warm_up": 2,
        "runs": 7,
    }
    for times in (report["stream"], report["graph"]):
        for clock in ("gpu_ms", "host_ms"):
            found = times[clock]
            assert 0 < found["p50"] <= found["p90"] <= found["p99"]
    # x and y of 2 x 4 float32; ids is the host's, kept is not.
    assert report["device_memory_bytes"] == 32 + 32 + 20
    assert report["activation_bytes"] == 4096
    assert report["layers"] == [{"name": "D2Prune", "ms": 0.25}, {"name": "rest", "ms": 2.0}]
    # Straight, recorded once, and once more for the layers.
    assert tool.told.count("enqueue") == 9 + 1 + 9
    assert tool.told.count("replay") == 9


def test_bench_of_an_engine_that_cannot_be_recorded(tool: Tool, tmp_path: Path) -> None:
    engine = write_engine(tmp_path, *ENGINE)
    words = given(tmp_path, x=X, ids=IDS)
    report = json.loads(tool.ok("bench", engine, *words, STAND_IN_REFUSES="graph"))
    assert report["graph"]["not_run"].startswith("CUDA cannot do the recording of a graph: ")
    assert "layers" not in report
    assert report["runs"] == 100


# --- The command line -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "a command is missing"),
        (("make",), "there is no command 'make'"),
        (("build",), "PLAN.json is missing"),
        (("build", "a", "b"), "-o ENGINE is missing"),
        (("build", "a", "b", "c", "-o", "x"), "'c' is one argument too many"),
        (("build", "a", "b", "-o"), "-o is the last word, expected ENGINE after it"),
        (("build", "--fp16"), "build has no option --fp16"),
        (("run", "e", "--input", "x", "-o", "y"), "--input is 'x', expected NAME=FILE.npy"),
        (("run", "e", "-o", "y"), "--input NAME=FILE.npy is missing"),
        (("bench", "e", "--input", "x=e", "--runs", "0"), "--runs is '0', expected a whole number"),
        (("bench", "e", "--input", "x=e", "--runs", "1e3"), "--runs is '1e3', expected a whole"),
    ],
)
def test_wrong_usage(words: tuple[str, ...], says: str) -> None:
    done = run(build(NEW) / "d2export-engine", *words)
    assert (done.returncode, done.stdout) == (2, "")
    first, second = done.stderr.splitlines()[:2]
    assert first.startswith(f"d2export-engine: {says}")
    assert second.startswith("  ")


def test_an_input_given_twice(tool: Tool, tmp_path: Path) -> None:
    words = given(tmp_path, x=X) * 2
    assert "input x is given twice" in tool.error(2, "run", "e", *words, "-o", "out")


def test_help_and_version() -> None:
    program = build(NEW) / "d2export-engine"
    assert run(program, "--version").stdout.endswith(" for TensorRT 10.3.0\n")
    shown = run(program, "--help").stdout
    for command in ("build PLAN.json ONNX -o ENGINE", "run ENGINE", "bench ENGINE"):
        assert f"usage: d2export-engine {command}" in shown
