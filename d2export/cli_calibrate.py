"""`d2export calibrate`: measure what a build can take."""

from __future__ import annotations

import typer

from d2export.cli_options import (
    BundleArg,
    CalibrationPrompt,
    ForceFile,
    Json,
    Limit,
    PictureFolder,
    PriorOutput,
    Provider,
    Quiet,
    Threads,
    Verbose,
)
from d2export.cli_output import finish, progress_of

calibrate = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Measure what a build can take: a prior."
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
