"""INT8: what `calibrate int8` does, and what a build does before its graphs are written.

Imports what needs torch and onnx when it is needed, so that this can be imported without.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from d2export.bundle.folder import write_manifest
from d2export.description import SCALES, manifest_of
from d2export.errors import EnvironmentMismatch
from d2export.options import ExportOptions
from d2export.progress import Progress
from d2export.verify.tables import plural

if TYPE_CHECKING:
    from d2export.calibration.int8 import Calibrated
    from d2export.calibration.int8_scales import Int8Scales
    from d2export.vision_scope import VisionScope
    from d2export.vlm_scope import VlmScope

QUIET = Progress(level="quiet")


def calibrate(
    bundle: Path | str, images: Path | str, output: Path | str, **options: Any
) -> Calibrated:
    """Measure scales on pictures: `calibration.int8.calibrate_int8`, and its errors.

    Raises:
        EnvironmentMismatch: a package is missing.
    """
    with _needs_export_packages():
        from d2export.calibration.int8 import calibrate_int8
    return calibrate_int8(bundle, images, output, **options)


def given_scales(options: ExportOptions) -> Int8Scales | None:
    """The scales of the file that options name, before anything else is done.

    Where they name pictures instead, these are looked at, and so are prompts.

    Raises:
        UsageError, ImageError: something cannot be read, or there are too few pictures.
    """
    if options.calib is not None:
        from d2export.calibration.int8_inputs import calibration_pictures, calibration_prompts

        calibration_pictures(options.calib)
        calibration_prompts(options.scope, options.prompts)
    if options.scales is None:
        return None
    from d2export.calibration.int8_scales import read_scales

    return read_scales(options.scales)


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
    from d2export.calibration.int8_scales import check_scales
    from d2export.export.quantize_products import product_names

    check_scales(given, scope.options.scales, product_names(scope.refs), scope.refs)
    shutil.copyfile(scope.options.scales, target)
    progress.note(
        f"  {len(given.narrow)} of {plural(len(given.products), 'product')} in INT8, calibrated on "
        f"{plural(given.pictures.count, 'picture')}"
    )
    return given


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
        found = calibrate(scratch, options.calib, target, prompts=options.prompts, progress=QUIET)
        progress.note(found.text().replace(str(target), SCALES))
        shutil.rmtree(scratch)
    return found.scales


@contextmanager
def _needs_export_packages() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise EnvironmentMismatch(
            f"calibrating needs the package {error.name}, which is not installed",
            "Run: pip install 'd2export[export,ort]'. The device needs none of it.",
        ) from None
