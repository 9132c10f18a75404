"""The selection as native code for arrays in host memory: `plugins/core`, by `d2export._native`.

An installation has it where there was a C++ compiler; `d2export doctor` says so.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from d2export.errors import EnvironmentMismatch
from d2export.pruning.parameters import Budget, PruneParameters
from d2export.pruning.rule_parameters import DeduplicateParameters, DppParameters, MaxMinParameters

Int32 = npt.NDArray[np.int32]


@cache
def available() -> bool:
    """Whether this installation has the native core."""
    return find_spec("d2export._native") is not None


def select(
    features: Any, importance: Any, prior: Any, grid: Any, parameters: PruneParameters
) -> Int32:
    """Kept token ids of each image, `[B, M]`, ascending.

    Numpy arrays, or tensors that DLPack shares from host memory; what is row-major is not copied.
    One thread; Python's other threads run on.

    Args:
        features: `[B, N, C]` float32, float16 or bfloat16.
        importance: `[B, N]` or per head `[B, H, N]`, float32.
        prior: `[N]` float32.
        grid: `[N, 2]` float32, token centres on the image canvas.
        parameters: attributes of the op.

    Raises:
        ValueError: a rank, length or dtype that does not fit; the argument is named.
        EnvironmentMismatch: this installation has no native core.
    """
    return _select("select", (features, importance, prior, grid), parameters)


def select_max_min(features: Any, parameters: MaxMinParameters) -> Int32:
    """The same by the rule `MaxMinPrune`; arguments and errors are those of `select`."""
    return _select("select_max_min", (features,), parameters)


def select_dpp(features: Any, importance: Any, parameters: DppParameters) -> Int32:
    """The same by the rule `DppPrune`."""
    return _select("select_dpp", (features, importance), parameters)


def select_deduplicate(features: Any, importance: Any, parameters: DeduplicateParameters) -> Int32:
    """The same by the rule `DeduplicatePrune`."""
    return _select("select_deduplicate", (features, importance), parameters)


def select_positions(
    hidden_states: Any,
    importance: Any,
    prior: Any,
    grid: Any,
    visual_positions: Any,
    image_lengths: Any,
    parameters: PruneParameters,
) -> Int32:
    """Positions of a prompt that stay, `[T - V + n]`, ascending: `D2PrunePositions`.

    Args:
        hidden_states: `[1, T, C]` float32, float16 or bfloat16.
        importance: `[1, T]` or per head `[1, H, T]`, float32.
        prior: `[V]` float32.
        grid: `[V, 2]` float32, each token's centre on the canvas of its own image.
        visual_positions: `[V]` int64, ascending, image after image.
        image_lengths: `[I]` int64, adding up to V.
        parameters: attributes of the op.

    Raises:
        ValueError: a rank, length, dtype or value that does not fit; the argument is named.
        EnvironmentMismatch: this installation has no native core.
    """
    beside = (importance, prior, grid, visual_positions, image_lengths)
    return _select("select_positions", (hidden_states, *beside), parameters)


def prune(
    features: npt.NDArray[Any],
    importance: Any,
    prior: Any,
    grid: Any,
    parameters: PruneParameters,
) -> tuple[npt.NDArray[Any], Int32]:
    """Kept tokens `[B, M, C]` in the dtype of `features`, and their ids `[B, M]`.

    Arguments and errors are those of `select`; bfloat16 is that of ml_dtypes.
    """
    require()
    from d2export import _native

    shared, dtype = _shareable(features)
    kept, indices = _native.prune(shared, importance, prior, grid, **vars(parameters), dtype=dtype)
    return kept.view(features.dtype), indices


def require() -> None:
    """Raise EnvironmentMismatch where the native core is missing."""
    if not available():
        raise EnvironmentMismatch(
            "this installation of d2export has no native core",
            "`d2export doctor` says why, and what to type.",
        )


def _select(function: str, inputs: tuple[Any, ...], parameters: Budget) -> Int32:
    require()
    from d2export import _native

    shared, dtype = _shareable(inputs[0])
    indices: Int32 = getattr(_native, function)(
        shared, *inputs[1:], **vars(parameters), dtype=dtype
    )
    return indices


def _shareable(features: Any) -> tuple[Any, str | None]:
    """As an array that can be shared: numpy shares ml_dtypes' bfloat16 with nobody."""
    if isinstance(features, np.ndarray) and features.dtype.name == "bfloat16":
        return features.view(np.uint16), "bfloat16"
    return features, None
