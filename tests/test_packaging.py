"""What is installed: the wheel with and without a compiler, and the C++ package."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.command import ROOT, build_wheel

needs_compiler = pytest.mark.skipif(
    shutil.which("c++") is None or shutil.which("cmake") is None,
    reason="no C++ compiler or no CMake",
)


NO_NANOBIND = "CMAKE_DISABLE_FIND_PACKAGE_nanobind=ON"


def files_of(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


@needs_compiler
def test_the_wheel_has_the_native_module(wheel: Path) -> None:
    binaries = [name for name in files_of(wheel) if name.endswith((".so", ".a", ".h"))]
    assert [re.sub(r"\..*", "", name) for name in binaries] == ["d2export/_native"]


@pytest.mark.usefixtures("package_index")
def test_without_a_compiler_the_wheel_is_pure_python(tmp_path: Path, wheel: Path) -> None:
    pure = build_wheel(tmp_path, {**os.environ, "CXX": "/nowhere/c++"})
    assert pure.name.endswith("-py3-none-any.whl")
    assert "d2export/_native.pyi" in files_of(pure)
    modules = {name for name in files_of(wheel) if name.endswith(".py")}
    assert {name for name in files_of(pure) if name.endswith(".py")} == modules
    assert not [name for name in files_of(pure) if name.endswith((".so", ".a"))]


def run(*command: object) -> str:
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@needs_compiler
def test_a_cpp_program_finds_and_links_the_core(tmp_path: Path) -> None:
    build, prefix, consumer = tmp_path / "build", tmp_path / "prefix", tmp_path / "consumer"
    said = run("cmake", "-S", ROOT / "plugins", "-B", build, "-DD2EXPORT_CUDA=OFF")
    assert (
        "cuda          left out: D2EXPORT_CUDA is OFF. To build it, add: -DD2EXPORT_CUDA=ON" in said
    )
    run("cmake", "--build", build)
    run("cmake", "--install", build, "--prefix", prefix)
    source = ROOT / "plugins" / "tests" / "consumer"
    run("cmake", "-S", source, "-B", consumer, f"-DCMAKE_PREFIX_PATH={prefix}")
    run("cmake", "--build", consumer)
    assert run(consumer / "consumer") == "0 2\n"
    assert str(ROOT) not in "".join(path.read_text() for path in prefix.rglob("*.cmake"))


@needs_compiler
@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("D2EXPORT_CUDA=yes", "D2EXPORT_CUDA is yes, expected AUTO, ON or OFF"),
        ("ORT_INCLUDE_DIR=/nowhere", "Add: -DORT_INCLUDE_DIR=<folder of onnxruntime_c_api.h>"),
        ("D2EXPORT_PYTHON=ON", "nanobind was not found. Run: pip install nanobind"),
    ],
)
def test_an_option_that_does_not_fit_is_refused_with_what_to_add(
    option: str, message: str, tmp_path: Path
) -> None:
    fixed = ("D2EXPORT_CUDA=OFF", f"Python_EXECUTABLE={sys.executable}", NO_NANOBIND)
    command = ["cmake", "-S", ROOT / "plugins", "-B", tmp_path]
    command += [f"-D{definition}" for definition in (*fixed, option)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode != 0
    assert message in " ".join(result.stderr.split())
