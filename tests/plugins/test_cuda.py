"""How the CUDA code is launched, and how CMake sets it up. Needs nvcc, but no GPU."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.plugins.drivers import ROOT
from tests.plugins.test_tensorrt import NVCC, run

BUILD = ROOT / "build" / "native-cuda"


def configure(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    if NVCC is None:
        pytest.skip("nvcc: install the CUDA toolkit")
    command: tuple[str | Path, ...] = ("cmake", "-S", ROOT / "plugins", "-B", folder)
    command += ("-DD2EXPORT_CUDA=ON", *options)
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_launches_with_a_cuda_runtime_that_is_acted_out() -> None:
    """Errors, fewer blocks than asked for, the last error, the workspace, the limits."""
    done = configure(
        BUILD,
        "-DD2EXPORT_TESTS=ON",
        f"-DCMAKE_CUDA_COMPILER={NVCC}",
        "-DCMAKE_CUDA_ARCHITECTURES=90",
        "-DCMAKE_CXX_FLAGS=-Werror",
        "-DCMAKE_CXX_FLAGS_RELEASE=-O1 -g1",
        "-DD2EXPORT_SANITIZE=address;undefined",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    run("cmake", "--build", BUILD, "--target", "launch_harness", "--parallel", "2")
    assert "PASSED" in run(BUILD / "tests" / "launch_harness")


def test_an_nvcc_that_lists_no_architectures(tmp_path: Path) -> None:
    """As before CUDA 11.5: it knows none of the newer ones."""
    nvcc = tmp_path / "nvcc"
    nvcc.write_text(
        f'#!/bin/sh\n[ "$1" = --list-gpu-arch ] && echo unknown option >&2 && exit 1\n'
        f'exec "{NVCC}" "$@"\n'
    )
    nvcc.chmod(0o755)
    options = ("-DCMAKE_CUDA_ARCHITECTURES=87", "-DD2EXPORT_NEWER_ARCHITECTURES=90")
    done = configure(tmp_path / "old", f"-DCMAKE_CUDA_COMPILER={nvcc}", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "for sm 87\n" in done.stdout
    done = configure(tmp_path / "new", f"-DCMAKE_CUDA_COMPILER={NVCC}", *options)
    assert "for sm 87 90\n" in done.stdout


@pytest.mark.parametrize("flags", ["-use_fast_math", "--use_fast_math", "-ftz=true", "--ftz true"])
def test_flags_that_flush_denormals_are_refused(tmp_path: Path, flags: str) -> None:
    done = configure(tmp_path, f"-DCMAKE_CUDA_COMPILER={NVCC}", f"-DCMAKE_CUDA_FLAGS={flags}")
    assert done.returncode != 0
    assert "denormal" in done.stderr
    assert flags.lstrip("-") in done.stderr
