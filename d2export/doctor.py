"""What this machine has, what is missing, and what to type."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from d2export import __version__


@dataclass(frozen=True)
class Finding:
    """One thing looked for. `needed_for` is a command or stage; `remedy` is what to type."""

    name: str
    found: str | None
    needed_for: str
    remedy: str


@dataclass(frozen=True)
class NativePart:
    """A part of `plugins/`: how it was built, or else why it was not. `remedy` is what to type."""

    name: str
    built: str | None
    why_not: str
    remedy: str


@dataclass(frozen=True)
class Findings:
    """Everything looked for, and what keeps a given bundle from running here."""

    machine: dict[str, str]
    packages: tuple[Finding, ...]
    native: tuple[NativePart, ...]
    bundle: str | None
    misfits: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether the bundle asked about, if any, runs here."""
        return not self.misfits

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "fits": self.fits}


# distribution, module, what needs it, what to type
PACKAGES = (
    ("onnxruntime", "onnxruntime", "check, bench, run", "pip install 'd2export[ort]'"),
    ("torch", "torch", "export, build --model", "pip install 'd2export[export]'"),
    ("onnx", "onnx", "export, check --per-layer", "pip install 'd2export[export]'"),
    ("onnxscript", "onnxscript", "export", "pip install 'd2export[export]'"),
    ("huggingface_hub", "huggingface_hub", "models from the hub", "pip install 'd2export[hub]'"),
    ("tokenizers", "tokenizers", "run --prompt", "pip install 'd2export[text]'"),
)
GPU_PACKAGES = {"onnxruntime": "onnxruntime-gpu"}


def examine(bundle: Path | None = None) -> Findings:
    """Look at this machine and, if given, whether `bundle` runs on it.

    Raises:
        BundleError: `bundle` is none, or damaged: it fits nowhere.
    """
    packages = tuple(
        Finding(module, _version(name), use, remedy) for name, module, use, remedy in PACKAGES
    )
    misfits = () if bundle is None else tuple(_misfits(bundle, packages))
    return Findings(machine(), packages, _native_parts(), str(bundle) if bundle else None, misfits)


def report_text(findings: Findings) -> str:
    """The findings as lines."""
    packages = [finding.name for finding in findings.packages]
    native = [part.name for part in findings.native]
    width = max(map(len, (*findings.machine, *packages, *native)))
    lines = [f"{key:<{width}}  {value}" for key, value in findings.machine.items()]
    lines.append("")
    for finding in findings.packages:
        state = finding.found or f"missing, needed for {finding.needed_for}: {finding.remedy}"
        lines.append(f"{finding.name:<{width}}  {state}")
    lines.append("")
    for part in findings.native:
        state = part.built or f"not built ({part.why_not}): {part.remedy}"
        lines.append(f"{part.name:<{width}}  {state}")
    if findings.bundle is not None:
        lines.append("")
        lines += [f"{findings.bundle} does not fit: {misfit}" for misfit in findings.misfits]
        if findings.fits:
            lines.append(f"{findings.bundle} fits")
    return "\n".join(lines)


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


def _native_parts() -> tuple[NativePart, ...]:
    from d2export.pruning import native

    again = "pip install --force-reinstall --no-deps ."
    if not native.available():
        failed = "pip install -v --force-reinstall --no-deps . shows why"
        compiler = any(map(shutil.which, ("c++", "g++", "clang++")))
        return (
            NativePart(
                "native core",
                None,
                "there was no C++ compiler, or it failed; torch selects instead",
                failed if compiler else f"apt install g++, then {again}",
            ),
        )
    from d2export import _native

    info = _native.build_info()
    parts = []
    for name, part in info["parts"].items():
        built = part["built"] or None
        if name == "core":
            built = f"{info['vectors']}, {built}"
        add = part["add"]
        remedy = f"CMAKE_ARGS='-D{add}' {again}" if "=" in add else f"{add}, then {again}"
        parts.append(NativePart(f"native {name}", built, part["left_out"], remedy))
    return tuple(parts)


def _version(distribution: str) -> str | None:
    for name in (distribution, GPU_PACKAGES.get(distribution)):
        if name is None:
            continue
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


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


def _misfits(bundle: Path, packages: tuple[Finding, ...]) -> list[str]:
    from d2export.bundle.folder import read_bundle

    installed = {finding.name: finding.found for finding in packages}
    manifest = read_bundle(bundle).manifest
    found = []
    if installed["onnxruntime"] is None:
        found.append("it needs onnxruntime: pip install 'd2export[ort]'")
    if manifest.precision == "bf16" and installed["onnx"] is None:
        found.append("bfloat16 on the CPU needs the onnx package: pip install onnx")
    return found
