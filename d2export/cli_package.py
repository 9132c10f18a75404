"""`d2export package`: a bundle as one file for a device, or as a folder for a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from d2export.cli_options import BundleArg, Json, Quiet, Verbose, refuse_others
from d2export.cli_output import finish, progress_of
from d2export.errors import UsageError

FORMATS = ("triton", "tar")
OF_BOTH = ("bundle", "format_", "output", "as_json", "quiet", "verbose")


def package(
    ctx: typer.Context,
    bundle: BundleArg,
    format_: Annotated[
        str,
        typer.Option(
            "--format", help="triton: a model repository for Triton; tar: a file for a device."
        ),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The new folder (triton) or file (tar).")
    ],
    name: Annotated[
        str | None, typer.Option(help="Triton: of the model; default: the bundle's model.")
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(help="Triton: onnxruntime, tensorrt or python; default: by what is there."),
    ] = None,
    gpus: Annotated[
        str | None, typer.Option(help="Triton: numbers of the GPUs, as 0,1; default: the CPU.")
    ] = None,
    instances: Annotated[
        int, typer.Option(help="Triton: of each graph on each device; default: 1.")
    ] = 1,
    batch_tiles: Annotated[
        int | None, typer.Option(help="Triton: tiles of several requests seen at once, at most.")
    ] = None,
    custom_op: Annotated[
        Path | None, typer.Option(help="Triton: the op's library, where the server has it.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Pack a bundle for a device (tar) or for Triton."""
    progress = progress_of(2, quiet, verbose)
    if format_ == "tar":
        refuse_others(ctx, "--format tar", OF_BOTH, "Leave it out.")
        from d2export.packaging.tar import write_tar

        packed = write_tar(bundle, output, progress)
        finish(packed.to_json(), packed.text(), as_json)
        return
    if format_ != "triton":
        raise UsageError(
            f"--format is '{format_}', expected one of {', '.join(FORMATS)}",
            "tar is a file for a device, triton a folder for NVIDIA's inference server.",
        )
    from d2export.packaging.triton import write_repository
    from d2export.packaging.triton_choices import Choices

    choices = Choices.parsed(name, backend, gpus, instances, batch_tiles, custom_op)
    repository = write_repository(bundle, output, choices, progress)
    finish(repository.to_json(), repository.text(), as_json)
