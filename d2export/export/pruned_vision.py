"""The modules that become `vision.onnx`: tower, projector and pruning, or the first two alone."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from d2export.export.ops import PADDED_OP_TYPE
from d2export.export.torch_op import prune, symbolic_kept
from d2export.models.presets import ModelSpec
from d2export.models.vision_tower import Seen, VisionModel
from d2export.pruning.importance import text_relevance, uniform
from d2export.pruning.plan import Plan
from d2export.pruning.prior import Prior
from d2export.pruning.rules import RULES
from d2export.pruning.rules.plain import random_scores, stride_scores
from d2export.pruning.selection import Scored, mean_over_heads


class Looked(NamedTuple):
    """All visual tokens, `[B, N, hidden]`, and what a selection among them is made from.

    `B` is 1, or with a budget for each tile the number of tiles.
    """

    tokens: Tensor
    scored: Scored


class PrunedVision(nn.Module):
    """Tiles of one image in, the visual tokens worth keeping out.

    Args:
        spec: the model.
        plan: how to prune.
        prior: what importance is divided by; None is a prior of ones.
    """

    def __init__(self, spec: ModelSpec, plan: Plan, prior: Prior | None = None) -> None:
        super().__init__()
        self.model = VisionModel(spec)
        self.plan = plan
        self.tokens_per_tile = spec.vision.tokens_per_tile
        slots = prior if prior is not None else Prior.ones(self.tokens_per_tile)
        self.tile_prior: Tensor
        self.thumbnail_prior: Tensor
        self.register_buffer("tile_prior", torch.from_numpy(slots.tile.copy()), persistent=False)
        self.register_buffer(
            "thumbnail_prior", torch.from_numpy(slots.thumbnail.copy()), persistent=False
        )

    def forward(
        self, pixel_values: Tensor, token_grid: Tensor, prompt_embeds: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """`image_embeds` and `kept_indices` of one image, and a `count` if they are padded.

        Args:
            pixel_values: `[T, 3, S, S]` float32, the image's tiles, the whole image last.
            token_grid: `[T*n, 2]` float32, token centres on the image canvas.
            prompt_embeds: `[P, hidden]` float32, the prompt in the language model's embeddings;
                only with importance `text`.

        Returns:
            `[M, hidden]` and `[M]` int32, ascending; padded: behind `count` `[1]` int32 of them,
            rows of zeros and indices of -1.
        """
        return self.choose(self.look(pixel_values, token_grid, prompt_embeds))

    def choose(self, looked: Looked) -> tuple[Tensor, ...]:
        """`forward`'s answer from all tokens and what a selection is made from."""
        plan = self.plan
        op_type = PADDED_OP_TYPE if plan.padded else plan.selector.rule
        inputs = [getattr(looked.scored, name) for name in RULES[plan.selector.rule].inputs]
        kept, indices, *count = prune(
            op_type, looked.scored.features, *inputs, parameters=plan.parameters
        )
        if looked.scored.features is not looked.tokens:  # the rule compared something else
            rows = indices.long().unsqueeze(-1).expand(-1, -1, looked.tokens.shape[2])
            kept = looked.tokens.gather(1, rows)
        if plan.by_tile:
            tile = torch.arange(indices.shape[0], dtype=torch.int32, device=indices.device)
            indices = indices + (tile * self.tokens_per_tile).unsqueeze(1)
        return kept.flatten(0, 1), indices.flatten(), *count

    def look(
        self,
        pixel_values: Tensor,
        token_grid: Tensor,
        prompt_embeds: Tensor | None = None,
        *,
        tiles_at_once: int | None = None,
    ) -> Looked:
        """All tokens, their features, importance, prior and places.

        Args:
            tiles_at_once: run the tower on so many tiles at a time, to save memory.
        """
        return self.weigh(self._see(pixel_values, tiles_at_once), token_grid, prompt_embeds)

    def weigh(self, seen: Seen, token_grid: Tensor, prompt_embeds: Tensor | None = None) -> Looked:
        """`look`'s answer from what the tower has seen: one view serves several plans."""
        prior, related = self.prior(seen.tokens), seen.cls
        if self.plan.by_tile:
            tokens, features, grid = seen.tokens, seen.features, token_grid[: self.tokens_per_tile]
        else:
            tokens = seen.tokens.flatten(0, 1).unsqueeze(0)
            features = seen.features.flatten(0, 1).unsqueeze(0)
            prior, grid = prior.flatten(), token_grid
            if self.plan.importance == "cls":
                related = related.transpose(0, 1).flatten(1).unsqueeze(0)
        importance = self._importance(tokens, related, prompt_embeds)
        if self.plan.by_tile:  # the op has one prior for all rows: divide before
            importance = mean_over_heads(importance) / (prior + self.plan.eps)
            prior = torch.ones_like(prior[0])
        compared = features if self.plan.selector.compares == "features" else tokens
        return Looked(tokens, Scored(compared, importance, prior, grid))

    def prior(self, tiles: Tensor) -> Tensor:
        """`[T, n]` for `tiles` `[T, ...]`: the thumbnail prior for the last, which shows it all."""
        tile = torch.arange(tiles.shape[0], device=tiles.device)
        is_last = (tile == tiles.shape[0] - 1).unsqueeze(1)
        return torch.where(is_last, self.thumbnail_prior, self.tile_prior)

    def _see(self, pixel_values: Tensor, tiles_at_once: int | None) -> Seen:
        relation = str(self.plan.settings.get("similarity", "attention"))
        layer = self.plan.importance_layer
        if tiles_at_once is None:
            seen: Seen = self.model(pixel_values, layer, relation)
            return seen
        parts = [self.model(part, layer, relation) for part in pixel_values.split(tiles_at_once)]
        return Seen(*(torch.cat(values) for values in zip(*parts, strict=True)))

    def _importance(self, tokens: Tensor, related: Tensor, prompt_embeds: Tensor | None) -> Tensor:
        """`[B, N]` or `[B, H, N]`; ones where the rule reads none."""
        source = self.plan.importance
        if source == "cls":
            return related
        if source == "text":
            assert prompt_embeds is not None
            return text_relevance(tokens, prompt_embeds)
        ones = uniform(tokens)
        if source == "random":
            return random_scores(ones.flatten(), int(self.plan.settings["seed"])).view_as(ones)
        if source == "stride":
            budget = self.plan.parameters
            kept = symbolic_kept(budget.keep, budget.keep_permille, ones.shape[1])
            return ones * stride_scores(ones[0], kept)
        return ones


class WholeVision(nn.Module):
    """Tiles of one image in, all its visual tokens out: pruning is left to the decoder."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.model = VisionModel(spec)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """`image_embeds` `[T*n, hidden]` of the tiles `[T, 3, S, S]`, the whole image last."""
        tokens: Tensor = self.model(pixel_values).tokens
        return tokens.flatten(0, 1)
