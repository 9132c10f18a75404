"""The top of the page: what was kept, what it saves, what it costs, and whether it is right."""

from __future__ import annotations

from d2export.report.data import ReportData
from d2export.report.figures import NOT_MEASURED, milliseconds, percent
from d2export.report.markup import Child, Html, element

MOST_SCORES = 4
RANDOM = (
    "Random weights. This report shows that the graphs work and how fast; which tokens a trained "
    "model would keep, it cannot show."
)


def summary(data: ReportData) -> Html:
    """The head of the page."""
    return element(
        "header",
        element("p", "d2export report", class_="kicker"),
        element("h1", data.model),
        element("p", data.headline, class_="lead"),
        None if data.trained else element("p", RANDOM, class_="notice", role="note"),
        element("dl", _figures(data), class_="figures"),
    )


def _figures(data: ReportData) -> list[Html]:
    """A score for each kind of question, or what a bundle keeps, saves, takes and answers."""
    scores = [_figure("Accuracy", one.score, one.score_about) for one in data.evaluations]
    if data.subject == "evaluation":
        return scores[:MOST_SCORES]
    return [_kept(data), _saved(data), *scores[:1], _cost(data), _answers(data)]


def _kept(data: ReportData) -> Html:
    built = data.built
    if built is None:
        return _figure("Kept", "—", "no selection is stored")
    pictures = len(data.pictures)
    of = "one picture" if pictures == 1 else f"{pictures} pictures"
    return _figure(
        "Kept", percent(built.share), f"{built.kept:,} of {built.tokens:,} visual tokens of {of}"
    )


def _saved(data: ReportData) -> Html:
    built = data.built
    if built is None or built.saving is None:
        return _figure("Saved", "—", "the picture decides how many tokens stay")
    saving = built.saving
    return _figure(
        "Saved",
        percent(saving.macs_share),
        f"of the prefill's arithmetic, and {percent(saving.kv_share)} of its KV cache",
    )


def _cost(data: ReportData) -> Html:
    whole, part = None, None
    for before, stage in zip(data.stages, data.stages[1:], strict=False):
        if stage.part:
            whole, part = before, stage
    if whole is None or part is None or whole.latency is None or part.latency is None:
        return _figure("Selection takes", "—", NOT_MEASURED)
    share = percent(part.latency.median / whole.latency.median, 1)
    return _figure(
        "Selection takes",
        f"{milliseconds(part.latency.median)}\u202fms",
        f"{share} of {_uncapitalised(whole.name)}",
    )


def _answers(data: ReportData) -> Html:
    check = data.check
    if check is None:
        return _figure("Against PyTorch", "—", "not checked")
    return _figure(
        "Against PyTorch",
        "passed" if check.passed else "failed",
        f"{percent(check.agreement, 2)} of the kept tokens equal, {check.precision}",
        "good" if check.passed else "bad",
    )


def _figure(name: str, value: Child, about: str, class_: str | None = None) -> Html:
    return element(
        "div",
        element("dt", name),
        element("dd", element("strong", value, class_=class_), element("span", about)),
    )


def _uncapitalised(text: str) -> str:
    return f"the {text[:1].lower()}{text[1:]}"
