"""A finished build, as its manifest."""

from __future__ import annotations

import platform
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
    from d2export.verify.pytorch import Answer

PROMPT_TABLE = "prompt_embedding"  # placed with the weights, but not part of the vision graph


def manifest_of(
    folder: Path,
    options: ExportOptions,
    source: Source,
    weights: PlacedWeights,
    cls_layer: int,
    prior: Prior | None,
    answers: dict[str, Answer],
) -> Manifest:
    """Everything a reader of the bundle in `folder` has to know."""
    from d2export.export.graph_file import PRUNE, VISION
    from d2export.export.vision import layer_names

    spec, parameters = source.checkpoint.spec, options.parameters()
    ranges = {path.relative_to(folder).as_posix(): used for path, used in weights.ranges().items()}
    table = weights.refs.get(PROMPT_TABLE)
    tolerances = TOLERANCES[options.precision]
    return Manifest(
        schema=1,
        tool=records.Tool("d2export", __version__),
        scope="vision",
        model=records.Model(
            name=spec.name,
            family=spec.family,  # type: ignore[arg-type]
            source=source.kind,  # type: ignore[arg-type]
            id=source.id,
            revision=source.checkpoint.revision,
            random_seed=source.seed,
            trained=source.kind != "random",
            vision=spec.vision,
            text_hidden=spec.text.hidden,
        ),
        selector=records.Selector(
            name="d2",
            importance=options.importance,  # type: ignore[arg-type]
            keep=parameters.keep or None,
            keep_permille=parameters.keep_permille or None,
            pivot_ratio=parameters.pivot_ratio,
            alpha=parameters.alpha,
            theta=parameters.theta,
            eps=parameters.eps,
            pivots_block=parameters.pivots_block,
            importance_layer=cls_layer if options.importance == "cls" else None,
            prior=records.Prior(
                "file" if prior else "none",
                prior.sha256 if prior else None,
                prior.provenance if prior else {},
            ),
        ),
        precision=options.precision,  # type: ignore[arg-type]
        opset=options.opset,
        graphs=records.Graphs(_graph_record(folder, VISION), _graph_record(folder, PRUNE)),
        layers=tuple(layer_names(spec)),
        weights=records.Weights(
            weights.mode,  # type: ignore[arg-type]
            source.id if weights.mode == "linked" else None,
        ),
        prompt_embedding=_table_record(folder, table) if table else None,
        references=tuple(
            records.Reference(
                name,
                f"reference/{name}.npz",
                len(answer.reference.pixels),
                len(answer.reference.token_grid),
                f"pictures/{name}.png",
            )
            for name, answer in answers.items()
        ),
        tolerances=records.Tolerances(tolerances.embeddings, tolerances.indices),
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
