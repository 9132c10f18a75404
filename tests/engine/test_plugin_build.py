"""What a plugin library says it was compiled for, and machines it does not run on."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from d2export.engine.cuda_driver import Device
from d2export.engine.misfit import Misfit
from d2export.engine.plugin_build import PluginBuild, build_misfits, build_of, has_code_for
from tests.plugins.test_tensorrt import HEADERS, NVCC

ORIN = Device("Orin", (8, 7), 62841 * 2**20, True)
L4 = Device("NVIDIA L4", (8, 9), 22558 * 2**20, False)
H200 = Device("NVIDIA H200", (9, 0), 143156 * 2**20, False)
SOURCE = Path(__file__).parents[2] / "plugins" / "tensorrt" / "src" / "build_note.cu"
NOTE = b"d2export plugin: TensorRT 10.3.0, CUDA 12.6, architectures "


def library(folder: Path, note: bytes = NOTE + b"870") -> Path:
    path = folder / "libd2export_plugin.so"
    path.write_bytes(b"\x7fELF\0\0" + note + b"\0\0more")
    return path


@pytest.mark.skipif(NVCC is None, reason="nvcc: install the CUDA toolkit")
@pytest.mark.parametrize("version", ["8.6.1", "10.3", "11.1"])
def test_the_compilers_own_words(version: str, tmp_path: Path) -> None:
    """The note is made by the preprocessor, of TensorRT's and nvcc's macros."""
    headers = HEADERS / version / "include"
    if not headers.is_dir():
        pytest.skip(
            f"headers of TensorRT {version}: python scripts/tensorrt_headers.py get {version}"
        )
    compiled = tmp_path / "build_note.o"
    gpus = [f"-gencode=arch=compute_{one},code=compute_{one}" for one in (90, 87)]
    subprocess.run(
        [str(NVCC), *gpus, f"-I{headers}", "-c", SOURCE, "-o", compiled], check=True, timeout=120
    )
    found = build_of(compiled)
    assert found is not None
    assert found.tensorrt[:2] == tuple(map(int, version.split(".")[:2]))
    said = subprocess.run([str(NVCC), "--version"], capture_output=True, text=True, check=True)
    assert f"release {found.cuda[0]}.{found.cuda[1]}," in said.stdout
    assert found.compute_capabilities == ((8, 7), (9, 0))


def test_build_of(tmp_path: Path) -> None:
    assert build_of(library(tmp_path, NOTE + b"1200,800,870")) == PluginBuild(
        (10, 3, 0), (12, 6), ((8, 0), (8, 7), (12, 0))
    )


@pytest.mark.parametrize("note", [b"", NOTE, NOTE + b"sm_87", NOTE + b"870,"])
def test_a_library_that_says_nothing(note: bytes, tmp_path: Path) -> None:
    path = library(tmp_path, note)
    assert build_of(path) is None
    assert list(build_misfits(path, (8, 6, 1), (11, 4), H200)) == []
    assert build_of(tmp_path / "absent.so") is None


def misfit(path: Path, *machine: object) -> Misfit:
    (found,) = build_misfits(path, *machine)  # type: ignore[arg-type]
    return found


def test_one_that_fits(tmp_path: Path) -> None:
    path = library(tmp_path)
    for machine in (
        ((10, 3, 0), (12, 6), ORIN),
        ((10, 16, 1), (13, 2), L4),
        (None, None, None),
    ):
        assert list(build_misfits(path, *machine)) == []


def test_one_for_another_tensorrt(tmp_path: Path) -> None:
    path = library(tmp_path)
    found = misfit(path, (11, 1, 0), (12, 6), ORIN)
    assert found.problem == (f"the plugin {path} was compiled for TensorRT 10.3.0, this is 11.1.0")
    assert found.remedy.startswith("Compile it with the headers of this one. ")


def test_one_with_a_newer_cuda_than_the_drivers(tmp_path: Path) -> None:
    path = library(tmp_path, NOTE.replace(b"12.6", b"13.0") + b"870")
    found = misfit(path, (10, 3, 0), (12, 6), ORIN)
    assert found.problem == (
        f"the plugin {path} was compiled with CUDA 13.0, the driver has CUDA 12.6"
    )
    assert "a toolkit of CUDA 12, or install a newer driver" in found.remedy


def test_one_for_newer_gpus(tmp_path: Path) -> None:
    path = library(tmp_path, NOTE + b"900,1000")
    found = misfit(path, (10, 3, 0), (12, 6), L4)
    assert found.problem == (
        f"the plugin {path} has code for compute capability 9.0, 10.0, NVIDIA L4 has 8.9"
    )
    assert "-DCMAKE_CUDA_ARCHITECTURES=89." in found.remedy


@pytest.mark.parametrize(
    ("capabilities", "gpu", "runs"),
    [
        (((8, 9),), L4, True),
        (((8, 0),), L4, True),  # a later one of the same major version
        (((8, 7),), L4, False),  # a Jetson's code runs on that Jetson only
        (((8, 6),), ORIN, False),
        (((8, 9),), H200, False),
        (((8, 0), (9, 0)), H200, True),
    ],
)
def test_whether_there_is_code_for_a_gpu(
    capabilities: tuple[tuple[int, int], ...], gpu: Device, runs: bool
) -> None:
    assert has_code_for(PluginBuild((10, 3, 0), (12, 6), capabilities), gpu) is runs
