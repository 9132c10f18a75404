"""The libraries that stand in for TensorRT's and for CUDA's driver in the tests of the C++ runtime:
they compute, and they refuse what would be wrong on a GPU.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from d2export.engine.onnxruntime import open_session
from tests.runtime_cpp import engines
from tests.runtime_cpp.conftest import Builder

Arrays = dict[str, Any]
VERSION = "10.3"
SUCCESS = "CUDA_SUCCESS"
ILLEGAL = "CUDA_ERROR_ILLEGAL_ADDRESS"
UNSUPPORTED = "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"
SPOILT = "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"


def probe(
    *words: str | Path,
    version: str = VERSION,
    settings: tuple[str, ...] = (),
    told: Path | None = None,
    **variables: str,
) -> subprocess.CompletedProcess[str]:
    """What engines/runtime/tensorrt/tests/probe.cpp answers."""
    folder = engines.build(version, "stand_in_probe", settings=settings)
    program = folder / "tensorrt" / "tests" / "stand_in_probe"
    known = engines.environment(folder, told, **variables)
    return subprocess.run([program, *words], env=known, capture_output=True, text=True, check=False)


def answers(case: str) -> list[str]:
    """A word for each call of a case."""
    found = probe(case)
    assert found.returncode == 0, found.stderr
    return [line.split()[-1] for line in found.stdout.splitlines()]


# The driver


@pytest.mark.parametrize("case", ["read by host", "write by host"])
def test_memory_of_the_gpu_is_not_for_the_host(case: str) -> None:
    assert probe(case).returncode == -signal.SIGSEGV


@pytest.mark.parametrize(
    ("case", "why"),
    [
        ("copy behind the end", "of which memory of 64 bytes has 64"),
        ("copy from the middle", "of which memory of 64 bytes has 63"),
        ("copy of freed memory", "where the GPU has no memory"),
    ],
)
def test_copies_of_what_is_not_there_fail_when_they_are_done(case: str, why: str) -> None:
    found = probe(case)
    assert "copy CUDA_SUCCESS" in found.stdout
    assert f"wait {ILLEGAL}" in found.stdout
    assert why in found.stderr


def test_a_failure_is_that_of_all_later_calls() -> None:
    assert answers("copy behind the end") == [SUCCESS, ILLEGAL, ILLEGAL]


def test_memory_that_cannot_be() -> None:
    invalid = "CUDA_ERROR_INVALID_VALUE"
    assert answers("freed twice") == [SUCCESS, invalid]
    assert answers("other memory") == [invalid, invalid, SUCCESS, ILLEGAL]
    none = probe("left", STAND_IN_REFUSES="memory", STAND_IN_MEMORY="1").stdout
    assert none == "memory CUDA_ERROR_OUT_OF_MEMORY\n"
    assert probe("left", STAND_IN_REFUSES="memory", STAND_IN_MEMORY="2").stdout == ""


def test_work_is_done_when_its_stream_is_waited_for() -> None:
    """Until then the number of the host is the old one; new memory is not zero."""
    assert probe("late change").stdout == f"0 7 {0xA5}\n"


def test_every_call_needs_a_current_context() -> None:
    assert set(answers("no context")) == {"CUDA_ERROR_INVALID_CONTEXT"}


def test_a_graph_runs_when_it_is_launched() -> None:
    assert probe("recorded").stdout.splitlines()[-1] == "0 2 3"


def test_what_spoils_a_graph() -> None:
    refused, fine = [UNSUPPORTED, SPOILT], [SUCCESS, SUCCESS]
    found = answers("spoilt")
    wait, allocate, relaxed, elsewhere, everywhere = (found[i : i + 2] for i in range(0, 10, 2))
    assert [wait, allocate, everywhere] == [refused] * 3
    assert [relaxed, elsewhere] == [fine] * 2
    assert probe("recorded", STAND_IN_REFUSES="capture").stdout.startswith(f"begin {UNSUPPORTED}")


def test_four_threads_under_the_thread_sanitizer() -> None:
    sanitized = ("-DD2EXPORT_SANITIZE=thread", "-DCMAKE_CXX_FLAGS_RELEASE=-O1 -g1")
    found = probe("threads", settings=sanitized)
    assert (found.returncode, found.stdout) == (0, "200 equal\n"), found.stderr


def test_what_is_left_is_told(tmp_path: Path) -> None:
    probe("left", told=tmp_path / "told")
    assert (tmp_path / "told").read_text() == (
        "left 100 device bytes, 10 pinned bytes, 1 streams, 0 graphs, 1 contexts\n"
    )


# Engines


class Engine:
    """An engine of a bundle, and what it is asked to do."""

    def __init__(self, root: Path, folder: Path, version: str, unknown: Sequence[str] = ()) -> None:
        bundle = shutil.copytree(root, folder / "bundle", symlinks=True)
        engines.add_engines(bundle, version, unknown=unknown)
        self.graph = bundle / "onnx" / "decoder.onnx"
        self.folder, self.version, self._steps = folder, version, [""]
        shutil.copy(bundle / "engines" / "decoder.plan", folder / "engine")

    def feed(self, inputs: Arrays) -> None:
        """Inputs that the engine has, as it wants them."""
        for name, value in inputs.items():
            narrow = self.version == "8.6.1" and value.dtype == np.int64
            given = value.astype(np.int32) if narrow else value
            (self.folder / name).write_bytes(given.tobytes())
            self.step("in", name, "x".join(map(str, value.shape)))

    def step(self, *words: object) -> None:
        self._steps.append(" ".join(map(str, words)))

    def run(self, told: Path | None = None, refuses: str = "") -> list[str]:
        """What the steps said."""
        (self.folder / "steps").write_text("\n".join(self._steps[1:]))
        found = probe("run", self.folder, version=self.version, told=told, STAND_IN_REFUSES=refuses)
        assert found.returncode == 0, found.stderr
        return found.stdout.splitlines()

    def output(self, name: str, kind: type, *shape: int) -> Any:
        return np.frombuffer((self.folder / name).read_bytes(), kind).reshape(shape)


def prompt(graph: Path, length: int, visual: int) -> Arrays:
    """Inputs of a small decoder: a prompt that begins with one picture."""
    random = np.random.default_rng(0)
    found: Arrays = {}
    for value in open_session(graph, threads=1).get_inputs():
        sizes = {"sequence": length, "visual_tokens": visual, "images": 1}
        shape = [sizes.get(size, 0) if isinstance(size, str) else size for size in value.shape]
        if value.type == "tensor(int64)":
            found[value.name] = np.arange(np.prod(shape)).reshape(shape)
        else:
            found[value.name] = random.standard_normal(shape).astype(np.float32)
    return {**found, "image_lengths": np.array([visual])}


def computed(engine: Engine, inputs: Arrays) -> Arrays:
    session = open_session(engine.graph, threads=1)
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def ask_all(engine: Engine, expected: Arrays, verb: str = "out") -> None:
    for name, value in expected.items():
        engine.step(verb, name, value.nbytes)


@pytest.mark.parametrize("version", engines.VERSIONS)
@pytest.mark.parametrize("how", ["run", "graph"])
def test_an_engine_answers_what_its_graph_answers(
    small: Builder, tmp_path: Path, version: str, how: str
) -> None:
    engine = Engine(small(), tmp_path, version)
    inputs = prompt(engine.graph, 9, 4)
    expected = computed(engine, inputs)
    engine.feed(inputs)
    ask_all(engine, expected)
    engine.step("run")
    if how == "graph":
        engine.step("graph")
    said = engine.run(told=tmp_path / "told")
    for name, value in expected.items():
        shape = "x".join(map(str, value.shape))
        assert f"{name} will be {shape}" in said
        found = engine.output(name, value.dtype.type, *value.shape)
        np.testing.assert_array_equal(found, value)
    told = (tmp_path / "told").read_text().splitlines()
    assert told[0] == "enqueue decoder 0"
    assert ("record decoder 0" in told) == (how == "graph")


def test_an_output_whose_shape_only_the_run_tells(small: Builder, tmp_path: Path) -> None:
    engine = Engine(small(), tmp_path, VERSION, unknown=["surviving"])
    inputs = prompt(engine.graph, 9, 4)
    expected = computed(engine, inputs)
    engine.feed(inputs)
    positions = expected.pop("positions")
    ask_all(engine, expected)
    engine.step("run")
    assert any("positions has no allocator" in line for line in engine.run())
    engine.step("ask", "positions")
    engine.step("run")
    engine.step("graph")
    said = engine.run()
    assert "positions will be -1" in said
    assert f"positions is {positions.size}" in said
    assert "error: decoder: a shape is not known before the run, in a graph" in said
    assert f"end {SPOILT}" in said
    np.testing.assert_array_equal(engine.output("positions", np.int32, *positions.shape), positions)


@pytest.mark.parametrize(
    ("steps", "error"),
    [
        (["in input_ids 2x9"], "input_ids is 2x9, profile 0 takes 1x1 to 1x"),
        (["profile 1", "in input_ids 1x9"], "input_ids is 1x9, profile 1 takes 1x1 to 1x1"),
        (["profile 2"], "there is no profile 2"),
        (["in nothing 1"], "the engine has no such tensor nothing"),
        (["in position_ids 1x3", "run"], "sequence is 9, and 3 in position_ids"),
        (["profile 0", "run"], "the shape of input_ids is not set"),
        (["run"], "logits has no address"),
        (["out logits 4", "run"], "logits has no memory of 2048 bytes on the GPU"),
        (["graph"], "shapes changed since it ran outside of a graph"),
    ],
)
def test_what_a_context_refuses(
    small: Builder, tmp_path: Path, steps: list[str], error: str
) -> None:
    engine = Engine(small(), tmp_path, VERSION)
    engine.feed(prompt(engine.graph, 9, 4))
    for step in steps:
        engine.step(step)
    errors = [line for line in engine.run() if line.startswith("error: decoder: ")]
    assert errors
    assert errors[-1].startswith(f"error: decoder: {error}")


@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("engine", "the engine is of another GPU"),
        ("context", "out of memory"),
        ("run", "decoder: an illegal memory access was encountered"),
    ],
)
def test_what_is_refused_on_demand(small: Builder, tmp_path: Path, what: str, error: str) -> None:
    engine = Engine(small(), tmp_path, VERSION)
    engine.step("run")
    assert engine.run(refuses=what) == [f"error: {error}"]


def test_a_text_that_is_no_engine(small: Builder, tmp_path: Path) -> None:
    engine = Engine(small(), tmp_path, VERSION)
    (tmp_path / "engine").write_text("engine of 10\n")
    (error,) = engine.run()
    assert error.startswith("error: the engine plan file is not compatible")
