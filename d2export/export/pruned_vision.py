"""The modules that become `vision.onnx`: tower, projector and, in scope `vision`, pruning."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from d2export.export.torch_op import prune
from d2export.models.presets import ModelSpec
from d2export.models.vision_tower import VisionModel
from d2export.pruning.importance import text_relevance, uniform
from d2export.pruning.parameters import OP_TYPE, PruneParameters
from d2export.pruning.prior import Prior
from d2export.pruning.selection import Scored


class PrunedVision(nn.Module):
    """Tiles of one image in, the visual tokens worth keeping out.

    Args:
        spec: the model.
        parameters: how to prune.
        importance: `cls`, `text` or `uniform`.
        cls_layer: layer of the CLS attention row, counted from 0; used by `cls`.
        prior: what importance is divided by; None is a prior of ones.
    """

    def __init__(
        self,
        spec: ModelSpec,
        parameters: PruneParameters,
        importance: str,
        cls_layer: int,
        prior: Prior | None = None,
    ) -> None:
        super().__init__()
        self.model = VisionModel(spec)
        self.parameters_of_op = parameters
        self.importance = importance
        self.cls_layer = cls_layer if importance == "cls" else None
        slots = prior if prior is not None else Prior.ones(spec.vision.tokens_per_tile)
        self.tile_prior: Tensor
        self.thumbnail_prior: Tensor
        self.register_buffer("tile_prior", torch.from_numpy(slots.tile.copy()), persistent=False)
        self.register_buffer(
            "thumbnail_prior", torch.from_numpy(slots.thumbnail.copy()), persistent=False
        )

    def forward(
        self, pixel_values: Tensor, token_grid: Tensor, prompt_embeds: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """`image_embeds` and `kept_indices` of one image.

        Args:
            pixel_values: `[T, 3, S, S]` float32, the image's tiles, the whole image last.
            token_grid: `[T*n, 2]` float32, token centres on the image canvas.
            prompt_embeds: `[P, hidden]` float32, the prompt in the language model's embeddings;
                only with importance `text`.

        Returns:
            `[M, hidden]` and `[M]` int32, ascending.
        """
        scored = self.scored(pixel_values, token_grid, prompt_embeds)
        kept, indices = prune(OP_TYPE, *scored, parameters=self.parameters_of_op)
        return kept.squeeze(0), indices.squeeze(0)

    def scored(
        self,
        pixel_values: Tensor,
        token_grid: Tensor,
        prompt_embeds: Tensor | None = None,
        *,
        tiles_at_once: int | None = None,
    ) -> Scored:
        """The op's inputs: all N tokens, their importance, prior and places.

        Args:
            tiles_at_once: run the tower on so many tiles at a time, to save memory.
        """
        if tiles_at_once is None:
            tokens, attention = self.model(pixel_values, self.cls_layer)
        else:
            parts = [self.model(p, self.cls_layer) for p in pixel_values.split(tiles_at_once)]
            tokens, attention = (torch.cat(values) for values in zip(*parts, strict=True))
        features = tokens.flatten(0, 1).unsqueeze(0)
        if self.importance == "cls":
            importance = attention.transpose(0, 1).flatten(1).unsqueeze(0)
        elif self.importance == "text":
            assert prompt_embeds is not None
            importance = text_relevance(features, prompt_embeds)
        else:
            importance = uniform(features)
        return Scored(features, importance, self.prior(pixel_values), token_grid)

    def prior(self, pixel_values: Tensor) -> Tensor:
        """`[N]`: the tile prior for every tile but the last, which shows the whole image."""
        tile = torch.arange(pixel_values.shape[0], device=pixel_values.device)
        is_last = (tile == pixel_values.shape[0] - 1).unsqueeze(1)
        return torch.where(is_last, self.thumbnail_prior, self.tile_prior).flatten()


class WholeVision(nn.Module):
    """Tiles of one image in, all its visual tokens out: pruning is left to the decoder."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.model = VisionModel(spec)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """`image_embeds` `[T*n, hidden]` of the tiles `[T, 3, S, S]`, the whole image last."""
        return self.model(pixel_values)[0].flatten(0, 1)
