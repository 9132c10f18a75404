"""`d2export eval`: accuracy on a task, of bundles or of a model in PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from d2export.cli_options import (
    Budget,
    Importance,
    Json,
    MaxKeep,
    MinKeep,
    PriorFile,
    Provider,
    Quiet,
    RandomWeights,
    Revision,
    Seed,
    Settings,
    Threads,
    Verbose,
    pairs_of,
    refuse_others,
)
from d2export.cli_output import finish, progress_of
from d2export.errors import UsageError

TaskName = Annotated[
    str, typer.Option("--task", help="pocket-scenes, pope, gqa, ...: what to ask.")
]
Data = Annotated[Path | None, typer.Option("--data", help="Folder of the task's files.")]
Samples = Annotated[
    int | None, typer.Option("--samples", help="The first so many questions of each kind.")
]
# What goes with any evaluation, with bundles, and with a model.
EVAL_BOTH = (
    *("task", "data", "samples", "keep", "output", "shard", "force", "threads"),
    *("as_json", "quiet", "verbose"),
)
EVAL_BUNDLES = (*EVAL_BOTH, "bundles", "provider")
EVAL_MODEL = (
    *(*EVAL_BOTH, "model", "selector", "settings", "prune_layer", "oracle", "prior"),
    *("importance", "budget", "min_keep", "max_keep", "random_weights", "seed", "revision"),
)

# What goes with an accuracy budget, and what goes with nothing else.
DROP = ("max_drop", "task", "data", "samples")
WITH_DROP = (*DROP, "bundle", "provider", "threads", "as_json", "quiet", "verbose")
DROP_TASK, DROP_SAMPLES = "pocket-scenes", 500  # unless others are named
MaxDrop = Annotated[
    str | None, typer.Option(help="Pruned against unpruned: points a score may drop, such as 2%.")
]
DropTask = Annotated[
    str | None, typer.Option("--task", help=f"With --max-drop; default: {DROP_TASK}.")
]
DropSamples = Annotated[
    int | None, typer.Option("--samples", help=f"Of each kind; default: {DROP_SAMPLES}.")
]


def evaluate(
    ctx: typer.Context,
    task: TaskName,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder of the results; it goes on there.")
    ],
    bundles: Annotated[
        list[Path] | None, typer.Argument(metavar="[BUNDLE]...", help="Bundles of scope vlm.")
    ] = None,
    data: Data = None,
    samples: Samples = None,
    model: Annotated[
        str | None, typer.Option("-m", "--model", help="Preset, checkpoint folder or hub id.")
    ] = None,
    selector: Annotated[
        list[str] | None, typer.Option(help="How tokens are chosen; may be repeated. Default: d2.")
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            help="Tokens kept; may be repeated. Default: a bundle's own; 50%, 25%, 10%, 5%."
        ),
    ] = None,
    settings: Settings = None,
    prune_layer: Annotated[
        list[int] | None, typer.Option(help="Prune before this layer; may be repeated. Default: 2.")
    ] = None,
    oracle: Annotated[
        bool, typer.Option("--oracle", help="Also keep what the answer is seen in: the ceiling.")
    ] = False,
    prior: PriorFile = None,
    importance: Importance = None,
    budget: Budget = "image",
    min_keep: MinKeep = None,
    max_keep: MaxKeep = None,
    random_weights: RandomWeights = False,
    seed: Seed = 0,
    revision: Revision = None,
    shard: Annotated[
        str, typer.Option(metavar="I/N", help="Part I of N of the questions, by picture.")
    ] = "1/1",
    force: Annotated[
        bool, typer.Option("--force", help="Start over where the folder has other settings.")
    ] = False,
    provider: Provider = "cpu",
    threads: Threads = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Accuracy on a task, unpruned and pruned; can be resumed."""
    from d2export import evaluating
    from d2export.evaluation.results import Shard
    from d2export.evaluation.sweep import KEEPS, Sweep
    from d2export.evaluation.tasks import open_task

    if bool(bundles) == (model is not None):
        raise UsageError(
            "bundles and --model are both given" if bundles else "there is nothing to evaluate",
            "Pass the folders of bundles, or --model for one in PyTorch.",
        )
    if bundles:
        refuse_others(ctx, "bundles", EVAL_BUNDLES, "It is in the bundle; leave it out.")
    else:
        refuse_others(ctx, "--model", EVAL_MODEL, "Leave it out.")
    asked = open_task(task, data, samples)
    run = evaluating.RunOptions(output, Shard.parse(shard), force, threads, provider)
    progress = progress_of(evaluating.STAGES, quiet, verbose)
    if bundles:
        found = evaluating.eval_bundles(bundles, keep or (), asked, run, progress=progress)
    else:
        assert model is not None
        sweep = Sweep(
            selectors=tuple(selector or ("d2",)),
            keeps=tuple(keep or KEEPS),
            prune_layers=tuple(prune_layer or (2,)),
            settings=pairs_of(settings),
            prior=prior,
            importance=importance,
            budget=budget,
            min_keep=min_keep,
            max_keep=max_keep,
            oracle=oracle,
        )
        options = evaluating.ModelOptions(model, random_weights, seed, revision)
        found = evaluating.eval_model(options, sweep, asked, run, progress=progress)
    finish(found.to_json(), f"{found.text()}\n\nFigures and plots: {output}", as_json)


def check_drop(
    ctx: typer.Context,
    bundle: Path,
    max_drop: str,
    task: str | None,
    data: Path | None,
    samples: int | None,
    provider: str,
    threads: int | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """`d2export check BUNDLE --max-drop 2%`; exit 1 if a kind of question drops by more."""
    from d2export import evaluating
    from d2export.evaluation.drop import parse_drop
    from d2export.evaluation.tasks import open_task

    refuse_others(ctx, "--max-drop", WITH_DROP)
    report = evaluating.check_drop(
        bundle,
        parse_drop(max_drop),
        open_task(task or DROP_TASK, data, samples or DROP_SAMPLES),
        provider=provider,
        threads=threads,
        progress=progress_of(evaluating.STAGES, quiet, verbose),
    )
    finish(report.to_json(), report.text(), as_json, passed=report.passed)


def refuse_without_drop(ctx: typer.Context) -> None:
    """Raise a UsageError if an option was typed that only --max-drop has a use for."""
    typed = [name for name in DROP if ctx.params.get(name) is not None]
    if typed:
        raise UsageError(
            f"--{typed[0]} has no effect without --max-drop", "Add --max-drop 2%, or leave it out."
        )
