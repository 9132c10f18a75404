"""Write `report.html` into a bundle, from what the bundle holds."""

from __future__ import annotations

from pathlib import Path

from d2export.bundle.disk import replace_file
from d2export.bundle.folder import read_bundle
from d2export.report.collect import collect
from d2export.report.page import render

FILE = "report.html"


def write_report(folder: Path | str) -> Path:
    """Make the report of a bundle, anew if there is one, and return its path. Needs no torch.

    Raises:
        BundleError: it is no bundle, or what the report is made of is damaged.
        OutputError: it cannot be written.
    """
    bundle = read_bundle(Path(folder), verify=False)
    path = bundle.root / FILE
    replace_file(path, render(collect(bundle)))
    return path
