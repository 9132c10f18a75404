"""`D2Prune` as native code inside ONNX Runtime: the library of `plugins/onnxruntime`.

Installations have it where it was built. A session that registers it runs it in place of the
function of standard operators that every graph carries.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import d2export
from d2export.errors import EnvironmentMismatch
from d2export.pruning import native

if TYPE_CHECKING:
    import onnxruntime

Implementation = Literal["native", "ONNX function", "TensorRT plugin"]

LIBRARY = Path("lib") / "libd2export_onnxruntime.so"  # within the package


def selection_implementation(provider: str) -> Implementation:
    """What sessions on `provider`, `cpu` or `cuda`, run for `D2Prune`."""
    return "ONNX function" if library(provider) is None else "native"


def library(provider: str) -> Path | None:
    """The library, if this installation has it with a kernel for `provider`."""
    if provider == "cuda" and not _has_cuda():
        return None  # its CPU kernel would move all features to the host and back
    files = (Path(folder) / LIBRARY for folder in d2export.__path__)
    return next((file for file in files if file.is_file()), None)


def register(options: onnxruntime.SessionOptions, provider: str) -> None:
    """Have sessions with these options run the native op, where there is one.

    Raises:
        EnvironmentMismatch: ONNX Runtime cannot load the library.
    """
    file = library(provider)
    if file is None:
        return
    try:
        options.register_custom_ops_library(os.fspath(file))
    except Exception as error:  # onnxruntime raises bare types of its own C++ bindings
        raise EnvironmentMismatch(
            f"ONNX Runtime cannot load {file}: {' '.join(str(error).split())[:400]}",
            "Install d2export again where it is used, with onnxruntime 1.20 or newer.",
        ) from None


def _has_cuda() -> bool:
    """Whether the native parts of this installation were built with CUDA."""
    if not native.available():
        return False
    from d2export import _native

    return bool(_native.build_info()["parts"]["cuda"]["built"])
