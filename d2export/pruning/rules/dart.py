"""DART: a few pivots, and the tokens least like them.

Source: Wen et al., "Stop Looking for Important Tokens in Multimodal Language Models: Duplication
Matters More", arXiv 2502.11494. The paper works on keys inside the LLM and takes pivots from text,
too; this is the variant on visual embeddings before it [ours].
"""

from __future__ import annotations

import torch
from torch import Tensor

from d2export.pruning.rule_parameters import DartParameters
from d2export.pruning.rules.vectors import descending, directions


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
