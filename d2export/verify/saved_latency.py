"""What `bench --provider tensorrt` leaves in a bundle, for reports that compare bundles."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from d2export.bundle.disk import replace_file
from d2export.bundle.folder import ENGINE_LATENCY
from d2export.bundle.strict_json import JsonError, decode, parse
from d2export.errors import BundleError
from d2export.verify.engine_latency import EngineBench
from d2export.verify.tables import plural


@dataclass(frozen=True)
class SavedLatency:
    """Medians of a bundle's engines on the GPU, in milliseconds by stage and number of tiles."""

    backend: str
    gpu: str
    milliseconds: dict[str, float]
    format: Literal["d2export-engine-latency"] = "d2export-engine-latency"
    version: Literal[1] = 1


def save_latency(folder: Path, found: EngineBench) -> Path:
    """Write what was found into the bundle in `folder`, and return the file.

    Raises:
        OutputError: it cannot be written.
    """
    medians = {
        f"{stage} engine, {plural(size.tiles, 'tile')},": times.gpu.median
        for size in found.sizes
        for stage, times in size.stages.items()
    }
    saved = SavedLatency(found.backend, found.gpu, medians)
    path = folder / ENGINE_LATENCY
    replace_file(path, json.dumps(asdict(saved), indent=1) + "\n")
    return path


def saved_latency(folder: Path) -> SavedLatency | None:
    """What was measured last; None where nothing was.

    Raises:
        BundleError: the file is damaged.
    """
    path = folder / ENGINE_LATENCY
    if not path.is_file():
        return None
    try:
        return decode(SavedLatency, parse(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, JsonError) as error:
        raise BundleError(
            f"{path} cannot be read: {error}",
            f"Measure again: d2export bench {folder} --provider tensorrt",
        ) from None
