"""`D2PrunePositions` through plain C: the CPU core, and the CUDA kernel's phases on the host."""

from __future__ import annotations

from ctypes import Structure, byref, c_bool, c_float, c_int32, c_int64, c_void_p
from typing import Any

import numpy as np

from d2export.pruning.parameters import PruneParameters
from tests.plugins.drivers import DTYPES, ORDERS, Drivers, stored
from tests.prompt_cases import Prompt


class _Shape(Structure):
    _fields_ = [(name, c_int32) for name in ("heads", "length", "channels", "tokens", "images")]


class _Integers(Structure):
    _fields_ = [("data", c_void_p), ("narrow", c_bool)]


class _Inputs(Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("hidden_states", "importance", "prior", "grid")),
        ("visual_positions", _Integers),
        ("image_lengths", _Integers),
        ("type", c_int32),
    ]


class _Parameters(Structure):
    _fields_ = [
        ("keep", c_int64),
        ("keep_permille", c_int64),
        *((name, c_float) for name in ("pivot_ratio", "alpha", "theta", "eps")),
        ("pivots_block", c_bool),
    ]


def core(
    drivers: Drivers, prompt: Prompt, dtype: str, parameters: PruneParameters, narrow: bool = False
) -> list[int]:
    """Positions by the CPU core; `narrow` hands it int32 positions and lengths."""
    return _run(drivers.library.d2export_run_core_positions, prompt, dtype, parameters, narrow)


def phases(
    drivers: Drivers,
    prompt: Prompt,
    dtype: str,
    parameters: PruneParameters,
    narrow: bool = False,
    blocks: int = 2,
    order: str = "forward",
) -> list[int]:
    """Positions by `blocks` of a grid, and in which order the host runs the threads of each."""
    settings = (c_int32(blocks), c_int32(ORDERS.index(order)))
    function = drivers.library.d2export_run_positions_phases
    return _run(function, prompt, dtype, parameters, narrow, *settings)


def _run(
    function: Any,
    prompt: Prompt,
    dtype: str,
    parameters: PruneParameters,
    narrow: bool,
    *settings: Any,
) -> list[int]:
    states = stored(prompt.hidden_states, dtype)
    floats = [np.ascontiguousarray(a) for a in (prompt.importance, prompt.prior, prompt.grid)]
    width = np.int32 if narrow else np.int64
    longs = [a.astype(width) for a in (prompt.visual_positions, prompt.image_lengths)]
    _, length, channels = states.shape
    tokens, images = len(longs[0]), len(longs[1])
    heads = floats[0].shape[1] if floats[0].ndim == 3 else 1
    count = length - tokens + parameters.kept_of(images, tokens)
    positions = np.full(count + 1, -7, np.int32)
    answer = function(
        byref(_Shape(heads, length, channels, tokens, images)),
        byref(
            _Inputs(
                *(array.ctypes.data for array in (states, *floats)),
                *(_Integers(array.ctypes.data, narrow) for array in longs),
                DTYPES.index(dtype),
            )
        ),
        byref(_Parameters(**parameters.attributes())),
        *settings,
        c_void_p(positions.ctypes.data),
    )
    assert answer == count
    assert positions[count] == -7, "one position too many"
    return [int(position) for position in positions[:count]]
