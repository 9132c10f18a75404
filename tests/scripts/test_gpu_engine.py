"""scripts/gpu/engine.py without a GPU: ONNX Runtime takes the place of TensorRT, at pocket size."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from d2export.engine.builder_plan import EnginePlan
from d2export.engine.targets import target
from d2export.models import presets
from tests.engine.engine_tool import build as build_tool

FOLDER = Path(__file__).parents[2] / "scripts" / "gpu"
SCRIPT = FOLDER / "engine.py"
MODULES = ("engine", "engine_parts", "engine_pytorch", "engine_runners", "engine_table", "launch")


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """The script and its parts, as it imports them."""
    monkeypatch.syspath_prepend(str(FOLDER))
    yield SimpleNamespace(**{name: __import__(name) for name in MODULES})
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all tests leave their bundles: one that is there is not exported again."""
    return tmp_path_factory.mktemp("bundles")


class OnnxRuntime:
    """Answers as an engine would, and notes what it was asked for."""

    version, name = (10, 16), "ONNX Runtime"

    def __init__(self, timing: Any, wrong: tuple[str, ...] = ()) -> None:
        self.timing, self.wrong = timing, wrong
        self.plans: list[EnginePlan] = []
        self.lengths: list[tuple[int, int]] = []

    def build(self, plan: EnginePlan, device: Any, onnx: Path, engine: Path) -> None:
        assert device.name == "h200"
        assert onnx.is_file()
        self.plans.append(plan)
        engine.parent.mkdir(exist_ok=True)
        engine.write_text(str(onnx.with_name(f"{plan.graph}.onnx")))

    def run(self, engine: Path, inputs: dict[str, Any]) -> dict[str, Any]:
        session = onnxruntime.InferenceSession(
            engine.read_text(), providers=["CPUExecutionProvider"]
        )
        names = [value.name for value in session.get_outputs()]
        answers = dict(zip(names, session.run(names, inputs), strict=True))
        for name in set(self.wrong).intersection(answers):
            answers[name] = answers[name] + 1
        return answers

    def time(self, engine: Path, inputs: dict[str, Any]) -> Any:
        visual = len(inputs.get("visual_positions", ()))
        self.lengths.append((inputs["input_ids"].shape[1] if "input_ids" in inputs else 0, visual))
        return self.timing(engine, inputs)


def timing_of(scripts: SimpleNamespace) -> Any:
    """A millisecond a layer, a tenth where it was pruned, and 0.01 for the op."""

    def timing(engine: Path, inputs: dict[str, Any]) -> Any:
        layers = sum(name.endswith(".key") for name in inputs) or 2
        visual = len(inputs.get("visual_positions", ()))
        ms = 2.0 + 0.1 * (layers - 2) if visual else float(layers)
        layers_ms = {"node_d2prune_positions": 0.01, "node_d2prune__1": 0.02, "x": ms}
        return scripts.engine_runners.Timing(ms, ms / 2, layers_ms)

    return timing


def bench_of(scripts: SimpleNamespace, runner: Any, folder: Path) -> Any:
    findings = scripts.engine_table.Findings({"GPU": "none"})
    return scripts.engine.Bench(runner, target("h200"), None, folder, findings, device="cpu")


def rows(bench: Any, what: str) -> list[Any]:
    return [row for row in bench.findings.rows if what in row.what]


def test_all_of_it_at_pocket_size(
    scripts: SimpleNamespace, bundles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = OnnxRuntime(timing_of(scripts))
    bench = bench_of(scripts, runner, bundles)
    pytorch = scripts.engine_pytorch
    for name in ("vision_call", "prefill_call"):
        monkeypatch.setattr(pytorch, name, lambda spec: lambda: None)
    monkeypatch.setattr(pytorch, "milliseconds", lambda call, compiled: 3.0 if compiled else 6.0)
    scripts.engine.run(bench, "pocket", [4, 3], ["fp16", "int8"])
    found = bench.findings
    assert not found.failed, found.text()

    # Two engines of the decoder and one of the vision graph; INT8 was left out, and says why.
    assert [plan.graph for plan in runner.plans] == ["vision", "decoder", "decoder"]
    int8 = [row for row in found.rows if row.precision == "int8"]
    assert [row.note for row in int8][:3] == [
        "not run: no INT8 scales: pass a folder of pictures as --images"
    ] * 3
    assert int8[3].note == "not run: two slices are needed, 0 ran"

    # Kept tokens and values are PyTorch's.
    checks = rows(bench, "beside PyTorch")
    assert [row.passed for row in checks] == [True, True, True]
    assert all(row.note.startswith("kept 100.00% as PyTorch") for row in checks)

    # The op's layers are those that are called as its nodes in each graph.
    assert [row.ms for row in rows(bench, "selection alone")] == [0.02, 0.01, 0.01]

    # The same length with and without visual tokens.
    (_, *prompts) = runner.lengths
    assert [length for length, _ in prompts] == [prompts[0][0]] * 4
    assert [bool(visual) for _, visual in prompts] == [True, False, True, False]

    # All of pocket's layers by the line through slices.
    layers = presets.preset("pocket").text.layers
    pruned, unpruned = rows(bench, "by the line through slices")[:2]
    assert unpruned.ms == pytest.approx(layers)
    assert pruned.ms == pytest.approx(2 + 0.1 * (layers - 2))
    assert found.goals[0].verdict == "reached"
    assert found.goals[0].value == pytest.approx(6.0 / 2.0)
    assert found.goals[1].value == pytest.approx(unpruned.ms / pruned.ms)
    assert found.goals[2].value == pytest.approx(0.01 / pruned.ms)
    assert "| pocket vision: PyTorch eager | fp16 | 6 |  |  |" in found.text()


def test_scales_that_cannot_be_measured(
    scripts: SimpleNamespace, bundles: Path, tmp_path: Path
) -> None:
    bundle = scripts.engine_parts.make_bundle(
        presets.preset("pocket"), "vision", "10%", "fp16", bundles / "pocket" / "vision" / "fp16"
    )
    with pytest.raises(scripts.engine_table.NotRun, match=r"calibrate int8 said: .*picture"):
        scripts.engine_parts.make_scales(bundle, tmp_path, tmp_path / "scales.json")


@pytest.mark.parametrize("output", ["kept_indices", "image_embeds"])
def test_wrong_answers_fail(scripts: SimpleNamespace, bundles: Path, output: str) -> None:
    runner = OnnxRuntime(timing_of(scripts), wrong=(output,))
    bench = bench_of(scripts, runner, bundles)
    scripts.engine.bench_vision(bench, "pocket", "fp16")
    (check,) = rows(bench, "beside PyTorch")
    assert check.passed is False
    assert bench.findings.failed == [check]
    assert bench.findings.to_json()["passed"] is False
    assert "| FAILED kept " in bench.findings.text()


def test_what_breaks_is_a_failure_and_the_rest_goes_on(
    scripts: SimpleNamespace, bundles: Path
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("no kernel\nfits node 3")

    runner = OnnxRuntime(timing_of(scripts))
    runner.build = broken  # type: ignore[method-assign]
    bench = bench_of(scripts, runner, bundles)
    assert scripts.engine.bench_vision(bench, "pocket", "fp16") is None
    (row,) = bench.findings.rows
    assert (row.passed, row.note) == (False, "no kernel fits node 3")


def test_an_op_without_a_plugin_is_not_run(
    scripts: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = SimpleNamespace(name="decoder")
    prepared = SimpleNamespace(graph=graph, inlined_ops=("CorrelatedPositions",))
    monkeypatch.setattr(scripts.engine, "prepared_graphs", lambda bundle: [prepared])
    bench = bench_of(scripts, OnnxRuntime(None), tmp_path)
    with bench.part("prefill", "fp16"):
        bench.engine(SimpleNamespace(root=tmp_path), "decoder")
    (row,) = bench.findings.rows
    assert (row.passed, row.note) == (None, "not run: CorrelatedPositions has no plugin")


def test_goals(scripts: SimpleNamespace) -> None:
    goals = scripts.engine.goals(None, 3.0, None)
    assert [goal.verdict for goal in goals] == ["not run"] * 3
    assert goals[0].text() == "vision engine beside PyTorch eager FP16: at least 2.00x: not run"
    prefill = scripts.engine.Prefill(pruned=2.0, unpruned=6.8, selection=0.03)
    vision, faster, share = scripts.engine.goals(6.2, 3.0, prefill)
    assert vision.text().endswith(": at least 2.00x, measured 2.07x: reached")
    assert faster.text().endswith(": at least 3.50x, measured 3.40x: missed")
    assert share.text().endswith(": at most 1.00%, measured 1.50%: missed")
    json.dumps(scripts.engine_table.Findings({}, [], goals).to_json())


def test_lines_through_slices(scripts: SimpleNamespace) -> None:
    assert scripts.engine_table.whole({4: 5.0, 8: 9.0}, 32) == pytest.approx(33.0)


def test_layers_of_the_op(scripts: SimpleNamespace) -> None:
    layers = {"node_d2prune__1": 0.25, "Reformatting CopyNode to node_d2prune__1": 0.5, "b": 9}
    timing = scripts.engine_runners.Timing(1.0, None, layers)
    assert timing.selection_ms(("node_d2prune__1",)) == 0.75
    assert timing.selection_ms(("node_dppprune",)) is None


def test_comparison_with_pytorch(scripts: SimpleNamespace) -> None:
    plan = SimpleNamespace(chained=False)
    bundle = SimpleNamespace(manifest=SimpleNamespace(precision="fp16", plan=plan))
    expected = {"kept": np.arange(200), "values": np.ones((200, 2), np.float32)}

    def passed(kept: Any, values: Any) -> bool:
        answered = {"kept": kept, "values": values}
        found: bool = scripts.engine_pytorch.compare(
            bundle, answered, expected, "kept", "values"
        ).passed
        return found

    ones = np.ones((200, 2), np.float16)
    assert passed(np.arange(200), ones)
    assert passed(np.arange(1, 201), ones)  # 99.5 % of them
    assert not passed(np.arange(4, 204), ones)
    assert not passed(np.arange(200), ones * 1.01)
    assert not passed(np.arange(200), ones * np.nan)


def test_what_pytorch_is_timed_on(scripts: SimpleNamespace) -> None:
    """As many visual tokens as the engine sees, and a prompt as long; nothing is selected."""
    spec = presets.preset("pocket")
    tokens = len(scripts.engine_parts.grid_of(spec))
    with torch.inference_mode():
        seen = scripts.engine_pytorch.vision_call(spec, "cpu")()
        logits = scripts.engine_pytorch.prefill_call(spec, "cpu")()
    assert seen.shape[0] * seen.shape[1] == tokens
    assert (seen.shape[2], seen.dtype) == (spec.text.hidden, torch.float16)
    assert (tuple(logits.shape), logits.dtype) == ((1, 1, spec.text.vocab), torch.float16)
    assert torch.get_default_dtype() == torch.float32


# --- Finding a TensorRT ---------------------------------------------------------------------------


def test_libraries_in_a_folder(scripts: SimpleNamespace, tmp_path: Path) -> None:
    runners, not_run = scripts.engine_runners, scripts.engine_table.NotRun
    with pytest.raises(not_run, match=r"has no libnvinfer\.so\.N, N one of 8, 10, 11"):
        runners.major_in(tmp_path)
    (tmp_path / "libnvinfer.so.10").write_bytes(b"")
    assert runners.major_in(tmp_path) == 10


def test_headers_of_the_same_major_version(
    scripts: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runners, not_run = scripts.engine_runners, scripts.engine_table.NotRun
    for name, line in (
        ("8.6.1", "#define NV_TENSORRT_MAJOR 8 //!< major"),
        ("10.16", "#define TRT_MAJOR_ENTERPRISE 10"),
        ("10.3", "#define NV_TENSORRT_MAJOR 10 //!< major"),
    ):
        folder = tmp_path / name / "include"
        folder.mkdir(parents=True)
        (folder / "NvInferVersion.h").write_text(line + "\n")
        (folder / "NvOnnxParser.h").write_text("")
    monkeypatch.setattr(runners, "HEADERS", tmp_path)
    assert runners.headers_for(10, None) == tmp_path / "10.3" / "include"
    assert runners.headers_for(8, None) == tmp_path / "8.6.1" / "include"
    with pytest.raises(not_run, match="no headers of TensorRT 11"):
        runners.headers_for(11, None)
    with pytest.raises(not_run, match="pass their folder as --headers"):
        runners.headers_for(10, tmp_path / "8.6.1" / "include")
    (tmp_path / "10.3" / "include" / "NvOnnxParser.h").unlink()
    assert runners.headers_for(10, None) == tmp_path / "10.16" / "include"


def test_no_tensorrt_at_all(
    scripts: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runners = scripts.engine_runners
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(runners, "system_major", lambda: None)
    with pytest.raises(scripts.engine_table.NotRun, match="pass --libraries FOLDER"):
        runners.find_runner(None, None, None, tmp_path)


def test_what_cannot_be_compiled_says_why(scripts: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(scripts.engine_table.NotRun, match=r"nowhere cannot be built: .*nowhere"):
        scripts.engine_runners.built("nowhere", tmp_path / "build", "all")


def test_the_tool_as_a_runner(scripts: SimpleNamespace, tmp_path: Path) -> None:
    """The C++ tool, with its stand-ins for TensorRT."""
    place = build_tool("10.3")
    libraries = place / "tests" / "libraries"
    runner = scripts.engine_runners.ToolRunner(place / "d2export-engine-acted", libraries, None)
    assert runner.version == (10, 3, 0)
    engine = tmp_path / "engine"
    engine.write_text("in past.0 0 0 1x0 2x4\nout y 0 past.0\n")
    inputs = {"past.0": np.arange(8, dtype=np.float32).reshape(2, 4)}
    (answer,) = runner.run(engine, inputs).values()
    assert np.array_equal(answer, inputs["past.0"])
    timing = runner.time(engine, inputs)
    assert timing.ms > 0
    assert timing.graph_ms is not None
    assert timing.layers == {"D2Prune": 0.25, "rest": 2.0}
    with pytest.raises(RuntimeError, match=r"input past\.0 is missing"):
        runner.run(engine, {"other": inputs["past.0"]})


# --- The command line -----------------------------------------------------------------------------


def test_without_a_gpu_it_is_not_run() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT],
        capture_output=True,
        text=True,
        check=False,
        env={"CUDA_VISIBLE_DEVICES": "", "PATH": "/usr/bin:/bin"},
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "not run: no CUDA GPU, or a torch without CUDA\n"


def test_arguments(scripts: SimpleNamespace) -> None:
    found = scripts.engine.arguments_of(["--layers", "4", "6", "--precision", "fp16"])
    assert (found.layers, found.precision, found.model) == ([4, 6], ["fp16"], "internvl2.5-8b")
    with pytest.raises(SystemExit):
        scripts.engine.arguments_of(["--precision", "fp8"])
