"""What `build` was told about engines, and what it prints of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from d2export.cli_options import refuse_others
from d2export.cli_output import finish, progress_of
from d2export.engine.build_options import parse_bytes
from d2export.engine.target import Version, version_text
from d2export.engine.tensorrt_api import parse_version
from d2export.errors import UsageError

if TYPE_CHECKING:
    from d2export.engine_building import EngineRequest

# Options of `build`: those of `BuildOptions` by its fields, and all that are about engines.
FIELDS = {
    "workspace": "workspace",
    "timing_cache": "timing_cache",
    "hw_compat": "hardware_compatible",
    "version_compatible": "version_compatible",
    "opt_level": "optimization_level",
}
PRINTING = ("as_json", "quiet", "verbose")
ENGINE_OPTIONS = ("target", "plugin", "tensorrt", *FIELDS)


def engine_request(ctx: typer.Context, bundle: Path | None) -> EngineRequest | None:
    """What was asked for; None if no engine is wanted: no target was given, and none is planned.

    Raises:
        UsageError: an option is about engines, and none is wanted; or it is no size or level.
    """
    from d2export.engine_building import EngineRequest, has_plan

    given = ctx.params
    if given["target"] is None and (bundle is None or not has_plan(bundle)):
        others = [name for name in given if name not in ENGINE_OPTIONS]
        refuse_others(ctx, "no --target", [*others, "target"], "Name the device: --target NAME.")
        return None
    options: dict[str, Any] = {
        field: given[name]
        for name, field in FIELDS.items()
        if given[name] is not None and given[name] is not False
    }
    if "workspace" in options:
        options["workspace"] = parse_bytes("--workspace", options["workspace"])
    if "timing_cache" in options:
        options["timing_cache"] = str(options["timing_cache"])
    version = None if given["tensorrt"] is None else _version(given["tensorrt"])
    return EngineRequest(given["target"], options, given["plugin"], version)


def _version(text: str) -> Version:
    """`10.16` as numbers.

    Raises:
        UsageError: it is no version.
    """
    version = parse_version(text)
    if len(version) < 2 or version_text(version) != text:
        raise UsageError(
            f"--tensorrt is '{text}', expected two or three numbers, such as 10.16",
            "`d2export targets` says which versions a device can have.",
        )
    return version


def build_bundles_engines(
    ctx: typer.Context,
    bundle: Path,
    request: EngineRequest,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Build the engines of a bundle made elsewhere."""
    refuse_others(
        ctx, "a build of engines", ("bundle", *ENGINE_OPTIONS, *PRINTING), "Leave it out."
    )
    from d2export.engine_building import build_engines

    outcome = build_engines(bundle, request, progress=progress_of(None, quiet, verbose))
    finish(outcome.to_json(), outcome.text(), as_json)
    outcome.require()
