"""Write `report.html` into a bundle, from what the bundle holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from d2export.bundle.disk import replace_file
from d2export.bundle.folder import read_bundle
from d2export.report.collect import collect
from d2export.report.evaluated import evaluations_of, read_accuracy
from d2export.report.page import render

FILE = "report.html"


def write_report(folder: Path | str, evaluated: Sequence[Path] = ()) -> Path:
    """Make the report of a bundle, anew if there is one, and return its path. Needs no torch.

    Args:
        evaluated: folders that `d2export eval` wrote, whose accuracy goes in.

    Raises:
        UsageError: one of them is no such folder.
        BundleError: it is no bundle, or what the report is made of is damaged.
        OutputError: it cannot be written.
    """
    bundle = read_bundle(Path(folder), verify=False)
    found = [read_accuracy(one) for one in evaluated]
    data = replace(
        collect(bundle),
        evaluations=tuple(chain.from_iterable(map(evaluations_of, found))),
        versus=tuple(chain.from_iterable(one.versus for one in found)),
    )
    path = bundle.root / FILE
    replace_file(path, render(data))
    return path
