"""Whether the graphs answer what PyTorch answers."""

from __future__ import annotations

from d2export.report.data import Case, Check, ReportData
from d2export.report.figures import error, percent, section, table
from d2export.report.markup import Child, Html, element

NOT_CHECKED = "Nothing was compared with PyTorch. `d2export build BUNDLE` does that."


def check(data: ReportData) -> Html:
    """The section."""
    title = "Does the bundle answer what PyTorch answers?"
    found = data.check
    if found is None:
        return section("check", title, element("p", NOT_CHECKED, class_="missing"))
    vlm = any(case.logits_error is not None or case.tokens is not None for case in found.cases)
    verdict = element(
        "strong", "Yes. " if found.passed else "No. ", class_="good" if found.passed else "bad"
    )
    header = ["Picture", "kept tokens equal", "error of embeddings"]
    header += ["error of logits", "answer tokens equal"] * vlm
    header += ["graph, s"] + ["PyTorch, s"] * bool(found.pytorch_seconds)
    rows = [_row(case, found, vlm) for case in found.cases]
    return section(
        "check",
        title,
        element("p", verdict, _sentence(found, vlm)),
        table(header, rows, caption="The bundle's answers beside PyTorch's"),
        element(
            "p",
            "Errors are the largest deviation relative to the largest magnitude. PyTorch computes "
            "in float32 and writes the whole answer; the graph's time is that of "
            f"{'the prefill' if vlm else 'the vision graph'}.",
            class_="small",
        ),
    )


def _sentence(found: Check, vlm: bool) -> str:
    asked = [
        f"kept tokens equal {percent(found.asked)}",
        f"embeddings within {found.embeddings_asked:.0e}",
    ]
    if vlm:
        asked.append(f"logits within {found.logits_asked:.0e}")
    return (
        f"{found.backend} in {found.precision}, selection as {found.implementation}: "
        f"{percent(found.agreement, 2)} of the kept tokens are PyTorch's, too. "
        f"Asked for: {', '.join(asked)}."
    )


def _row(case: Case, found: Check, vlm: bool) -> list[Child]:
    row: list[Child] = [case.name, f"{case.common:,} of {case.kept:,}"]
    row.append(error(case.embeddings_error))
    if vlm:
        row += [error(case.logits_error), f"{case.equal_tokens} of {case.tokens}"]
    row.append(f"{case.seconds:.2f}")
    if found.pytorch_seconds:
        seconds = found.pytorch_seconds.get(case.name)
        row.append("—" if seconds is None else f"{seconds:.2f}")
    return row
