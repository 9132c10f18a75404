"""The pictures with their kept tokens, for every budget, and what each budget saves."""

from __future__ import annotations

from d2export.report.data import Keep, Picture, ReportData
from d2export.report.drawing import kept_tokens, picture_definition
from d2export.report.figures import bar, percent, section, significant, table
from d2export.report.markup import Child, Html, element

NOTHING = (
    "This bundle stores no selections: an older d2export built it. Build it again to see them."
)


def kept(data: ReportData) -> Html:
    """The section."""
    if not data.keeps:
        return section("kept", "What is kept", element("p", NOTHING, class_="missing"))
    figures = [_figure(data, picture, i) for i, picture in enumerate(data.pictures)]
    more = None
    if data.left_out:
        names = ", ".join(data.left_out)
        more = element("p", f"Not shown, to keep this file small: {names}.", class_="small")
    return section(
        "kept",
        "What is kept",
        _budgets(data.keeps),
        element("div", figures, class_=f"gallery of-{min(len(figures), 3)}"),
        _legend(any(picture.in_tiles < picture.tokens for picture in data.pictures)),
        more,
        _savings(data),
    )


def budget_rules(keeps: tuple[Keep, ...]) -> str:
    """The style rules that show the chosen budget; they need no script."""
    rules = [f".budgets{{--budgets:{len(keeps)}}}"]
    for i in range(len(keeps)):
        rules.append(f":root:has(#budget-{i}:checked) .k{i}{{display:inline}}")
        rules.append(f":root:has(#budget-{i}:checked) .row-{i}{{background:var(--chosen)}}")
    return "\n".join(rules)


def _budgets(keeps: tuple[Keep, ...]) -> Html:
    choices = []
    for i, keep in enumerate(keeps):
        spoken = f"{keep.label}: {keep.kept:,} of {keep.tokens:,} tokens"
        if keep.saving is not None:
            spoken += f", saves {percent(keep.saving.macs_share)} of the prefill"
        radio = element(
            "input",
            type="radio",
            name="budget",
            id=f"budget-{i}",
            value=i,
            checked=keep.built,
            aria_label=spoken,
        )
        mark = element("small", "built") if keep.built else None
        choices.append(
            element("div", radio, element("label", keep.label, mark, for_=f"budget-{i}"))
        )
    legend = element("legend", "Visual tokens kept", id="budgets-legend")
    return element("fieldset", legend, element("div", choices, class_="ticks"), class_="budgets")


def _figure(data: ReportData, picture: Picture, number: int) -> Html:
    counts: list[Child] = [
        element(
            "span",
            f"{picture.tokens if chosen is None else len(chosen):,} of {picture.tokens:,} tokens",
            class_=f"layer k{i}" + " built" * keep.built,
        )
        for i, (keep, chosen) in enumerate(zip(data.keeps, picture.kept, strict=True))
    ]
    asked = answered = None
    if picture.prompt:
        asked = element("p", element("b", "Asked "), picture.prompt, class_="said")
    if picture.answer is not None:
        answered = element(
            "p",
            element("b", "PyTorch's answer begins "),
            picture.answer or "(nothing)",
            class_="said",
        )
    caption = element("figcaption", element("strong", picture.name), " ", counts, asked, answered)
    return element(
        "figure",
        picture_definition(picture, number),
        kept_tokens(picture, number, data.keeps),
        caption,
    )


def _legend(has_thumbnail: bool) -> Html:
    keys: list[Child] = [element("li", element("i", class_="key tile"), "kept token")]
    if has_thumbnail:
        keys.append(
            element(
                "li",
                element("i", class_="key thumbnail"),
                "kept token of the thumbnail, which shows the whole picture once more",
            )
        )
    keys.append(element("li", element("i", class_="key unseen"), "no kept token saw this"))
    return element("ul", keys, class_="legend")


def _savings(data: ReportData) -> Html | None:
    """A row for each budget, if a budget decides how many tokens stay."""
    rows: list[list[Child]] = []
    classes = []
    for i, keep in enumerate(data.keeps):
        if keep.saving is None:
            continue
        saving = keep.saving
        name: Child = [keep.label, element("small", " built")] if keep.built else keep.label
        rows.append(
            [
                name,
                f"{keep.kept:,}",
                bar(1 - saving.macs_share),
                significant(saving.macs / 1e9, 3),
                percent(saving.macs_share, 1),
                bar(1 - saving.kv_share, "bar second"),
                significant(saving.kv_bytes / 1e6, 3),
                percent(saving.kv_share, 1),
            ]
        )
        classes.append(f"row-{i}")
    if not rows:
        return None
    header = ["Keep", "Tokens", "", "Prefill, GMAC", "saved", "", "KV cache, MB", "saved"]
    title = element("h3", "What each budget saves")
    note = element(
        "p",
        f"{data.counted} GMAC are 10⁹ multiply-accumulates. All of this is counted, not measured.",
        class_="small",
    )
    grid = table(header, rows, caption="What each budget saves", row_classes=classes, bars=(2, 5))
    return element("div", title, grid, note)
