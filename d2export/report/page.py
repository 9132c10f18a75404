"""`ReportData` as one HTML file that loads nothing and needs no script."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources

from d2export.report.data import ReportData
from d2export.report.drawing import shared_definitions
from d2export.report.markup import Html, element
from d2export.report.sections.accuracy import accuracy
from d2export.report.sections.check import check
from d2export.report.sections.cost import cost
from d2export.report.sections.importance import importance
from d2export.report.sections.int8 import int8
from d2export.report.sections.kept import budget_rules, kept
from d2export.report.sections.made import made
from d2export.report.sections.summary import summary
from d2export.report.sections.versus import versus

SECTIONS = {
    "bundle": (summary, kept, importance, cost, accuracy, versus, int8, check, made),
    "evaluation": (summary, accuracy, versus, made),
}


def render(data: ReportData) -> str:
    """The page. Equal data give equal bytes."""
    style = f"{_file('report.css')}\n{budget_rules(data.keeps)}\n"
    script = _file("report.js")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy(style, script)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="generator", content="d2export"),
        element("title", f"{data.model}: d2export report"),
        element("style", Html(style)),
    )
    main = element("main", [section(data) for section in SECTIONS[data.subject]])
    body = element("body", shared_definitions(), main, element("script", Html(script)))
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _policy(style: str, script: str) -> str:
    """Only this style, this script, and pictures inside the file."""
    return (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; "
        f"script-src '{_digest(script)}'; base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    """As a content security policy names what it allows."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}"


def _file(name: str) -> str:
    return (resources.files("d2export.report") / name).read_text(encoding="utf-8")
