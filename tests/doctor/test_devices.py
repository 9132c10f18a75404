"""What the doctor finds: file systems of machines, programs that run, a driver that loads."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from d2export.doctor import examine, report_text
from d2export.doctor.jetson import Jetson, jetson
from d2export.doctor.libnvinfer import libnvinfer
from d2export.doctor.system import System
from d2export.doctor.toolkit import toolkit
from tests.doctor import machines
from tests.engine.test_cuda_driver import driver, needs_compiler
from tests.engine.test_plugin_build import NOTE, library

ABSENT = "libcuda.absent.so"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No TensorRT for Python, and none that the user points to."""
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    monkeypatch.setattr("d2export.engine.plugin.find_library", lambda: None)


def rows(system: System, plugin: Path | None = None) -> dict[str, str | None]:
    return {one.name: one.found for one in examine(plugin=plugin, system=system).devices}


@needs_compiler
def test_a_jetson(tmp_path: Path) -> None:
    machines.jetpack_6_2(tmp_path / "root")
    plugin = library(tmp_path, NOTE + b"870")
    system = System(tmp_path / "root", driver(tmp_path))
    libraries = tmp_path / "root" / machines.AARCH64
    assert rows(system, plugin) == {
        "gpu 0": "Orin, compute capability 8.7, 8.0 GB, shared with the CPU",
        "gpu 1": "NVIDIA H200, compute capability 9.0, 150.1 GB",
        "driver": "540.4.0, CUDA up to 12.6",
        "jetpack": "6.2, L4T 36.4.3",
        "power mode": "MAXN",
        "nvcc": f"CUDA 12.6, {tmp_path}/root/usr/local/cuda/bin/nvcc",
        "tensorrt": None,
        "libnvinfer": f"10.3.0, for CUDA 12.5, {libraries}/libnvinfer.so.10.3.0",
        "plugin": f"for TensorRT 10.3.0, CUDA 12.6, compute capability 8.7, {plugin}",
        "available": "61.4 GB of memory",
        "swap": "30.7 of 32.9 GB free",
    }
    assert examine(plugin=plugin, system=system).fits


def test_a_machine_with_nothing(tmp_path: Path) -> None:
    """It runs ONNX Runtime: nothing contradicts."""
    findings = examine(system=System(tmp_path, ABSENT))
    assert {one.name: one.found for one in findings.devices} == dict.fromkeys(
        ("gpu", "driver", "nvcc", "tensorrt", "plugin")
    )
    assert findings.fits
    lines = report_text(findings).splitlines()
    (gpu,) = (line for line in lines if line.startswith("gpu "))
    assert gpu.split(maxsplit=1)[1] == (
        "missing, needed for engines (ONNX Runtime's CPU provider needs none): "
        "use a machine with one"
    )
    assert all(" " in line for line in lines if line)


@needs_compiler
def test_a_driver_without_a_gpu(tmp_path: Path) -> None:
    system = System(tmp_path / "root", driver(tmp_path, starts=100, cuda=13000))
    found = {one.name: one for one in examine(system=system).devices}
    assert found["gpu"].found is None
    assert found["gpu"].remedy == "nvidia-smi may say why CUDA sees none"
    assert found["driver"].found == "CUDA up to 13.0"


@pytest.mark.parametrize(
    ("release", "packages", "expected"),
    [
        ("# R36 (release), REVISION: 4.4, GCID: 1", {}, Jetson("36.4.4", "6.2.1", None)),
        ("# R35 (release), REVISION: 4.1, GCID: 1", {}, Jetson("35.4.1", "5.1.2", None)),
        # Of no release that is known here: not a guess.
        ("# R39 (release), REVISION: 1.0, GCID: 1", {}, Jetson("39.1.0", None, None)),
        (
            "# R39 (release), REVISION: 1.0, GCID: 1",
            {"nvidia-jetpack": "7.2-b100"},
            Jetson("39.1.0", "7.2", None),
        ),
        ("", {"nvidia-l4t-core": "36.3.0-20240719161631"}, Jetson("36.3.0", "6.0", None)),
        ("", {}, None),
    ],
)
def test_jetpack(
    release: str, packages: dict[str, str], expected: Jetson | None, tmp_path: Path
) -> None:
    entries = "\n".join(machines.package(*one) for one in packages.items())
    machines.write(tmp_path, {"var/lib/dpkg/status": entries, "etc/nv_tegra_release": release})
    assert jetson(System(tmp_path)) == expected


def test_a_program_that_fails_says_nothing(tmp_path: Path) -> None:
    machines.jetpack_6_2(tmp_path)
    machines.program(tmp_path, "usr/sbin/nvpmodel", "echo 'NV Power Mode: MAXN'; exit 1")
    machines.program(tmp_path, "usr/local/cuda/bin/nvcc", "exit 1")
    found = jetson(System(tmp_path))
    assert found == Jetson("36.4.3", "6.2", None)
    assert toolkit(System(tmp_path)) is None


def test_a_toolkit_without_its_compiler(tmp_path: Path) -> None:
    machines.write(tmp_path, {"usr/local/cuda/lib64/libcudart.so.12.6.68": ""})
    found = {one.name: one for one in examine(system=System(tmp_path, ABSENT)).devices}
    assert found["nvcc"].found is None
    assert found["nvcc"].remedy.startswith("libcudart 12.6.68 is here, nvcc is not. Install ")


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc: install the CUDA toolkit")
def test_the_toolkit_of_this_machine() -> None:
    found = toolkit(System())
    assert found is not None
    assert found.version >= (11, 4)
    assert (8, 7) in found.compute_capabilities


def test_which_libnvinfer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the user points to comes before what the system has, as for the loader."""
    machines.write(
        tmp_path,
        {
            f"{machines.AARCH64}/libnvinfer.so.10": "",
            f"{machines.AARCH64}/libnvinfer.so.10.3.0": "",
            "opt/other/lib/libnvinfer.so.10.16.1": "",
        },
    )
    found = libnvinfer(System(tmp_path))
    assert found is not None
    assert (found.version, found.cuda) == ((10, 3, 0), None)
    monkeypatch.setenv("LD_LIBRARY_PATH", "relative:/opt/other/lib")
    found = libnvinfer(System(tmp_path))
    assert found is not None
    assert found.version == (10, 16, 1)
