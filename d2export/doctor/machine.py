"""What there is to compute with."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

from d2export import __version__


def machine() -> dict[str, str]:
    """What there is to compute with, in words."""
    return {
        "d2export": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.1f} GB",
        "free disk": f"{shutil.disk_usage(Path.cwd()).free / 1e9:.1f} GB",
        "providers": _providers(),
        "gpu": _gpu(),
    }


def _providers() -> str:
    if importlib.util.find_spec("onnxruntime") is None:
        return "none: onnxruntime is not installed"
    import onnxruntime

    return ", ".join(onnxruntime.get_available_providers())


def _processor() -> str:
    """As the system names it; a Jetson's by the board."""
    for path, pattern in (
        ("/proc/device-tree/model", r"(.+?)\0?$"),
        ("/proc/cpuinfo", r"^model name\s*:\s*(.+)$"),
    ):
        try:
            found = re.search(pattern, Path(path).read_text(errors="replace"), re.MULTILINE)
        except OSError:
            continue
        if found:
            return found[1].strip()
    return platform.processor() or platform.machine()


def _gpu() -> str:
    command = [
        "nvidia-smi",
        "--query-gpu=name,memory.total,driver_version",
        "--format=csv,noheader",
    ]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        tegra = Path("/etc/nv_tegra_release")
        return tegra.read_text().splitlines()[0] if tegra.is_file() else "none found"
    return answer.stdout.strip().replace("\n", "; ")
