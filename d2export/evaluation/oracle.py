"""What pruning could keep if it knew the answer: a ceiling for selectors, not one of them."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from d2export.evaluation.configuration import Configuration
from d2export.evaluation.task import Sample
from d2export.models.presets import ModelSpec
from d2export.models.tiling import Tiles, token_boxes
from d2export.options import PRUNE_LAYER, ExportOptions

ORACLE = "oracle"


def oracle(
    spec: ModelSpec, keep: str, prune_layer: int = PRUNE_LAYER, *, series: str = ORACLE
) -> Configuration:
    """The tokens that see a sample's regions, then random ones, before a layer.

    Args:
        spec: the model.
        keep: visual tokens kept, as `ExportOptions.keep`.
        prune_layer: of the language model.
        series: its name in plots.
    """
    options = ExportOptions(
        spec.name, scope="vlm", selector="fastv", keep=keep, prune_layer=prune_layer
    )
    plan = options.plan(spec)
    choose = partial(_choose, plan.parameters)
    return Configuration(f"{series} {keep}", series, plan, choose=choose)


def oracle_tokens(sample: Sample, tiles: Tiles, count: int) -> npt.NDArray[np.int64]:
    """`[M]`, ascending: `count` tokens of a picture, those that overlap a region before others.

    Among equals chance decides, by the sample's own seed: the same sample keeps the same tokens in
    every run, and of more tokens all that it keeps of fewer.
    """
    boxes = token_boxes(tiles)
    wanted = np.zeros(len(boxes), np.bool_)
    for region in sample.regions:
        x0, y0, x1, y1 = np.array(region) * np.tile(tiles.image_size, 2)
        across = np.minimum(boxes[:, 2], x1) - np.maximum(boxes[:, 0], x0)
        down = np.minimum(boxes[:, 3], y1) - np.maximum(boxes[:, 1], y0)
        wanted |= (across > 0) & (down > 0)
    order = np.random.default_rng([*sample.id.encode()]).permutation(len(boxes))
    ranked = np.concatenate([order[wanted[order]], order[~wanted[order]]])
    return np.sort(ranked[:count])


def _choose(parameters: Any, below: Any) -> npt.NDArray[np.int64]:
    """`[B, M]` for a `pytorch_selection.Below`."""
    count = parameters.kept(len(below.encoded.visual_positions))
    pairs = zip(below.samples, below.tiles, strict=True)
    return np.stack([oracle_tokens(sample, tiles, count) for sample, tiles in pairs])
