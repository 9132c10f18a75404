"""Rules by which tokens are kept, each an op of its own: data for the exporter and the tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from d2export.pruning import native, selection
from d2export.pruning.parameters import OP_TYPE, Budget, PruneParameters
from d2export.pruning.rule_parameters import (
    DartParameters,
    DeduplicateParameters,
    DppParameters,
    ElbowParameters,
    MaxMinParameters,
)
from d2export.pruning.rules import dart, deduplicate, dpp, elbow, max_min
from d2export.pruning.selection import (
    Implementation,
    check_features,
    check_importance,
    implementation,
    mean_over_heads,
)


@dataclass(frozen=True)
class Rule:
    """One op: `kept` and `indices` of the tokens `features`.

    Attributes:
        op_type: its name in the ONNX domain `d2export`, and as a TensorRT plugin.
        about: one sentence for its schema.
        inputs: behind `features`: of `importance`, `prior` and `grid` those it reads, in order.
        parameters: dataclass of its attributes, with their defaults.
        select: `(features [B, N, C], *inputs, parameters)` to indices `[B, M]` int32, ascending.
        counted: whether the number kept follows from shapes and attributes alone.
        native: whether there is native code for it. Then `select` takes a keyword `using`, as
            `selection.select` does.
    """

    op_type: str
    about: str
    inputs: tuple[str, ...]
    parameters: type
    select: Callable[..., Tensor]
    counted: bool = True
    native: bool = True


def _max_min(
    features: Tensor, parameters: MaxMinParameters, using: Implementation | None = None
) -> Tensor:
    check_features(features)
    if _is_native(features, using):
        return torch.from_numpy(native.select_max_min(features.detach(), parameters))
    rows = [max_min.reference(image, parameters) for image in features]
    return _stacked(rows, features, parameters)


def _dpp(
    features: Tensor,
    importance: Tensor,
    parameters: DppParameters,
    using: Implementation | None = None,
) -> Tensor:
    check_features(features)
    check_importance(importance, features)
    if _is_native(features, using):
        inputs = features.detach(), importance.detach()
        return torch.from_numpy(native.select_dpp(*inputs, parameters))
    images = zip(features, mean_over_heads(importance), strict=True)
    rows = [dpp.reference(image, row, parameters) for image, row in images]
    return _stacked(rows, features, parameters)


def _deduplicate(
    features: Tensor,
    importance: Tensor,
    parameters: DeduplicateParameters,
    using: Implementation | None = None,
) -> Tensor:
    check_features(features)
    check_importance(importance, features)
    if _is_native(features, using):
        inputs = features.detach(), importance.detach()
        return torch.from_numpy(native.select_deduplicate(*inputs, parameters))
    images = zip(features, mean_over_heads(importance), strict=True)
    rows = [deduplicate.reference(image, row, parameters) for image, row in images]
    return _stacked(rows, features, parameters)


def _dart(features: Tensor, parameters: DartParameters) -> Tensor:
    check_features(features)
    rows = [dart.reference(image, parameters) for image in features]
    return _stacked(rows, features, parameters)


def _elbow(features: Tensor, importance: Tensor, parameters: ElbowParameters) -> Tensor:
    check_features(features)
    check_importance(importance, features)
    if len(features) != 1:
        raise ValueError(f"features has {len(features)} images: how many stay differs, expected 1")
    return elbow.reference(mean_over_heads(importance)[0], parameters).unsqueeze(0)


def _is_native(features: Tensor, using: Implementation | None) -> bool:
    return (using or implementation(features.device)) == "native"


def _stacked(rows: list[Tensor], features: Tensor, parameters: Budget) -> Tensor:
    """`[B, M]`, also where there is no image."""
    if rows:
        return torch.stack(rows)
    shape = (0, parameters.kept(features.shape[1]))
    return torch.empty(shape, dtype=torch.int32, device=features.device)


RULES = {
    rule.op_type: rule
    for rule in (
        Rule(
            OP_TYPE,
            "Keeps the visual tokens that D2Pruner selects (arXiv 2512.19443).",
            ("importance", "prior", "grid"),
            PruneParameters,
            selection.select,
        ),
        Rule(
            "MaxMinPrune",
            "Keeps tokens as far from each other as possible (DivPrune, arXiv 2503.02175).",
            (),
            MaxMinParameters,
            _max_min,
        ),
        Rule(
            "DppPrune",
            "Keeps relevant tokens that span a large volume (CDPruner, arXiv 2506.10967).",
            ("importance",),
            DppParameters,
            _dpp,
        ),
        Rule(
            "DeduplicatePrune",
            "Keeps important tokens and the least duplicated others (VisPruner, arXiv 2412.01818).",
            ("importance",),
            DeduplicateParameters,
            _deduplicate,
        ),
        Rule(
            "DartPrune",
            "Keeps pivots and the tokens least like them (after DART, arXiv 2502.11494).",
            (),
            DartParameters,
            _dart,
            native=False,
        ),
        Rule(
            "ElbowPrune",
            "Keeps the head of the sorted importance (Sparsity Meets Similarity, 2409.01162).",
            ("importance",),
            ElbowParameters,
            _elbow,
            counted=False,
            native=False,
        ),
    )
}
