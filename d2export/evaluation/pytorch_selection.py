"""Which visual tokens a configuration keeps, in batches: the exporter's rules. Needs torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from d2export.evaluation.configuration import Configuration
from d2export.evaluation.pytorch_sequences import Trunk
from d2export.evaluation.task import Sample
from d2export.export.pruned_decoder import SHALLOW_LAYER
from d2export.export.pruned_vision import PrunedVision
from d2export.models.presets import ModelSpec
from d2export.models.tiling import Tiles
from d2export.models.vision_tower import Seen
from d2export.pruning.importance import smoothed
from d2export.pruning.plan import Plan
from d2export.pruning.prior import Prior
from d2export.pruning.rules import correlation
from d2export.pruning.selection import mean_over_heads, select
from d2export.pruning.sequence import surviving_positions
from d2export.runtime.request import prompt_of
from d2export.runtime.tokenizer import Encoded

# The vision layer whose CLS token is asked, None for none, and what relates it to the others.
Relation = tuple[int | None, str]


class VisionSelection:
    """Selection behind the projector, for one configuration that has it.

    Args:
        spec: the model.
        configuration: whose plan prunes in the vision graph.
    """

    def __init__(self, spec: ModelSpec, configuration: Configuration) -> None:
        assert configuration.plan is not None
        with torch.device("meta"):  # its tower stays empty: pictures are seen once for all
            self._module = PrunedVision(spec, configuration.plan, configuration.prior)
        self.plan = configuration.plan

    @property
    def relation(self) -> Relation:
        """What it asks of the tower."""
        return self.plan.importance_layer, str(self.plan.settings.get("similarity", "attention"))

    @property
    def reads_prompt(self) -> bool:
        """Whether the prompt has a say, so that questions about one picture keep other tokens."""
        return self.plan.importance == "text"

    def kept(self, seen: Seen, grid: Tensor, words: Tensor | None) -> Tensor:
        """`[M]` int64, ascending.

        Args:
            seen: the tiles of one picture.
            grid: `[N, 2]` float32.
            words: `[P, hidden]`, the prompt in the language model's embeddings, if it is read.
        """
        looked = self._module.weigh(seen, grid, words if self.reads_prompt else None)
        _, indices, *count = self._module.choose(looked)
        return indices[: int(count[0])].long() if count else indices.long()


@dataclass(frozen=True, eq=False)
class Below:
    """What is known of a batch of prompts before a layer of the language model.

    Attributes:
        samples: the questions.
        tiles: of the picture of each.
        encoded: one of the prompts; all have their visual tokens at the same places.
        trunk: the layers below, which have run.
    """

    samples: Sequence[Sample]
    tiles: Sequence[Tiles]
    encoded: Encoded
    trunk: Trunk

    @cached_property
    def visual(self) -> Tensor:
        """`[V]` int64, ascending: where the visual tokens are."""
        return torch.from_numpy(self.encoded.visual_positions)

    @property
    def features(self) -> Tensor:
        """`[B, V, hidden]`: the states of the visual tokens."""
        return self.trunk.states.index_select(1, self.visual)

    @cached_property
    def _rows(self) -> dict[int, Tensor]:
        return {}

    def row(self, layer: int) -> Tensor:
        """`[B, heads, T]`: what the last token of each prompt attends to in a layer below."""
        if layer not in self._rows:
            last = torch.tensor([self.trunk.states.shape[1] - 1])
            self._rows[layer] = self.trunk.rows(layer, last).squeeze(2)
        return self._rows[layer]

    @cached_property
    def _ahead(self) -> dict[tuple[int, int], list[Tensor]]:
        return {}

    def rows_ahead(self, count: int) -> list[Tensor]:
        """`[B, heads, T]` each: what it will attend to in the layers that are next."""
        asked = self.trunk.depth, count
        if asked not in self._ahead:
            self._ahead[asked] = self.trunk.rows_ahead(count)
        return self._ahead[asked]


def kept_inside(below: Below, plan: Plan, prior: Prior) -> Tensor:
    """`[B, M]` int64, ascending: the visual tokens that stay, as `PrunedDecoder` decides it."""
    assert plan.prune_layer is not None
    states, visual = below.trunk.states, below.visual
    # Tokens of one picture: all pictures of a prompt together are the same as each by itself.
    layout = prompt_of(
        below.encoded,
        [below.tiles[0].grid],
        [np.zeros((len(visual), 0), np.float32)],
        None,
        prior,
        plan,
    )
    grid, lengths = torch.from_numpy(layout.token_grid), torch.from_numpy(layout.image_lengths)
    importance = _read_ahead(below, plan) if plan.reads_ahead else below.row(plan.prune_layer - 1)
    if plan.prior == "file":
        priors = torch.from_numpy(layout.prior).expand(len(states), -1)
    elif plan.prior == "shallow":
        priors = mean_over_heads(below.row(SHALLOW_LAYER)).index_select(1, visual)
    else:
        priors = torch.ones(1, len(visual)).expand(len(states), -1)
    if plan.prior != "shallow" and len(lengths) == 1:
        scores = importance.index_select(-1, visual)
        return select(below.features, scores, priors[0], grid, plan.parameters).long()
    rows = []
    for state, row, own in zip(states, importance, priors, strict=True):
        positions = surviving_positions(
            state.unsqueeze(0), row.unsqueeze(0), own, grid, visual, lengths, plan.parameters
        )
        rows.append(torch.isin(visual, positions.long()).nonzero().flatten())
    return torch.stack(rows)


def _read_ahead(below: Below, plan: Plan) -> Tensor:
    """Importance of `d2+`, `[B, T]`, 0 for text."""
    assert plan.prune_layer is not None
    rows = [below.row(plan.prune_layer - 1)] if plan.rows.below else []
    rows += below.rows_ahead(plan.rows.ahead)
    visual = [row.index_select(2, below.visual) for row in rows]
    importance = smoothed(visual, below.tiles[0].tokens_per_side, plan.smoothing)
    nothing = importance.new_zeros(below.trunk.states.shape[:2])
    return nothing.index_copy(1, below.visual, importance)


def correlated(trunk: Trunk, visual: Tensor, words: Tensor, plan: Plan) -> Tensor:
    """`[S]` int64, ascending: what stays of one prompt, text too, by its correlation.

    Args:
        trunk: one prompt, behind layer `plan.prune_layer - 1`.
        visual: `[V]` int64, ascending.
        words: `[D]` int64, ascending: text that may be dropped.
    """
    assert plan.prune_layer is not None
    length = trunk.states.shape[1]
    asking = torch.cat([words, torch.tensor([length - 1])])
    attention = mean_over_heads(trunk.rows(plan.prune_layer - 1, asking).flatten(2))
    attention = attention.view(len(asking), length).index_select(1, visual)
    found = correlation.correlated_positions(length, attention, visual, words, plan.parameters)
    return found.long()


def positions_of(kept: Tensor, visual: Tensor, length: int) -> Tensor:
    """`[B, S]` int64: the places of all text and of the visual tokens kept, `[B, M]`."""
    stays = torch.ones(len(kept), length, dtype=torch.bool)
    stays[:, visual] = False
    stays.scatter_(1, visual[kept], True)
    return stays.nonzero()[:, 1].view(len(kept), -1)


def relations(selections: Mapping[Configuration, VisionSelection]) -> list[Relation]:
    """What has to be asked of the tower, so that each selection finds its answer."""
    asked = dict.fromkeys(item.relation for item in selections.values())
    with_layer = [relation for relation in asked if relation[0] is not None]
    return with_layer or [(None, "attention")]
