"""Sparsity Meets Similarity: the head of a long-tailed curve, cut at its inflection point.

Source: arXiv 2409.01162. The paper names no rule for the inflection point; the three here are
[ours].
"""

from __future__ import annotations

import torch
from torch import Tensor

from d2export.errors import UsageError
from d2export.pruning.rule_parameters import ELBOW_RULES, NO_LIMIT, ElbowParameters, ElbowRule
from d2export.pruning.rules.vectors import descending, finite


def head(curve: Tensor, rule: ElbowRule) -> int:
    """How many values of a descending curve come before its bend.

    `chord`: the point farthest from the straight line between the curve's ends; it belongs to the
    tail where the curve runs below the line, and to the head where it runs above. `gap`: up to the
    largest step down. `curvature`: up to the point of largest second difference, without it. Ties
    go to the earlier point. A curve without a bend is all head: fewer than three values, equal
    values, for `chord` a straight line, for `curvature` one that nowhere falls less than before.

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

    On the curve an infinity has the largest or smallest finite value; in the order it comes before
    or after that. NaN is not part of the curve, and stays only where `min_keep` asks for more
    tokens than have a value.

    Args:
        importance: `[N]` float32.

    Returns:
        `[M]` int32, `M` from `min(min_keep, N)` to `min(max_keep, N)`.
    """
    ranking = descending(importance)
    curve = finite(importance)[ranking[: int((~importance.isnan()).sum())]]
    wanted = head(curve, ELBOW_RULES[parameters.elbow])
    wanted = min(max(wanted, parameters.min_keep), parameters.max_keep, len(importance))
    return ranking[:wanted].sort().values.to(torch.int32)


def padded(
    kept: Tensor, indices: Tensor, parameters: ElbowParameters
) -> tuple[Tensor, Tensor, Tensor]:
    """The op `ElbowPrunePadded`: what `ElbowPrune` keeps, in as many rows for every image.

    Args:
        kept: `[1, M, C]`.
        indices: `[1, M]` int32.

    Returns:
        kept `[1, max_keep, C]` with zeros behind, indices `[1, max_keep]` with -1 behind, and the
        count M, `[1]` int32.

    Raises:
        UsageError: `max_keep` has no limit.
    """
    if parameters.max_keep == NO_LIMIT:
        raise UsageError(
            "max_keep is not set, but a padded selection has that many rows",
            "Set it to the number of tokens that the engine is built for.",
        )
    count = indices.shape[1]
    rows = kept.new_zeros(1, parameters.max_keep, kept.shape[2])
    ids = indices.new_full((1, parameters.max_keep), -1)
    rows[:, :count], ids[:, :count] = kept, indices
    return rows, ids, torch.tensor([count], dtype=torch.int32, device=indices.device)
