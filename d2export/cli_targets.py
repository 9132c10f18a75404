"""`d2export targets`: the devices that engines are built for, and what fits in their memory."""

from __future__ import annotations

from typing import Annotated

import typer

from d2export.cli_options import Json
from d2export.cli_output import finish
from d2export.options import KEEP


def targets(
    name: Annotated[
        str | None,
        typer.Argument(help="One of them, a .toml file, or auto: this machine. Default: all."),
    ] = None,
    tiles: Annotated[int | None, typer.Option(help="Of the pictures; default: the most.")] = None,
    keep: Annotated[
        str, typer.Option(help="Tokens kept per picture: 64 (default), 25% or all.")
    ] = KEEP,
    as_json: Json = False,
) -> None:
    """List the devices engines are built for, and what fits."""
    from d2export import targets_table as tables

    if name is None:
        finish(tables.all_facts(tiles, keep), tables.all_text(tiles, keep), as_json)
    else:
        facts = tables.one_facts(name, tiles, keep)
        finish(facts, tables.one_text(name, tiles, keep), as_json)
