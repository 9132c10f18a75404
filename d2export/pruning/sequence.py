"""Which positions of a prompt survive: all text, and of each image what `select` keeps.

By the native core on the CPU where it was built, else in torch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from d2export.pruning import native
from d2export.pruning.parameters import PruneParameters
from d2export.pruning.selection import Implementation, implementation, rank, select


def surviving_positions(
    hidden_states: Tensor,
    importance: Tensor,
    prior: Tensor,
    grid: Tensor,
    visual_positions: Tensor,
    image_lengths: Tensor,
    parameters: PruneParameters,
    using: Implementation | None = None,
) -> Tensor:
    """Positions that stay, ascending; the rule is told in `reference.surviving_positions`.

    Args:
        hidden_states: `[1, T, C]` float32, float16 or bfloat16.
        importance: `[1, T]` or `[1, H, T]` float32; only the visual columns matter.
        prior: `[V]` float32.
        grid: `[V, 2]` float32, each token's centre on the canvas of its own image.
        visual_positions: `[V]` int64, ascending, image after image.
        image_lengths: `[I]` int64, adding up to V.
        parameters: attributes of the op.
        using: the implementation; None is what `selection.implementation` says.

    Returns:
        `[T - V + n]` int32, `n = parameters.kept_of(I, V)`. Deterministic.

    Raises:
        ValueError: a rank, length or dtype that does not fit; the argument is named.
        EnvironmentMismatch: `using="native"` where that was not built.
    """
    _validate(hidden_states, visual_positions, image_lengths)
    if (using or implementation(hidden_states.device)) == "native":
        positions = native.select_positions(
            hidden_states.detach(),
            importance.detach(),
            prior.detach(),
            grid.detach(),
            visual_positions,
            image_lengths,
            parameters,
        )
        return torch.from_numpy(positions)
    length, tokens = hidden_states.shape[1], len(visual_positions)
    budget = parameters.kept_of(len(image_lengths), tokens)
    device = hidden_states.device
    stays = torch.ones(length, dtype=torch.bool, device=device)
    if budget < tokens:
        features, scores = hidden_states[:, visual_positions], importance[..., visual_positions]
        kept = torch.zeros(tokens, dtype=torch.bool, device=device)
        for span in _spans(image_lengths):
            chosen = select(
                features[:, span], scores[..., span], prior[span], grid[span], parameters, "torch"
            )
            kept[span][chosen[0].long()] = True
        ranking = rank(scores, prior, parameters.eps)[0]
        kept_first = torch.cat([ranking[kept[ranking]], ranking[~kept[ranking]]])
        stays[visual_positions[kept_first[budget:]]] = False
    return stays.nonzero().flatten().to(torch.int32)


def _spans(image_lengths: Tensor) -> list[slice]:
    ends = image_lengths.cumsum(0).tolist()
    return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def _validate(hidden_states: Tensor, visual_positions: Tensor, image_lengths: Tensor) -> None:
    if hidden_states.dim() != 3 or len(hidden_states) != 1:
        raise ValueError(f"hidden_states has shape {list(hidden_states.shape)}, expected [1, T, C]")
    for name, values in (("visual_positions", visual_positions), ("image_lengths", image_lengths)):
        if values.dim() != 1 or values.dtype != torch.int64:
            raise ValueError(
                f"{name} is {values.dtype} {list(values.shape)}, expected int64, one dimension"
            )
    positions, lengths = visual_positions.tolist(), image_lengths.tolist()
    if positions != sorted(set(positions)) or (
        positions and not 0 <= positions[0] <= positions[-1] < hidden_states.shape[1]
    ):
        raise ValueError(
            f"visual_positions is not ascending within 0 to {hidden_states.shape[1] - 1}"
        )
    if sum(lengths) != len(positions) or min(lengths, default=0) < 0:
        raise ValueError(
            f"image_lengths is {lengths}, expected lengths that add up to {len(positions)}"
        )
