"""The C++ tool of engines/tool, built with TensorRT's headers and stand-ins for its libraries."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from tests.engine import tensorrt_headers as headers

ROOT = Path(__file__).parents[2]
NVCC = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
# Of nvinfer1::DataType, as engines of the stand-in name them; ONNX's and numpy's names.
DATA_TYPES = {
    "float32": 0,
    "float16": 1,
    "int8": 2,
    "int32": 3,
    "bool": 4,
    "uint8": 5,
    "bfloat16": 7,
    "int64": 8,
}


def header_folder(version: str) -> Path:
    """Headers of TensorRT and of its parser, or a skip that says how to get them."""
    headers.text(version)
    folder = headers.CACHE / version / "include"
    if not (folder / "NvOnnxParser.h").is_file():
        command = f"python scripts/tensorrt_headers.py parser {version}"
        pytest.skip(f"NvOnnxParser.h of TensorRT {version}: {command}")
    return folder


@cache
def build(version: str) -> Path:
    """The folder with the tool, compiled without a warning; `libraries` lies in its `tests`."""
    if NVCC is None:
        pytest.skip("the CUDA toolkit, for its runtime's headers")
    include = header_folder(version)
    folder = ROOT / "build" / f"engine-tool-{version}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:  # tests of several processes want it
        fcntl.flock(lock, fcntl.LOCK_EX)
        compiled(folder, include)
    return folder


def compiled(folder: Path, include: Path) -> None:
    """Configure and build, or a skip that says what is missing."""
    done = run(
        "cmake",
        "-S",
        ROOT / "engines" / "tool",
        "-B",
        folder,
        "-DD2EXPORT_TESTS=ON",
        "-DCMAKE_BUILD_TYPE=Debug",
        "-DCMAKE_CXX_FLAGS_DEBUG=-O0",
        "-DCMAKE_CXX_FLAGS=-Werror",
        f"-DTENSORRT_INCLUDE_DIR={include}",
        f"-DCMAKE_CUDA_COMPILER={NVCC}",
    )
    if "nlohmann/json 3.10 or newer is missing" in done.stderr:
        pytest.skip("nlohmann/json: apt install nlohmann-json3-dev")
    assert done.returncode == 0, done.stdout + done.stderr
    done = run("cmake", "--build", folder, "--parallel", "2")
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert "warning" not in done.stdout + done.stderr


def run(
    *command: str | Path, cwd: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=cwd, env=environment
    )


class Tool:
    """The tool of one version, with its stand-ins, in a folder of its own.

    Calls return what was printed; `told` is what TensorRT and CUDA heard of the last one.
    """

    def __init__(self, version: str, folder: Path) -> None:
        self.version = version
        self.built = build(version)
        self.folder = folder
        self.told: list[str] = []

    def __call__(self, *words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        note = self.folder / "told"
        note.unlink(missing_ok=True)
        program = self.built / "d2export-engine-acted"
        libraries = ("--libraries", self.built / "tests" / "libraries")
        done = run(
            program, *words, *libraries, cwd=self.folder, STAND_IN_TOLD=str(note), **variables
        )
        self.told = note.read_text().splitlines() if note.exists() else []
        return done

    def ok(self, *words: str | Path, **variables: str) -> str:
        """What it prints when nothing is wrong."""
        done = self(*words, **variables)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def error(self, code: int, *words: str | Path, **variables: str) -> str:
        """What it says when something is; a message has a second line with the next step."""
        done = self(*words, **variables)
        assert (done.returncode, done.stdout) == (code, ""), done.stderr
        _, *message = ("\n" + done.stderr).partition("\nd2export-engine: ")
        said = "".join(message).lstrip("\n")
        assert said.count("\n") >= 2, done.stderr
        return said
