"""Clocks and power mode of the GPU: latencies mean little without them.

A graphics card tells them through `nvidia-smi`, a Jetson through `nvpmodel` and the kernel's
devfreq files, which everybody may read. What is not there, or does not answer, is `unknown`.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

UNKNOWN = "unknown"
SYSTEM = Path("/sys")
TIMEOUT = 10  # seconds for a program to answer
MEGA = 1_000_000
DEVICES = ("*.gpu", "*.ga10b", "*.gv11b", "gpu-gpc-*")  # a Jetson's GPU: Orin, older kernels, Thor
# By name here: the field of `nvidia-smi --query-gpu`.
FIELDS = {
    "graphics clock": "clocks.current.sm",
    "largest graphics clock": "clocks.max.sm",
    "memory clock": "clocks.current.memory",
    "performance state": "pstate",
    "power limit": "power.limit",
    "power": "power.draw",
    "temperature": "temperature.gpu",
}
UNANSWERED = ("N/A", "Unknown", "Not Supported", "Not Found")


def gpu_state(card: str | None, system: Path = SYSTEM) -> dict[str, str]:
    """Clocks and power mode as they are now, in words; `unknown` where nobody tells.

    Args:
        card: PCI address of a graphics card; None: a GPU that shares its memory with the CPU.
        system: where the kernel shows its devices.
    """
    return _module(system) if card is None else _card(card)


def _card(card: str) -> dict[str, str]:
    """Of a graphics card."""
    query = f"--query-gpu={','.join(FIELDS.values())}"
    said = _answer("nvidia-smi", f"--id={card}", query, "--format=csv,noheader")
    values = [value.strip() for value in (said or "").split(",")]
    if len(values) != len(FIELDS):
        values = [UNKNOWN] * len(FIELDS)
    return {
        name: UNKNOWN if any(word in value for word in UNANSWERED) else value
        for name, value in zip(FIELDS, values, strict=True)
    }


def _module(system: Path) -> dict[str, str]:
    """Of a Jetson; with the smallest clock at the largest, `jetson_clocks` holds it."""
    folder = system / "class" / "devfreq"
    gpu = next((found for names in DEVICES for found in sorted(folder.glob(names))), folder)
    hertz = {name: _number(gpu / f"{name}_freq") for name in ("cur", "min", "max")}
    low, high = hertz["min"], hertz["max"]
    held = UNKNOWN if low is None or high is None else "yes" if low == high else "no"
    return {
        "power mode": _power_mode(),
        "graphics clock": _megahertz(hertz["cur"]),
        "largest graphics clock": _megahertz(high),
        "clock held by jetson_clocks": held,
    }


def _power_mode() -> str:
    """What `nvpmodel -q` calls it: `NV Power Mode: MAXN`."""
    for line in (_answer("nvpmodel", "-q") or "").splitlines():
        _name, colon, mode = line.partition("Power Mode:")
        if colon and mode.strip():
            return mode.strip()
    return UNKNOWN


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _megahertz(hertz: int | None) -> str:
    return UNKNOWN if hertz is None else f"{hertz / MEGA:.0f} MHz"


def _answer(*command: str) -> str | None:
    """What a program prints; None where it is missing, fails, or takes too long."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT, check=False, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
