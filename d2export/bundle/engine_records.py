"""What a bundle says of its engines: `engines/plan.json`, planned; `engines/engines.json`, built.

Neither is listed in `manifest.json`, which was finished before, on another machine perhaps.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from d2export.bundle.disk import replace_file
from d2export.bundle.folder import Bundle
from d2export.bundle.records import Count, Name, NonNegative, Positive, RelativePath, Sha256, Tool
from d2export.bundle.strict_json import JsonError, decode, encode, parse
from d2export.engine.build_options import BuildOptions
from d2export.engine.builder_plan import EnginePlan
from d2export.engine.target import Target
from d2export.errors import BundleError

PLAN, BUILT, LOG = "engines/plan.json", "engines/engines.json", "engines/build.log"
SCHEMA: Literal[1] = 1


@dataclass(frozen=True)
class PlannedEngine:
    """A plan, and the command line of trtexec that does the same but for `differences`."""

    plan: EnginePlan
    trtexec: str
    differences: tuple[str, ...]


@dataclass(frozen=True)
class PlannedEngines:
    """All of `plan.json`: what to build, for which device, and what a user chose."""

    schema: Literal[1]
    tool: Tool
    target: Target
    options: BuildOptions
    engines: tuple[PlannedEngine, ...]


@dataclass(frozen=True)
class Gpu:
    """The GPU that built engines; memory in bytes."""

    name: Name
    compute_capability: tuple[Count, Count]
    memory: Positive


@dataclass(frozen=True)
class BuiltEngine:
    """An engine: its file, the key of what it was made from, and how long that took."""

    graph: Name
    path: RelativePath
    bytes: Positive
    sha256: Sha256
    key: Sha256
    seconds: NonNegative


@dataclass(frozen=True)
class BuiltEngines:
    """All of `engines.json`: what was built, where, and with what."""

    schema: Literal[1]
    tool: Tool
    target: Name
    tensorrt: Name
    gpu: Gpu
    plugin: RelativePath | None
    engines: tuple[BuiltEngine, ...]


Record = TypeVar("Record", PlannedEngines, BuiltEngines)


def read_planned(bundle: Bundle) -> PlannedEngines | None:
    """What is planned for a bundle; None if nothing is.

    Raises:
        BundleError: the file is damaged.
    """
    return _read(PlannedEngines, bundle.path(PLAN), "Plan again: d2export build BUNDLE --target X")


def read_built(bundle: Bundle) -> BuiltEngines | None:
    """The engines of a bundle; None if it has none.

    Raises:
        BundleError: the file is damaged.
    """
    return _read(BuiltEngines, bundle.path(BUILT), "Delete the file and build the engines again.")


def write_record(path: Path, record: PlannedEngines | BuiltEngines) -> None:
    """Write one of the two files; it holds its old or its new content, whatever happens.

    Raises:
        OutputError: it cannot be written.
    """
    replace_file(path, json.dumps(encode(record), indent=2, ensure_ascii=False) + "\n")


def _read(kind: type[Record], path: Path, remedy: str) -> Record | None:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"cannot read {path}: {error}", remedy) from None
    try:
        return decode(kind, parse(text))
    except JsonError as mismatch:
        raise BundleError(f"{path}: {mismatch}", remedy) from None
