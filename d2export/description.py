"""A finished build, as its manifest."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from d2export import __version__
from d2export.bundle import records
from d2export.bundle.folder import file_entries
from d2export.bundle.manifest import Manifest
from d2export.models.safetensors_file import TensorRef
from d2export.models.source import Source
from d2export.options import ExportOptions
from d2export.pruning.prior import Prior
from d2export.runtime.prompt import STORED
from d2export.verify.accuracy import TOLERANCES

if TYPE_CHECKING:
    from d2export.export.weights import PlacedWeights

PRIOR = "processor/prior.json"  # in scope vlm, where it is no part of a graph
PROMPT_TABLE = "prompt_embedding"  # placed with the weights, but not part of the vision graph


def manifest_of(
    folder: Path,
    options: ExportOptions,
    source: Source,
    weights: PlacedWeights,
    prior: Prior | None,
    references: Sequence[records.Reference],
) -> Manifest:
    """Everything a reader of the bundle in `folder` has to know."""
    from d2export.export.graph_file import DECODER, PRUNE, VISION
    from d2export.export.vision import layer_names

    spec, parameters = source.checkpoint.spec, options.parameters()
    vlm, importance = options.scope == "vlm", options.importance_source
    ranges = {path.relative_to(folder).as_posix(): used for path, used in weights.ranges().items()}
    table = weights.refs.get(PROMPT_TABLE)
    tolerances = TOLERANCES[options.precision]
    return Manifest(
        schema=2,
        tool=records.Tool("d2export", __version__),
        scope=options.scope,  # type: ignore[arg-type]
        model=records.Model(
            name=spec.name,
            family=spec.family,  # type: ignore[arg-type]
            source=source.kind,  # type: ignore[arg-type]
            id=source.id,
            revision=source.checkpoint.revision,
            random_seed=source.seed,
            trained=source.kind != "random",
            vision=spec.vision,
            text=spec.text,
        ),
        selector=records.Selector(
            name="d2",
            importance=importance,  # type: ignore[arg-type]
            keep=parameters.keep or None,
            keep_permille=parameters.keep_permille or None,
            pivot_ratio=parameters.pivot_ratio,
            alpha=parameters.alpha,
            theta=parameters.theta,
            eps=parameters.eps,
            pivots_block=parameters.pivots_block,
            importance_layer=options.cls_layer(spec.vision) if importance == "cls" else None,
            prune_layer=options.prune_layer if vlm else None,
            prior=records.Prior(
                options.prior_source,
                PRIOR if prior and vlm else None,
                prior.sha256 if prior else None,
                prior.provenance if prior else {},
            ),
        ),
        precision=options.precision,  # type: ignore[arg-type]
        opset=options.opset,
        graphs=records.Graphs(
            _graph_record(folder, VISION),
            _graph_record(folder, DECODER) if vlm else None,
            _graph_record(folder, PRUNE),
        ),
        layers=tuple(layer_names(spec, pruned=not vlm)),
        weights=records.Weights(
            weights.mode,  # type: ignore[arg-type]
            source.id if weights.mode == "linked" else None,
        ),
        prompt_embedding=_table_record(folder, table) if table else None,
        references=tuple(references),
        tolerances=records.Tolerances(tolerances.embeddings, tolerances.logits, tolerances.indices),
        versions=_versions(),
        files=file_entries(folder, ranges if weights.mode == "linked" else {}),
    )


def _graph_record(folder: Path, name: str) -> records.Graph:
    from d2export.export.graph_file import describe

    inputs, outputs = describe(folder / "onnx" / name)
    return records.Graph(
        f"onnx/{name}",
        tuple(records.Value(*value) for value in inputs),  # type: ignore[arg-type]
        tuple(records.Value(*value) for value in outputs),  # type: ignore[arg-type]
    )


def _table_record(folder: Path, table: TensorRef) -> records.PromptEmbedding:
    dtypes = {stored: dtype for dtype, stored in STORED.items()}
    return records.PromptEmbedding(
        table.path.relative_to(folder).as_posix(),
        table.offset,
        dtypes[table.dtype],  # type: ignore[arg-type]
        table.shape,  # type: ignore[arg-type]
    )


def _versions() -> dict[str, str]:
    packages = ("torch", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "numpy", "polygraphy")
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
