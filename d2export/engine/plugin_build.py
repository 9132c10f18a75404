"""What a plugin library was compiled for, read out of its file, and whether that fits a machine.

The text is that of plugins/tensorrt/src/build_note.cu. Nothing here loads the library.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from d2export.engine.cuda_driver import Device
from d2export.engine.misfit import Misfit
from d2export.engine.plugin import BUILD_IT
from d2export.engine.target import Version, version_text
from d2export.engine.tensorrt_api import parse_version

NOTE = re.compile(
    rb"d2export plugin: TensorRT (\d+\.\d+\.\d+), CUDA (\d+\.\d+), architectures (\d+0(?:,\d+0)*)\0"
)


@dataclass(frozen=True)
class PluginBuild:
    """What a library was compiled for.

    Attributes:
        tensorrt: version of the headers.
        cuda: of the toolkit.
        compute_capabilities: of the GPUs that it has code for, in order.
    """

    tensorrt: Version
    cuda: Version
    compute_capabilities: tuple[tuple[int, int], ...]


def build_of(library: Path) -> PluginBuild | None:
    """What a library says of itself; None if it cannot be read or says nothing."""
    try:
        note = NOTE.search(library.read_bytes())
    except OSError:
        return None
    if note is None:
        return None
    tensorrt, cuda, architectures = (group.decode() for group in note.groups())
    # __CUDA_ARCH_LIST__ has 870 for 8.7.
    found = sorted(divmod(int(one) // 10, 10) for one in architectures.split(","))
    return PluginBuild(parse_version(tensorrt), parse_version(cuda), tuple(found))


def build_misfits(
    library: Path, tensorrt: Version | None, driver: Version | None, gpu: Device | None
) -> Iterator[Misfit]:
    """Why a library would not run there, by what it says of itself.

    Args:
        tensorrt: version that loads it; this and what follows is None where there is none.
        driver: CUDA's version that the driver has.
    """
    build = build_of(library)
    if build is None:
        return
    if tensorrt is not None and build.tensorrt[0] != tensorrt[0]:
        yield Misfit(
            f"the plugin {library} was compiled for TensorRT {version_text(build.tensorrt)}, "
            f"this is {version_text(tensorrt)}",
            f"Compile it with the headers of this one. {BUILD_IT}",
        )
    # CUDA promises that a program runs on every driver of its own major version or a newer one.
    if driver is not None and build.cuda[0] > driver[0]:
        yield Misfit(
            f"the plugin {library} was compiled with CUDA {version_text(build.cuda)}, the driver "
            f"has CUDA {version_text(driver)}",
            f"Compile it with a toolkit of CUDA {driver[0]}, or install a newer driver. {BUILD_IT}",
        )
    if gpu is not None and build.compute_capabilities[0] > gpu.compute_capability:
        yield Misfit(
            f"the plugin {library} has code for compute capability {_listed(build)}, {gpu.name} "
            f"has {version_text(gpu.compute_capability)}",
            f"Add to cmake: -DCMAKE_CUDA_ARCHITECTURES={''.join(map(str, gpu.compute_capability))}."
            f" {BUILD_IT}",
        )


def has_code_for(build: PluginBuild, gpu: Device) -> bool:
    """Whether kernels run as they are. Otherwise the driver compiles those of an older GPU first.

    Code runs on later GPUs of one major version, but not on or from a Jetson (CUDA C++ Programming
    Guide, "Binary Compatibility").
    """
    if gpu.compute_capability in build.compute_capabilities:
        return True
    major, minor = gpu.compute_capability
    return not gpu.integrated and any(
        one[0] == major and one[1] < minor and one != (8, 7) for one in build.compute_capabilities
    )


def _listed(build: PluginBuild) -> str:
    return ", ".join(map(version_text, build.compute_capabilities))
