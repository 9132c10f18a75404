"""The C++ runtime as programs link it: what it costs, threads, fuzzed manifests, the examples."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import PIL.Image
import pytest

from d2export.bundle.folder import read_bundle
from d2export.pruning.prior import outside_seen, read_prior
from d2export.runtime.generate import Generator
from tests.runtime_cpp.conftest import Builder
from tests.runtime_cpp.drivers import ROOT, make, run
from tests.runtime_cpp.programs import EXAMPLES, example, installed, program
from tests.runtime_cpp.runtime import need_backend, onnxruntime_library

MICROSECONDS = 20  # of the host, per token of an answer
TSAN = ROOT / "build" / "runtime-tsan"
PACKAGES = ROOT / "build" / "runtime-packages"
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


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="dpkg-deb is not installed")
def test_packages_hold_all_that_a_program_needs(tmp_path: Path) -> None:
    """Unpacked, they are a prefix that an example is built against, static library and all."""
    make("package", folder=PACKAGES, settings=("-DD2EXPORT_TESTS=OFF",))
    archive, *packages = sorted([*PACKAGES.glob("*.tar.gz"), *PACKAGES.glob("*.deb")])
    for package in packages:
        run("dpkg-deb", "--extract", package, tmp_path / "root")
    names = {run("dpkg-deb", "--field", package, "Package").strip() for package in packages}
    assert names == {"libd2export-runtime", "libd2export-runtime-dev"}
    needs = "".join(run("dpkg-deb", "--field", package, "Depends") for package in packages)
    assert all(name in needs for name in ("libpng16-16", "libjpeg", "libd2export-runtime (= "))

    example = EXAMPLES / "minimal"
    run("cmake", "-S", example, "-B", tmp_path, f"-DCMAKE_PREFIX_PATH={tmp_path}/root/usr")
    run("cmake", "--build", tmp_path)
    assert run(tmp_path / "minimal", code=2).startswith("usage: minimal BUNDLE IMAGE QUESTION")

    with tarfile.open(archive) as tar:
        packed = {Path(name).name for name in tar.getnames()}
    unpacked = {path.name for path in (tmp_path / "root").rglob("*") if not path.is_dir()}
    assert unpacked <= packed


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


def test_pictures_unlike_those_of_the_prior(small: Builder, prior: Path, tmp_path: Path) -> None:
    bundle = small(prior=str(prior))
    for columns, tiles in ((1, 1), (2, 3), (5, 6)):
        picture = tmp_path / f"{columns}.png"
        PIL.Image.new("RGB", (columns * 56, 56)).save(picture)
        asked = (bundle, "--null", "--image", picture, "--prompt", "What?", "--max-new-tokens", "1")
        warnings = [
            line.removeprefix("warning: ")
            for line in run(example("d2run"), *asked).splitlines()
            if line.startswith("warning: ")
        ]
        expected = outside_seen(read_prior(prior, 4), [tiles])
        assert warnings == ([] if expected is None else [expected])
        assert (expected is None) == (columns == 2)
