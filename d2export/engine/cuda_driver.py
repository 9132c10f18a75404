"""The GPUs of this machine, as the CUDA driver describes them: no torch, no CUDA toolkit.

Declarations are those of `cuda.h`, "CUDA Driver API".
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from d2export.errors import EnvironmentMismatch

LIBRARY = "libcuda.so.1"
SUCCESS, NO_DEVICE = 0, 100  # of CUresult
INTEGRATED, MAJOR, MINOR = 18, 75, 76  # of CUdevice_attribute
NAME_LENGTH = 256


@dataclass(frozen=True)
class Device:
    """One GPU.

    Attributes:
        name: as CUDA reports it, such as `Orin` or `NVIDIA H200`.
        compute_capability: major and minor.
        memory: in bytes, all of it, whoever has taken some.
        integrated: whether it shares its memory with the CPU.
    """

    name: str
    compute_capability: tuple[int, int]
    memory: int
    integrated: bool


def devices(library: str = LIBRARY) -> tuple[Device, ...]:
    """The GPUs that CUDA programs see here, in CUDA's order; none where the driver has none.

    Args:
        library: file of the driver.

    Raises:
        EnvironmentMismatch: there is no driver, or it refuses to answer.
    """
    driver = _load(library)
    started = driver.cuInit(0)
    if started == NO_DEVICE:
        return ()
    _require(driver, "cuInit", started)
    count = ctypes.c_int()
    _call(driver, "cuDeviceGetCount", ctypes.byref(count))
    return tuple(_device(driver, index) for index in range(count.value))


def cuda_version(library: str = LIBRARY) -> tuple[int, int]:
    """The newest CUDA that the driver knows, major and minor. It takes no GPU to say so.

    Raises:
        EnvironmentMismatch: there is no driver, or it refuses to answer.
    """
    version = ctypes.c_int()
    _call(_load(library), "cuDriverGetVersion", ctypes.byref(version))
    return version.value // 1000, version.value % 1000 // 10  # 12060 is 12.6


def _load(library: str) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(library)
    except OSError as error:
        raise EnvironmentMismatch(
            f"this machine has no CUDA driver: {error}",
            "Install NVIDIA's driver; a container needs the NVIDIA runtime.",
        ) from None


def _device(driver: ctypes.CDLL, index: int) -> Device:
    handle = ctypes.c_int()
    _call(driver, "cuDeviceGet", ctypes.byref(handle), index)
    name = ctypes.create_string_buffer(NAME_LENGTH)
    _call(driver, "cuDeviceGetName", name, NAME_LENGTH, handle)
    memory = ctypes.c_size_t()
    _call(driver, "cuDeviceTotalMem_v2", ctypes.byref(memory), handle)
    major, minor, integrated = (
        _attribute(driver, wanted, handle) for wanted in (MAJOR, MINOR, INTEGRATED)
    )
    return Device(name.value.decode(), (major, minor), memory.value, bool(integrated))


def _attribute(driver: ctypes.CDLL, wanted: int, handle: ctypes.c_int) -> int:
    value = ctypes.c_int()
    _call(driver, "cuDeviceGetAttribute", ctypes.byref(value), wanted, handle)
    return value.value


def _call(driver: ctypes.CDLL, function: str, *arguments: object) -> None:
    _require(driver, function, getattr(driver, function)(*arguments))


def _require(driver: ctypes.CDLL, function: str, result: int) -> None:
    """Raise an EnvironmentMismatch unless the driver answered with success."""
    if result == SUCCESS:
        return
    text = ctypes.c_char_p()
    driver.cuGetErrorString(result, ctypes.byref(text))
    reason = text.value.decode() if text.value else "a code it does not explain"
    raise EnvironmentMismatch(
        f"the CUDA driver's {function} failed with {result}: {reason}",
        "Run nvidia-smi, or on a Jetson tegrastats, to see whether the driver works.",
    )
