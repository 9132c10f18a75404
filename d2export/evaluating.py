"""What `d2export eval` does: a task, asked of a model in PyTorch or of bundles."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from d2export.bundle.folder import read_bundle
from d2export.errors import EnvironmentMismatch
from d2export.evaluation.bundle_answers import bundle_candidate
from d2export.evaluation.drop import DropReport, drop_report
from d2export.evaluation.results import Shard
from d2export.evaluation.run import Candidate, evaluate
from d2export.evaluation.sweep import Sweep
from d2export.evaluation.tables import Accuracy, summarize
from d2export.evaluation.task import Task
from d2export.evaluation.versus import Footprint
from d2export.models.source import Source, open_source
from d2export.progress import Progress
from d2export.report.environment import environment_of
from d2export.report.evaluated import write_evaluation_report
from d2export.report.rivals import rivals_among
from d2export.verify.tables import plural

STAGES = 2
FIRST_BYTES = 16 * 2**20  # of each file of weights, which tell one model from another


@dataclass(frozen=True)
class ModelOptions:
    """Which model in PyTorch, as `ExportOptions` names it."""

    model: str
    random_weights: bool = False
    seed: int = 0
    revision: str | None = None


@dataclass(frozen=True)
class RunOptions:
    """How an evaluation runs.

    Attributes:
        output: the folder of its results.
        shard: which part of the questions.
        force: start over where the folder has other settings.
        threads: batches at a time in PyTorch, threads of one operator in ONNX Runtime; all cores
            if None.
        provider: of ONNX Runtime: `cpu` or `cuda`.
    """

    output: Path
    shard: Shard = field(default_factory=Shard)
    force: bool = False
    threads: int | None = None
    provider: str = "cpu"


def eval_model(
    options: ModelOptions,
    sweep: Sweep,
    task: Task,
    run: RunOptions,
    *,
    progress: Progress | None = None,
) -> Accuracy:
    """Accuracy of a model in PyTorch, float32, in all configurations of a sweep.

    Raises:
        UsageError: an option does not fit, or the output has other settings.
        CheckpointError: the model cannot be read.
        OutputError: the output cannot be written.
        EnvironmentMismatch: a package is missing.
    """
    progress = progress or Progress(STAGES, level="quiet")
    with _torch_at_hand(), TemporaryDirectory() as scratch:
        from d2export.evaluation.pytorch_answers import PytorchAnswers
        from d2export.evaluation.pytorch_model import load_model

        with progress.stage(f"reading {options.model}"):
            source = open_source(
                options.model,
                Path(scratch) / "checkpoint",
                random_weights=options.random_weights,
                seed=options.seed,
                revision=options.revision,
                embeddings=False,
                scope="vlm",
                progress=progress,
            )
            configurations = sweep.configurations(source.checkpoint.spec)
            model = load_model(source.checkpoint)
        threads = run.threads or len(os.sched_getaffinity(0))
        candidate = Candidate(
            configurations,
            lambda some: PytorchAnswers(model, some, threads),
            {"": _facts(source)},
        )
        return _evaluated(task, [candidate], run, progress)


def eval_bundles(
    bundles: Sequence[Path],
    keeps: Sequence[str],
    task: Task,
    run: RunOptions,
    *,
    progress: Progress | None = None,
) -> Accuracy:
    """Accuracy of bundles of scope `vlm` with ONNX Runtime, unpruned included.

    Args:
        keeps: visual tokens kept, as `--keep`; empty for what each bundle was built with.

    Raises:
        UsageError: a keep value cannot be had from a bundle, or the output has other settings.
        BundleError: a bundle is damaged.
        OutputError: the output cannot be written.
        EnvironmentMismatch: a package is missing.
    """
    progress = progress or Progress(STAGES, level="quiet")
    with progress.stage(f"opening {plural(len(bundles), 'bundle')}"):
        opened = [read_bundle(path) for path in bundles]
        candidate = bundle_candidate(opened, keeps, run.provider, run.threads)
    return _evaluated(task, [candidate], run, progress, rivals_among(opened))


def check_drop(
    bundle: Path,
    budget: float,
    task: Task,
    *,
    provider: str = "cpu",
    threads: int | None = None,
    progress: Progress | None = None,
) -> DropReport:
    """Whether a bundle of scope `vlm` keeps to an accuracy budget: pruned against unpruned.

    Args:
        budget: how much the mean score of any kind may drop, as a share of 1.

    Raises:
        UsageError: the bundle prunes nothing, or cannot answer unpruned.
        BundleError: it is damaged.
        EnvironmentMismatch: a package is missing.
    """
    with TemporaryDirectory() as folder:
        run = RunOptions(Path(folder) / "results", threads=threads, provider=provider)
        return drop_report(eval_bundles([bundle], (), task, run, progress=progress), budget)


def _evaluated(
    task: Task,
    candidates: Sequence[Candidate],
    run: RunOptions,
    progress: Progress,
    rivals: Sequence[tuple[Footprint, Footprint]] = (),
) -> Accuracy:
    """Ask, count, and write the files."""
    configurations = [one for candidate in candidates for one in candidate.configurations]
    asked = len(run.shard.part(task.samples))
    what = f"{plural(len(configurations), 'configuration')} {plural(asked, 'question')}"
    with progress.stage(f"asking {what} of {task.name}"):
        folder = evaluate(
            task, candidates, run.output, shard=run.shard, force=run.force, progress=progress
        )
        environment = environment_of(run.provider, run.threads)
        accuracy = summarize(task, folder, configurations, environment | _torch_version(), rivals)
        accuracy.write(run.output)
        write_evaluation_report(accuracy, run.output)
    if not accuracy.complete:
        progress.warning(accuracy.what_is_missing())
    return accuracy


def _facts(source: Source) -> dict[str, Any]:
    """What tells a model from another."""
    checkpoint = source.checkpoint
    digest = hashlib.sha256()
    for path in sorted({ref.path for ref in checkpoint.tensors.values()}):
        digest.update(str(path.stat().st_size).encode())
        with path.open("rb") as file:
            digest.update(file.read(FIRST_BYTES))
    return {
        "model": checkpoint.spec.name if source.kind != "folder" else checkpoint.folder.name,
        "source": source.kind,
        "revision": checkpoint.revision,
        "random_seed": source.seed,
        "weights": digest.hexdigest(),
        "backend": "PyTorch fp32",
    }


def _torch_version() -> dict[str, str]:
    try:
        return {"torch": metadata.version("torch")}
    except metadata.PackageNotFoundError:
        return {}


@contextmanager
def _torch_at_hand() -> Iterator[None]:
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise EnvironmentMismatch(
            f"evaluating a model needs the package {error.name}, which is not installed",
            "Run: pip install 'd2export[export,text]', or evaluate a bundle.",
        ) from None
    yield
