"""The PyTorch side of a report: what the same values keep at other budgets. Needs torch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from torch import Tensor

from d2export.models.tiling import Tiles
from d2export.pruning.plan import Plan
from d2export.pruning.prior import Prior
from d2export.pruning.rules.plain import stride_scores
from d2export.pruning.selection import Scored, mean_over_heads
from d2export.report.selections import BUILT, Indices, Selections, selections_of
from d2export.verify.near_ties import chosen

SHARES = (500, 250, 150, 100, 50)  # in permille
MEANT = ("llm", "cls", "text")  # sources of importance that look at the picture


def recorded(
    plan: Plan,
    tiles: Tiles,
    kept: npt.NDArray[np.int32],
    scored: Scored | None,
    prior: Prior | None,
) -> Selections:
    """What a build stores about one picture.

    Args:
        kept: `[M]`, what the bundle keeps of it.
        scored: what the rule decided on; None where several budgets depended on each other.
        prior: that of the file, if there is one.
    """
    by_label: dict[str, Indices] = {BUILT: kept}
    if scored is None or scored.features.shape[:2].numel() != len(tiles.grid):
        return selections_of(tiles, by_label)  # pruned once before this rule saw the tokens
    if plan.selector.counted:
        by_label |= {str(share): _kept(plan, scored, share) for share in SHARES}
    if plan.importance not in MEANT:
        return selections_of(tiles, by_label)
    importance = mean_over_heads(scored.importance).flatten()
    divisor: npt.NDArray[np.float32] | None = None
    if plan.prior == "file" and prior is not None:
        divisor = prior.layout(len(tiles.pixels))
    elif plan.prior == "shallow":
        divisor = _array(scored.prior)
    raw = _array(importance)
    if plan.by_tile and plan.in_vision and divisor is not None:  # the graph divided before the rule
        raw = raw * (divisor + np.float32(plan.eps))
    return selections_of(tiles, by_label, raw, divisor, plan.eps)


def _kept(plan: Plan, scored: Scored, share: int) -> Indices:
    """What the plan's rule keeps of the same values with another budget."""
    parameters = replace(plan.parameters, keep=0, keep_permille=share)
    if plan.importance == "stride":  # its scores are made for a budget
        tokens = scored.importance.shape[-1]
        scores = stride_scores(scored.importance.flatten()[:tokens], parameters.kept(tokens))
        scored = scored._replace(importance=scores.expand_as(scored.importance))
    return chosen(scored, replace(plan, parameters=parameters)).numpy().astype(np.int32)


def _array(values: Tensor) -> npt.NDArray[np.float32]:
    found: npt.NDArray[np.float32] = values.detach().float().numpy()
    return found
