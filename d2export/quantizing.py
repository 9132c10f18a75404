"""INT8 of a build: scales from a file, or measured before the export."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from d2export.bundle.folder import write_manifest
from d2export.calibration.int8 import calibrate_int8
from d2export.calibration.int8_scales import Int8Scales, check_scales, read_scales
from d2export.description import SCALES, manifest_of
from d2export.models.safetensors_file import TensorRef
from d2export.options import ExportOptions
from d2export.progress import Progress
from d2export.verify.tables import plural

if TYPE_CHECKING:
    from d2export.vision_scope import VisionScope
    from d2export.vlm_scope import VlmScope

QUIET = Progress(level="quiet")


def given_scales(options: ExportOptions) -> Int8Scales | None:
    """The scales of the file that options name, before anything else is done.

    Raises:
        UsageError: the file cannot be read.
    """
    return read_scales(options.scales) if options.scales is not None else None


def store_scales(
    scope: VisionScope | VlmScope, given: Int8Scales | None, folder: Path, progress: Progress
) -> Int8Scales:
    """The scales of a build, stored in its folder.

    Args:
        scope: the build.
        given: from a file; None measures them on the pictures that the options name.

    Raises:
        UsageError: they were measured on other weights.
        D2ExportError: of `calibrate_int8`.
    """
    target = folder / SCALES
    target.parent.mkdir()
    if given is None:
        return _measured(scope, folder, target, progress)
    assert scope.options.scales is not None
    check_weights(given, scope.options.scales, scope.refs)
    shutil.copyfile(scope.options.scales, target)
    progress.note(
        f"  {len(given.narrow)} of {plural(len(given.products), 'product')} in INT8, calibrated on "
        f"{plural(given.pictures.count, 'picture')}"
    )
    return given


def check_weights(scales: Int8Scales, path: Path, refs: Mapping[str, TensorRef]) -> None:
    """Raise a UsageError unless scales were measured on these weights."""
    from d2export.export.quantize_products import product_names

    check_scales(scales, path, product_names(refs), refs)


def _measured(
    scope: VisionScope | VlmScope, folder: Path, target: Path, progress: Progress
) -> Int8Scales:
    """Export the same in float32, for the time of the calibration, and measure on it."""
    options, source = scope.options, scope.source
    plain: ExportOptions = replace(options, precision="fp32", calib=None, prompts=None)
    scratch = folder / ".calibration"
    (scratch / "onnx").mkdir(parents=True)
    with progress.stage(f"calibrating INT8 on the pictures of {options.calib}"):
        whole = type(scope)(scratch, plain, source, scope.prior, {})
        whole.write_processor(QUIET)
        weights = whole.write_graphs()
        write_manifest(scratch, manifest_of(scratch, plain, source, weights, scope.prior, []))
        assert options.calib is not None
        found = calibrate_int8(
            scratch, options.calib, target, prompts=options.prompts, progress=QUIET
        )
        progress.note(found.text().replace(str(target), SCALES))
        shutil.rmtree(scratch)
    return found.scales
