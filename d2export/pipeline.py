"""From a checkpoint to a checked bundle: what `d2export export` and `d2export build` do."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from d2export.bundle.folder import Bundle, read_bundle, write_manifest
from d2export.bundle.staging import staged
from d2export.description import PROMPT_TABLE, manifest_of
from d2export.engine.onnxruntime import provider_name
from d2export.errors import CheckFailed, EnvironmentMismatch, UsageError
from d2export.models import layouts
from d2export.models.generated_pictures import generated_pictures
from d2export.models.images import load_image
from d2export.models.presets import PRESETS, ModelSpec
from d2export.models.random_weights import random_bytes
from d2export.models.source import open_source
from d2export.models.tiling import tile
from d2export.options import ExportOptions
from d2export.progress import Progress
from d2export.pruning.prior import read_prior
from d2export.runtime.picture import draw_kept
from d2export.runtime.prompt import read_embeds
from d2export.runtime.vision import VisionRunner, vision_inputs
from d2export.verify.check import check_bundle
from d2export.verify.latency import bench_vision
from d2export.verify.report import BuildReport
from d2export.verify.tables import accuracy_table, plural

if TYPE_CHECKING:
    from PIL import Image

    from d2export.verify.pytorch import Answer

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
)
BENCH_TILES, BENCH_SECONDS = 1, 10.0
EXPORT_STAGES, BUILD_STAGES = 3, 5


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
        answers = _export_into(folder, options, progress)
        bundle = read_bundle(folder, verify=False)
        runner = VisionRunner(bundle, provider=provider, threads=threads)
        with progress.stage("checking against PyTorch"):
            accuracy = check_bundle(
                runner,
                {name: answer.reference for name, answer in answers.items()},
                exact={name: answer.scored for name, answer in answers.items()},
                progress=progress,
            )
        if not accuracy.passed:
            raise CheckFailed(
                f"the graph does not answer what PyTorch answers\n{accuracy_table(accuracy)}",
                f"Nothing was written. Run `d2export export` with the same options, "
                f"then `d2export check {out} --per-layer`.",
            )
        with progress.stage("measuring latency"):
            fastest = min(case.seconds / case.tiles for case in accuracy.cases)
            latency = bench_vision(
                runner, BENCH_TILES, warmup=1, iterations=_iterations(BENCH_SECONDS, fastest)
            )
        seconds = {name: answer.seconds for name, answer in answers.items()}
        report = BuildReport(accuracy, (latency,), seconds)
        report.write(folder / "report.json")
        progress.write_log(folder / "build.log")
    return report


def _staged(out: Path | str, options: ExportOptions) -> AbstractContextManager[Path]:
    """The folder to fill; refused at once if random weights do not fit on the disk."""
    spec = PRESETS.get(options.model.lower())
    need = random_bytes(spec) if spec is not None and options.random_weights else 0
    return staged(Path(out), force=options.force, need_bytes=need)


def _iterations(budget: float, one_call: float) -> int:
    """As many calls as the budget of seconds allows, but at least 3 and at most 20."""
    return int(min(max(budget / one_call, 3), 20))


def _export_into(folder: Path, options: ExportOptions, progress: Progress) -> dict[str, Answer]:
    """Fill a staging folder; the answers of PyTorch by reference name."""
    from d2export.export.vision_graph import write_graphs
    from d2export.verify.pytorch import module_of

    # What can be seen to be wrong before a model is downloaded is said before.
    if options.prior is not None and not options.prior.is_file():
        raise UsageError(f"cannot read prior {options.prior}: no such file", "Check the path.")
    if options.prompt_embeds is not None:
        read_embeds(options.prompt_embeds)
    images = _pictures(options.images)
    needs_table = options.importance == "text"
    scratch = folder / ".checkpoint"
    with progress.stage(f"reading {options.model}"):
        source = open_source(
            options.model,
            scratch,
            random_weights=options.random_weights,
            seed=options.seed,
            revision=options.revision,
            embeddings=needs_table,
            progress=progress,
        )
        spec = source.checkpoint.spec
        refs = layouts.resolve(source.checkpoint.tensors, spec)
        table = layouts.prompt_embedding(source.checkpoint.tensors, spec) if needs_table else None
        cls_layer = options.cls_layer(spec.vision)
        prior = read_prior(options.prior, spec.vision.tokens_per_tile) if options.prior else None
        prompt = _prompt_embeds(options, spec)

    with progress.stage("exporting the vision graph"):
        (folder / "onnx").mkdir()
        weights = write_graphs(
            folder / "onnx",
            spec,
            refs | ({PROMPT_TABLE: table} if table else {}),
            options.parameters(),
            importance=options.importance,
            cls_layer=cls_layer,
            prior=prior,
            precision=options.precision,
            opset=options.opset,
            copy_weights=options.weights_in_bundle and source.kind != "random",
        )
        if source.kind == "random":  # linked from the scratch folder, which goes
            shutil.rmtree(scratch)
            weights = replace(weights, mode="copied")
        elif weights.mode == "copied" and not options.weights_in_bundle:
            progress.warning("no hard link can be made to the checkpoint: its weights were copied")
        _copy_tokenizer(source.checkpoint.folder, folder / "processor")
        if needs_table and not (folder / "processor" / "tokenizer.json").is_file():
            progress.warning(
                "the checkpoint has no tokenizer.json: `run` needs --prompt-embeds, not --prompt"
            )

    with progress.stage(f"asking PyTorch about {plural(len(images), 'picture')}"):
        module = module_of(
            spec, options.parameters(), options.importance, cls_layer, prior, weights.refs
        )
        answers = _write_references(folder, spec, images, module, prompt, progress)

    manifest = manifest_of(folder, options, source, weights, cls_layer, prior, answers)
    write_manifest(folder, manifest)
    return answers


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


def _write_references(
    folder: Path,
    spec: ModelSpec,
    images: dict[str, Image.Image],
    module: Any,
    prompt: Any,
    progress: Progress,
) -> dict[str, Answer]:
    from d2export.verify.pytorch import answer

    (folder / "reference").mkdir()
    (folder / "pictures").mkdir()
    answers: dict[str, Answer] = {}
    for name, image in images.items():
        tiles = tile(image, spec.vision)
        found = answer(module, tiles.pixels, vision_inputs(tiles, spec.vision, prompt))
        found.reference.save(folder / "reference" / f"{name}.npz")
        draw_kept(image, tiles, found.reference.kept_indices).save(
            folder / "pictures" / f"{name}.png"
        )
        progress.note(
            f"  {name}: {plural(len(tiles.pixels), 'tile')}, {len(tiles.grid)} tokens, "
            f"{len(found.reference.kept_indices)} kept, {found.seconds:.1f} s"
        )
        answers[name] = found
    return answers


def _prompt_embeds(options: ExportOptions, spec: ModelSpec) -> Any:
    """Prompt of the references; without one, a seeded stand-in of 16 random embeddings."""
    import numpy as np

    if options.importance != "text":
        return None
    if options.prompt_embeds is None:
        return np.random.default_rng(0).standard_normal((16, spec.text.hidden), np.float32)
    values = read_embeds(options.prompt_embeds)
    if values.ndim != 2 or values.shape[1] != spec.text.hidden or not len(values):
        raise UsageError(
            f"{options.prompt_embeds} has shape {list(values.shape)}, "
            f"expected [P, {spec.text.hidden}]",
            "Pass input embeddings of this model, a row per token.",
        )
    return values


def _copy_tokenizer(source: Path, target: Path) -> None:
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            target.mkdir(exist_ok=True)
            shutil.copyfile(source / name, target / name)


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
