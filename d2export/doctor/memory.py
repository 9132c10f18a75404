"""Memory that is free, and swap, which building an engine may need."""

from __future__ import annotations

import re
from dataclasses import dataclass

from d2export.doctor.system import System


@dataclass(frozen=True)
class Memory:
    """In bytes."""

    available: int
    swap: int
    swap_free: int


def memory(system: System) -> Memory | None:
    """What the kernel says; None if it does not."""
    found = re.findall(r"^(\w+):\s+(\d+) kB$", system.text("/proc/meminfo"), re.MULTILINE)
    sizes = {name: int(size) * 1024 for name, size in found}
    try:
        return Memory(sizes["MemAvailable"], sizes["SwapTotal"], sizes["SwapFree"])
    except KeyError:
        return None
