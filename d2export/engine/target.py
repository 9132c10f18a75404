"""A device that engines are built for, as a record."""

from __future__ import annotations

import re
from dataclasses import dataclass

from d2export.engine.cuda_driver import Device

MIB = 2**20

# The compute capability from which tensor cores take a precision (CUDA C++ Programming Guide). The
# least of all is what nvcc 13 and the plugin's build know.
LEAST_COMPUTE_CAPABILITY = {"fp32": (7, 5), "fp16": (7, 5), "bf16": (8, 0), "int8": (7, 5)}

Version = tuple[int, ...]


@dataclass(frozen=True)
class TensorRTRange:
    """Versions of TensorRT that a device can have, each in as many numbers as matter.

    `expected` is what to plan for where the device is not at hand; `newest` includes all that
    begin with it: 11 takes 11.4.1.
    """

    oldest: Version
    expected: Version
    newest: Version

    def __contains__(self, version: Version) -> bool:
        return self.oldest <= version and version[: len(self.newest)] <= self.newest


@dataclass(frozen=True)
class Target:
    """What a device can do, and how it is recognised.

    Attributes:
        name: what `--target` takes.
        description: in words.
        compute_capability: major and minor; None before the machine is known (`generic`).
        memory: bytes that CUDA reports; None before the machine is known.
        shared: whether that is the CPU's memory, too.
        reserved: bytes of shared memory that the system takes.
        precisions: that its tensor cores and TensorRT have.
        workspace: bytes that the builder may use for one layer, unless told otherwise.
        tensorrt: versions that the device can have.
        opset: the largest that the parser of the expected TensorRT reads.
        names: what CUDA calls it: these words, in this order, anywhere in the GPU's name.
        memory_between: bytes, both included; tells devices of one name apart. None: any.
    """

    name: str
    description: str
    compute_capability: tuple[int, int] | None
    memory: int | None
    shared: bool
    reserved: int
    precisions: tuple[str, ...]
    workspace: int
    tensorrt: TensorRTRange
    opset: int
    names: tuple[str, ...] = ()
    memory_between: tuple[int, int] | None = None

    @property
    def usable(self) -> int | None:
        """Bytes for weights, KV cache and activations; None before the machine is known."""
        if self.memory is None:
            return None
        return self.memory - (self.reserved if self.shared else 0)

    def is_seen_in(self, device: Device) -> bool:
        """Whether a GPU of this machine is this one."""
        if device.compute_capability != self.compute_capability:
            return False
        low, high = self.memory_between or (0, device.memory)
        return low <= device.memory <= high and any(
            re.search(rf"\b{re.escape(name)}\b", device.name, re.IGNORECASE) for name in self.names
        )


def version_text(version: Version) -> str:
    """`10.3`."""
    return ".".join(map(str, version))
