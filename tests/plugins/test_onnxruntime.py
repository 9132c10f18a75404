"""The custom-op library in ONNX Runtime: the reference's answer, in place of the ONNX function."""

from __future__ import annotations

import ctypes
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import d2export
from d2export.engine.onnxruntime import open_session
from d2export.export.onnx_function import prune_model
from d2export.pruning.parameters import OP_TYPE, PruneParameters
from tests.command import Caller
from tests.plugins.custom_op import ONNX_TYPES, configure, operators, run, session
from tests.plugins.drivers import stored
from tests.selection_cases import BEYOND_FLOAT16, FLAVOURS, Array, Case, expected, sweep

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime, to run the custom op")

Feeds = dict[str, Array]


def native_model(
    parameters: PruneParameters, dtype: str = "float32", heads: bool = True
) -> onnx.ModelProto:
    """The op alone, without the function that could stand in for the library."""
    model = prune_model(parameters, 17, ONNX_TYPES[dtype], heads=heads)
    del model.functions[:]
    return model


def native(
    library: Path, parameters: PruneParameters, dtype: str, heads: bool
) -> Callable[[Case], tuple[bytes, Array]]:
    """`case -> (bytes of kept, indices)`."""
    opened = session(library, native_model(parameters, dtype, heads))
    value = onnxruntime.OrtValue

    def prune(case: Case) -> tuple[bytes, Array]:
        features = stored(case.features, dtype)
        inputs = {
            name: value.ortvalue_from_numpy(np.ascontiguousarray(array))
            for name, array in vars(case).items()
        }
        # numpy has no bfloat16: ONNX Runtime is told what the bits are.
        inputs["features"] = value.ortvalue_from_numpy_with_onnx_type(features, ONNX_TYPES[dtype])
        kept, indices = opened.run_with_ort_values(["kept", "indices"], inputs)
        size = int(np.prod(kept.shape())) * features.itemsize
        return ctypes.string_at(kept.data_ptr(), size), indices.numpy()

    return prune


def check(case: Case, dtype: str, parameters: PruneParameters, kept: bytes, indices: Array) -> None:
    wanted = expected(case, parameters)
    assert indices.dtype == np.int32
    assert indices.tolist() == wanted.tolist(), parameters
    features = stored(case.features, dtype)
    rows = np.take_along_axis(features, wanted[..., None].astype(np.int64), axis=1)
    assert kept == rows.tobytes()


@pytest.mark.parametrize(
    ("flavour", "dtype"),
    [
        (flavour, dtype)
        for flavour in FLAVOURS
        for dtype in ONNX_TYPES
        if dtype != "float16" or flavour not in BEYOND_FLOAT16
    ],
)
def test_equals_the_reference(library: Path, flavour: str, dtype: str) -> None:
    for parameters, group in sweep(seed=8, flavour=flavour, groups=12, cases=3):
        prune = native(library, parameters, dtype, heads=group[0].importance.ndim == 3)
        for case in group:
            check(case, dtype, parameters, *prune(case))


@pytest.mark.parametrize("dtype", ONNX_TYPES)
def test_of_many_tokens(library: Path, dtype: str) -> None:
    rng = np.random.default_rng(9)
    case = Case(
        rng.integers(-2, 3, (2, 600, 65)).astype(np.float32),
        (rng.integers(0, 4096, (2, 3, 600)) / 4096).astype(np.float32),
        np.ones(600, np.float32),
        rng.integers(0, 30, (600, 2)).astype(np.float32),
    )
    parameters = PruneParameters(keep_permille=250, theta=0.6123, pivots_block=True)
    check(case, dtype, parameters, *native(library, parameters, dtype, heads=True)(case))


# --- Beside the ONNX function -------------------------------------------------------------------


@pytest.mark.parametrize("opset", [17, 20, 22])
def test_a_session_with_the_library_does_not_run_the_function(
    library: Path, opset: int, tmp_path: Path
) -> None:
    model = prune_model(PruneParameters(keep=2), opset, TensorProto.FLOAT)
    assert len(model.functions) == 1
    answers = []
    for registered in (library, None):
        opened = session(registered, model, profile=tmp_path / "profile")
        answers.append(opened.run(None, feeds()))
        executed = operators(Path(opened.end_profiling()))
        assert executed == {OP_TYPE} if registered else OP_TYPE not in executed
    for ours, the_functions in zip(*answers, strict=True):
        assert ours.tobytes() == the_functions.tobytes()


def test_several_sessions_at_once_and_one_after_the_other(library: Path) -> None:
    model = native_model(PruneParameters(keep=2))
    for _ in range(3):
        opened = [session(library, model) for _ in range(2)]
        with ThreadPoolExecutor(4) as pool:
            runs = [pool.submit(opened[i % 2].run, None, feeds(seed=i)) for i in range(64)]
        for i, done in enumerate(runs):
            alone = opened[0].run(None, feeds(seed=i))
            assert [value.tolist() for value in done.result()] == [v.tolist() for v in alone]


@pytest.fixture
def installed(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library is where an installation has it."""
    (tmp_path / "package" / "lib").mkdir(parents=True)
    shutil.copy(library, tmp_path / "package" / "lib")
    monkeypatch.setattr(d2export, "__path__", [*d2export.__path__, str(tmp_path / "package")])


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_an_installed_library_is_used_without_being_asked_for(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = PruneParameters(keep=2)
    dtype = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}[precision]
    path = tmp_path / "prune.onnx"
    onnx.save(native_model(parameters, dtype), path)  # nothing else could run it
    inputs = feeds()
    if precision == "fp16":
        inputs["features"] = inputs["features"].astype(np.float16)
    kept, indices = open_session(path, precision=precision, threads=1).run(None, inputs)
    assert kept.shape == (2, 2, 4)
    assert indices.shape == (2, 2)


@pytest.mark.usefixtures("installed")
def test_a_bundle_gives_the_same_answer_and_says_how(small_bundle: Path, d2: Caller) -> None:
    report = json.loads(d2("check", small_bundle, "--json").out)
    assert report["passed"]
    assert report["selection_implementation"] == "native"
    (stage,) = json.loads(d2("bench", small_bundle, "--iterations", 1, "--json").out)
    assert stage["selection_implementation"] == "native"
    assert d2("bench", small_bundle, "--iterations", 1).last_line.split()[-1] == "native"
    assert "(selection: native)" in d2("check", small_bundle).out


# --- Degenerate sizes ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ONNX_TYPES)
@pytest.mark.parametrize(
    ("batch", "tokens", "channels"), [(2, 0, 5), (0, 7, 5), (2, 7, 0), (1, 1, 1)]
)
def test_no_pictures_tokens_or_channels(
    library: Path, batch: int, tokens: int, channels: int, dtype: str
) -> None:
    case = Case(
        np.ones((batch, tokens, channels), np.float32),
        np.arange(batch * tokens, dtype=np.float32).reshape(batch, tokens),
        np.ones(tokens, np.float32),
        np.zeros((tokens, 2), np.float32),
    )
    for parameters in (PruneParameters(keep=4), PruneParameters(keep_permille=300)):
        kept, indices = native(library, parameters, dtype, heads=False)(case)
        count = parameters.kept(tokens)
        assert indices.shape == (batch, count)
        assert len(kept) == batch * count * channels * (4 if dtype == "float32" else 2)
        # One place, and either no channels or the same features: the last are the best.
        assert (indices == np.arange(tokens - count, tokens)).all()


def test_shapes_are_known_before_the_graph_runs(library: Path) -> None:
    model = native_model(PruneParameters(keep_permille=500))
    shapes = ((2, 9, 3), (2, 1, 9), (9,), (9, 2))
    for value, shape in zip(model.graph.input, shapes, strict=True):
        for extent, number in zip(value.type.tensor_type.shape.dim, shape, strict=True):
            extent.dim_value = number
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    assert [value.shape for value in session(library, model).get_outputs()] == [[2, 4, 3], [2, 4]]


# --- Errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("keep", None, "keep=0 and keep_permille=0: expected exactly one of them above 0"),
        ("keep", 2.0, "attribute keep is a float, expected an integer"),
        ("keep", [2], "attribute keep is a list, expected an integer"),
        ("keep_permille", 2, "keep=2 and keep_permille=2: expected exactly one of them above 0"),
        ("alpha", 1, "attribute alpha is an integer, expected a float"),
        ("alpha", 1.5, r"alpha is 1\.5, expected a number from 0 to 1"),
        ("pivot_ratio", float("nan"), "pivot_ratio is nan, expected a number from 0 to 1"),
        ("theta", float("inf"), "theta is inf, expected a finite number"),
        ("theta", "0.8", "attribute theta is a string, expected a float"),
        ("eps", -1.0, "eps is -1.*, expected a finite number of at least 0"),
        ("eps", [1.0], "attribute eps is a list, expected a float"),
        ("pivots_block", 0.0, "attribute pivots_block is a float, expected an integer"),
    ],
)
def test_an_attribute_that_does_not_fit_is_named(
    library: Path, name: str, value: Any, message: str
) -> None:
    model = native_model(PruneParameters(keep=2))
    set_attribute(model, name, value)
    with pytest.raises(Exception, match=f"D2Prune node 'D2Prune': {message}"):
        session(library, model)


def test_attributes_that_are_missing_have_their_defaults(library: Path) -> None:
    model = native_model(PruneParameters(keep=2))
    for name in PruneParameters(keep=2).attributes().keys() - {"keep"}:
        set_attribute(model, name, None)
    answer = session(library, model).run(None, feeds())
    wanted = session(library, native_model(PruneParameters(keep=2))).run(None, feeds())
    assert [value.tolist() for value in answer] == [value.tolist() for value in wanted]


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("importance", (2, 3, 4), r"importance has shape \[2, 3, 4\], expected \[2, 5\] or \[2, H"),
        ("importance", (1, 3, 5), r"importance has shape \[1, 3, 5\], expected \[2, 5\] or \[2, H"),
        ("importance", (2, 0, 5), r"importance has shape \[2, 0, 5\], expected at least 1 head"),
        ("prior", (4,), r"prior has shape \[4\], expected \[5\]"),
        ("grid", (4, 2), r"grid has shape \[4, 2\], expected \[5, 2\]"),
        ("grid", (5, 3), r"grid has shape \[5, 3\], expected \[5, 2\]"),
        ("features", (2, 5), r"features has shape \[2, 5\], expected \[B, N, C\]"),
    ],
)
def test_an_input_that_does_not_fit_is_named(
    library: Path, name: str, shape: tuple[int, ...], message: str
) -> None:
    model = native_model(PruneParameters(keep=2))
    for value in model.graph.input:  # whose declared rank would be refused before the op is asked
        value.type.tensor_type.ClearField("shape")
    with pytest.raises(Exception, match=message):
        session(library, model).run(None, feeds() | {name: np.zeros(shape, np.float32)})


def test_features_of_another_type_are_refused(library: Path) -> None:
    model = native_model(PruneParameters(keep=2))
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.elem_type = TensorProto.DOUBLE
    with pytest.raises(Exception, match=r"Type 'tensor\(double\)' of input parameter \(features\)"):
        session(library, model)


def test_an_onnx_runtime_that_is_too_old_is_told(library: Path) -> None:
    """It has the first interface, whose first function makes a status, but not that of 1.20."""
    told = []
    pointer = ctypes.c_void_p
    create_status = ctypes.CFUNCTYPE(pointer, ctypes.c_int, ctypes.c_char_p)(
        lambda code, message: told.append((code, message.decode())) or 1234
    )
    first = (pointer * 1)(ctypes.cast(create_status, pointer))
    get_api = ctypes.CFUNCTYPE(pointer, ctypes.c_uint32)(
        lambda asked: ctypes.addressof(first) if asked == 1 else None
    )
    version = ctypes.create_string_buffer(b"1.19.2")
    get_version = ctypes.CFUNCTYPE(pointer)(lambda: ctypes.addressof(version))
    base = (pointer * 2)(ctypes.cast(get_api, pointer), ctypes.cast(get_version, pointer))
    register = ctypes.CDLL(str(library)).RegisterCustomOps
    register.restype = pointer
    assert register(None, base) == 1234
    not_implemented = 9
    assert told == [
        (
            not_implemented,
            "libd2export_onnxruntime needs ONNX Runtime 1.20 or newer, this is 1.19.2",
        )
    ]


# --- The build ----------------------------------------------------------------------------------


def test_it_shows_one_symbol(library: Path) -> None:
    listed = run("nm", "--dynamic", "--defined-only", library)
    assert [line.split()[-1] for line in listed.stdout.splitlines()] == ["RegisterCustomOps"]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, "which has no onnxruntime_c_api.h"),
        ("#define ORT_API_VERSION 19\n", "has ORT_API_VERSION '19', expected 20 or above"),
    ],
)
def test_headers_that_do_not_do_are_named(header: str | None, message: str, tmp_path: Path) -> None:
    include = tmp_path / "include"
    include.mkdir()
    if header is not None:
        (include / "onnxruntime_c_api.h").write_text(header)
    done = configure(tmp_path / "build", f"-DORT_INCLUDE_DIR={include}")
    assert done.returncode != 0
    text = " ".join(done.stderr.split())
    assert str(include) in text
    assert message in text
    assert "-DORT_INCLUDE_DIR=<folder" in text


# --- What the tests above share -----------------------------------------------------------------


def feeds(seed: int = 0) -> Feeds:
    rng = np.random.default_rng(seed)
    return {
        "features": rng.standard_normal((2, 5, 4)).astype(np.float32),
        "importance": rng.random((2, 3, 5)).astype(np.float32),
        "prior": np.ones(5, np.float32),
        "grid": np.arange(10, dtype=np.float32).reshape(5, 2),
    }


def set_attribute(model: onnx.ModelProto, name: str, value: Any) -> None:
    (node,) = model.graph.node
    others = [entry for entry in node.attribute if entry.name != name]
    del node.attribute[:]
    node.attribute.extend(others)
    if value is not None:
        node.attribute.append(helper.make_attribute(name, value))
