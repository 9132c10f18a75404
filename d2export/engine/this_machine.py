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
        gpus: all of them.
    """

    trt: Any | None
    version: Version | None
    device: Device | None
    missing: tuple[Misfit, ...]
    cuda: Version | None = None
    gpus: tuple[Device, ...] = ()


def look(driver: str | None = None) -> Machine:
    """Look for TensorRT and a GPU.

    Args:
        driver: library of the CUDA driver; None: the system's.
    """
    library = () if driver is None else (driver,)
    trt, missing, cuda = None, [], None
    gpus: tuple[Device, ...] = ()
    try:
        trt = tensorrt_module()
    except EnvironmentMismatch as error:
        missing.append(Misfit(error.problem, error.hint or ""))
    try:
        gpus = cuda_driver.devices(*library)
        if not gpus:
            missing.append(Misfit("this machine has no NVIDIA GPU that CUDA sees", "Use one."))
    except EnvironmentMismatch as error:
        missing.append(Misfit(error.problem, error.hint or ""))
    with suppress(EnvironmentMismatch):  # missing already
        cuda = cuda_driver.cuda_version(*library)
    version = None if trt is None else version_of(trt)
    return Machine(trt, version, next(iter(gpus), None), tuple(missing), cuda, gpus)
