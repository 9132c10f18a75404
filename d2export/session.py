"""What is done with a finished bundle: check it, time it, run it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from d2export.benching import bench
from d2export.bundle.disk import explained
from d2export.bundle.folder import Bundle, read_bundle
from d2export.calibration.int8_scales import stored_scales
from d2export.errors import EnvironmentMismatch, OutputError, UsageError
from d2export.inspection import counts_of
from d2export.models.images import load_image
from d2export.models.tiling import tile
from d2export.progress import Progress
from d2export.pruning.prior import outside_seen
from d2export.report.environment import environment_of
from d2export.report.write import write_report
from d2export.runtime.boxes import boxes_in
from d2export.runtime.generate import Generation, Generator
from d2export.runtime.picture import draw_kept
from d2export.runtime.runners import TENSORRT, open_vision
from d2export.runtime.sampling import Sampling
from d2export.runtime.vision import VisionResult, VisionRunner, check_prompt
from d2export.verify.accuracy import TOLERANCES, AccuracyReport
from d2export.verify.check import check_bundle
from d2export.verify.report import BuildReport
from d2export.verify.vlm_check import VlmReport, check_vlm
from d2export.verify.vlm_reference import read_vlm_reference

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from d2export.verify.layers import LayerReport
    from d2export.verify.vlm_pytorch import VlmAnswer

REBUILD_STAGES = 2


def check(
    bundle: Path | str,
    *,
    images: Sequence[Path] = (),
    pytorch: bool = False,
    provider: str = "cpu",
    threads: int | None = None,
    plugin: Path | None = None,
    progress: Progress | None = None,
) -> AccuracyReport | VlmReport:
    """Compare a bundle with PyTorch: with its stored answers, or with fresh ones.

    Args:
        images: pictures to ask PyTorch and the bundle about; implies `pytorch`.
        pytorch: ask PyTorch again instead of reading its stored answers. Needs torch.
        provider: `cpu` or `cuda` of ONNX Runtime, or `tensorrt`: the bundle's engines.
        threads: of one operator; all cores if None.
        plugin: library of TensorRT's plugin; None: that of this installation.

    Raises:
        BundleError: the bundle is damaged.
        UsageError: the bundle has no engines.
        EnvironmentMismatch: a package is missing, or the engines do not fit this machine.
    """
    opened = read_bundle(Path(bundle))
    if opened.manifest.scope == "vlm":
        generator = Generator(opened, provider, threads, plugin=plugin)
        fresh = _ask_pytorch(generator, images) if images or pytorch else {}
        references = {name: found.reference for name, found in fresh.items()}
        exact = {name: (found.scored, found.attention) for name, found in fresh.items()}
        asked = [int(n) for reference in references.values() for n in reference.tiles]
        asked = asked or [entry.tiles for entry in opened.manifest.references]
        outside = outside_seen(generator.prior, asked)
        if outside is not None:
            (progress or Progress(level="quiet")).warning(outside)
        return check_vlm(generator, references or None, exact=exact, progress=progress)
    runner = open_vision(opened, provider, threads, plugin)
    if not (images or pytorch):
        return check_bundle(runner, progress=progress)
    module, answer = _pytorch(opened)
    answers = {
        name: answer(module, pixels, inputs)
        for name, (pixels, inputs) in _questions(runner, images).items()
    }
    return check_bundle(
        runner,
        {name: found.reference for name, found in answers.items()},
        exact={name: found.scored for name, found in answers.items()},
        progress=progress,
    )


def check_layers(
    bundle: Path | str,
    *,
    provider: str = "cpu",
    threads: int | None = None,
    progress: Progress | None = None,
) -> LayerReport:
    """Compare a bundle with PyTorch layer by layer, on its smallest reference. Needs torch.

    Raises:
        UsageError: the bundle stores no references, or engines are asked.
        BundleError: the bundle is damaged.
        EnvironmentMismatch: a package is missing.
    """
    progress = progress or Progress(level="quiet")
    if provider == TENSORRT:
        raise UsageError(
            "--per-layer looks inside a graph, and an engine shows nothing inside",
            "Leave --provider tensorrt out.",
        )
    opened = read_bundle(Path(bundle))
    limit = TOLERANCES[opened.manifest.precision].embeddings
    if not opened.manifest.references:
        raise UsageError(f"{bundle} stores no references", "Build the bundle again.")
    if opened.manifest.scope == "vlm":
        return _check_vlm_layers(Generator(opened, provider, threads), limit, progress)
    with progress.stage("loading the model into PyTorch"):
        module, _ = _pytorch(opened)
    from d2export.verify.layers import compare_layers

    runner = VisionRunner(opened, provider=provider, threads=threads)
    _, inputs = min(_questions(runner, ()).values(), key=lambda question: len(question[0]))
    with progress.stage("comparing layer by layer"):
        return compare_layers(runner, module, inputs, limit=limit)


def _check_vlm_layers(generator: Generator, limit: float, progress: Progress) -> LayerReport:
    with _torch_at_hand():
        from d2export.verify.vlm_layers import compare_vlm_layers
        from d2export.verify.vlm_pytorch import load_modules

    bundle = generator.bundle
    smallest = min(bundle.manifest.references, key=lambda entry: entry.tiles)
    reference = read_vlm_reference(bundle.path(smallest.path))
    with progress.stage("loading the vision tower into PyTorch"):
        modules = load_modules(bundle, generator.prior)
    with progress.stage("comparing layer by layer"):
        return compare_vlm_layers(generator, modules, reference, limit=limit)


def run(
    bundle: Path | str,
    image: Path | str,
    *,
    prompt: str | None = None,
    prompt_embeds: npt.NDArray[np.float32] | None = None,
    provider: str = "cpu",
    threads: int | None = None,
    plugin: Path | None = None,
) -> VisionResult:
    """The visual tokens of one picture that are worth keeping.

    Args:
        prompt: text, for a bundle with importance `text` and a tokenizer.
        prompt_embeds: `[P, hidden]` float32 instead of `prompt`.

    Raises:
        ImageError: the picture cannot be used.
        UsageError: a prompt is missing, superfluous, or cannot be embedded.
        BundleError: the bundle is damaged.
        EnvironmentMismatch: a package is missing.
    """
    opened = read_bundle(Path(bundle))
    if prompt is not None and prompt_embeds is not None:
        raise UsageError("--prompt and --prompt-embeds are both given", "Leave one of them out.")
    check_prompt(opened, given=prompt is not None or prompt_embeds is not None)
    if prompt is not None:
        from d2export.runtime.prompt import embed_prompt

        prompt_embeds = embed_prompt(opened, prompt)
    return open_vision(opened, provider, threads, plugin).run(image, prompt_embeds)


def answer(
    bundle: Path | str,
    images: Sequence[Path | str],
    prompt: str,
    *,
    max_new_tokens: int = 256,
    sampling: Sampling | None = None,
    system: str | None = None,
    on_text: Callable[[str], None] | None = None,
    provider: str = "cpu",
    threads: int | None = None,
    plugin: Path | None = None,
) -> Generation:
    """What the whole model, in a bundle of scope `vlm`, answers about pictures.

    Arguments and errors are those of `Generator.answer`; who asks more than once keeps a
    `Generator`, which opens the graphs once.
    """
    generator = Generator(read_bundle(Path(bundle)), provider, threads, plugin=plugin)
    return generator.answer(
        images,
        prompt,
        max_new_tokens=max_new_tokens,
        sampling=sampling,
        system=system,
        on_text=on_text,
        on_warning=Progress(level="quiet").warning,
    )


def scope_of(bundle: Path | str) -> str:
    """`vision` or `vlm`; only the manifest is read."""
    return read_bundle(Path(bundle), verify=False).manifest.scope


def save_pictures(result: Generation, images: Sequence[Path], folder: Path) -> list[Path]:
    """Draw the kept tokens of each picture into `folder`, as `NAME.kept.png`.

    Boxes in an answer about one picture are drawn, too.

    Raises:
        OutputError: the folder cannot be written.
    """
    pictures: list[Path] = []
    boxes = boxes_in(result.text) if len(images) == 1 else ()
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for image, tiles, kept in zip(images, result.images, result.kept, strict=True):
            target, number = folder / f"{image.stem}.kept.png", 1
            while target in pictures:
                number += 1
                target = folder / f"{image.stem}-{number}.kept.png"
            draw_kept(load_image(image), tiles, kept, boxes).save(target)
            pictures.append(target)
    return pictures


def save_result(result: VisionResult, image: Path, folder: Path) -> tuple[Path, Path]:
    """Write `NAME.npz` (image_embeds, kept_indices, token_grid) and `NAME.png` into `folder`.

    Raises:
        OutputError: the folder cannot be written.
    """
    import numpy as np

    arrays, picture = folder / f"{image.stem}.kept.npz", folder / f"{image.stem}.kept.png"
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(
            arrays,
            image_embeds=result.image_embeds,
            kept_indices=result.kept_indices,
            token_grid=result.tiles.grid,
        )
        draw_kept(load_image(image), result.tiles, result.kept_indices).save(picture)
    return arrays, picture


def rebuild(
    bundle: Path | str,
    *,
    provider: str = "cpu",
    threads: int | None = None,
    progress: Progress | None = None,
) -> BuildReport:
    """Check and time a bundle that was made elsewhere; its report.json and .html are new.

    Raises:
        BundleError: the bundle is damaged.
        OutputError: the bundle cannot be written.
        EnvironmentMismatch: a package is missing.
    """
    progress = progress or Progress(REBUILD_STAGES, level="quiet")
    root = Path(bundle)
    if root.is_dir() and not os.access(root, os.W_OK):
        raise OutputError(
            f"{root} cannot be written, so its report.json cannot be either",
            f"Run: d2export check {root} && d2export bench {root}",
        )
    with progress.stage("checking against PyTorch's stored answers"):
        accuracy = check(bundle, provider=provider, threads=threads, progress=progress)
    with progress.stage("measuring latency"):
        latency = bench(bundle, provider=provider, threads=threads)
    opened = read_bundle(root, verify=False)
    scales = stored_scales(opened)
    report = BuildReport(
        accuracy,
        latency,
        counts=counts_of(opened),
        environment=environment_of(provider, threads),
        products=scales.errors if scales else {},
    )
    unfinished = root / ".report.json.unfinished"
    try:
        with explained(root):
            report.write(unfinished)
            unfinished.replace(root / "report.json")
    finally:
        with suppress(OSError):
            unfinished.unlink()
    write_report(root)
    return report


def _ask_pytorch(generator: Generator, images: Sequence[Path]) -> dict[str, VlmAnswer]:
    """PyTorch's answers to the stored prompts, or to the first of them about other pictures."""
    with _torch_at_hand():
        from d2export.verify.vlm_pytorch import ask_again
    return ask_again(generator, images)


@contextmanager
def _torch_at_hand() -> Iterator[None]:
    """Around the imports that ask PyTorch."""
    try:
        yield
    except ImportError as error:
        raise EnvironmentMismatch(
            f"asking PyTorch needs the package {error.name}, which is not installed",
            "Run: pip install 'd2export[export]', or check against the stored answers.",
        ) from None


def _questions(runner: VisionRunner, images: Sequence[Path]) -> dict[str, Any]:
    """Tiles and graph inputs by name: of new pictures, or of the stored references."""
    from d2export.verify.check import stored_references

    stored = stored_references(runner.bundle)
    if not images:
        return {name: (item.pixels, item.inputs(runner.bundle)) for name, item in stored.items()}
    prompt = next((item.prompt_embeds for item in stored.values()), None)
    vision = runner.bundle.manifest.model.vision
    cut = {str(path): tile(load_image(path), vision) for path in images}
    return {name: (tiles.pixels, runner.inputs(tiles, prompt)) for name, tiles in cut.items()}


def _pytorch(bundle: Bundle) -> tuple[Any, Any]:
    with _torch_at_hand():
        from d2export.verify.pytorch import answer, load_module
    return load_module(bundle), answer
