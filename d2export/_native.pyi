"""The native core: `plugins/python`. Absent where it could not be built.

Use it through `d2export.pruning.native`.
"""

from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

class Part(TypedDict):
    built: str
    left_out: str
    add: str

class BuildInfo(TypedDict):
    vectors: str
    parts: dict[str, Part]

# features [B, N, C] float32, float16 or bfloat16; importance [B, N] or [B, H, N], prior [N] and
# grid [N, 2] float32: whatever DLPack or the buffer protocol shares from host memory. numpy has no
# bfloat16: its bits as uint16, and dtype="bfloat16".

def select(
    features: Any,
    importance: Any,
    prior: Any,
    grid: Any,
    *,
    keep: int = 0,
    keep_permille: int = 0,
    pivot_ratio: float = 0.7,
    alpha: float = 0.5,
    theta: float = 0.8,
    eps: float = 1e-7,
    pivots_block: bool = False,
    dtype: str | None = None,
) -> npt.NDArray[np.int32]: ...

# hidden_states [1, T, C] as features, importance [1, T] or [1, H, T], prior [V] and grid [V, 2]
# float32, visual_positions [V] and image_lengths [I] int64.
def select_positions(
    hidden_states: Any,
    importance: Any,
    prior: Any,
    grid: Any,
    visual_positions: Any,
    image_lengths: Any,
    *,
    keep: int = 0,
    keep_permille: int = 0,
    pivot_ratio: float = 0.7,
    alpha: float = 0.5,
    theta: float = 0.8,
    eps: float = 1e-7,
    pivots_block: bool = False,
    dtype: str | None = None,
) -> npt.NDArray[np.int32]: ...
def select_max_min(
    features: Any, *, keep: int = 0, keep_permille: int = 0, dtype: str | None = None
) -> npt.NDArray[np.int32]: ...
def select_dpp(
    features: Any,
    importance: Any,
    *,
    keep: int = 0,
    keep_permille: int = 0,
    dtype: str | None = None,
) -> npt.NDArray[np.int32]: ...
def select_deduplicate(
    features: Any,
    importance: Any,
    *,
    keep: int = 0,
    keep_permille: int = 0,
    important_ratio: float = 0.5,
    dtype: str | None = None,
) -> npt.NDArray[np.int32]: ...
def prune(
    features: Any,
    importance: Any,
    prior: Any,
    grid: Any,
    *,
    keep: int = 0,
    keep_permille: int = 0,
    pivot_ratio: float = 0.7,
    alpha: float = 0.5,
    theta: float = 0.8,
    eps: float = 1e-7,
    pivots_block: bool = False,
    dtype: str | None = None,
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int32]]: ...
def build_info() -> BuildInfo: ...
