"""The C++ runtime beside Python's: the trained `pocket`, asked by `d2run --tensorrt`: part of
engine.py.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine_runners import Runner, built, headers_for
from engine_table import NotRun

from d2export import __version__
from d2export.bundle.engine_records import (
    BUILT,
    SCHEMA,
    BuiltEngine,
    BuiltEngines,
    Gpu,
    write_record,
)
from d2export.bundle.folder import Bundle, read_bundle
from d2export.bundle.records import Tool
from d2export.engine.engine_cache import file_sha256
from d2export.engine.target import version_text
from d2export.errors import D2ExportError
from d2export.evaluation.scenes.task import pocket_scenes
from d2export.options import ExportOptions
from d2export.pipeline import export
from d2export.progress import Progress
from d2export.runtime.generate import Generator

MODEL, KEEP = "pocket", "10%"
QUESTIONS = 20
REPEATS = 10  # of a question before its times are read
GRAPHS = 64  # decode steps: more than an answer has
# Half precision flips near-ties: of the visual tokens, and then perhaps of an answer.
KEPT, ANSWERS = 0.99, 0.9
ASKS_VERSION = "import ctypes, sys; print(ctypes.CDLL(sys.argv[1]).getInferLibVersion())"
KEY = "0" * 64  # of what an engine was made from; it is not looked up here


@dataclass(frozen=True)
class Answered:
    """What the C++ runtime answered beside Python, and its median milliseconds."""

    kept: float  # share of visual tokens that both kept
    answers: float  # share of answers with the same tokens
    vision_ms: float
    prefill_ms: float
    step_ms: float
    graph_step_ms: float

    @property
    def passed(self) -> bool:
        """Whether it answers as Python does, but for near-ties."""
        return self.kept >= KEPT and self.answers >= ANSWERS

    @property
    def text(self) -> str:
        """In a few words."""
        return f"kept {self.kept:.2%} as Python, answers {self.answers:.0%} of {QUESTIONS}"


def whole_model(folder: Path, precision: str) -> Bundle:
    """The trained model with its language model, as `d2export build` makes it."""
    if not (folder / "manifest.json").exists():
        options = ExportOptions(MODEL, scope="vlm", keep=KEEP, precision=precision)
        export(options, folder, progress=Progress(level="quiet"))
    return read_bundle(folder, verify=False)


def record(bundle: Bundle, engines: dict[str, Path], runner: Runner, target: str, gpu: Gpu) -> None:
    """Write what was built, where and with what, as `d2export build` does.

    Raises:
        NotRun: the version of the library cannot be told.
    """
    entries = tuple(
        BuiltEngine(
            graph,
            path.relative_to(bundle.root).as_posix(),
            path.stat().st_size,
            file_sha256(path),
            KEY,
            seconds=0.0,
        )
        for graph, path in engines.items()
    )
    plugin = None if runner.plugin is None else f"plugins/{runner.plugin.name}"
    built_engines = BuiltEngines(
        SCHEMA,
        Tool("d2export", __version__),
        target,
        library_version(runner),
        gpu,
        plugin,
        entries,
    )
    write_record(bundle.root / BUILT, built_engines)


def library_version(runner: Runner) -> str:
    """Of libnvinfer: 10.3.0.

    Raises:
        NotRun: it cannot be opened.
    """
    name = runner.nvinfer or f"libnvinfer.so.{runner.version[0]}"
    # In a process of its own: a second TensorRT in this one would get in the way of the first.
    asked = [sys.executable, "-c", ASKS_VERSION, str(name)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1]
        raise NotRun(f"{name} cannot be opened: {said}")
    number = int(done.stdout)
    major = 10_000 if number >= 10_000 else 1_000
    return version_text((number // major, number % major // 100, number % 100))


def d2run_program(runner: Runner, headers: Path | None, folder: Path) -> Path:
    """d2run, compiled against an installation of engines/runtime.

    Raises:
        NotRun: it cannot be compiled, and what CMake said.
    """
    include = headers_for(runner.version[0], headers)
    place = built("engines/runtime", folder / "runtime", "all", f"-DTENSORRT_INCLUDE_DIR={include}")
    prefix = folder / "prefix"
    subprocess.run(
        ["cmake", "--install", str(place), "--prefix", str(prefix)], check=True, capture_output=True
    )
    built("engines/examples/d2run", folder / "d2run", "all", f"-DCMAKE_PREFIX_PATH={prefix}")
    return folder / "d2run" / "d2run"


def compare(program: Path, bundle: Bundle, runner: Runner) -> Answered:
    """Ask both, a question of another kind for each scene.

    Raises:
        NotRun: Python cannot answer here.
        RuntimeError: d2run failed, with what it said.
    """
    try:
        generator = Generator(bundle)
        _ = generator.tokenizer
    except D2ExportError as error:
        raise NotRun(f"Python's runtime: {error.problem}") from None
    samples = pocket_scenes(scenes=QUESTIONS).samples
    kinds = len(samples) // QUESTIONS
    same = total = equal = 0
    plain, replayed = [], []
    for scene in range(QUESTIONS):
        sample = samples[scene * kinds + scene % kinds]
        picture = bundle.root.parent / "scene.png"
        sample.load().save(picture)
        expected = generator.answer([picture], sample.prompt)
        plain.append(ask(program, bundle, runner, picture, sample.prompt, 0))
        replayed.append(ask(program, bundle, runner, picture, sample.prompt, GRAPHS))
        for found in (plain[-1], replayed[-1]):
            kept = set(expected.kept[0].tolist())
            same, total = same + len(kept.intersection(found["kept"][0])), total + len(kept)
            equal += found["tokens"] == list(expected.tokens)
    return Answered(
        same / total,
        equal / (2 * QUESTIONS),
        median_ms(plain, "vision"),
        median_ms(plain, "prefill"),
        median_ms(plain, "decode"),
        median_ms(replayed, "decode"),
    )


def median_ms(answers: list[dict[str, Any]], stage: str) -> float:
    """Median milliseconds of a stage; of decode for each token but the first."""
    times: list[float] = []
    for answer in answers:
        steps = len(answer["tokens"]) - 1 if stage == "decode" else 1
        if steps:
            times.append(answer["seconds"][stage] / steps * 1e3)
    return statistics.median(times)


def ask(
    program: Path, bundle: Bundle, runner: Runner, picture: Path, prompt: str, graphs: int
) -> dict[str, Any]:
    """The last of several answers to one question, as `d2run --json` prints it."""
    words = [
        *(program, bundle.root, "--image", picture, "--prompt", prompt, "--json", "--tensorrt"),
        *("--repeat", REPEATS, "--cuda-graphs", graphs),
    ]
    if runner.nvinfer is not None:
        words += ["--nvinfer", runner.nvinfer]
    if runner.plugin is not None:
        words += ["--plugin", runner.plugin]
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
