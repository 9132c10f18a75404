"""The example that runs a vision engine without our runtime: compiled for every TensorRT, and run
with the stand-ins of engines/tool, whose engines copy inputs.
"""

from __future__ import annotations

import fcntl
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from d2export.models.tiling import token_grid
from tests.engine import tensorrt_headers as headers
from tests.engine.engine_tool import DATA_TYPES, ROOT, build, run

SOURCE = ROOT / "engines" / "examples" / "bare_tensorrt"
STAND_INS = ROOT / "engines" / "tool" / "tests"
WARNINGS = "-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror"
OLD, NEW = "8.6.1", "10.3"

FLOAT, HALF, INT = (DATA_TYPES[name] for name in ("float32", "float16", "int32"))
# Tiles of 4 x 4 pixels and 2 x 2 tokens, 5 of them at most; indices that are the bits of the grid.
PIXELS = f"in pixel_values {FLOAT} 0 1x3x4x4 5x3x4x4"
GRID = f"in token_grid {FLOAT} 0 4x2 20x2"
ENGINE = (
    PIXELS,
    GRID,
    f"out image_embeds {HALF} pixel_values",
    f"out kept_indices {INT} token_grid",
)


def cuda_include() -> Path:
    """The folder of the CUDA runtime's headers, or a skip."""
    folder = Path("/usr/local/cuda/include")
    if not (folder / "cuda_runtime_api.h").is_file():
        pytest.skip(f"the CUDA toolkit, for its runtime's headers, in {folder}")
    return folder


@cache
def example(version: str) -> Path:
    """The program, built by CMake with the libraries that stand in for TensorRT's and CUDA's."""
    folder = build(version) / "bare_tensorrt"
    folder.mkdir(exist_ok=True)
    cudart = folder / "libcudart.so"
    with (folder / "lock").open("w") as lock:  # tests of several processes want it
        fcntl.flock(lock, fcntl.LOCK_EX)
        source = STAND_INS / "cudart.cpp"
        done(
            "c++", "-std=c++17", "-shared", "-fPIC", source, "-o", cudart,
            "-isystem", cuda_include(),
        )  # fmt: skip
        done(
            "cmake", "-S", SOURCE, "-B", folder, f"-DCMAKE_CXX_FLAGS={WARNINGS}",
            f"-DTENSORRT_INCLUDE_DIR={headers.CACHE / version / 'include'}",
            f"-DNVINFER_LIBRARY={folder.parent / 'tests' / 'libraries' / 'libnvinfer.so'}",
            f"-DCUDA_INCLUDE_DIR={cuda_include()}", f"-DCUDART_LIBRARY={cudart}",
        )  # fmt: skip
        done("cmake", "--build", folder)
    return folder / "bare_tensorrt"


def done(*command: str | Path) -> None:
    found = run(*command)
    assert found.returncode == 0, found.stdout + found.stderr


def asked(
    version: str, folder: Path, engine: tuple[str, ...], *words: str | Path, **stand_in: str
) -> subprocess.CompletedProcess[str]:
    path = folder / "vision.plan"
    path.write_text("\n".join(engine) + "\n")
    return run(example(version), path, "plugin.so", *words, cwd=None, **stand_in)


@pytest.mark.parametrize("version", headers.VERSIONS)
def test_it_compiles(version: str) -> None:
    headers.text(version)
    include = headers.CACHE / version / "include"
    done(
        "c++", "-std=c++17", *WARNINGS.split(), "-fsyntax-only", SOURCE / "main.cpp",
        "-isystem", include, "-isystem", cuda_include(),
    )  # fmt: skip


@pytest.mark.parametrize("version", [OLD, NEW])
def test_a_picture(version: str, tmp_path: Path) -> None:
    pixels = tmp_path / "pixels.f32"
    pixels.write_bytes(np.arange(3 * 3 * 4 * 4, dtype=np.float32).tobytes())
    # Of int32 the program shows what it has: here the bits of the pixels.
    engine = (*ENGINE, f"out shown {INT} pixel_values")
    told = tmp_path / "told"
    found = asked(version, tmp_path, engine, "2", "1", pixels, STAND_IN_TOLD=str(told))
    assert (found.returncode, found.stderr) == (0, "")
    assert told.read_text().splitlines() == ["plugin plugin.so", "enqueue"]
    embeds, kept, shown = found.stdout.splitlines()
    assert embeds == "image_embeds [3, 3, 4, 4]"
    name, indices = kept.split("] ")
    assert name == "kept_indices [12, 2"
    grid = np.array(indices.split(), dtype=np.int32).view(np.float32)
    assert np.array_equal(grid.reshape(-1, 2), token_grid(2, 1, 2))
    bits = np.array(shown.split("] ")[1].split(), dtype=np.int32).view(np.float32)
    assert np.array_equal(bits, np.arange(144))


def test_noise_for_an_engine_of_scope_vlm(tmp_path: Path) -> None:
    found = asked(NEW, tmp_path, (PIXELS, f"out image_embeds {FLOAT} pixel_values"))
    assert (found.returncode, found.stdout) == (0, "image_embeds [1, 3, 4, 4]\n"), found.stderr


@pytest.mark.parametrize(
    ("engine", "words", "says"),
    [
        (ENGINE, ("2",), "usage: bare_tensorrt VISION.plan PLUGIN.so"),
        (ENGINE, ("2", "two"), "ROWS is 'two', expected a number from 1 to 100"),
        (ENGINE, ("0", "1"), "COLUMNS is '0', expected a number from 1 to 100"),
        (ENGINE, ("1", "1", "/none"), "/none cannot be read"),
        (ENGINE, ("3", "2"), "pixel_values is [7, 3, 4, 4], the engine takes up to [5, 3, 4, 4]"),
        ((f"in prompt_embeds {FLOAT} 0 1x8 9x8",), (), "the engine takes prompt_embeds, which"),
    ],
)
def test_what_does_not_fit(
    engine: tuple[str, ...], words: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    found = asked(NEW, tmp_path, engine, *words)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith(f"bare_tensorrt: {says}")


def test_pixels_of_another_size(tmp_path: Path) -> None:
    pixels = tmp_path / "pixels.f32"
    pixels.write_bytes(bytes(100))
    found = asked(NEW, tmp_path, ENGINE, "1", "1", pixels)
    assert found.returncode == 2
    assert "pixels.f32 has 100 bytes, expected 192" in found.stderr


@pytest.mark.parametrize(
    ("refuses", "says"),
    [
        ("plugin", "TensorRT cannot load plugin.so"),
        ("engine", "vision.plan: it needs the TensorRT, GPU and plugin of its build"),
        ("run", "TensorRT cannot run"),
    ],
)
def test_what_tensorrt_refuses(refuses: str, says: str, tmp_path: Path) -> None:
    found = asked(NEW, tmp_path, ENGINE, STAND_IN_REFUSES=refuses)
    assert (found.returncode, found.stdout) == (3, "")
    assert says in found.stderr


def test_cmake_says_what_is_missing(tmp_path: Path) -> None:
    cuda = f"-DCUDA_INCLUDE_DIR={cuda_include()}"
    tensorrt = "-DTENSORRT_INCLUDE_DIR=/some"
    found = run(
        "cmake", "-S", SOURCE, "-B", tmp_path, tensorrt, cuda, "-DNVINFER_LIBRARY=NVINFER-NOTFOUND"
    )
    assert found.returncode == 1
    said = " ".join(found.stderr.split())
    assert "NVINFER_LIBRARY was not found. Add: -DNVINFER_LIBRARY=<libnvinfer.so" in said
