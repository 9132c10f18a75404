"""VisPruner: the most important tokens, and of the rest those without a near-duplicate.

Source: Zhang et al., "Beyond Text-Visual Attention: Exploiting Visual Cues for Effective Token
Pruning in VLMs", arXiv 2412.01818, and its code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from d2export.errors import UsageError
from d2export.pruning.parameters import Budget, share_of
from d2export.pruning.rules.vectors import descending, directions

REMOVED_AT_ONCE = 8  # as in the paper's code


@dataclass(frozen=True)
class DeduplicateParameters(Budget):
    """Attributes of `DeduplicatePrune`, besides those of a `Budget`.

    Attributes:
        important_ratio: share of the kept tokens picked by importance alone, 0 to 1.
    """

    important_ratio: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.important_ratio <= 1:
            raise UsageError(
                f"important_ratio is {self.important_ratio}, expected a number from 0 to 1",
                f"Leave it out for {DeduplicateParameters.important_ratio}.",
            )


def reference(features: Tensor, importance: Tensor, parameters: DeduplicateParameters) -> Tensor:
    """Kept token ids of one image, ascending.

    The most important tokens stay. The rest, by descending importance, is thinned out in rounds:
    its tokens at even places are compared with those at odd places, and of the even ones the (at
    most 8) most similar to any odd one go. Ties: the earlier place goes first. What remains stays
    in its order, those of even places before those of odd ones.

    The paper's code leaves the even ones sorted by similarity; here they keep their order [ours],
    so that rounding cannot rearrange the next round.

    Args:
        features: `[N, C]`.
        importance: `[N]` float32.

    Returns:
        `[M]` int32.
    """
    tokens = len(features)
    wanted = parameters.kept(tokens)
    if wanted == tokens:
        return torch.arange(tokens, dtype=torch.int32)
    ranking = descending(importance)
    count = share_of(parameters.important_ratio, wanted)
    important, rest = ranking[:count], ranking[count:]
    missing = wanted - count
    if missing == 0:
        return important.sort().values.to(torch.int32)
    unit = directions(features)
    cosine = unit @ unit.T
    while len(rest) > missing:
        even, odd = rest[::2], rest[1::2]
        surplus = min(REMOVED_AT_ONCE, len(rest) - missing, len(even))
        nearest = cosine[even][:, odd].amax(dim=1)
        stays = torch.ones(len(even), dtype=torch.bool)
        stays[nearest.sort(descending=True, stable=True).indices[:surplus]] = False
        rest = torch.cat([even[stays], odd])
    return torch.cat([important, rest]).sort().values.to(torch.int32)
