"""InternViT and CLIP ViT with their projectors, in torch.

Both are one architecture with a few switches, which `VisionSpec` holds. Equal to the classes in
transformers (`tests/models/test_vision_tower.py`), and written so that tracing gives a plain graph.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from d2export.models.presets import ModelSpec, VisionSpec


class Seen(NamedTuple):
    """What the vision half makes of tiles.

    tokens `[T, n, hidden]` for the language model, row-major in a tile; features `[T, n, D']`, the
    same before the projector's linear layers; cls `[T, heads, n]`, what relates each token to the
    CLS token (one "head" for a cosine), or an empty tensor. Patches merged into one token add up.
    """

    tokens: Tensor
    features: Tensor
    cls: Tensor


class VisionModel(nn.Module):
    """Vision tower and projector: tiles in, visual tokens of the language model's width out."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.tower = VisionTower(spec.vision)
        self.projector = Projector(spec.vision, spec.text.hidden)

    def forward(
        self, pixel_values: Tensor, cls_layer: int | None = None, relation: str = "attention"
    ) -> Seen:
        """See tiles.

        Args:
            pixel_values: `[T, 3, S, S]` normalised tiles.
            cls_layer: layer whose CLS token is asked, counted from 0; None for none.
            relation: `attention`, the CLS token's row in that layer, or `cosine`, of its state
                with those of the patches behind that layer.
        """
        patches, cls = self.tower(pixel_values, cls_layer, relation)
        features = self.projector.merge(patches)
        return Seen(self.projector(features), features, self.projector.merge_relation(cls))


class VisionTower(nn.Module):
    """A pre-norm vision transformer, up to the layer the projector reads."""

    def __init__(self, spec: VisionSpec) -> None:
        super().__init__()
        self.patch_embedding = nn.Conv2d(
            3, spec.hidden, spec.patch, stride=spec.patch, bias=spec.patch_bias
        )
        self.class_token = spec.class_token
        if spec.class_token:
            self.cls_token = nn.Parameter(torch.empty(spec.hidden))
        self.position_embedding = nn.Parameter(
            torch.empty(spec.class_token + spec.patches_per_side**2, spec.hidden)
        )
        self.pre_norm = (
            nn.LayerNorm(spec.hidden, eps=spec.norm_eps) if spec.pre_norm else nn.Identity()
        )
        self.layers = nn.ModuleList(Layer(spec) for _ in range(spec.used_layers))

    def forward(
        self, pixel_values: Tensor, cls_layer: int | None = None, relation: str = "attention"
    ) -> tuple[Tensor, Tensor]:
        """States `[T, patches, D]`, and the CLS token's relation to them `[T, heads, patches]`."""
        states = self.patch_embedding(pixel_values).flatten(2).transpose(1, 2)
        if self.class_token:
            cls = self.cls_token.expand(states.shape[0], 1, -1)
            states = torch.cat([cls, states], dim=1)
        states = self.pre_norm(states + self.position_embedding)
        related = states.new_empty(0)
        for index, layer in enumerate(cast("Iterable[Layer]", self.layers)):
            if index == cls_layer and relation == "attention":
                related = layer.cls_attention(states)
            states = layer(states)
            if index == cls_layer and relation == "cosine":
                directions = states / (states * states).sum(dim=-1, keepdim=True).sqrt()
                related = directions[:, :1] @ directions[:, 1:].transpose(1, 2)
        return states[:, 1:] if self.class_token else states, related


class Layer(nn.Module):
    """Attention and MLP, each behind a LayerNorm, each scaled per channel if the model has that."""

    def __init__(self, spec: VisionSpec) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(spec.hidden, eps=spec.norm_eps)
        self.attention = Attention(spec.hidden, spec.heads)
        self.norm2 = nn.LayerNorm(spec.hidden, eps=spec.norm_eps)
        self.mlp = MLP(spec)
        if spec.layer_scale:
            self.scale1 = nn.Parameter(torch.empty(spec.hidden))
            self.scale2 = nn.Parameter(torch.empty(spec.hidden))
        self.layer_scale = spec.layer_scale

    def forward(self, states: Tensor) -> Tensor:
        """`[T, L, D]` to `[T, L, D]`."""
        attended = self.attention(self.norm1(states))
        states = states + (attended * self.scale1 if self.layer_scale else attended)
        expanded = self.mlp(self.norm2(states))
        return states + (expanded * self.scale2 if self.layer_scale else expanded)

    def cls_attention(self, states: Tensor) -> Tensor:
        """`[T, heads, L - 1]`: the CLS token's softmax row over all tokens, without its own."""
        return self.attention.first_row(self.norm1(states))[:, :, 1:]


class Attention(nn.Module):
    """Multi-head self-attention without a mask."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.q = nn.Linear(hidden, hidden)
        self.k = nn.Linear(hidden, hidden)
        self.v = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, hidden)
        self.heads = heads
        self.scale = (hidden // heads) ** -0.5

    def forward(self, x: Tensor) -> Tensor:
        """`[T, L, D]` to `[T, L, D]`."""
        # Scaling the query keeps the products small enough for float16.
        scores = self._split(self.q(x) * self.scale) @ self._split(self.k(x)).transpose(2, 3)
        mixed = scores.softmax(dim=-1) @ self._split(self.v(x))
        return self.out(mixed.transpose(1, 2).flatten(2))

    def first_row(self, x: Tensor) -> Tensor:
        """`[T, heads, L]`: attention of the first token only; the other rows are never computed."""
        query = self._split(self.q(x[:, :1]) * self.scale)
        return (query @ self._split(self.k(x)).transpose(2, 3)).softmax(dim=-1).squeeze(2)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class MLP(nn.Module):
    """Two linear layers with GELU, or CLIP's `x * sigmoid(1.702 x)`, between them."""

    def __init__(self, spec: VisionSpec) -> None:
        super().__init__()
        self.up = nn.Linear(spec.hidden, spec.mlp)
        self.down = nn.Linear(spec.mlp, spec.hidden)
        self.quick = spec.activation == "quick_gelu"

    def forward(self, x: Tensor) -> Tensor:
        """`[T, L, D]` to `[T, L, D]`."""
        x = self.up(x)
        x = x * torch.sigmoid(1.702 * x) if self.quick else functional.gelu(x)
        return self.down(x)


class Projector(nn.Module):
    """Pixel shuffle (InternVL), then a two-layer MLP into the language model's width."""

    def __init__(self, spec: VisionSpec, text_hidden: int) -> None:
        super().__init__()
        width = spec.hidden * spec.downsample**2
        self.norm = nn.LayerNorm(width, eps=1e-5) if spec.projector_norm else nn.Identity()
        self.linear1 = nn.Linear(width, text_hidden)
        self.linear2 = nn.Linear(text_hidden, text_hidden)
        self.side = spec.tokens_per_side
        self.downsample = spec.downsample

    def merge(self, patches: Tensor) -> Tensor:
        """`[T, patches, D]` to `[T, n, downsample² D]`: a token is its patches side by side."""
        return self._merge(patches).flatten(3).flatten(1, 2)

    def forward(self, features: Tensor) -> Tensor:
        """`[T, n, downsample² D]` to `[T, n, hidden]`."""
        return self.linear2(functional.gelu(self.linear1(self.norm(features))))

    def merge_relation(self, cls: Tensor) -> Tensor:
        """`[T, heads, patches]` to `[T, heads, n]`: a merged token has its patches' attention."""
        if self.downsample == 1 or cls.dim() == 1:
            return cls
        merged = self._merge(cls.transpose(1, 2)).sum(dim=3)
        return merged.flatten(1, 2).transpose(1, 2)

    def _merge(self, patches: Tensor) -> Tensor:
        """`[T, patches, D]` to `[T, side, side, downsample², D]`, sub-patches row-major."""
        if self.downsample == 1:
            return patches.unflatten(1, (self.side, self.side)).unsqueeze(3)
        d = self.downsample
        blocks = patches.unflatten(1, (self.side, d, self.side, d))
        return blocks.permute(0, 1, 3, 2, 4, 5).flatten(3, 4)
