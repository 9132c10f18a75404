"""What was found for engines, as rows."""

from __future__ import annotations

from collections.abc import Iterator

from d2export.doctor.accelerator import Accelerator
from d2export.doctor.finding import Finding
from d2export.engine.plugin import BUILD_IT, LIBRARY
from d2export.engine.target import version_text
from d2export.engine.tensorrt import INSTALL

NO_GPU = "engines (ONNX Runtime's CPU provider needs none)"
USE_ONE, SEE_NONE = "use a machine with one", "nvidia-smi may say why CUDA sees none"
INSTALL_TOOLKIT = "Install the CUDA toolkit; on a Jetson: apt install cuda-toolkit."
INSTALL_DRIVER = "Install NVIDIA's driver; a container needs the NVIDIA runtime."


def rows(found: Accelerator) -> tuple[Finding, ...]:
    """GPU, driver, CUDA, TensorRT, plugin, memory; on a Jetson JetPack and power mode, too."""
    return (*_gpus(found), *_jetson(found), *_software(found), *_memory(found))


def _gpus(found: Accelerator) -> Iterator[Finding]:
    for index, gpu in enumerate(found.machine.gpus):
        yield Finding(
            "gpu" if len(found.machine.gpus) == 1 else f"gpu {index}",
            f"{gpu.name}, compute capability {version_text(gpu.compute_capability)}, "
            f"{gpu.memory / 1e9:.1f} GB{', shared with the CPU' if gpu.integrated else ''}",
            "",
            "",
        )
    cuda, driver = found.machine.cuda, found.driver
    if not found.machine.gpus:
        yield Finding("gpu", None, NO_GPU, USE_ONE if cuda is None else SEE_NONE)
    own = "" if driver is None else f"{version_text(driver)}, "
    seen = None if cuda is None else f"{own}CUDA up to {version_text(cuda)}"
    yield Finding("driver", seen, "a GPU", INSTALL_DRIVER)


def _jetson(found: Accelerator) -> Iterator[Finding]:
    if found.jetson is None:
        return
    l4t = f"L4T {found.jetson.l4t}"
    jetpack = found.jetson.jetpack
    yield Finding("jetpack", l4t if jetpack is None else f"{jetpack}, {l4t}", "", "")
    mode = found.jetson.power_mode
    yield Finding("power mode", mode, "figures that can be compared", "sudo nvpmodel -q")


def _software(found: Accelerator) -> Iterator[Finding]:
    nvcc, runtime = found.toolkit, found.cuda_runtime
    remedy = INSTALL_TOOLKIT
    if runtime is not None:
        remedy = f"libcudart {version_text(runtime)} is here, nvcc is not. {remedy}"
    compiler = None if nvcc is None else f"CUDA {version_text(nvcc.version)}, {nvcc.nvcc}"
    yield Finding("nvcc", compiler, "compiling the plugin", remedy)
    machine = found.machine
    module = None
    if machine.version is not None:
        made_for = found.tensorrt_cuda
        suffix = "" if made_for is None else f", for CUDA {version_text(made_for)}"
        module = f"{version_text(machine.version)}{suffix}"
    yield Finding("tensorrt", module, "building and running engines", _why_none(found))
    library = found.system_tensorrt
    if library is not None:
        made_for = library.cuda
        suffix = "" if made_for is None else f", for CUDA {version_text(made_for)}"
        yield Finding(
            "libnvinfer", f"{version_text(library.version)}{suffix}, {library.path}", "", ""
        )
    plugin = None
    if found.plugin is not None:
        plugin = str(found.plugin)
        build = found.plugin_build
        if build is not None:
            capabilities = " ".join(map(version_text, build.compute_capabilities))
            plugin = (
                f"for TensorRT {version_text(build.tensorrt)}, CUDA {version_text(build.cuda)}, "
                f"compute capability {capabilities}, {plugin}"
            )
    yield Finding("plugin", plugin, "engines that prune", f"{LIBRARY} is nowhere. {BUILD_IT}")


def _why_none(found: Accelerator) -> str:
    """How to install TensorRT; what it said if it is there and cannot be loaded."""
    said = [one for one in found.machine.missing if one.problem.startswith("TensorRT cannot")]
    return f"{said[0].problem}. {said[0].remedy}" if said else INSTALL


def _memory(found: Accelerator) -> Iterator[Finding]:
    memory = found.memory
    if memory is None:
        return
    yield Finding("available", f"{memory.available / 1e9:.1f} GB of memory", "", "")
    swap = f"{memory.swap_free / 1e9:.1f} of {memory.swap / 1e9:.1f} GB free"
    yield Finding("swap", swap if memory.swap else "none", "", "")
