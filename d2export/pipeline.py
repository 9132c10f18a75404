"""From a checkpoint to a checked bundle: what `d2export export` and `d2export build` do."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from d2export.bundle.folder import Bundle, read_bundle, write_manifest
from d2export.bundle.staging import staged
from d2export.description import manifest_of
from d2export.engine.onnxruntime import provider_name
from d2export.errors import CheckFailed, EnvironmentMismatch, UsageError
from d2export.inspection import counts_of
from d2export.models.generated_pictures import generated_pictures
from d2export.models.images import load_image
from d2export.models.presets import PRESETS
from d2export.models.random_weights import random_bytes
from d2export.models.source import open_source
from d2export.options import ExportOptions
from d2export.progress import Progress
from d2export.pruning.prior import check_provenance, read_prior
from d2export.quantizing import given_scales, store_scales
from d2export.report import selections
from d2export.report.environment import environment_of
from d2export.report.write import write_report
from d2export.runtime.prompt import read_embeds
from d2export.verify.report import BuildReport
from d2export.verify.tables import plural
from d2export.vision_scope import VisionScope
from d2export.vlm_scope import VlmScope

if TYPE_CHECKING:
    from PIL import Image

EXPORT_STAGES, BUILD_STAGES = 3, 5
SCOPES: dict[str, type[VisionScope] | type[VlmScope]] = {"vision": VisionScope, "vlm": VlmScope}
STAGE_NAMES = {
    "vision": "exporting the vision graph",
    "vlm": "exporting the vision graph and the decoder",
}


def export(options: ExportOptions, out: Path | str, *, progress: Progress | None = None) -> Bundle:
    """Write a bundle with ONNX graphs and PyTorch's answers; nothing is checked yet.

    Args:
        out: the bundle's folder; it appears complete or not at all.

    Raises:
        D2ExportError: of the family that says what is wrong and what to do.
    """
    progress = progress or Progress(EXPORT_STAGES, level="quiet")
    with _needs_export_packages(), _staged(out, options) as folder:
        _export_into(folder, options, progress)
        progress.write_log(folder / "build.log")
    return read_bundle(Path(out), verify=False)


def build(
    options: ExportOptions,
    out: Path | str,
    *,
    provider: str = "cpu",
    threads: int | None = None,
    progress: Progress | None = None,
) -> BuildReport:
    """Write a bundle, check it against PyTorch, time it, and store the report.

    Args:
        out: the bundle's folder; it appears complete or not at all.
        provider: of the check and the timing: `cpu` or `cuda`.
        threads: of one operator there; all cores if None.

    Raises:
        CheckFailed: the graph does not answer what PyTorch answers; nothing is written.
        D2ExportError: anything else a user can change.
    """
    progress = progress or Progress(BUILD_STAGES, level="quiet")
    provider_name(provider, threads)  # asked now, because the export before it takes a while
    with _needs_export_packages(), _staged(out, options) as folder:
        scope = _export_into(folder, options, progress)
        bundle = read_bundle(folder, verify=False)
        with progress.stage("checking against PyTorch"):
            accuracy, as_table = scope.check(bundle, provider, threads, progress)
        if not accuracy.passed:
            raise CheckFailed(
                f"the graph does not answer what PyTorch answers\n{as_table}",
                "Nothing was written. Run `d2export export` with the same options, "
                f"then `d2export check {out} --per-layer`.",
            )
        with progress.stage("measuring latency"):
            latency = scope.bench(accuracy)  # type: ignore[arg-type]
        environment = environment_of(provider, threads)
        products = scope.scales.errors if scope.scales else {}
        report = BuildReport(
            accuracy, latency, scope.seconds(), counts_of(bundle), environment, products
        )
        report.write(folder / "report.json")
        write_report(folder)
        progress.write_log(folder / "build.log")
    return report


def _staged(out: Path | str, options: ExportOptions) -> AbstractContextManager[Path]:
    """The folder to fill; refused at once if random weights do not fit on the disk."""
    spec = PRESETS.get(options.model.lower())
    need = random_bytes(spec, options.scope) if spec is not None and options.random_weights else 0
    return staged(Path(out), force=options.force, need_bytes=need)


def _export_into(
    folder: Path, options: ExportOptions, progress: Progress
) -> VisionScope | VlmScope:
    """Fill a staging folder."""
    # What can be seen to be wrong before a model is downloaded is said before.
    prior_file = options.prior_file
    if prior_file is not None and not prior_file.is_file():
        raise UsageError(f"cannot read prior {prior_file}: no such file", "Check the path.")
    if options.prompt_embeds is not None:
        read_embeds(options.prompt_embeds)
    scales = given_scales(options)
    images = _pictures(options.images)
    scratch = folder / ".checkpoint"
    with progress.stage(f"reading {options.model}"):
        source = open_source(
            options.model,
            scratch,
            random_weights=options.random_weights,
            seed=options.seed,
            revision=options.revision,
            embeddings=options.importance_source == "text",
            scope=options.scope,
            progress=progress,
        )
        spec = source.checkpoint.spec
        prior = read_prior(prior_file, spec.vision.tokens_per_tile) if prior_file else None
        if prior is not None and prior_file is not None:
            plan = options.plan(spec)
            check_provenance(prior, prior_file, spec, plan.measured())
        scope = SCOPES[options.scope](folder, options, source, prior, images)
        scope.write_processor(progress)
    if options.precision == "int8":
        scope.scales = store_scales(scope, scales, folder, progress)

    with progress.stage(STAGE_NAMES[options.scope]):
        (folder / "onnx").mkdir()
        weights = scope.write_graphs()
        if source.kind == "random":  # linked from the scratch folder, which goes
            weights = replace(weights, mode="copied")
        elif (
            weights.mode == "copied"
            and source.kind != "package"
            and not options.weights_in_bundle
            and scope.scales is None  # with INT8, what is left of the floats is always copied
        ):
            progress.warning("no hard link can be made to the checkpoint: its weights were copied")

    with progress.stage(f"asking PyTorch about {plural(len(images), 'picture')}"):
        for part in ("reference", "pictures", selections.FOLDER):
            (folder / part).mkdir()
        references = scope.ask(weights, progress)
    if source.kind == "random":
        shutil.rmtree(scratch)
    manifest = manifest_of(folder, options, source, weights, prior, references, scope.scales)
    write_manifest(folder, manifest)
    return scope


def _pictures(paths: tuple[Path, ...]) -> dict[str, Image.Image]:
    """Pictures by a name that can be a file's."""
    if not paths:
        return generated_pictures()
    pictures: dict[str, Image.Image] = {}
    for path in paths:
        stem = re.sub(r"[^\w.-]+", "_", path.stem).strip("._") or "image"
        name, number = stem, 1
        while name in pictures:
            number += 1
            name = f"{stem}-{number}"
        pictures[name] = load_image(path)
    return pictures


@contextmanager
def _needs_export_packages() -> Iterator[None]:
    try:
        import onnx_ir  # noqa: F401
        import onnxscript  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise EnvironmentMismatch(
            f"exporting needs the package {error.name}, which is not installed",
            "Run: pip install 'd2export[export]'. A bundle made elsewhere needs none of it.",
        ) from None
    yield
