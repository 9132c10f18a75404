"""Run a bundle's graph on its references and compare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from d2export.bundle.folder import Bundle
from d2export.errors import UsageError
from d2export.progress import Progress
from d2export.runtime.vision import Inputs, VisionRunner
from d2export.verify.accuracy import AccuracyReport, Tolerances, compare
from d2export.verify.reference import Reference, read_reference

if TYPE_CHECKING:
    import numpy.typing as npt

    from d2export.pruning.selection import Scored
    from d2export.verify.near_ties import NearTies

# The widest margin that rounding may flip.
NEAR_TIE = {"fp32": 1e-5, "fp16": 1e-2, "bf16": 8e-2, "int8": 2.5e-1}


def check_bundle(
    runner: VisionRunner,
    references: Mapping[str, Reference] | None = None,
    *,
    exact: Mapping[str, Scored] | None = None,
    progress: Progress | None = None,
) -> AccuracyReport:
    """Compare the graph with PyTorch's answers.

    Args:
        references: by name; those stored in the bundle if None.
        exact: what PyTorch decided on, by name, to explain indices that differ.

    Raises:
        UsageError: there is nothing to compare with.
        BundleError: a stored answer cannot be read, or the graph cannot be run.
    """
    bundle = runner.bundle
    stored = references if references is not None else stored_references(bundle)
    if not stored:
        raise UsageError(f"{bundle.root} stores no references", "Pass --image FILE.")
    precision = bundle.manifest.precision
    asked = bundle.manifest.tolerances
    tolerances = Tolerances(asked.embeddings_rtol, asked.indices_agreement, asked.logits_rtol)
    cases = []
    for name, reference in stored.items():
        inputs = reference.inputs(bundle)
        embeds, indices, seconds = runner.timed(inputs)
        ties = None
        same = len(indices) == len(reference.kept_indices) and bool(
            (indices == reference.kept_indices).all()
        )
        if not same and exact is not None and shown(runner, name, progress):
            ties = explain(runner, inputs, exact[name], indices)
        case = compare(name, reference, embeds, indices, tolerances, seconds, ties)
        cases.append(case)
        if progress is not None:
            progress.note(f"  {name}: {case.common} of {case.kept} kept tokens equal")
    return AccuracyReport(
        runner.backend, runner.selection_implementation, precision, tolerances, tuple(cases)
    )


def shown(runner: VisionRunner, name: str, progress: Progress | None) -> bool:
    """Whether it can be found out why a graph kept other tokens; if not, the user is told."""
    if not runner.shows_inside and progress is not None:
        progress.warning(
            f"{name}: not the tokens PyTorch kept; {runner.backend} shows no values inside an "
            "engine, so the tolerances alone say whether that will do"
        )
    return runner.shows_inside


def stored_references(bundle: Bundle) -> dict[str, Reference]:
    """The bundle's own references by name."""
    return {
        entry.name: read_reference(bundle.path(entry.path)) for entry in bundle.manifest.references
    }


def explain(
    runner: VisionRunner, inputs: Inputs, exact: Scored, indices: npt.NDArray[Any]
) -> NearTies:
    """Why a vision graph kept other tokens than PyTorch did."""
    import torch

    from d2export.pruning.selection import Scored
    from d2export.verify.near_ties import examine

    manifest = runner.bundle.manifest
    names = tuple(name for name in ("features", "importance") if name in manifest.layers)
    session = runner.open(manifest.graphs.vision, names)
    found = dict(zip(names, map(torch.from_numpy, session.run(list(names), inputs)), strict=True))
    graph = Scored(
        found["features"], found.get("importance", exact.importance), exact.prior, exact.grid
    )
    return examine(
        exact,
        graph,
        torch.from_numpy(indices),
        manifest.plan,
        NEAR_TIE[manifest.precision],
    )
