"""The C++ runtime in scripts/gpu/engine.py, with TensorRT's stand-ins, whose engines compute."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from d2export.bundle.folder import read_bundle
from d2export.engine.builder_plan import EnginePlan
from d2export.engine.targets import target
from tests.runtime_cpp import engines
from tests.runtime_cpp.programs import example

FOLDER = Path(__file__).parents[2] / "scripts" / "gpu"
MODULES = (
    "engine", "engine_parts", "engine_pytorch", "engine_runners", "engine_runtime", "engine_table",
    "launch",
)  # fmt: skip
VERSION = "10.3"
QUESTIONS = 4  # one of each kind


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """The script and its parts, as it imports them."""
    monkeypatch.syspath_prepend(str(FOLDER))
    found = SimpleNamespace(**{name: __import__(name) for name in MODULES})
    monkeypatch.setattr(found.engine_runtime, "QUESTIONS", QUESTIONS)
    monkeypatch.setattr(found.engine_runtime, "REPEATS", 2)
    yield found
    for name in MODULES:
        sys.modules.pop(name, None)


class StandIn:
    """Writes engines for the stand-ins; they are run by d2run alone."""

    version, name = (10, 3), "stand-ins"

    def __init__(self, folder: Path, plugin: Path) -> None:
        self.nvinfer = engines.libraries(folder) / "libnvinfer.so.10"
        self.plugin = plugin
        plugin.write_bytes(b"only its being there counts")

    def build(self, plan: EnginePlan, device: Any, onnx: Path, engine: Path) -> None:
        engine.parent.mkdir(exist_ok=True)
        lines = engines.engine_text(read_bundle(onnx.parents[1], verify=False), plan, VERSION)
        engine.write_text("\n".join(lines) + "\n")


@pytest.fixture
def bench(
    scripts: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Any, Path]:
    """A run with the stand-ins, and d2run."""
    folder = engines.build(VERSION, "d2export_runtime", "d2export_runtime_static")
    for name, value in engines.environment(folder).items():
        monkeypatch.setenv(name, value)
    runner = StandIn(folder, tmp_path / "libd2export_plugin.so")
    findings = scripts.engine_table.Findings({"GPU": "none"})
    here = scripts.engine.Bench(
        runner, target("h200"), None, tmp_path / "bundles", findings, device="cpu"
    )
    return here, example("d2run", folder)


def test_the_c_runtime_beside_python(scripts: SimpleNamespace, bench: tuple[Any, Path]) -> None:
    here, program = bench
    scripts.engine.bench_runtime(here, engines.GPU, lambda: program)
    assert not here.findings.failed, here.findings.text()
    checked, vision, prefill, step = here.findings.rows
    assert checked.note == f"kept 100.00% as Python, answers 100% of {QUESTIONS}"
    assert all(row.ms > 0 for row in (vision, prefill, step))
    assert step.graph_ms > 0


def test_what_d2run_refuses_is_a_failure(scripts: SimpleNamespace, bench: tuple[Any, Path]) -> None:
    here, program = bench
    here.runner.plugin = here.runner.plugin.with_name("missing.so")
    scripts.engine.bench_runtime(here, engines.GPU, lambda: program)
    (row,) = here.findings.failed
    assert "missing.so" in row.note


def test_other_answers_fail(scripts: SimpleNamespace) -> None:
    answered = scripts.engine_runtime.Answered
    times = (1.0, 1.0, 1.0, 1.0)
    assert answered(0.995, 0.95, *times).passed
    assert not answered(0.98, 1.0, *times).passed
    assert not answered(1.0, 0.85, *times).passed


def test_without_cmake_it_is_not_run(
    scripts: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = SimpleNamespace(version=(10, 3))
    (tmp_path / "NvInferVersion.h").write_text("#define NV_TENSORRT_MAJOR 10\n")
    (tmp_path / "NvOnnxParser.h").write_text("")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(scripts.engine_table.NotRun, match="no CMake"):
        scripts.engine_runtime.d2run_program(runner, tmp_path, tmp_path / "built")
