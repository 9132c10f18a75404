"""What the vision tower and the projector cost; counted as in `flops.py`."""

from __future__ import annotations

from d2export.models.presets import VisionSpec
from d2export.pruning.flops import HALF, Cost


def vision(
    spec: VisionSpec, text_hidden: int, tiles: int = 1, *, cls_row: bool = False, width: int = HALF
) -> Cost:
    """Vision tower and projector over `tiles` tiles at once; layers that do not run are left out.

    Args:
        text_hidden: hidden size of the language model.
        cls_row: whether the CLS token's attention is computed for importance: one query and one
            row of scores, with the keys of the layer itself.
        width: bytes of a value.
    """
    d, m, patches = spec.hidden, spec.mlp, spec.patches_per_side**2
    n = patches + spec.class_token
    tokens, merged = spec.tokens_per_tile, d * spec.downsample**2
    layer = 4 * n * d * d + 2 * n * n * d + 2 * n * d * m
    macs = (
        patches * 3 * spec.patch**2 * d
        + spec.used_layers * layer
        + (d * d + n * d if cls_row else 0)
        + tokens * (merged + text_hidden) * text_hidden
    )
    peak = max(
        3 * spec.image.size**2 + patches * d,
        n * 5 * d,  # residual, its norm, query, key, value
        n * (4 * d + spec.heads * n),  # residual, query, key, value, scores
        n * (2 * d + m),
        tokens * (merged + text_hidden),
        tokens * 2 * text_hidden,
    )
    return Cost(tiles * macs, width * vision_parameters(spec, text_hidden), 0, width * tiles * peak)


def vision_parameters(spec: VisionSpec, text_hidden: int) -> int:
    """Parameters of the vision graph."""
    d, m, merged = spec.hidden, spec.mlp, spec.hidden * spec.downsample**2
    embeddings = (3 * spec.patch**2 + spec.patch_bias) * d + (spec.patches_per_side**2 + 2) * d
    norms, scales = 2 * 2 * d, 2 * d * spec.layer_scale
    layer = 4 * (d + 1) * d + (d + 1) * m + (m + 1) * d + norms + scales
    projector = (merged + 1) * text_hidden + (text_hidden + 1) * text_hidden
    return (
        embeddings
        + 2 * d * spec.pre_norm
        + spec.used_layers * layer
        + 2 * merged * spec.projector_norm
        + projector
    )
