"""What a user may tell the builder of engines."""

from __future__ import annotations

import re
from dataclasses import dataclass

from d2export.engine.tensorrt_api import OPTIMIZATION_LEVEL, OPTIMIZATION_LEVELS
from d2export.errors import UsageError

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


@dataclass(frozen=True)
class BuildOptions:
    """Choices that the target does not make.

    Attributes:
        workspace: bytes that the builder may use for one layer; None: as the target says.
        timing_cache: file that remembers how fast kernels were; read, and written anew.
        hardware_compatible: engines that other GPUs from Ampere on run, too.
        version_compatible: engines that later TensorRT versions run, too.
        optimization_level: how long to search, 0 to 5.
    """

    workspace: int | None = None
    timing_cache: str | None = None
    hardware_compatible: bool = False
    version_compatible: bool = False
    optimization_level: int = OPTIMIZATION_LEVEL

    def __post_init__(self) -> None:
        if self.optimization_level not in OPTIMIZATION_LEVELS:
            raise UsageError(
                f"--opt-level is {self.optimization_level}, expected 0 to "
                f"{OPTIMIZATION_LEVELS.stop - 1}",
                f"Leave it out for {OPTIMIZATION_LEVEL}.",
            )


def parse_bytes(option: str, text: str) -> int:
    """`4G` as bytes; K, M and G are powers of 1024.

    Raises:
        UsageError: `text` is no size above 0; `option` is named.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMG]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    size = int(float(found[1]) * UNITS[found[2].upper()]) if found else 0
    if size <= 0:
        raise UsageError(
            f"{option} is '{text}', expected a size such as 512M or 4G",
            "Leave it out for what the target says.",
        )
    return size
