"""The custom-op library: how it is built, and sessions with it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto

ROOT = Path(__file__).parents[2]
CACHE = Path.home() / ".cache" / "d2export" / "onnxruntime"
ONNX_TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
}


def header_sets() -> list[Path]:
    """The oldest and the newest set of headers in the cache."""
    found = sorted(
        (header.parent for header in CACHE.glob("*/include/onnxruntime_c_api.h")),
        key=lambda folder: [int(part) for part in folder.parent.name.split(".")],
    )
    return list(dict.fromkeys([*found[:1], *found[-1:]]))


def configure(build: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return run("cmake", "-S", ROOT / "plugins", "-B", build, "-DD2EXPORT_CUDA=OFF", *options)


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def session(library: Path | None, model: onnx.ModelProto, profile: Path | None = None) -> Any:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime, to run the custom op")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    if library is not None:
        options.register_custom_ops_library(str(library))
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def operators(profile: Path) -> set[str]:
    def named() -> Iterator[str]:
        for event in json.loads(profile.read_text()):
            if event.get("cat") == "Node" and "op_name" in event.get("args", {}):
                yield event["args"]["op_name"]

    return set(named())
