"""`d2export calibrate`: measure what a build can take."""

from __future__ import annotations

import typer

from d2export.cli_options import (
    Alpha,
    AnswerTokens,
    BundleArg,
    CalibrationPrompt,
    CalibrationPrompts,
    ForceFile,
    Json,
    KeepFp16Below,
    Limit,
    Method,
    NoSmoothing,
    Percentile,
    PictureFolder,
    PriorOutput,
    Provider,
    Quiet,
    ScalesOutput,
    Threads,
    Verbose,
)
from d2export.cli_output import finish, progress_of

calibrate = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Measure what a build can take."
)


@calibrate.command("prior")
def calibrate_prior(
    bundle: BundleArg,
    images: PictureFolder,
    output: PriorOutput,
    prompt: CalibrationPrompt = None,
    limit: Limit = None,
    provider: Provider = "cpu",
    threads: Threads = None,
    force: ForceFile = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Measure a positional prior on pictures; interrupted, the same command goes on."""
    from d2export.calibration import prior

    found = prior.calibrate_prior(
        bundle,
        images,
        output,
        prompt=prompt or prior.PROMPT,
        limit=limit,
        force=force,
        provider=provider,
        threads=threads,
        progress=progress_of(1, quiet, verbose),
    )
    finish(found.to_json(), found.text(), as_json)


@calibrate.command("int8")
def calibrate_int8(
    bundle: BundleArg,
    images: PictureFolder,
    output: ScalesOutput,
    prompts: CalibrationPrompts = None,
    method: Method = "best",
    percentile: Percentile = 99.99,
    alpha: Alpha = 0.5,
    no_smoothing: NoSmoothing = False,
    keep_fp16_below: KeepFp16Below = None,
    answer_tokens: AnswerTokens = 32,
    limit: Limit = None,
    provider: Provider = "cpu",
    threads: Threads = None,
    force: ForceFile = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Measure INT8 scales on pictures and prompts, with an FP32 bundle."""
    from d2export.calibration.int8_settings import Settings
    from d2export.quantizing import calibrate as measure

    found = measure(
        bundle,
        images,
        output,
        prompts=prompts,
        limit=limit,
        settings=Settings(
            method, percentile, None if no_smoothing else alpha, keep_fp16_below, answer_tokens
        ),
        force=force,
        provider=provider,
        threads=threads,
        progress=progress_of(None, quiet, verbose),
    )
    finish(found.to_json(), found.text(), as_json)
