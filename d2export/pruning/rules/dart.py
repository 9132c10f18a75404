"""DART: a few pivots, and the tokens least like them.

Source: Wen et al., "Stop Looking for Important Tokens in Multimodal Language Models: Duplication
Matters More", arXiv 2502.11494. The paper works on keys inside the LLM and takes pivots from text,
too; this is the variant on visual embeddings before it [ours].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from d2export.errors import UsageError
from d2export.pruning.parameters import Budget
from d2export.pruning.rules.vectors import descending, directions

LARGEST_PIVOTS = 1024


@dataclass(frozen=True)
class DartParameters(Budget):
    """Attributes of `DartPrune`, besides those of a `Budget`.

    Attributes:
        pivots: how many tokens of largest norm the others are compared with, 1 to 1024.
    """

    pivots: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.pivots <= LARGEST_PIVOTS:
            raise UsageError(
                f"pivots is {self.pivots}, expected 1 to {LARGEST_PIVOTS}",
                f"Leave it out for {DartParameters.pivots}.",
            )


def reference(features: Tensor, parameters: DartParameters) -> Tensor:
    """Kept token ids of one image, ascending.

    Pivots are the tokens of largest L1 norm (at most as many as are kept). In that order each
    adds the tokens of lowest cosine with it among those still left, an equal share of the
    budget; what the division leaves over goes to the first pivots. Ties go to the lower index.

    Args:
        features: `[N, C]`.

    Returns:
        `[M]` int32.
    """
    tokens = len(features)
    wanted = parameters.kept(tokens)
    if wanted == tokens:
        return torch.arange(tokens, dtype=torch.int32)
    unit = directions(features)
    pivots = descending(features.float().abs().sum(dim=1))[: min(parameters.pivots, wanted)]
    share, over = divmod(wanted - len(pivots), len(pivots))
    taken = torch.zeros(tokens, dtype=torch.bool)
    taken[pivots] = True
    for place, pivot in enumerate(pivots.tolist()):
        cosine = (unit @ unit[pivot]).masked_fill(taken, torch.inf)
        nearest_last = cosine.sort(stable=True).indices
        taken[nearest_last[: share + (place < over)]] = True
    return taken.nonzero().flatten().to(torch.int32)
