"""What this machine has to build and run engines with: GPU, driver, CUDA, TensorRT, plugin."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from d2export.doctor.jetson import Jetson, jetson
from d2export.doctor.libnvinfer import Libnvinfer, libnvinfer
from d2export.doctor.memory import Memory, memory
from d2export.doctor.system import System
from d2export.doctor.toolkit import Toolkit, cuda_runtime, toolkit
from d2export.engine import plugin as plugins
from d2export.engine.plugin_build import PluginBuild, build_of
from d2export.engine.target import Version
from d2export.engine.tensorrt_api import parse_version
from d2export.engine.this_machine import Machine, look


@dataclass(frozen=True)
class Accelerator:
    """What was found.

    Attributes:
        machine: TensorRT's Python module, GPUs, the driver's CUDA, and what is missing.
        driver: version of the driver itself, such as 550.54.14.
        tensorrt_cuda: CUDA that the Python module was made for.
        system_tensorrt: libnvinfer that C++ programs link.
        toolkit: nvcc.
        cuda_runtime: libcudart.
        plugin: its library; None if there is none.
        plugin_build: what that says it was compiled for.
        jetson: None on every other machine.
        memory: of the CPU.
    """

    machine: Machine
    driver: Version | None
    tensorrt_cuda: Version | None
    system_tensorrt: Libnvinfer | None
    toolkit: Toolkit | None
    cuda_runtime: Version | None
    plugin: Path | None
    plugin_build: PluginBuild | None
    jetson: Jetson | None
    memory: Memory | None


def accelerator(system: System, plugin: Path | None = None) -> Accelerator:
    """Look for all of it.

    Args:
        plugin: library; None: that of this installation.
    """
    machine = look(system.driver)
    library = libnvinfer(system)
    plugin = plugin or plugins.find_library()
    return Accelerator(
        machine,
        _driver(system),
        _tensorrt_cuda(machine.version, library),
        library,
        toolkit(system),
        cuda_runtime(system),
        plugin,
        None if plugin is None else build_of(plugin),
        jetson(system),
        memory(system),
    )


def _driver(system: System) -> Version | None:
    """`NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  ...`, or `Open Kernel Module`."""
    written = re.search(
        r"Kernel Module\D*(?:x86_64|aarch64)?\s+(\d+\.\d+(?:\.\d+)?)\s",
        system.text("/proc/driver/nvidia/version"),
    )
    return parse_version(written[1]) if written else None


def _tensorrt_cuda(version: Version | None, library: Libnvinfer | None) -> Version | None:
    """Of pip's packages by their name, `tensorrt-cu12`; of the system's by the library's."""
    if version is None:
        return None
    for major in range(11, 16):
        try:
            found = metadata.version(f"tensorrt-cu{major}")
        except metadata.PackageNotFoundError:
            continue
        if parse_version(found)[:3] == version:
            return (major,)
    return library.cuda if library is not None and library.version == version else None
