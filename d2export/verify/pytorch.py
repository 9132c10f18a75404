"""The PyTorch side of a check. Needs torch; a check against stored answers does not come here."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from d2export.bundle.folder import Bundle
from d2export.export.pruned_vision import PrunedVision
from d2export.export.weights import load_into, stored_prior_slots, stored_refs
from d2export.models.presets import ModelSpec
from d2export.models.safetensors_file import TensorRef
from d2export.pruning.plan import Plan
from d2export.pruning.prior import Prior
from d2export.pruning.selection import Scored
from d2export.runtime.vision import Inputs
from d2export.verify.reference import Reference

TILES_AT_ONCE = 4  # attention of a tile takes 67 MB; a request of 13 would take a gigabyte


class Answer(NamedTuple):
    """What PyTorch answers in float32, what it decided on, and how long it took."""

    reference: Reference
    scored: Scored
    seconds: float


def answer(module: PrunedVision, pixels: npt.NDArray[np.uint8], inputs: Inputs) -> Answer:
    """Run one picture's tiles; `inputs` are the graph's."""
    tensors = {name: torch.from_numpy(values) for name, values in inputs.items()}
    start = time.perf_counter()
    with torch.inference_mode():
        looked = module.look(
            tensors["pixel_values"],
            tensors["token_grid"],
            tensors.get("prompt_embeds"),
            tiles_at_once=TILES_AT_ONCE,
        )
        kept, indices, *count = module.choose(looked)
        filled = int(count[0]) if count else len(indices)
    seconds = time.perf_counter() - start
    reference = Reference(
        pixels=pixels,
        token_grid=inputs["token_grid"],
        image_embeds=kept[:filled].numpy(),
        kept_indices=indices[:filled].numpy(),
        prompt_embeds=inputs.get("prompt_embeds"),
    )
    return Answer(reference, looked.scored, seconds)


def load_module(bundle: Bundle) -> PrunedVision:
    """The float32 model of a bundle, from its manifest and the weights its graph refers to."""
    manifest = bundle.manifest
    graph = bundle.path(manifest.graphs.vision.path)
    prior = stored_prior_slots(graph) if manifest.selector.prior.source == "file" else None
    return module_of(_spec(bundle), manifest.plan, prior, stored_refs(graph))


def module_of(
    spec: ModelSpec, plan: Plan, prior: Prior | None, refs: Mapping[str, TensorRef]
) -> PrunedVision:
    """The float32 model with its weights; arguments as those of `PrunedVision`."""
    with torch.device("meta"):
        module = PrunedVision(spec, plan, prior)
    module.model.to_empty(device="cpu")
    load_into(module.model, refs)
    return module.eval()


def _spec(bundle: Bundle) -> ModelSpec:
    """The model of a bundle."""
    model = bundle.manifest.model
    return ModelSpec(model.name, model.family, model.id, model.vision, model.text)
