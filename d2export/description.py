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
from d2export.bundle.manifest import SCHEMA, Manifest
from d2export.models.safetensors_file import TensorRef
from d2export.models.source import Source
from d2export.options import ExportOptions
from d2export.pruning.prior import Prior
from d2export.runtime.prompt import STORED
from d2export.verify.accuracy import tolerances_of

if TYPE_CHECKING:
    from d2export.calibration.int8_scales import Int8Scales
    from d2export.export.weights import PlacedWeights

SCALES = "calibration/int8.json"  # in precision int8
PRIOR = "processor/prior.json"  # in scope vlm, where it is no part of a graph
TEXT_TABLE = "text.embedding.weight"
PROMPT_TABLE = "prompt_embedding"  # placed with the weights, but not part of the vision graph


def manifest_of(
    folder: Path,
    options: ExportOptions,
    source: Source,
    weights: PlacedWeights,
    prior: Prior | None,
    references: Sequence[records.Reference],
    scales: Int8Scales | None = None,
) -> Manifest:
    """Everything a reader of the bundle in `folder` has to know."""
    from d2export.export.graph_file import DECODER, PRUNE, VISION
    from d2export.export.vision import layer_names

    spec = source.checkpoint.spec
    plan, vlm = options.plan(spec), options.scope == "vlm"
    ranges = {path.relative_to(folder).as_posix(): used for path, used in weights.ranges().items()}
    by_text = plan.importance == "text"
    table = weights.refs.get(TEXT_TABLE if vlm else PROMPT_TABLE) if by_text else None
    tolerances = tolerances_of(options.precision, plan)
    return Manifest(
        schema=SCHEMA,
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
            name=plan.selector.name,  # type: ignore[arg-type]
            importance=plan.importance,  # type: ignore[arg-type]
            keep=getattr(plan.parameters, "keep", 0) or None,
            keep_permille=getattr(plan.parameters, "keep_permille", 0) or None,
            min_keep=getattr(plan.parameters, "min_keep", None),
            max_keep=options.max_keep,
            budget=plan.budget,
            settings=dict(plan.settings),
            importance_layer=plan.importance_layer,
            prune_layer=plan.prune_layer,
            position_ids=plan.position_ids,
            prior=records.Prior(
                options.prior_source,
                PRIOR if prior and plan.in_decoder else None,
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
        layers=tuple(layer_names(spec, plan)),
        weights=records.Weights(
            weights.mode,  # type: ignore[arg-type]
            source.id if weights.mode == "linked" else None,
        ),
        prompt_embedding=_table_record(folder, table) if table else None,
        references=tuple(references),
        tolerances=records.Tolerances(tolerances.embeddings, tolerances.logits, tolerances.indices),
        versions=_versions(),
        files=file_entries(folder, ranges if weights.mode == "linked" else {}),
        quantization=_quantization_record(scales) if scales else None,
    )


def _quantization_record(scales: Int8Scales) -> records.Quantization:
    return records.Quantization(
        SCALES, scales.method, scales.pictures.count, len(scales.products), len(scales.narrow)
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
