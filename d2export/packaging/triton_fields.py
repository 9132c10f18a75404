"""Fields of Triton's model configuration: tensors, instances, parameters.

Names and constants are those of Triton's model_config.proto.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from d2export.bundle.records import Graph, Value
from d2export.packaging.text_format import Word

TYPES = {
    "float32": "FP32",
    "float16": "FP16",
    "bfloat16": "BF16",
    "int64": "INT64",
    "int32": "INT32",
    "uint8": "UINT8",
    "bool": "BOOL",
    "string": "STRING",
}
# Before 10, TensorRT has no int64: its parser reads such inputs as int32.
NARROW = {"int64": "int32"}

Role = Literal["vision", "decoder", "answer", "preprocess", "ensemble"]


@dataclass(frozen=True)
class ServedModel:
    """A folder of the repository; `graph` of the bundle is what it runs, if it runs one."""

    name: str
    role: Role
    config: Mapping[str, Any]
    graph: Graph | None = None


def group(gpus: tuple[int, ...], count: int) -> dict[str, Any]:
    """An instance group: `count` instances on each of the GPUs, or on the CPU."""
    if gpus:
        return {"kind": Word("KIND_GPU"), "count": count, "gpus": list(gpus)}
    return {"kind": Word("KIND_CPU"), "count": count}


def tensor(value: Value, *, skip: int = 0, integers: str = "int64") -> dict[str, Any]:
    """An input or output of a graph; without its first `skip` dimensions, which are the batch."""
    dtype = NARROW[value.dtype] if integers == "int32" and value.dtype in NARROW else value.dtype
    dims = [-1 if isinstance(size, str) else size for size in value.shape[skip:]]
    return named(value.name, dtype, dims)


def named(name: str, dtype: str, dims: list[int], *, optional: bool = False) -> dict[str, Any]:
    """An input or output; -1 in `dims` is any size."""
    found = {"name": name, "data_type": Word(f"TYPE_{TYPES[dtype]}"), "dims": dims}
    return found | {"optional": True} if optional else found


def parameters(settings: Mapping[str, str]) -> list[dict[str, Any]]:
    """Parameters of a backend or a Python model, which are texts."""
    return [{"key": key, "value": {"string_value": value}} for key, value in settings.items()]
