"""The command line: one short function per command, no logic.

Exit codes: 0 ok, 1 a check failed, 2 usage or bad input, 3 this machine or these versions do not
fit, 130 interrupted.
"""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from d2export import __version__
from d2export.cli_calibrate import calibrate
from d2export.cli_check import bench, check
from d2export.cli_engines import ENGINE_OPTIONS, build_bundles_engines, engine_request
from d2export.cli_eval import evaluate
from d2export.cli_options import (
    Budget,
    BundleArg,
    CalibrationFolder,
    CalibrationPrompts,
    Force,
    HardwareCompatible,
    Images,
    Importance,
    ImportanceLayer,
    Json,
    Keep,
    MaxKeep,
    MinKeep,
    Model,
    Opset,
    OptimizationLevel,
    Output,
    Plugin,
    Precision,
    PriorFile,
    PromptEmbeds,
    Provider,
    PruneLayer,
    Quiet,
    RandomWeights,
    ReferencePrompt,
    Revision,
    Scales,
    Scope,
    Seed,
    SelectorName,
    Settings,
    TargetName,
    TensorRTVersion,
    Threads,
    TimingCache,
    Verbose,
    VersionCompatible,
    WeightsInBundle,
    Workspace,
    pairs_of,
    refuse_others,
)
from d2export.cli_output import finish, print_text, progress_of
from d2export.cli_package import package
from d2export.cli_run import run
from d2export.cli_targets import targets
from d2export.errors import CheckFailed, D2ExportError, UsageError
from d2export.options import SELECTOR, ExportOptions


class _Commands(TyperGroup):
    """The commands; errors a user can cause become a message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except D2ExportError as error:
            print(f"error: {error}", file=sys.stderr)
            if isinstance(error, CheckFailed) and not ctx.params.get("as_json"):
                print_text("FAILED")
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            raise typer.Exit(130) from None


app = typer.Typer(
    name="d2export",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Export multimodal LLMs with visual-token pruning inside the graph.",
)
app.add_typer(calibrate, name="calibrate")

# What goes with a bundle made elsewhere.
WITH_BUNDLE = ("bundle", "provider", "threads", "as_json", "quiet", "verbose")


@app.command()
def build(
    ctx: typer.Context,
    bundle: Annotated[
        Path | None, typer.Argument(help="A bundle made elsewhere: check and time it here.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("-m", "--model", help="Preset, checkpoint folder or hub id.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder of the new bundle.")
    ] = None,
    scope: Scope = "vision",
    selector: SelectorName = SELECTOR,
    settings: Settings = None,
    keep: Keep = None,
    min_keep: MinKeep = None,
    max_keep: MaxKeep = None,
    budget: Budget = "image",
    importance: Importance = None,
    importance_layer: ImportanceLayer = -2,
    prune_layer: PruneLayer = 2,
    prior: PriorFile = None,
    precision: Precision = "fp32",
    scales: Scales = None,
    calib: CalibrationFolder = None,
    prompts: CalibrationPrompts = None,
    opset: Opset = 17,
    image: Images = None,
    prompt: ReferencePrompt = None,
    prompt_embeds: PromptEmbeds = None,
    random_weights: RandomWeights = False,
    seed: Seed = 0,
    weights_in_bundle: WeightsInBundle = False,
    revision: Revision = None,
    force: Force = False,
    target: TargetName = None,
    workspace: Workspace = None,
    timing_cache: TimingCache = None,
    hw_compat: HardwareCompatible = False,
    version_compatible: VersionCompatible = False,
    opt_level: OptimizationLevel = None,
    plugin: Plugin = None,
    tensorrt: TensorRTVersion = None,
    provider: Provider = "cpu",
    threads: Threads = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Export, check and time a model, or BUNDLE; build its engines."""
    engines = engine_request(ctx, bundle)
    if bundle is not None:
        hint = "Leave one of the two out; a model to export goes behind --model."
        refuse_others(ctx, f"the bundle {bundle}", (*WITH_BUNDLE, *ENGINE_OPTIONS), hint)
        if engines is not None:
            build_bundles_engines(ctx, bundle, engines, as_json, quiet, verbose)
            return
        from d2export.session import REBUILD_STAGES, rebuild

        progress = progress_of(REBUILD_STAGES, quiet, verbose)
        report = rebuild(bundle, provider=provider, threads=threads, progress=progress)
        finish(report.to_json(), report.text(), as_json, passed=report.passed)
        return
    if model is None or output is None:
        raise UsageError(
            f"{'--model' if model is None else '--output'} is missing",
            "For example: d2export build --model internvl2.5-8b --keep 64 -o out/internvl",
        )
    from d2export.engine_building import build_engines, require_fit
    from d2export.pipeline import BUILD_STAGES
    from d2export.pipeline import build as build_bundle

    options = _options(ctx)
    if engines is not None:
        require_fit(engines, options.precision, options.opset)
    report = build_bundle(
        options,
        output,
        provider=provider,
        threads=threads,
        progress=progress_of(BUILD_STAGES + (calib is not None), quiet, verbose),
    )
    text = f"{report.text()}\n\nThe kept tokens, drawn: {output / 'pictures'}"
    text += f"\nAll of this to look at: {output / 'report.html'}"
    facts = report.to_json()
    if engines is not None:
        outcome = build_engines(output, engines, progress=progress_of(None, quiet, verbose))
        facts["engines"], text = outcome.to_json(), f"{text}\n\n{outcome.text()}"
    finish(facts, text, as_json, passed=report.passed)
    if engines is not None:
        outcome.require()


@app.command()
def export(
    ctx: typer.Context,
    model: Model,
    output: Output,
    scope: Scope = "vision",
    selector: SelectorName = SELECTOR,
    settings: Settings = None,
    keep: Keep = None,
    min_keep: MinKeep = None,
    max_keep: MaxKeep = None,
    budget: Budget = "image",
    importance: Importance = None,
    importance_layer: ImportanceLayer = -2,
    prune_layer: PruneLayer = 2,
    prior: PriorFile = None,
    precision: Precision = "fp32",
    scales: Scales = None,
    calib: CalibrationFolder = None,
    prompts: CalibrationPrompts = None,
    opset: Opset = 17,
    image: Images = None,
    prompt: ReferencePrompt = None,
    prompt_embeds: PromptEmbeds = None,
    random_weights: RandomWeights = False,
    seed: Seed = 0,
    weights_in_bundle: WeightsInBundle = False,
    revision: Revision = None,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write a bundle with PyTorch's answers; check nothing yet."""
    from d2export.inspection import summary
    from d2export.pipeline import EXPORT_STAGES
    from d2export.pipeline import export as export_bundle

    options = _options(ctx)
    stages = EXPORT_STAGES + (calib is not None)
    bundle = export_bundle(options, output, progress=progress_of(stages, quiet, verbose))
    finish(bundle.manifest.to_json(), summary(bundle), as_json)


app.command()(check)
app.command()(bench)
app.command()(run)
app.command("eval")(evaluate)
app.command()(package)


@app.command()
def inspect(
    bundle: BundleArg,
    verify: Annotated[bool, typer.Option(help="Compare every file with its SHA-256.")] = True,
    as_json: Json = False,
) -> None:
    """Say what a bundle holds, after checking that it is whole."""
    from d2export.bundle.folder import read_bundle
    from d2export.inspection import summary

    opened = read_bundle(bundle, verify=verify)
    finish(opened.manifest.to_json(), summary(opened), as_json)


@app.command()
def report(
    bundle: BundleArg,
    evaluated: Annotated[
        list[Path] | None,
        typer.Option("--eval", help="Folder that `eval` wrote: show its accuracy, too."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make report.html of a bundle again, from what it stores."""
    from d2export.report.write import write_report

    path = write_report(bundle, tuple(evaluated or ()))
    finish({"report": str(path)}, str(path), as_json)


@app.command()
def models(
    flops: Annotated[
        bool, typer.Option("--flops", help="Count what pruning saves in the language model.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the presets."""
    if flops:
        from d2export.counts_table import preset_counts, preset_counts_table

        finish(preset_counts(), preset_counts_table(), as_json)
    else:
        from d2export.inspection import preset_facts, preset_table

        finish(preset_facts(), preset_table(), as_json)


@app.command()
def selectors(as_json: Json = False) -> None:
    """List the ways to choose tokens, and what can be set."""
    from d2export.inspection import selector_facts, selector_table

    finish(selector_facts(), selector_table(), as_json)


app.command()(targets)


@app.command()
def doctor(
    bundle: Annotated[Path | None, typer.Argument(help="Also: does this bundle fit?")] = None,
    plugin: Plugin = None,
    as_json: Json = False,
) -> None:
    """Say what this machine has, and whether BUNDLE fits it."""
    from d2export.doctor import examine, report_text

    findings = examine(bundle, plugin=plugin)
    finish(findings.to_json(), report_text(findings), as_json)
    if not findings.fits:
        raise typer.Exit(3)


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Export multimodal LLMs with visual-token pruning inside the graph."""
    if show:
        print_text(f"d2export {__version__}")
        raise typer.Exit


def main(args: Sequence[str] | None = None) -> None:
    """Entry point; `args` are those of the command line if None. Always raises SystemExit."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file name may not be text to this terminal
            stream.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `with` blocks clean up
    app(args, prog_name="d2export")


def _options(ctx: typer.Context) -> ExportOptions:
    """The options of `build` and `export`, which have the names of `ExportOptions`' fields."""
    names = {field.name for field in fields(ExportOptions)}
    given = {name: value for name, value in ctx.params.items() if name in names}
    given["settings"] = pairs_of(given["settings"])
    return ExportOptions(**given, images=tuple(ctx.params["image"] or ()))


if __name__ == "__main__":
    main()
