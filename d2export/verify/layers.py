"""Layer by layer: where does the graph leave PyTorch's path?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

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
    with torch.inference_mode(), recorded(module.model.tower.layers) as theirs:
        scored = module.look(
            tensors["pixel_values"], tensors["token_grid"], tensors.get("prompt_embeds")
        ).scored
        theirs |= {"features": scored.features, "importance": scored.importance}
    return LayerReport(
        limit, tuple(drift(name, ours[name], theirs[name].numpy()) for name in manifest.layers)
    )


@contextmanager
def recorded(layers: Iterable[nn.Module]) -> Iterator[dict[str, Tensor]]:
    """The states that layers hand on while the block runs, as `layers.0` and so on."""
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            outputs[name] = output if isinstance(output, Tensor) else output[0]

        return hook

    hooks = [
        layer.register_forward_hook(keep(f"layers.{index}")) for index, layer in enumerate(layers)
    ]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def drift(name: str, ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> LayerDrift:
    """One value compared, in float64."""
    a, b = ours.astype(np.float64).ravel(), theirs.astype(np.float64).ravel()
    norms = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    error = float(np.linalg.norm(a - b)) / (norms[1] or 1.0)
    cosine = float(a @ b) / (norms[0] * norms[1] or 1.0)
    return LayerDrift(name, error, cosine)
