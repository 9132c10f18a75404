"""The findings as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from d2export.doctor.finding import Finding, Findings
from d2export.engine.misfit import Misfit

IN_ROWS = {"gpu"}  # of `machine`: what rows of their own say better


def report_text(findings: Findings) -> str:
    """The findings as lines; the last says whether the bundle fits, if one was asked about."""
    machine = {name: value for name, value in findings.machine.items() if name not in IN_ROWS}
    found = (*findings.devices, *findings.packages)
    native = [part.name for part in findings.native]
    width = max(map(len, (*machine, *(one.name for one in found), *native)))
    lines = [f"{name:<{width}}  {value}" for name, value in machine.items()]
    for group in (findings.devices, findings.packages):
        lines += ["", *(_row(finding, width) for finding in group)]
    lines.append("")
    for part in findings.native:
        state = part.built or f"not built ({part.why_not}): {part.remedy}"
        lines.append(f"{part.name:<{width}}  {state}")
    lines += _listed("does not fit", findings.together.misfits)
    lines += _listed("note", findings.together.cautions)
    if findings.bundle is not None:
        lines += _listed(f"{findings.bundle} does not fit", findings.of_bundle.misfits)
        lines += _listed("note", findings.of_bundle.cautions)
        if findings.fits:
            lines += ["", f"{findings.bundle} fits"]
    return "\n".join(lines)


def _row(finding: Finding, width: int) -> str:
    missing = f"missing, needed for {finding.needed_for}: {finding.remedy}"
    return f"{finding.name:<{width}}  {finding.found or missing}"


def _listed(what: str, misfits: Sequence[Misfit]) -> Iterator[str]:
    for one in misfits:
        yield ""
        yield f"{what}: {one.problem}"
        yield from (f"  {line}" for line in one.remedy.splitlines())
