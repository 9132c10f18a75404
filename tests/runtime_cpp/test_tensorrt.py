"""The TensorRT backend of the C++ runtime, with stand-ins whose engines compute: it answers as
Python does with ONNX Runtime, for every TensorRT, and says what does not fit.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from d2export.bundle.folder import read_bundle
from d2export.engine.plugin import LIBRARY
from d2export.engine_files import PLUGINS
from d2export.runtime.generate import Generator
from d2export.runtime.vision import VisionRunner
from tests.runtime_cpp import engines
from tests.runtime_cpp.conftest import Builder
from tests.runtime_cpp.drivers import ROOT
from tests.runtime_cpp.programs import example

Questions = Sequence[tuple[Path, str]]
NEW = "10.3"
TOKENS = 16  # of an answer at most
LONGEST_PROMPT = 13 * 256 + 512  # of the engine: a picture at most tiles, and text
NOTHING_LEFT = "left 0 device bytes, 0 pinned bytes, 0 streams, 0 graphs, 0 contexts"


@dataclass(frozen=True)
class Asked:
    """What the program `asking` printed, and what the stand-ins were told."""

    answers: list[Any]
    counts: dict[str, int]
    told: list[str]


def with_engines(
    bundle: Path,
    folder: Path,
    version: str = NEW,
    unknown: Collection[str] = (),
    on_host: Collection[str] = (),
) -> Path:
    """A copy of a bundle that has engines."""
    copy = folder / f"with-engines-{version}"
    shutil.copytree(bundle, copy)
    engines.add_engines(copy, version, unknown=unknown, on_host=on_host)
    return copy


def plugin_of(bundle: Path) -> str:
    """The plugin that its engines were built with, if they need one."""
    library = bundle / PLUGINS / LIBRARY
    return str(library) if library.is_file() else ""


def started(
    bundle: Path,
    questions: Questions,
    *options: str,
    version: str = NEW,
    plugin: str | None = None,
    settings: tuple[str, ...] = (),
    before: tuple[str, ...] = (),
    **stand_in: str,
) -> subprocess.CompletedProcess[str]:
    """The program `asking`, run to its end."""
    folder = engines.build(version, "asking", settings=settings)
    program = folder / "tensorrt" / "tests" / "asking"
    words = [program, bundle, plugin_of(bundle) if plugin is None else plugin, *options]
    lines = "".join(f"{picture}\t{prompt}\n" for picture, prompt in questions)
    environment = engines.environment(folder, bundle.parent / "told.txt", **stand_in)
    command = [*before, *map(str, words)]
    return subprocess.run(
        command, input=lines, capture_output=True, text=True, check=False, env=environment
    )


def asked(bundle: Path, questions: Questions, *options: str, **others: Any) -> Asked:
    """Its answers; nothing may be left on the GPU."""
    told = bundle.parent / "told.txt"
    told.unlink(missing_ok=True)
    done = started(bundle, questions, *options, **others)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    *answers, counts = map(json.loads, done.stdout.splitlines())
    lines = told.read_text().splitlines()
    assert lines[-1] == NOTHING_LEFT
    return Asked(answers, counts, lines)


def refused(bundle: Path, questions: Questions, *options: str, **others: Any) -> str:
    """What it says when the machine does not fit."""
    done = started(bundle, questions, *options, **others)
    assert done.returncode == 3, done.stdout + done.stderr
    assert bundle.parent.joinpath("told.txt").read_text().endswith(f"{NOTHING_LEFT}\n")
    return done.stderr


def by_python(bundle: Path, questions: Questions) -> list[Any]:
    """What Python answers with ONNX Runtime."""
    generator = Generator(read_bundle(bundle), threads=1)
    found = []
    for picture, prompt in questions:
        answer = generator.answer([picture], prompt, max_new_tokens=TOKENS)
        kept = [indices.tolist() for indices in answer.kept]
        found.append({"tokens": list(answer.tokens), "kept": kept})
    return found


# Answers


@pytest.mark.parametrize("version", engines.VERSIONS)
def test_answers_of_every_tensorrt(
    pocket: Path, scenes: Questions, tmp_path: Path, version: str
) -> None:
    bundle = with_engines(pocket, tmp_path, version)
    found = asked(bundle, scenes, version=version)
    assert found.answers == by_python(pocket, scenes)
    # The engine of each has profiles for a prompt and for a token; a step takes the second.
    steps = sum(len(answer["tokens"]) - 1 for answer in found.answers)
    assert found.told.count("enqueue vision 0") == len(scenes)
    assert found.told.count("enqueue decoder 0") == len(scenes)
    assert found.told.count("enqueue decoder 1") == steps


@pytest.mark.parametrize(
    "options",
    [
        {"selector": "divprune"},
        {"selector": "d2", "budget": "tile", "keep": "50%"},
        {"selector": "fastv", "budget": "prompt"},
        {"selector": "d2+", "prune_layer": 1},
        {"selector": "d2", "precision": "fp16"},
        {"selector": "sms", "keep": None},
    ],
    ids=str,
)
def test_answers_of_every_kind_of_pruning(
    small: Builder, scenes: Questions, tmp_path: Path, options: dict[str, Any]
) -> None:
    bundle = small(**options)
    found = asked(with_engines(bundle, tmp_path), scenes)
    assert found.answers == by_python(bundle, scenes)


def test_sizes_that_only_a_run_tells(pocket: Path, scenes: Questions, tmp_path: Path) -> None:
    bundle = with_engines(pocket, tmp_path, unknown=("surviving", "total_kept"))
    assert asked(bundle, scenes).answers == by_python(pocket, scenes)
    said = started(bundle, scenes, "graphs=4")
    assert said.returncode == 2
    assert "cuda_graphs is 4, and the size of " in said.stderr


def test_inputs_that_tensorrt_reads_on_the_host(
    pocket: Path, scenes: Questions, tmp_path: Path
) -> None:
    bundle = with_engines(pocket, tmp_path, on_host=("image_lengths",))
    assert asked(bundle, scenes, "graphs=8").answers == by_python(pocket, scenes)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_visual_tokens_stay_on_the_gpu(
    small: Builder, scenes: Questions, tmp_path: Path, precision: str
) -> None:
    """They are read from there, and are those of ONNX Runtime."""
    bundle = small(selector="divprune", precision=precision)
    (answer,) = asked(with_engines(bundle, tmp_path), scenes[:1], "see").answers
    expected = VisionRunner(read_bundle(bundle), threads=1).run(scenes[0][0])
    assert answer["kept"] == expected.kept_indices.tolist()
    assert answer["rows"] == len(expected.kept_indices)
    values = bytes(int(byte, 16) for byte in answer["bytes"].split())
    assert values == expected.image_embeds.tobytes()


# What a program may bring


@pytest.mark.parametrize(
    "options",
    [
        ("stream",),
        ("on-device",),
        ("memory",),
        ("c",),
        ("c", "memory"),
        ("c", "stream", "on-device", "graphs=16"),
        ("stream", "on-device", "memory", "graphs=16"),
    ],
    ids="-".join,
)
def test_streams_pictures_and_memory_of_the_program(
    pocket: Path, scenes: Questions, tmp_path: Path, options: tuple[str, ...]
) -> None:
    bundle = with_engines(pocket, tmp_path)
    assert asked(bundle, scenes, *options).answers == by_python(pocket, scenes)


def test_a_picture_on_the_gpu_is_not_copied(
    pocket: Path, scenes: Questions, tmp_path: Path
) -> None:
    """On the host its pixels are copied to memory that the backend has for them."""
    bundle = with_engines(pocket, tmp_path)
    copied = asked(bundle, scenes[:1], "c")
    given = asked(bundle, scenes[:1], "c", "on-device")
    # This program's own allocation takes the place of the backend's.
    assert given.counts["allocations"] == copied.counts["allocations"]
    assert given.answers == copied.answers


# CUDA graphs


def test_steps_that_were_there_before_are_replayed(
    pocket: Path, scenes: Questions, tmp_path: Path
) -> None:
    bundle = with_engines(pocket, tmp_path)
    again = [scenes[0]] * 3
    found = asked(bundle, again, "graphs=64")
    assert found.answers == by_python(pocket, again)
    steps = len(found.answers[0]["tokens"]) - 1
    assert steps > 2
    assert found.counts["graph launches"] == 2 * steps
    # No memory was asked for after the first of them.
    assert (
        found.counts["allocations"] == asked(bundle, again[:1], "graphs=64").counts["allocations"]
    )


def test_no_more_steps_are_kept_than_asked_for(
    pocket: Path, scenes: Questions, tmp_path: Path
) -> None:
    bundle = with_engines(pocket, tmp_path)
    again = [scenes[0]] * 3
    found = asked(bundle, again, "graphs=2")
    assert found.answers == by_python(pocket, again)
    assert found.counts["graph launches"] == 2 * 2


def test_other_lengths_take_the_place_of_what_is_not_wanted_any_more(
    pocket: Path, scenes: Questions, tmp_path: Path
) -> None:
    bundle = with_engines(pocket, tmp_path)
    longer = (scenes[0][0], scenes[0][1] + " Say it again, please: where is it?")
    questions = [scenes[0], *[longer] * 4]
    found = asked(bundle, questions, "graphs=2")
    assert found.answers == by_python(pocket, questions)
    assert found.counts["graph launches"] > 0


def test_a_camera_asks_frame_after_frame(pocket: Path, scenes: Questions, tmp_path: Path) -> None:
    bundle = with_engines(pocket, tmp_path)
    frames, prompt = tmp_path / "frames", scenes[0][1]
    frames.mkdir()
    for i in range(3):
        shutil.copy(scenes[0][0], frames / f"{i}.png")
    folder = engines.build(NEW, "d2export_runtime", "d2export_runtime_static")
    words = [example("camera", folder), bundle, frames, prompt, "--tensorrt"]
    command = [*map(str, words), "--plugin", plugin_of(bundle)]
    told = tmp_path / "told.txt"
    environment = engines.environment(folder, told)
    said = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    answer = Generator(read_bundle(pocket), threads=1).answer([scenes[0][0]], prompt)
    assert said.stdout.splitlines()[1::2] == [f"  {answer.text}"] * 3
    # Steps of the second and third frame are replayed: TensorRT is asked for those of the first.
    assert told.read_text().count("enqueue decoder 1") == len(answer.tokens) - 1


# Threads


@pytest.mark.parametrize("options", [(), ("graphs=8",), ("stream",)], ids=str)
@pytest.mark.parametrize("version", ["8.6.1", NEW])
def test_threads_at_once(
    small: Builder, scenes: Questions, tmp_path: Path, options: tuple[str, ...], version: str
) -> None:
    bundle = small(selector="d2")
    copy = with_engines(bundle, tmp_path, version)
    found = asked(copy, scenes, "threads=4", *options, version=version)
    assert found.answers == by_python(bundle, scenes)


def test_threads_under_the_thread_sanitizer(
    small: Builder, scenes: Questions, tmp_path: Path
) -> None:
    """Of the backend and the stand-ins; ONNX Runtime is compiled without it."""
    bundle = small(selector="d2")
    copy = with_engines(bundle, tmp_path)
    options = ("threads=4", "graphs=4", "tokens=4")
    found = asked(copy, scenes[:2], *options, settings=engines.THREAD_SANITIZER)
    expected = by_python(bundle, scenes[:2])
    assert [answer["kept"] for answer in found.answers] == [one["kept"] for one in expected]


# What does not fit


@pytest.mark.parametrize(
    ("refuses", "says"),
    [
        ("gpu", "there is no NVIDIA GPU that CUDA can use: CUDA_ERROR_NO_DEVICE"),
        ("plugin", "TensorRT 10.3.0 cannot load the plugin "),
        ("engine", "TensorRT 10.3.0 cannot read the engine "),
        ("context", "TensorRT 10.3.0 cannot make a context of the engine "),
        ("run", "TensorRT 10.3.0 cannot run the engine "),
        ("capture", "CUDA cannot record a decode step: CUDA_ERROR_"),
    ],
)
def test_what_tensorrt_and_cuda_refuse(
    pocket: Path, scenes: Questions, tmp_path: Path, refuses: str, says: str
) -> None:
    bundle = with_engines(pocket, tmp_path)
    said = refused(bundle, scenes[:1], "graphs=4", STAND_IN_REFUSES=refuses)
    assert says in said
    assert said.count("\n") == 2  # the problem and the next step


@pytest.mark.parametrize("allocation", [1, 5, 9, 14, 20])
def test_no_memory_is_left_on_the_gpu(
    pocket: Path, scenes: Questions, tmp_path: Path, allocation: int
) -> None:
    bundle = with_engines(pocket, tmp_path)
    limits = {"STAND_IN_REFUSES": "memory", "STAND_IN_MEMORY": str(allocation)}
    said = refused(bundle, scenes[:1], **limits)
    if allocation > 1:  # the first is TensorRT's own
        assert "CUDA cannot get " in said
        assert "bytes of the GPU's memory: CUDA_ERROR_OUT_OF_MEMORY" in said


def test_another_tensorrt_than_the_headers(pocket: Path, scenes: Questions, tmp_path: Path) -> None:
    bundle = with_engines(pocket, tmp_path)
    said = refused(bundle, scenes[:1], STAND_IN_VERSION="100200")
    assert "the library is TensorRT 10.2.0; " in said
    assert "was built with the headers of 10.3.0" in said


def test_no_driver_and_no_tensorrt(tmp_path: Path) -> None:
    folder = engines.build(NEW, "d2export_runtime")
    program = tmp_path / "without.cpp"
    program.write_text(
        "#include <d2export/runtime.h>\n#include <iostream>\n"
        "int main() { try { d2export::runtime::tensorrt(); } catch (const "
        "d2export::runtime::Error& error) { std::cout << error.what(); } }\n"
    )
    include = ROOT / "engines" / "runtime" / "include"
    built = tmp_path / "without"
    compiled = ["c++", "-std=c++17", f"-I{include}", str(program), "-o", str(built), f"-L{folder}"]
    subprocess.run([*compiled, "-ld2export_runtime", f"-Wl,-rpath,{folder}"], check=True)
    said = subprocess.run([str(built)], capture_output=True, text=True, check=True).stdout
    assert "cannot open CUDA's driver: libcuda.so.1" in said or "no NVIDIA GPU" in said
    # With the driver alone.
    alone = tmp_path / "driver"
    alone.mkdir()
    (alone / "libcuda.so.1").symlink_to(engines.libraries(folder) / "libcuda.so.1")
    environment = {**engines.environment(folder), "LD_LIBRARY_PATH": str(alone)}
    said = subprocess.run(
        [str(built)], capture_output=True, text=True, check=True, env=environment
    ).stdout
    assert "cannot open TensorRT: libnvinfer.so.10" in said


def test_a_bundle_without_engines(pocket: Path, scenes: Questions, tmp_path: Path) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(pocket, copy)
    done = started(copy, scenes[:1])
    assert done.returncode == 2
    assert f"{copy} has no engines\n  Build the engines here: d2export build " in done.stderr


def test_a_plugin_that_is_not_named(pocket: Path, scenes: Questions, tmp_path: Path) -> None:
    bundle = with_engines(pocket, tmp_path)
    said = refused(bundle, scenes[:1], plugin="")
    assert f"need the plugin {LIBRARY}, and none is named" in said


def test_a_prompt_that_the_engine_was_not_built_for(
    pocket: Path, scenes: Questions, tmp_path: Path
) -> None:
    bundle = with_engines(pocket, tmp_path)
    tokenizer = Generator(read_bundle(pocket)).tokenizer
    prompt = "Where is it? "
    while len(tokenizer.encode(prompt, [256], None).input_ids) <= LONGEST_PROMPT:
        prompt += "Where is it? " * 10
    done = started(bundle, [(scenes[0][0], prompt)], "tokens=1")
    assert done.returncode == 2
    assert "input_ids has shape [1, " in done.stderr
    assert "docs/engines.md has the sizes" in done.stderr
