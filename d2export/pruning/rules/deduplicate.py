"""VisPruner: the most important tokens, and of the rest those without a near-duplicate.

Source: Zhang et al., "Beyond Text-Visual Attention: Exploiting Visual Cues for Effective Token
Pruning in VLMs", arXiv 2412.01818, and its code.
"""

from __future__ import annotations

import torch
from torch import Tensor

from d2export.pruning.parameters import share_of
from d2export.pruning.rule_parameters import DeduplicateParameters
from d2export.pruning.rules.vectors import descending, whole_directions

REMOVED_AT_ONCE = 8  # as in the paper's code


def reference(features: Tensor, importance: Tensor, parameters: DeduplicateParameters) -> Tensor:
    """Kept token ids of one image, ascending.

    The most important tokens stay. The rest, by descending importance, is thinned out in rounds:
    its tokens at even places are compared with those at odd places, and of the even ones the (at
    most 8) most similar to any odd one go. Ties: the earlier place goes first. What remains stays
    in its order, those of even places before those of odd ones.

    Cosines are those of directions in whole numbers [ours]: the rounds are a chain, in which a
    single flip by rounding would change every round behind it.

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
    whole = whole_directions(features)
    cosine = whole @ whole.T
    while len(rest) > missing:
        even, odd = rest[::2], rest[1::2]
        surplus = min(REMOVED_AT_ONCE, len(rest) - missing, len(even))
        nearest = cosine[even][:, odd].amax(dim=1)
        stays = torch.ones(len(even), dtype=torch.bool)
        stays[nearest.sort(descending=True, stable=True).indices[:surplus]] = False
        rest = torch.cat([even[stays], odd])
    return torch.cat([important, rest]).sort().values.to(torch.int32)
