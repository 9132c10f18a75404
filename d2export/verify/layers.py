"""Layer by layer: where does the graph leave PyTorch's path?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from d2export.export.pruned_vision import PrunedVision
from d2export.runtime.vision import Inputs, VisionRunner


@dataclass(frozen=True)
class LayerDrift:
    """One value of the graph against PyTorch's.

    Attributes:
        error: L2 norm of the difference over that of PyTorch's value.
        cosine: of the two values as flat vectors.
    """

    name: str
    error: float
    cosine: float


@dataclass(frozen=True)
class LayerReport:
    """All layers in order, and the first whose error exceeds the limit."""

    limit: float
    layers: tuple[LayerDrift, ...]

    @property
    def first_drift(self) -> str | None:
        """Name of the first layer that drifts, None if none does."""
        for layer in self.layers:
            if not layer.error <= self.limit:
                return layer.name
        return None

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "first_drift": self.first_drift}


def compare_layers(
    runner: VisionRunner, module: PrunedVision, inputs: Inputs, *, limit: float
) -> LayerReport:
    """Run both on the same input and compare what every layer hands on."""
    manifest = runner.bundle.manifest
    session = runner.open(manifest.graphs.vision, manifest.layers)
    ours = dict(zip(manifest.layers, session.run(list(manifest.layers), inputs), strict=True))
    tensors = {name: torch.from_numpy(values) for name, values in inputs.items()}
    with torch.inference_mode(), _recorded(module) as theirs:
        scored = module.scored(
            tensors["pixel_values"], tensors["token_grid"], tensors.get("prompt_embeds")
        )
        theirs |= {"features": scored.features, "importance": scored.importance}
    return LayerReport(
        limit, tuple(_drift(name, ours[name], theirs[name].numpy()) for name in manifest.layers)
    )


@contextmanager
def _recorded(module: PrunedVision) -> Iterator[dict[str, torch.Tensor]]:
    """Outputs of the tower's layers while the block runs."""
    outputs: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Any:
        return lambda _module, _inputs, output: outputs.__setitem__(name, output)

    hooks = [
        layer.register_forward_hook(keep(f"layers.{index}"))
        for index, layer in enumerate(module.model.tower.layers)
    ]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def _drift(name: str, ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> LayerDrift:
    a, b = ours.astype(np.float64).ravel(), theirs.astype(np.float64).ravel()
    norms = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    error = float(np.linalg.norm(a - b)) / (norms[1] or 1.0)
    cosine = float(a @ b) / (norms[0] * norms[1] or 1.0)
    return LayerDrift(name, error, cosine)
