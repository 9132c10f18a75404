"""TensorRT engines on a GPU: are they right, and how fast are they?

    python scripts/gpu/engine.py [--libraries FOLDER] [--images FOLDER] [--json FILE]

Takes any TensorRT from 8.6 to 11: the libraries in --libraries (libnvinfer, its builder resource
and libnvonnxparser are enough; the C++ tool of engines/tool drives them), else the Python package,
else what the system has. Needs torch with CUDA, and CMake and nvcc for the plugin and the tool,
unless --plugin names the first.

1. vision: InternViT-300M, projector and D2Prune of --model at their real size, a picture at most
   tiles; beside PyTorch eager and compiled.
2. decoder: slices of --layers layers of the language model at their real width, pruned before
   layer 2: a prompt with 3,328 visual tokens of which a tenth stays, and one of the same length
   without visual tokens, which the same engine does not prune. The line through two slices gives
   all layers.
3. the trained `pocket`, whole, by the C++ runtime's d2run beside Python on the CPU: the same visual
   tokens, the same answers; a decode step with and without CUDA graphs. d2run is compiled here
   unless --d2run names it.
4. 1 and 2 in FP16 and INT8 with random weights, compared with PyTorch in float32 on the GPU. INT8
   needs --images, real pictures to calibrate on.

What cannot be run says why, and the rest goes on. Exit code 0: all that ran passed; 1: a check
failed; 3: there is no GPU or no TensorRT here.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import engine_pytorch
import engine_runtime
from engine_parts import (
    Arrays,
    make_bundle,
    make_scales,
    prefill_question,
    slice_of,
    vision_question,
)
from engine_pytorch import Comparison
from engine_runners import Runner, Timing, find_runner
from engine_table import (
    NOT_RUN,
    PREFILL_GOAL,
    SELECTION_GOAL,
    VISION_GOAL,
    Findings,
    Goal,
    NotRun,
    Row,
    ratio,
    whole,
)

from d2export.bundle.engine_records import Gpu
from d2export.bundle.folder import Bundle
from d2export.engine.atomic_file import write_whole
from d2export.engine.build_options import BuildOptions
from d2export.engine.plugin_nodes import plugin_nodes
from d2export.engine.target import Target
from d2export.engine.targets import target
from d2export.engine_planning import SUFFIX, plan_engines, prepared_graphs
from d2export.errors import D2ExportError
from d2export.models.presets import ModelSpec, preset
from d2export.pruning.selector import Scope

KEEP = "10%"
PRECISIONS = ("fp16", "int8")


@dataclass
class Bench:
    """A run: with what, where, and what was found so far."""

    runner: Runner
    target: Target
    images: Path | None
    folder: Path
    findings: Findings
    device: str = "cuda"

    @contextmanager
    def part(self, what: str, precision: str) -> Iterator[None]:
        """Something that may be missing, or fail: a row says so, and the rest goes on."""
        print(f"{what}, {precision} ...", file=sys.stderr, flush=True)
        try:
            yield
        except NotRun as why:
            self.findings.rows.append(Row(what, precision, note=f"{NOT_RUN}{why}"))
        except (D2ExportError, RuntimeError) as error:
            traceback.print_exc()
            said = " ".join(str(error).split())[:300]
            self.findings.rows.append(Row(what, precision, passed=False, note=said))

    def bundle(self, spec: ModelSpec, scope: Scope, precision: str) -> Bundle:
        """A bundle of a precision; INT8 is measured on the one in FP32.

        Raises:
            NotRun: there is nothing to measure it on, or that failed.
        """
        folder, scales = self.folder / spec.name / scope, None
        if precision == "int8":
            if self.images is None:
                raise NotRun("no INT8 scales: pass a folder of pictures as --images")
            single = make_bundle(spec, scope, KEEP, "fp32", folder / "fp32")
            scales = make_scales(single, self.images, folder / "scales.json")
        return make_bundle(spec, scope, KEEP, precision, folder / precision, scales)

    def engine(self, bundle: Bundle, graph: str) -> Path:
        """The engine of one graph of a bundle.

        Raises:
            NotRun: an op of the graph has no plugin.
        """
        prepared = [one for one in prepared_graphs(bundle) if one.graph.name == graph]
        for op in prepared[0].inlined_ops:
            raise NotRun(f"{op} has no plugin")
        planned = plan_engines(prepared, self.target, self.runner.version[:2], BuildOptions())
        onnx = bundle.root / prepared[0].graph.onnx
        write_whole(onnx, prepared[0].onnx)
        engine = bundle.root / "engines" / f"{graph}.plan"
        self.runner.build(planned.engines[0].plan, self.target, onnx, engine)
        return engine

    def check(self, what: str, precision: str, compared: Comparison) -> None:
        """A row for a comparison with PyTorch."""
        row = Row(f"{what} beside PyTorch", precision, passed=compared.passed, note=compared.text)
        self.findings.rows.append(row)

    def time(self, what: str, precision: str, engine: Path, inputs: Arrays) -> Timing:
        """Rows for an engine and its selection."""
        timing = self.runner.time(engine, inputs)
        self.findings.rows.append(Row(what, precision, timing.ms, timing.graph_ms))
        return timing

    def selection(
        self, what: str, precision: str, timing: Timing, bundle: Bundle, graph: str
    ) -> float | None:
        """A row of its own for the plugin's layers, which TensorRT calls as the graph's nodes."""
        nodes = plugin_nodes((bundle.root / "onnx" / f"{graph}{SUFFIX}").read_bytes())
        found = timing.selection_ms(nodes)
        note = "" if found is not None else f"{NOT_RUN}no layer is called {' or '.join(nodes)}"
        self.findings.rows.append(Row(f"{what}: selection alone", precision, found, note=note))
        return found

    def pytorch(self, what: str, make: Callable[[], Callable[[], object]]) -> float | None:
        """Rows for PyTorch eager and compiled; the time of the first."""
        eager = None
        for compiled in (False, True):
            name = f"{what}: PyTorch {'compiled' if compiled else 'eager'}"
            with self.part(name, "fp16"):
                ms = engine_pytorch.milliseconds(make(), compiled=compiled)
                self.findings.rows.append(Row(name, "fp16", ms))
                eager = eager if compiled else ms
            if self.device == "cuda":
                torch.cuda.empty_cache()
        return eager


def bench_vision(bench: Bench, model: str, precision: str) -> float | None:
    """Check and time the vision engine; its milliseconds."""
    what = f"{model} vision"
    with bench.part(what, precision):
        spec = preset(model)
        bundle = bench.bundle(spec, "vision", precision)
        inputs = vision_question(bundle, spec)
        engine = bench.engine(bundle, "vision")
        expected = engine_pytorch.vision_answer(
            bench.bundle(spec, "vision", "fp16"), inputs, bench.device
        )
        answered = bench.runner.run(engine, inputs)
        compared = engine_pytorch.compare(
            bundle, answered, expected, "kept_indices", "image_embeds"
        )
        bench.check(what, precision, compared)
        timing = bench.time(f"{what}: engine", precision, engine, inputs)
        bench.selection(what, precision, timing, bundle, "vision")
        return timing.ms
    return None


@dataclass(frozen=True)
class Prefill:
    """Milliseconds of one slice."""

    pruned: float
    unpruned: float
    selection: float | None


def bench_decoder(bench: Bench, spec: ModelSpec, precision: str) -> Prefill | None:
    """Check and time the decoder engine of a slice."""
    what = f"{spec.name} prefill"
    with bench.part(what, precision):
        bundle = bench.bundle(spec, "vlm", precision)
        engine = bench.engine(bundle, "decoder")
        inputs = prefill_question(bundle, spec, pruned=True)
        expected = engine_pytorch.decoder_answer(
            bench.bundle(spec, "vlm", "fp16"), spec, inputs, bench.device
        )
        answered = bench.runner.run(engine, inputs)
        compared = engine_pytorch.compare(bundle, answered, expected, "positions", "logits")
        bench.check(what, precision, compared)
        pruned = bench.time(f"{what}: engine, a tenth kept", precision, engine, inputs)
        selection = bench.selection(what, precision, pruned, bundle, "decoder")
        inputs = prefill_question(bundle, spec, pruned=False)
        unpruned = bench.time(f"{what}: the same engine, unpruned", precision, engine, inputs)
        return Prefill(pruned.ms, unpruned.ms, selection)
    return None


def whole_prefill(
    bench: Bench, model: str, precision: str, slices: dict[int, Prefill]
) -> Prefill | None:
    """All layers, by the line through two slices, as rows."""
    layers = preset(model).text.layers
    what = f"{model} prefill, {layers} layers by the line through slices"
    if len(slices) < 2:
        note = f"{NOT_RUN}two slices are needed, {len(slices)} ran"
        bench.findings.rows.append(Row(what, precision, note=note))
        return None
    pruned, unpruned = (
        whole({count: getattr(one, name) for count, one in slices.items()}, layers)
        for name in ("pruned", "unpruned")
    )
    bench.findings.rows += [
        Row(f"{what}: a tenth kept", precision, pruned),
        Row(f"{what}: unpruned", precision, unpruned, note=f"{unpruned / pruned:.2f}x"),
    ]
    return Prefill(pruned, unpruned, slices[max(slices)].selection)


def bench_runtime(bench: Bench, gpu: Gpu, d2run: Callable[[], Path]) -> None:
    """Check and time the C++ runtime, with engines in FP16.

    Args:
        gpu: that builds and runs them.
        d2run: makes the program, or finds it.
    """
    what, precision = f"{engine_runtime.MODEL} by the C++ runtime", "fp16"
    with bench.part(what, precision):
        program = d2run()
        bundle = engine_runtime.whole_model(bench.folder / "runtime" / precision, precision)
        engines = {graph: bench.engine(bundle, graph) for graph in ("vision", "decoder")}
        engine_runtime.record(bundle, engines, bench.runner, bench.target.name, gpu)
        found = engine_runtime.compare(program, bundle, bench.runner)
        bench.findings.rows += [
            Row(f"{what} beside Python", precision, passed=found.passed, note=found.text),
            Row(f"{what}: vision", precision, found.vision_ms),
            Row(f"{what}: prefill", precision, found.prefill_ms),
            Row(f"{what}: a decode step", precision, found.step_ms, found.graph_step_ms),
        ]


def run(bench: Bench, model: str, layers: list[int], precisions: list[str]) -> None:
    """Everything, in order; goals at the end."""
    eager = bench.pytorch(f"{model} vision", lambda: engine_pytorch.vision_call(preset(model)))
    times = {one: bench_vision(bench, model, one) for one in precisions}
    specs = {count: slice_of(model, count) for count in sorted(set(layers))}
    for spec in specs.values():
        bench.pytorch(
            f"{spec.name} prefill, unpruned", lambda s=spec: engine_pytorch.prefill_call(s)
        )
    prefills: dict[str, Prefill | None] = {}
    for precision in precisions:
        found = {count: bench_decoder(bench, spec, precision) for count, spec in specs.items()}
        slices = {count: one for count, one in found.items() if one is not None}
        prefills[precision] = whole_prefill(bench, model, precision, slices)
    bench.findings.goals = goals(eager, times.get("fp16"), prefills.get("fp16"))


def goals(eager: float | None, vision: float | None, prefill: Prefill | None) -> list[Goal]:
    """The goals, in FP16, with what was measured."""
    faster = prefill and ratio(prefill.unpruned, prefill.pruned)
    share = prefill and ratio(prefill.selection, prefill.pruned)
    return [
        Goal(*VISION_GOAL, ratio(eager, vision)),
        Goal(*PREFILL_GOAL, faster),
        Goal(*SELECTION_GOAL, share),
    ]


def arguments_of(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--libraries", type=Path, help="folder of TensorRT's libraries")
    parser.add_argument("--headers", type=Path, help="folder of NvInfer.h and NvOnnxParser.h")
    parser.add_argument("--plugin", type=Path, help="libd2export_plugin.so for this GPU")
    parser.add_argument("--d2run", type=Path, help="d2run, compiled for this TensorRT")
    parser.add_argument("--images", type=Path, help="pictures for INT8 scales")
    parser.add_argument("--model", default="internvl2.5-8b")
    parser.add_argument("--layers", type=int, nargs="+", default=[4, 8], metavar="N")
    parser.add_argument("--precision", nargs="+", default=list(PRECISIONS), choices=PRECISIONS)
    parser.add_argument("--folder", type=Path, help="keep bundles and engines here")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args(words)


def this_gpu() -> Gpu:
    """As CUDA describes it."""
    facts = torch.cuda.get_device_properties(0)
    return Gpu(facts.name, (facts.major, facts.minor), facts.total_memory)


def main() -> int:
    """Print the table and the goals; write the figures if asked to."""
    arguments = arguments_of()
    if not torch.cuda.is_available():
        print(f"{NOT_RUN}no CUDA GPU, or a torch without CUDA", file=sys.stderr)
        return 3
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        try:
            runner = find_runner(
                arguments.libraries, arguments.headers, arguments.plugin, folder / "built"
            )
        except NotRun as why:
            print(f"{NOT_RUN}{why}", file=sys.stderr)
            return 3
        machine: dict[str, Any] = {
            "GPU": torch.cuda.get_device_name(),
            "by": runner.name,
            "torch": torch.__version__,
            "CUDA": torch.version.cuda,
        }
        findings = Findings(machine)
        bench = Bench(runner, target("auto"), arguments.images, folder, findings)
        bench_runtime(
            bench,
            this_gpu(),
            lambda: (
                arguments.d2run
                or engine_runtime.d2run_program(runner, arguments.headers, folder / "built")
            ),
        )
        run(bench, arguments.model, arguments.layers, arguments.precision)
    print(findings.text())
    if arguments.json:
        arguments.json.write_text(json.dumps(findings.to_json(), indent=2) + "\n")
    print("FAILED" if findings.failed else "PASSED")
    return 1 if findings.failed else 0


if __name__ == "__main__":
    sys.exit(main())
