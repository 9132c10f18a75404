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

from d2export.bundle.folder import read_bundle
from d2export.engine.onnxruntime import open_session
from tests.engine.engine_tool import DATA_TYPES
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
    found = probe("threads", settings=engines.THREAD_SANITIZER)
    assert (found.returncode, found.stdout) == (0, "200 equal\n"), found.stderr


def test_what_is_left_is_told(tmp_path: Path) -> None:
    probe("left", told=tmp_path / "told")
    assert (tmp_path / "told").read_text() == (
        "left 100 device bytes, 10 pinned bytes, 1 streams, 0 graphs, 1 contexts\n"
    )


# Engines


class Engine:
    """An engine of a bundle, and what it is asked to do."""

    def __init__(
        self,
        root: Path,
        folder: Path,
        graph: str = "decoder",
        version: str = VERSION,
        unknown: Sequence[str] = (),
    ) -> None:
        bundle = shutil.copytree(root, folder / "bundle", symlinks=True)
        engines.add_engines(bundle, version, unknown=unknown)
        precision = read_bundle(bundle, verify=False).manifest.precision
        self.session = open_session(
            bundle / "onnx" / f"{graph}.onnx", precision=precision, threads=1
        )
        self.folder, self.version, self._steps = folder, version, [""]
        self.narrow = version == "8.6.1"  # which has no int64
        self.rounded = precision == "bf16"  # which numpy does not have
        shutil.copy(bundle / "engines" / f"{graph}.plan", folder / "engine")

    def example(self, **sizes: int) -> Arrays:
        """Inputs of these sizes, else of none: numbers that count up, or random ones."""
        random = np.random.default_rng(0)
        found: Arrays = {}
        for value in self.session.get_inputs():
            shape = [sizes.get(size, 0) if isinstance(size, str) else size for size in value.shape]
            if value.type == "tensor(int64)":
                found[value.name] = np.arange(np.prod(shape)).reshape(shape)
            else:
                kind = np.float16 if value.type == "tensor(float16)" else np.float32
                numbers = random.standard_normal(shape).astype(np.float32)
                if self.rounded:
                    numbers = (numbers.view(np.uint32) & 0xFFFF0000).view(np.float32)
                found[value.name] = numbers.astype(kind)
        if "image_lengths" in found:
            found["image_lengths"] = np.array([sizes["visual_tokens"]])
        return found

    def computed(self, inputs: Arrays) -> Arrays:
        """What Python answers."""
        names = [value.name for value in self.session.get_outputs()]
        return dict(zip(names, self.session.run(names, inputs), strict=True))

    def feed(self, inputs: Arrays) -> None:
        """Inputs as the engine has them."""
        for name, value in inputs.items():
            (self.folder / name).write_bytes(self._held(name, value).tobytes())
            self.step("in", name, "x".join(map(str, value.shape)))

    def expect(self, outputs: Arrays) -> None:
        """Memory for these outputs."""
        for name, value in outputs.items():
            self.step("out", name, max(1, self._held(name, value).nbytes))

    def step(self, *words: object) -> None:
        self._steps.append(" ".join(map(str, words)))

    def run(self, told: Path | None = None, refuses: str = "") -> list[str]:
        """What the steps said."""
        (self.folder / "steps").write_text("\n".join(self._steps[1:]))
        found = probe("run", self.folder, version=self.version, told=told, STAND_IN_REFUSES=refuses)
        assert found.returncode == 0, found.stderr
        return found.stdout.splitlines()

    def check(self, outputs: Arrays, said: list[str]) -> None:
        """The engine knew the shapes, and answered these numbers."""
        assert said[-1] == f"wait {SUCCESS}", said
        for name, value in outputs.items():
            shape = "x".join(map(str, value.shape))
            assert f"{name} will be {shape}" in said
            held = self._held(name, value)
            found = np.frombuffer((self.folder / name).read_bytes(), held.dtype)
            np.testing.assert_array_equal(found[: held.size].reshape(held.shape), held)

    def _held(self, name: str, value: Any) -> Any:
        if self.narrow and value.dtype == np.int64:
            return value.astype(np.int32)
        line = next(
            line
            for line in (self.folder / "engine").read_text().splitlines()
            if f" {name} " in line
        )
        if line.split()[2] == str(DATA_TYPES["bfloat16"]):
            return (np.ascontiguousarray(value).view(np.uint32) >> 16).astype(np.uint16)
        return value


PROMPT = {"sequence": 9, "visual_tokens": 4, "images": 1}


@pytest.mark.parametrize("version", engines.VERSIONS)
@pytest.mark.parametrize("how", ["run", "graph"])
def test_an_engine_answers_what_its_graph_answers(
    small: Builder, tmp_path: Path, version: str, how: str
) -> None:
    engine = Engine(small(), tmp_path, version=version)
    inputs = engine.example(**PROMPT)
    expected = engine.computed(inputs)
    engine.feed(inputs)
    engine.expect(expected)
    engine.step("run")
    if how == "graph":
        engine.step("graph")
    engine.check(expected, engine.run(told=tmp_path / "told"))
    told = (tmp_path / "told").read_text().splitlines()
    assert told[0] == "enqueue decoder 0"
    assert ("record decoder 0" in told) == (how == "graph")


@pytest.mark.parametrize("graph", ["vision", "decoder"])
@pytest.mark.parametrize(
    "options",
    [
        {"keep": "30%"},
        {"budget": "prompt"},
        {"precision": "fp16"},
        {"precision": "bf16"},
        {"selector": "divprune"},
        {"selector": "divprune", "keep": "30%"},
        {"selector": "cdpruner", "budget": "tile", "keep": "1"},
    ],
    ids=lambda options: " ".join(map(str, options.values())),
)
def test_shapes_are_known_before_a_run(
    small: Builder, tmp_path: Path, options: dict[str, Any], graph: str
) -> None:
    engine = Engine(small(**options), tmp_path, graph)
    seen = {"visual_tokens": 3} if "selector" in options else {}  # that the decoder is given
    inputs = engine.example(**{**PROMPT, **seen}, tiles=3, tokens=12, prompt_length=5)
    expected = engine.computed(inputs)
    engine.feed(inputs)
    engine.expect(expected)
    engine.step("run")
    engine.check(expected, engine.run())


def test_an_output_whose_shape_only_the_run_tells(small: Builder, tmp_path: Path) -> None:
    engine = Engine(small(), tmp_path, unknown=["surviving"])
    inputs = engine.example(**PROMPT)
    expected = engine.computed(inputs)
    engine.feed(inputs)
    positions = expected.pop("positions")
    engine.expect(expected)
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
    found = np.frombuffer((tmp_path / "positions").read_bytes(), np.int32)
    np.testing.assert_array_equal(found, positions)


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
    engine = Engine(small(), tmp_path)
    engine.feed(engine.example(**PROMPT))
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
    engine = Engine(small(), tmp_path)
    engine.step("run")
    assert engine.run(refuses=what) == [f"error: {error}"]


def test_a_profile_of_tensorrt_8_is_of_one_context(small: Builder, tmp_path: Path) -> None:
    """Before TensorRT 10, without a preview feature that nothing turns on here."""
    for version, refused in (("8.6.1", True), ("10.3", False)):
        folder = tmp_path / version
        folder.mkdir()
        engine = Engine(small(), folder, version=version)
        engine.step("another")
        engine.step("profile 1")
        engine.step("another")
        engine.step("profile 1")
        errors = [line for line in engine.run() if "Profile 1 has been chosen for another" in line]
        assert len(errors) == refused


def test_a_text_that_is_no_engine(small: Builder, tmp_path: Path) -> None:
    engine = Engine(small(), tmp_path)
    (tmp_path / "engine").write_text("engine of 10\n")
    (error,) = engine.run()
    assert error.startswith("error: the engine plan file is not compatible")
