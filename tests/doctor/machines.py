"""File systems of machines, in a folder: what NVIDIA's packages leave there."""

from __future__ import annotations

from pathlib import Path

AARCH64 = "usr/lib/aarch64-linux-gnu"


def write(root: Path, files: dict[str, str]) -> None:
    for relative, content in files.items():
        path = root / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def program(root: Path, relative: str, script: str) -> None:
    """A program of that name; it runs."""
    write(root, {relative: f"#!/bin/sh\n{script}\n"})
    (root / relative).chmod(0o755)


def nvcc(root: Path, release: str, *architectures: int) -> None:
    """CUDA's compiler, as far as it is asked what it is."""
    listed = "".join(f"echo compute_{one}\n" for one in architectures)
    program(
        root,
        "usr/local/cuda/bin/nvcc",
        f'if [ "$1" = --version ]; then echo "Cuda compilation tools, release {release}, V1"\n'
        f"else\n{listed}:\nfi",
    )


def package(name: str, version: str, status: str = "install ok installed") -> str:
    """Its entry in dpkg's list."""
    return f"Package: {name}\nStatus: {status}\nArchitecture: arm64\nVersion: {version}\n"


def jetpack_6_2(root: Path) -> None:
    """A Jetson Orin with JetPack 6.2: TensorRT 10.3, CUDA 12.6."""
    write(
        root,
        {
            "etc/nv_tegra_release": (
                "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, "
                "DATE: Wed Jan  8 01:49:37 UTC 2025\n"
            ),
            "proc/driver/nvidia/version": (
                "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build\n"
            ),
            "proc/meminfo": (
                "MemTotal:       64349376 kB\nMemAvailable:   60000000 kB\n"
                "SwapTotal:      32174688 kB\nSwapFree:       30000000 kB\n"
            ),
            "var/lib/dpkg/status": "\n".join(
                (
                    package("nvidia-l4t-core", "36.4.3-20250107174145"),
                    package("nvidia-jetpack", "6.2+b77"),
                    package("libnvinfer8", "8.6.2.3-1+cuda12.2", "deinstall ok config-files"),
                    package("libnvinfer10", "10.3.0.30-1+cuda12.5"),
                )
            ),
            f"{AARCH64}/libnvinfer.so.10.3.0": "",
            "usr/local/cuda/lib64/libcudart.so.12": "",
            "usr/local/cuda/lib64/libcudart.so.12.6.68": "",
        },
    )
    nvcc(root, "12.6", 80, 86, 87, 89, 90)
    program(root, "usr/sbin/nvpmodel", "echo 'NV Power Mode: MAXN'; echo 0")
