"""Whether what a machine has for engines fits each other."""

from __future__ import annotations

from collections.abc import Iterator

from d2export.doctor.accelerator import Accelerator
from d2export.doctor.finding import Fit
from d2export.engine import plugin as plugins
from d2export.engine.misfit import Misfit
from d2export.engine.plugin import BUILD_IT
from d2export.engine.plugin_build import build_misfits, has_code_for
from d2export.engine.target import version_text
from d2export.engine.targets import recognise
from d2export.engine.tensorrt_api import api_of
from d2export.errors import EnvironmentMismatch

LEAST_AVAILABLE = 2 * 2**30  # bytes; of our choice: what a builder takes beside the model


def fit_of(found: Accelerator) -> Fit:
    """What contradicts, and what is worth knowing. That something is missing is neither."""
    return Fit(
        tuple(dict.fromkeys((*_tensorrt(found), *_plugin(found)))),
        (*_libraries(found), *_compiler(found), *_kernels(found), *_jetson(found)),
    )


def _tensorrt(found: Accelerator) -> Iterator[Misfit]:
    """TensorRT against d2export, the GPU and the driver."""
    version, gpu, driver = found.machine.version, found.machine.device, found.machine.cuda
    if gpu is not None:
        try:
            device = recognise([gpu])
        except EnvironmentMismatch as error:
            yield Misfit(error.problem, "Engines need a newer GPU; ONNX Runtime needs none.")
            return
        if version is not None and version not in device.tensorrt:
            yield Misfit(
                f"TensorRT {version_text(version)} is not one that {device.description} can have: "
                f"{version_text(device.tensorrt.oldest)} to {version_text(device.tensorrt.newest)}",
                "Install one of these.",
            )
    if version is None:
        return
    try:
        api_of(version)
    except EnvironmentMismatch as error:
        yield Misfit(error.problem, error.hint or "")
    cuda = found.tensorrt_cuda
    if driver is not None and cuda is not None and cuda[0] > driver[0]:
        yield Misfit(
            f"TensorRT {version_text(version)} is made for CUDA {version_text(cuda)}, the driver "
            f"has CUDA {version_text(driver)}",
            f"Run: pip install tensorrt-cu{driver[0]}=={version_text(version)}, or install a newer "
            "driver.",
        )


def _plugin(found: Accelerator) -> Iterator[Misfit]:
    """The plugin against TensorRT, the driver and the GPU."""
    machine = found.machine
    if found.plugin is None:
        return
    if machine.version is not None:
        try:
            misfit = plugins.misfit(found.plugin, api_of(machine.version))
        except EnvironmentMismatch:  # that TensorRT is a misfit by itself
            misfit = None
        if misfit is not None:
            yield misfit
            return
    yield from build_misfits(found.plugin, machine.version, machine.cuda, machine.device)


def _libraries(found: Accelerator) -> Iterator[Misfit]:
    """Two versions of TensorRT: engines of one are none for the other."""
    version, library = found.machine.version, found.system_tensorrt
    if version is not None and library is not None and library.version != version:
        yield Misfit(
            f"Python has TensorRT {version_text(version)}, trtexec and C++ programs have "
            f"{version_text(library.version)} ({library.path})",
            "An engine of one is refused by the other: keep one of them, such as by "
            "pip uninstall tensorrt, or by LD_LIBRARY_PATH.",
        )


def _compiler(found: Accelerator) -> Iterator[Misfit]:
    """nvcc against the driver and the GPU: what it compiles would not run."""
    nvcc, driver, gpu = found.toolkit, found.machine.cuda, found.machine.device
    if nvcc is None:
        return
    named = f"{nvcc.nvcc} is of CUDA {version_text(nvcc.version)}"
    if driver is not None and nvcc.version[0] > driver[0]:
        yield Misfit(
            f"{named}, the driver has CUDA {version_text(driver)}: what it compiles does not run",
            f"Install the toolkit of CUDA {driver[0]}, or a newer driver.",
        )
    known = nvcc.compute_capabilities
    if gpu is not None and known and gpu.compute_capability not in known:
        yield Misfit(
            f"{named}, which does not compile for compute capability "
            f"{version_text(gpu.compute_capability)} of {gpu.name}",
            "Install a newer toolkit." if gpu.compute_capability > max(known) else "Another one.",
        )


def _kernels(found: Accelerator) -> Iterator[Misfit]:
    """Kernels that the driver has to compile first."""
    gpu, build = found.machine.device, found.plugin_build
    if gpu is None or build is None or has_code_for(build, gpu):
        return
    if build.compute_capabilities[0] < gpu.compute_capability:
        yield Misfit(
            f"the plugin has no code for {gpu.name}, compute capability "
            f"{version_text(gpu.compute_capability)}: the driver compiles it when it is loaded",
            BUILD_IT,
        )


def _jetson(found: Accelerator) -> Iterator[Misfit]:
    """What makes a Jetson slow, or a build end for want of memory."""
    if found.jetson is None:
        return
    mode = found.jetson.power_mode
    if mode is not None and not mode.startswith("MAXN"):
        yield Misfit(
            f"the power mode is {mode}, not MAXN: clocks are lower than they could be",
            "Run: sudo nvpmodel -q --verbose for the modes, sudo nvpmodel -m NUMBER, then "
            "sudo jetson_clocks.",
        )
    memory = found.memory
    if memory is not None and memory.available + memory.swap_free < LEAST_AVAILABLE:
        yield Misfit(
            f"{memory.available / 1e9:.1f} GB of memory and {memory.swap_free / 1e9:.1f} GB of "
            "swap are free",
            "Stop the desktop: sudo systemctl isolate multi-user.target. Add swap: docs/jetson.md.",
        )
