"""`d2export check` and `d2export bench`: is a bundle right, and how fast is it?"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from d2export.cli_eval import (
    Data,
    DropSamples,
    DropTask,
    MaxDrop,
    check_drop,
    refuse_without_drop,
)
from d2export.cli_options import (
    BundleArg,
    EngineProvider,
    Images,
    Json,
    Quiet,
    RunPlugin,
    Threads,
    Verbose,
    refuse_others,
)
from d2export.cli_output import finish, progress_of
from d2export.errors import OutputError, UsageError

# What goes with a comparison layer by layer.
WITH_LAYERS = ("bundle", "per_layer", "provider", "threads", "as_json", "quiet", "verbose")


def check(
    ctx: typer.Context,
    bundle: BundleArg,
    image: Images = None,
    pytorch: Annotated[
        bool, typer.Option("--pytorch", help="Ask PyTorch again, not its stored answers.")
    ] = False,
    per_layer: Annotated[
        bool, typer.Option("--per-layer", help="Compare layer by layer; needs PyTorch.")
    ] = False,
    max_drop: MaxDrop = None,
    task: DropTask = None,
    data: Data = None,
    samples: DropSamples = None,
    provider: EngineProvider = "cpu",
    plugin: RunPlugin = None,
    threads: Threads = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Compare a bundle, or its engines, with PyTorch or unpruned."""
    if max_drop is not None:
        from d2export.runtime.runners import TENSORRT

        if provider == TENSORRT:
            raise UsageError(
                "--max-drop compares with the same model unpruned, and an engine keeps what it was "
                "built to keep",
                "Leave --provider tensorrt out: the ONNX graphs can keep all.",
            )
        given = (provider, threads, as_json, quiet, verbose)
        check_drop(ctx, bundle, max_drop, task, data, samples, *given)
        return
    refuse_without_drop(ctx)
    from d2export import session
    from d2export.verify.report import accuracy_text
    from d2export.verify.tables import layer_table

    if per_layer:
        refuse_others(ctx, "--per-layer", WITH_LAYERS)
        layers = session.check_layers(
            bundle,
            provider=provider,
            threads=threads,
            progress=progress_of(2, quiet, verbose),
        )
        passed = layers.first_drift is None
        finish(layers.to_json(), layer_table(layers), as_json, passed=passed)
        return
    report = session.check(
        bundle,
        images=tuple(image or ()),
        pytorch=pytorch,
        provider=provider,
        threads=threads,
        plugin=plugin,
        progress=progress_of(None, quiet, verbose),
    )
    finish(report.to_json(), accuracy_text(report), as_json, passed=report.passed)


def bench(
    bundle: BundleArg,
    tiles: Annotated[list[int], typer.Option(help="Tiles per image; may be repeated.")] = [1],  # noqa: B006
    warmup: Annotated[int, typer.Option(help="Calls before timing.")] = 3,
    iterations: Annotated[int, typer.Option(help="Calls timed.")] = 20,
    provider: EngineProvider = "cpu",
    plugin: RunPlugin = None,
    threads: Threads = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Time a bundle's graphs, or its engines, and selection."""
    from d2export import benching
    from d2export.runtime.runners import TENSORRT
    from d2export.verify.report import latency_text
    from d2export.verify.saved_latency import save_latency

    given: dict[str, Any] = {
        "tiles": tiles,
        "warmup": warmup,
        "iterations": iterations,
        "threads": threads,
        "plugin": plugin,
        "progress": progress_of(len(tiles), quiet, verbose),
    }
    if provider == TENSORRT:
        found = benching.bench_engines(bundle, **given)
        try:
            saved = f"Written to {save_latency(bundle, found)}."
        except OutputError as error:  # a bundle that is read only
            saved = f"Not written: {error.problem}."
        finish(found.to_json(), f"{found.text()}\n{saved}", as_json)
        return
    stages = benching.bench(bundle, provider=provider, **given)
    finish([stage.to_json() for stage in stages], latency_text(stages), as_json)
