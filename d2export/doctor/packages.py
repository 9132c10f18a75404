"""Python packages that commands need."""

from __future__ import annotations

from importlib import metadata

from d2export.doctor.finding import Finding

# distribution, what needs it, what to type
PACKAGES = (
    ("onnxruntime", "check, bench, run", "pip install 'd2export[ort]'"),
    ("torch", "export, build --model", "pip install 'd2export[export]'"),
    ("onnx", "export, check --per-layer", "pip install 'd2export[export]'"),
    ("onnxscript", "export", "pip install 'd2export[export]'"),
    ("huggingface_hub", "models from the hub", "pip install 'd2export[hub]'"),
    ("tokenizers", "run --prompt", "pip install 'd2export[text]'"),
)
GPU_PACKAGES = {"onnxruntime": "onnxruntime-gpu"}


def packages() -> tuple[Finding, ...]:
    """Each with its version, if it is installed."""
    return tuple(Finding(name, _version(name), use, remedy) for name, use, remedy in PACKAGES)


def _version(distribution: str) -> str | None:
    for name in (distribution, GPU_PACKAGES.get(distribution)):
        if name is None:
            continue
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None
