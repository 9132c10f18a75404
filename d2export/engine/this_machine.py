"""What this machine has to build engines with: TensorRT and a GPU."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from d2export.engine import cuda_driver
from d2export.engine.cuda_driver import Device
from d2export.engine.misfit import Misfit
from d2export.engine.target import Version
from d2export.engine.tensorrt import tensorrt_module, version_of
from d2export.errors import EnvironmentMismatch


@dataclass(frozen=True)
class Machine:
    """What was found.

    Attributes:
        trt: TensorRT's Python module.
        version: of it.
        device: the GPU that TensorRT uses, the first.
        missing: what was not found, each with its remedy.
        cuda: the newest that the driver knows; None without a driver.
    """

    trt: Any | None
    version: Version | None
    device: Device | None
    missing: tuple[Misfit, ...]
    cuda: Version | None = None


def look(driver: str = cuda_driver.LIBRARY) -> Machine:
    """Look for TensorRT and a GPU.

    Args:
        driver: library of the CUDA driver.
    """
    trt, missing, device, cuda = None, [], None, None
    try:
        trt = tensorrt_module()
    except EnvironmentMismatch as error:
        missing.append(Misfit(error.problem, error.hint or ""))
    try:
        device = next(iter(cuda_driver.devices(driver)), None)
        if device is None:
            missing.append(Misfit("this machine has no NVIDIA GPU that CUDA sees", "Use one."))
    except EnvironmentMismatch as error:
        missing.append(Misfit(error.problem, error.hint or ""))
    with suppress(EnvironmentMismatch):  # missing already
        cuda = cuda_driver.cuda_version(driver)
    version = None if trt is None else version_of(trt)
    return Machine(trt, version, device, tuple(missing), cuda)
