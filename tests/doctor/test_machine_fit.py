"""What does not fit each other, each with a remedy; that something is missing is no misfit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from d2export.doctor.accelerator import Accelerator
from d2export.doctor.finding import Fit
from d2export.doctor.jetson import Jetson
from d2export.doctor.libnvinfer import Libnvinfer
from d2export.doctor.machine_fit import fit_of
from d2export.doctor.memory import Memory
from d2export.doctor.toolkit import Toolkit
from d2export.engine.cuda_driver import Device
from d2export.engine.plugin_build import build_of
from d2export.engine.target import Version
from d2export.engine.this_machine import Machine
from tests.engine.test_plugin_build import H200, L4, NOTE, ORIN
from tests.test_engine_building import plugin

BARE = Accelerator(
    Machine(None, None, None, ()), None, None, None, None, None, None, None, None, None
)


def machine(
    version: Version | None, gpu: Device | None = ORIN, cuda: Version | None = (12, 6)
) -> Accelerator:
    """A machine that is TensorRT, a GPU and a driver."""
    return replace(BARE, machine=Machine(None, version, gpu, (), cuda))


def with_plugin(found: Accelerator, library: Path) -> Accelerator:
    return replace(found, plugin=library, plugin_build=build_of(library))


def noted(folder: Path, capabilities: bytes) -> Path:
    """A plugin for this processor that says what it is."""
    path = plugin(folder)
    path.write_bytes(path.read_bytes() + NOTE + capabilities + b"\0")
    return path


def misfit(found: Accelerator) -> tuple[str, str]:
    (one,) = fit_of(found).misfits
    return one.problem, one.remedy


def caution(found: Accelerator) -> tuple[str, str]:
    assert fit_of(found).misfits == ()
    (one,) = fit_of(found).cautions
    return one.problem, one.remedy


@pytest.mark.parametrize(
    "found",
    [
        BARE,
        machine(None),
        machine((10, 3, 0)),
        machine((8, 6, 2)),
        machine((10, 16, 1), H200, (13, 0)),
        machine((10, 3, 0), None, None),
        replace(machine((10, 16, 1), L4), tensorrt_cuda=(12,)),
    ],
)
def test_machines_that_fit(found: Accelerator) -> None:
    assert fit_of(found) == Fit()


def test_a_jetson_at_its_best(tmp_path: Path) -> None:
    found = replace(
        machine((10, 3, 0)),
        tensorrt_cuda=(12, 5),
        system_tensorrt=Libnvinfer(Path("/usr/lib/libnvinfer.so.10.3.0"), (10, 3, 0), (12, 5)),
        toolkit=Toolkit(Path("/usr/local/cuda/bin/nvcc"), (12, 6), ((8, 7), (9, 0))),
        jetson=Jetson("36.4.3", "6.2", "MAXN_SUPER"),
        memory=Memory(30 * 10**9, 0, 0),
    )
    assert fit_of(with_plugin(found, noted(tmp_path, b"870"))) == Fit()


def test_a_tensorrt_that_d2export_does_not_know() -> None:
    problem, remedy = misfit(machine((8, 5, 2), None))
    assert problem == "TensorRT 8.5.2 is not supported, expected 8.6, 10 or 11"
    assert "JetPack 6 or newer" in remedy


def test_a_gpu_that_is_too_old() -> None:
    problem, _ = misfit(machine((10, 3, 0), Device("Tesla V100", (7, 0), 16 * 2**30, False)))
    assert problem.startswith("the GPU Tesla V100 has compute capability 7.0, expected 7.5")


def test_a_tensorrt_that_the_gpu_cannot_have() -> None:
    thor = Device("NVIDIA Thor", (11, 0), 131576 * 10**6, True)
    problem, remedy = misfit(machine((10, 3, 0), thor, (13, 0)))
    assert problem.startswith(
        "TensorRT 10.3.0 is not one that Jetson AGX Thor 128 GB can have: 10."
    )
    assert remedy == "Install one of these."


def test_a_tensorrt_for_a_newer_cuda() -> None:
    found = replace(machine((10, 16, 1), L4, (12, 4)), tensorrt_cuda=(13,))
    assert misfit(found) == (
        "TensorRT 10.16.1 is made for CUDA 13, the driver has CUDA 12.4",
        "Run: pip install tensorrt-cu12==10.16.1, or install a newer driver.",
    )


def test_a_plugin_for_tensorrt_8(tmp_path: Path) -> None:
    problem, remedy = misfit(
        with_plugin(machine((10, 3, 0)), plugin(tmp_path, b"getPluginCreators"))
    )
    assert "does not export getCreators, which TensorRT 10 calls" in problem
    assert "cmake --preset jetson-orin" in remedy


def test_a_plugin_with_a_newer_cuda(tmp_path: Path) -> None:
    library = noted(tmp_path, b"870")
    library.write_bytes(library.read_bytes().replace(b"CUDA 12.6", b"CUDA 13.0"))
    problem, _ = misfit(with_plugin(machine((10, 3, 0)), library))
    assert problem == f"the plugin {library} was compiled with CUDA 13.0, the driver has CUDA 12.6"


def test_a_plugin_for_another_gpu(tmp_path: Path) -> None:
    problem, _ = misfit(with_plugin(machine((10, 3, 0)), noted(tmp_path, b"900")))
    assert problem.endswith("has code for compute capability 9.0, Orin has 8.7")
    problem, _ = caution(with_plugin(machine((10, 3, 0)), noted(tmp_path, b"800")))
    assert problem.startswith("the plugin has no code for Orin, compute capability 8.7: the driver")


def test_python_and_the_system_have_other_tensorrts() -> None:
    library = Libnvinfer(Path("/usr/lib/libnvinfer.so.10.3.0"), (10, 3, 0), (12, 5))
    problem, remedy = caution(replace(machine((10, 16, 1)), system_tensorrt=library))
    assert problem == (
        "Python has TensorRT 10.16.1, trtexec and C++ programs have 10.3.0 "
        "(/usr/lib/libnvinfer.so.10.3.0)"
    )
    assert "pip uninstall tensorrt" in remedy


def test_a_compiler_whose_programs_do_not_run() -> None:
    nvcc = Toolkit(Path("/opt/nvcc"), (13, 0), ((8, 7), (9, 0)))
    problem, remedy = caution(replace(machine((10, 3, 0)), toolkit=nvcc))
    assert problem == (
        "/opt/nvcc is of CUDA 13.0, the driver has CUDA 12.6: what it compiles does not run"
    )
    assert remedy == "Install the toolkit of CUDA 12, or a newer driver."
    old = Toolkit(Path("/opt/nvcc"), (11, 4), ((8, 0), (8, 6)))
    problem, remedy = caution(replace(machine((10, 3, 0)), toolkit=old))
    assert problem.endswith("which does not compile for compute capability 8.7 of Orin")
    assert remedy == "Install a newer toolkit."


def test_a_jetson_that_is_slow_or_full() -> None:
    found = replace(machine((10, 3, 0)), jetson=Jetson("36.4.3", "6.2", "15W"))
    problem, remedy = caution(found)
    assert problem.startswith("the power mode is 15W, not MAXN")
    assert "sudo jetson_clocks" in remedy
    full = replace(
        found,
        jetson=Jetson("36.4.3", "6.2", None),
        memory=Memory(10**9, 10**9, 5 * 10**8),
    )
    problem, _ = caution(full)
    assert problem == "1.0 GB of memory and 0.5 GB of swap are free"
