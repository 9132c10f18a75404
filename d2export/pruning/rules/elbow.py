"""Sparsity Meets Similarity: the head of a long-tailed curve, cut at its inflection point.

Source: arXiv 2409.01162. The paper names no rule for the inflection point; the three here are
[ours].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from d2export.errors import UsageError
from d2export.pruning.rules.vectors import descending, finite

ElbowRule = Literal["chord", "gap", "curvature"]
ELBOW_RULES: tuple[ElbowRule, ...] = get_args(ElbowRule)
NO_LIMIT = 2**31 - 1


@dataclass(frozen=True)
class ElbowParameters:
    """Attributes of `ElbowPrune`.

    Attributes:
        min_keep: tokens that stay wherever the curve bends.
        max_keep: tokens that stay at most.
        elbow: place in `ELBOW_RULES` of the rule for the inflection point.
    """

    min_keep: int = 1
    max_keep: int = NO_LIMIT
    elbow: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.min_keep <= self.max_keep <= NO_LIMIT:
            raise UsageError(
                f"min_keep is {self.min_keep} and max_keep is {self.max_keep}: expected "
                f"1 <= min_keep <= max_keep <= {NO_LIMIT}",
                "Leave them out for 1 and no limit.",
            )
        if not 0 <= self.elbow < len(ELBOW_RULES):
            raise UsageError(
                f"elbow is {self.elbow}, expected 0 to {len(ELBOW_RULES) - 1}",
                f"In this order: {', '.join(ELBOW_RULES)}.",
            )

    def attributes(self) -> dict[str, int]:
        """Values as ONNX attributes."""
        return {"min_keep": self.min_keep, "max_keep": self.max_keep, "elbow": self.elbow}


def head(curve: Tensor, rule: ElbowRule) -> int:
    """How many values of a descending curve come before its bend.

    `chord`: the point farthest from the straight line between the curve's ends; it belongs to the
    tail where the curve runs below the line, and to the head where it runs above. `gap`: up to the
    largest step down. `curvature`: up to the point of largest second difference, without it. Ties
    go to the earlier point. A curve without a bend (fewer than three values, or a straight
    line) is all head.

    Args:
        curve: `[N]` float32, descending and finite.
    """
    length = len(curve)
    if length < 3:
        return length
    if rule == "gap":
        steps = curve[:-1] - curve[1:]
        place = int(steps.argmax())
        return place + 1 if steps[place] > 0 else length
    if rule == "curvature":
        bends = (curve[:-2] - curve[1:-1]) - (curve[1:-1] - curve[2:])
        place = int(bends.argmax())
        return place + 1 if bends[place] > 0 else length
    place_of = torch.arange(length, dtype=torch.float32)
    above = (curve - curve[0]) * (length - 1) - (curve[-1] - curve[0]) * place_of
    place = int(above.abs().argmax())
    if above[place] == 0:
        return length
    return place + 1 if above[place] > 0 else place


def reference(importance: Tensor, parameters: ElbowParameters) -> Tensor:
    """Kept token ids of one image, ascending; how many depends on the values.

    An infinity counts as the largest or smallest finite value. NaN is not part of the curve, and
    stays only where `min_keep` asks for more tokens than have a value.

    Args:
        importance: `[N]` float32.

    Returns:
        `[M]` int32, `M` from `min(min_keep, N)` to `min(max_keep, N)`.
    """
    scores = finite(importance)
    ranking = descending(scores)
    curve = scores[ranking[: int((~scores.isnan()).sum())]]
    wanted = head(curve, ELBOW_RULES[parameters.elbow])
    wanted = min(max(wanted, parameters.min_keep), parameters.max_keep, len(scores))
    return ranking[:wanted].sort().values.to(torch.int32)
