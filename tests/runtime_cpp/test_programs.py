"""The C++ runtime as programs link it: what it costs, threads, fuzzed manifests, the examples."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from d2export.bundle.folder import read_bundle
from d2export.runtime.generate import Generator
from tests.runtime_cpp.conftest import Builder
from tests.runtime_cpp.drivers import ROOT, run
from tests.runtime_cpp.programs import example, installed, program
from tests.runtime_cpp.runtime import need_backend, onnxruntime_library

MICROSECONDS = 20  # of the host, per token of an answer
TSAN = ROOT / "build" / "runtime-tsan"
FUZZED = 2000  # manifests; `make fuzz` reads more


def test_a_token_costs_microseconds_and_no_allocation(pocket: Path) -> None:
    cost = json.loads(run(program("overhead"), pocket, "500"))
    assert [part["allocations"] for part in cost.values() if isinstance(part, dict)] == [0, 0, 0]
    assert cost["step"]["median"] < MICROSECONDS
    assert cost["with_text"]["median"] < MICROSECONDS


def test_four_threads_ask_two_bundles(pocket: Path, small: Builder) -> None:
    need_backend()
    bundles = pocket, small(selector="divprune")
    found = run(program("threads"), *bundles, "3", onnxruntime_library())
    assert "12 of 12 answers equal" in found


def test_four_threads_under_the_thread_sanitizer(pocket: Path, small: Builder) -> None:
    optimised = ("-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_CXX_FLAGS_RELEASE=-O1 -g1")
    built = program("threads", TSAN, ("-DD2EXPORT_SANITIZE=thread", *optimised))
    found = run(built, pocket, small(selector="divprune"), "10")
    assert found == "40 of 40 answers equal\n"


def test_four_threads_under_valgrind(pocket: Path, small: Builder) -> None:
    if shutil.which("valgrind") is None:
        pytest.skip("valgrind: apt install valgrind")
    command = ("valgrind", "--quiet", "--leak-check=full", "--error-exitcode=9")
    found = run(*command, program("threads"), pocket, small(selector="divprune"), "1")
    assert found == "4 of 4 answers equal\n"


def test_fuzzed_manifests(pocket: Path) -> None:
    manifest = pocket / "manifest.json"
    found = run(program("fuzz_manifest"), str(FUZZED), "0", manifest)
    assert found == f"{FUZZED} inputs, seed 0: nothing found\n"


# The examples


def test_the_installation_knows_no_folder_of_its_build() -> None:
    for path in installed().rglob("*.cmake"):
        assert str(ROOT) not in path.read_text().replace(str(installed()), "")


def test_every_header_stands_alone(tmp_path: Path) -> None:
    headers = sorted((installed() / "include" / "d2export").glob("*.h"))
    assert len(headers) > 10
    source = tmp_path / "alone.cpp"
    for header in headers:
        source.write_text(f"#include <d2export/{header.name}>\n")
        strict = ("-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only")
        run("c++", *strict, f"-I{installed()}/include", source)
    source.with_suffix(".c").write_text("#include <d2export/d2export_c.h>\n")
    plain = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only")
    run("cc", *plain, f"-I{installed()}/include", source.with_suffix(".c"))


def test_minimal_and_d2run_answer_as_python(pocket: Path, scenes: list[tuple[Path, str]]) -> None:
    """`scripts/runtime_scenes.py` asks the same for a hundred scenes."""
    need_backend()
    bundle, library = pocket, onnxruntime_library()
    generator = Generator(read_bundle(bundle), threads=1)
    picture, prompt = scenes[0]
    expected = generator.answer([picture], prompt)
    assert run(example("minimal"), bundle, picture, prompt, library) == f"{expected.text}\n"
    asked = ("--image", picture, "--prompt", prompt, "--onnxruntime", library, "--json")
    found = json.loads(run(example("d2run"), bundle, *asked))
    assert found["tokens"] == list(expected.tokens)
    assert found["kept"] == [kept.tolist() for kept in expected.kept]
    assert (found["text"], found["finish"]) == (expected.text, expected.finish)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "BUNDLE is missing"),
        (("x",), "--image is missing"),
        (("x", "--prompt"), "--prompt has no value"),
        (("x", "--images", "y"), "there is no argument '--images'"),
        (("x", "--top-k", "many"), "--top-k is 'many', expected a number"),
        (("/none", "--image", "y"), "/none is not there, expected the folder of a bundle"),
    ],
)
def test_what_d2run_refuses(words: tuple[str, ...], message: str) -> None:
    assert message in run(example("d2run"), *words, code=2)


def test_d2run_names_onnx_runtime_when_it_is_missing(pocket: Path) -> None:
    need_backend()
    asked = ("--image", "y.png", "--onnxruntime", "/no/such.so")
    assert "cannot open ONNX Runtime: /no/such.so" in run(example("d2run"), pocket, *asked, code=3)
