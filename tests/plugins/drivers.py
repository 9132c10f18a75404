"""The native code through plain C: the CPU core, and the CUDA kernel's phases on the host."""

from __future__ import annotations

import ctypes
import fcntl
import subprocess
from ctypes import Structure, byref, c_bool, c_float, c_int32, c_int64, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
import torch

from d2export.pruning.parameters import PruneParameters
from tests.selection_cases import Array, Case

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "native-tests"
DTYPES = ("float32", "float16", "bfloat16")  # in the order of d2export::DataType
ORDERS = ("forward", "backward", "warps backward")  # in the order of d2export::cuda::Order


class _Shape(Structure):
    _fields_ = [(name, c_int32) for name in ("batch", "heads", "tokens", "channels")]


class _Inputs(Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("features", "importance", "prior", "grid")),
        ("type", c_int32),
    ]


class Parameters(Structure):
    """`d2export::Parameters`."""

    _fields_ = [
        ("keep", c_int64),
        ("keep_permille", c_int64),
        *((name, c_float) for name in ("pivot_ratio", "alpha", "theta", "eps")),
        ("pivots_block", c_bool),
    ]


def build() -> Path:
    """Builds the drivers, or what changed of them; one process at a time."""
    configure = ["cmake", "-S", ROOT / "plugins", "-B", BUILD, "-DD2EXPORT_TESTS=ON"]
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for command in (
            [*configure, "-DD2EXPORT_CUDA=OFF", "-DD2EXPORT_PYTHON=OFF"],
            ["cmake", "--build", BUILD, "--target", "d2export_drivers", "--parallel", "2"],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
    return BUILD / "tests"


class Drivers:
    """`core` and `phases`: `(case, dtype, parameters) -> (kept, indices)`."""

    def __init__(self, folder: Path) -> None:
        self.library = ctypes.CDLL(str(folder / "libd2export_drivers.so"))
        for function in (self.library.d2export_run_core, self.library.d2export_run_phases):
            function.restype = c_int32

    def core(self, case: Case, dtype: str, parameters: PruneParameters) -> tuple[Array, Array]:
        return self._run(self.library.d2export_run_core, case, dtype, parameters)

    def phases(
        self,
        case: Case,
        dtype: str,
        parameters: PruneParameters,
        blocks: int = 2,
        order: str = "forward",
    ) -> tuple[Array, Array]:
        """`blocks` of the grid, and in which order the host runs the threads of each."""
        settings = (c_int32(blocks), c_int32(ORDERS.index(order)))
        return self._run(self.library.d2export_run_phases, case, dtype, parameters, *settings)

    def _run(
        self, function: Any, case: Case, dtype: str, parameters: PruneParameters, *settings: Any
    ) -> tuple[Array, Array]:
        features = stored(case.features, dtype)
        importance, prior, grid = map(
            np.ascontiguousarray, (case.importance, case.prior, case.grid)
        )
        batch, tokens, channels = features.shape
        heads = importance.shape[1] if importance.ndim == 3 else 1
        count = parameters.kept(tokens)
        kept = np.full((batch, count, channels), 7, features.dtype)
        indices = np.full((batch, count), -7, np.int32)
        shape = _Shape(batch, heads, tokens, channels)
        inputs = _Inputs(
            *(array.ctypes.data for array in (features, importance, prior, grid)),
            DTYPES.index(dtype),
        )
        attributes = Parameters(**parameters.attributes())
        answer = function(
            byref(shape),
            byref(inputs),
            byref(attributes),
            *settings,
            c_void_p(kept.ctypes.data),
            c_void_p(indices.ctypes.data),
        )
        assert answer == count
        return kept, indices


def stored(features: Array, dtype: str) -> Array:
    """Features as they lie in memory; bfloat16 as its bits."""
    if dtype == "bfloat16":
        wide = torch.from_numpy(np.ascontiguousarray(features, np.float32))
        return wide.to(torch.bfloat16).view(torch.int16).numpy()
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(features.astype(dtype))
