"""The CUDA driver's answers, from a stand-in with the driver's functions that the test compiles."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from d2export.engine.cuda_driver import Device, cuda_version, devices
from d2export.errors import EnvironmentMismatch

needs_compiler = pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")

# Two GPUs, a Jetson and a card with a handle that is not its index. An attribute or length that is
# not what cuda.h says is an error, as it is in the driver.
DRIVER = """
#include <cstddef>
#include <cstring>
static const char *const names[] = {"Orin", "NVIDIA H200"};
static const std::size_t memory[] = {7988051968u, 150110502912u};
static const int attributes[][3] = {{8, 7, 1}, {9, 0, 0}};
extern "C" {
int cuInit(unsigned flags) { return flags == 0 ? STARTS : 1; }
int cuDriverGetVersion(int *version) { *version = CUDA; return 0; }
int cuDeviceGetCount(int *count) { *count = 2; return COUNTS; }
int cuDeviceGet(int *device, int index) { *device = index + 40; return 0; }
int cuDeviceGetName(char *name, int length, int device) {
    std::strncpy(name, names[device - 40], length);
    return 0;
}
int cuDeviceTotalMem_v2(std::size_t *bytes, int device) { *bytes = memory[device - 40]; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    const int row = attribute == 75 ? 0 : attribute == 76 ? 1 : attribute == 18 ? 2 : -1;
    if (row < 0) return 1;
    *value = attributes[device - 40][row];
    return 0;
}
int cuGetErrorString(int result, const char **text) {
    *text = result == 999 ? "unknown error" : nullptr;
    return 0;
}
}
"""


def driver(folder: Path, starts: int = 0, counts: int = 0, cuda: int = 12060) -> str:
    """A driver whose cuInit and cuDeviceGetCount return these codes, and its newest CUDA."""
    source, library = folder / "driver.cpp", folder / "libcuda.so.1"
    source.write_text(DRIVER)
    codes = [f"-DSTARTS={starts}", f"-DCOUNTS={counts}", f"-DCUDA={cuda}"]
    subprocess.run(["c++", "-shared", "-fPIC", *codes, source, "-o", library], check=True)
    return str(library)


@needs_compiler
def test_devices(tmp_path: Path) -> None:
    assert devices(driver(tmp_path)) == (
        Device("Orin", (8, 7), 7988051968, True),
        Device("NVIDIA H200", (9, 0), 150110502912, False),
    )


@needs_compiler
@pytest.mark.parametrize(("number", "version"), [(12060, (12, 6)), (13000, (13, 0))])
def test_newest_cuda(number: int, version: tuple[int, int], tmp_path: Path) -> None:
    """Also without a GPU."""
    assert cuda_version(driver(tmp_path, starts=100, cuda=number)) == version


@needs_compiler
def test_a_driver_without_a_gpu(tmp_path: Path) -> None:
    assert devices(driver(tmp_path, starts=100)) == ()


@needs_compiler
@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ({"starts": 999}, "the CUDA driver's cuInit failed with 999: unknown error"),
        ({"starts": 5}, "the CUDA driver's cuInit failed with 5: a code it does not explain"),
        ({"counts": 999}, "the CUDA driver's cuDeviceGetCount failed with 999: unknown error"),
    ],
)
def test_a_driver_that_fails(codes: dict[str, int], message: str, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentMismatch) as raised:
        devices(driver(tmp_path, **codes))
    assert raised.value.problem == message


def test_no_driver(tmp_path: Path) -> None:
    with pytest.raises(
        EnvironmentMismatch, match=r"^this machine has no CUDA driver: .*absent\.so"
    ):
        devices(str(tmp_path / "absent.so"))
    with pytest.raises(EnvironmentMismatch, match="this machine has no CUDA driver: "):
        cuda_version(str(tmp_path / "absent.so"))
