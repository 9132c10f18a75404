"""The page as a reader's browser shows it: wide and narrow, light and dark, with and without
scripts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from d2export.report.page import render
from tests.report.browser import Browser, find_chromium
from tests.report.sample_report import HOSTILE, full_report, keeps

WIDTHS = (360, 768, 1600)
# Of the layers of the first picture, and of the words below it, those that are shown.
SHOWN = """
[...document.querySelectorAll('figure')[0].querySelectorAll('.layer')]
    .filter((layer) => getComputedStyle(layer).display !== 'none')
    .map((layer) => layer.tagName === 'g' ? layer.getAttribute('class') : layer.textContent)
"""
SLIDER = "document.querySelector('input[type=range]')"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(full_report(HOSTILE)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium: apt install chromium")
    running = Browser(program, tmp_path_factory.mktemp("profile"))
    yield running
    running.close()


@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
def test_nothing_is_loaded_and_nobody_complains(browser: Browser, page: Path, script: bool) -> None:
    """With a hostile name wherever a user has a word: the policy had nothing to refuse."""
    browser.open(page, script=script)
    assert browser.requests() == [page.as_uri()]
    assert browser.complaints() == []
    assert browser.ask("document.querySelectorAll('section').length") == 6
    assert browser.ask("getComputedStyle(document.body).fontVariantNumeric") == "tabular-nums"


@pytest.mark.parametrize("width", WIDTHS)
def test_no_page_is_wider_than_its_window(browser: Browser, page: Path, width: int) -> None:
    browser.open(page, width=width)
    assert browser.ask("document.documentElement.scrollWidth") <= width
    assert browser.ask("Math.min(...[...document.querySelectorAll('figure > svg[role=img]')]"
                       ".map((svg) => svg.getBoundingClientRect().width))") >= 200  # fmt: skip


def test_the_slider_changes_which_tokens_are_drawn(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.ask(f"{SLIDER}.value") == "1"  # as built
    assert browser.ask(SHOWN) == ["layer k1 built", "28 of 112 tokens"]
    browser.ask(f"{SLIDER}.value = 0; {SLIDER}.dispatchEvent(new Event('input'))")
    assert browser.ask(SHOWN) == ["layer k0", "14 of 112 tokens"]
    assert browser.ask(f"{SLIDER}.getAttribute('aria-valuetext')") == (
        "12.5 %: 16 of 128 tokens, saves 43\u202f% of the prefill"
    )


def test_the_slider_by_keyboard(browser: Browser, page: Path) -> None:
    browser.open(page)
    for _ in range(10):
        browser.press("Tab")
        if browser.ask("document.activeElement.type") == "range":
            break
    assert browser.ask("document.activeElement.type") == "range"
    browser.press("ArrowRight")
    assert browser.ask(SHOWN) == ["112 of 112 tokens"]  # all of them: nothing to mark
    browser.press("Home")
    assert browser.ask(SHOWN) == ["layer k0", "14 of 112 tokens"]
    assert browser.ask("document.querySelector('#budget-0').checked") is True


def test_a_click_on_a_budget_moves_the_slider(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.ask("document.querySelector('label[for=budget-0]').click()")
    assert browser.ask(f"{SLIDER}.value") == "0"


@pytest.mark.parametrize("budget", range(len(keeps())))
def test_every_budget_can_be_seen_without_scripts(
    browser: Browser, page: Path, budget: int
) -> None:
    browser.open(page, width=360, script=False)
    assert browser.ask(f"{SLIDER} === null") is True
    radio = f"document.querySelector('#budget-{budget}')"
    assert browser.ask(f"{radio}.getBoundingClientRect().width") > 5
    browser.ask(f"{radio}.click()")
    expected = [["layer k0", "14 of 112 tokens"], ["layer k1 built", "28 of 112 tokens"],
                ["112 of 112 tokens"]]  # fmt: skip
    assert browser.ask(SHOWN) == expected[budget]


def test_light_and_dark(browser: Browser, page: Path) -> None:
    luminance = []
    for dark in (False, True):
        browser.open(page, dark=dark)
        for part in ("backgroundColor", "color"):
            value = browser.ask(f"getComputedStyle(document.body).{part}")
            luminance.append(sum(map(int, re.findall(r"\d+", value)[:3])))
    paper, ink, dark_paper, dark_ink = luminance
    assert paper - ink > 600
    assert dark_ink - dark_paper > 600


def test_the_picture_is_brighter_where_a_kept_token_saw_it(browser: Browser, page: Path) -> None:
    """Drawn, not only present: the darkened part covers the picture."""
    browser.open(page)
    screenshots = []
    for budget in (0, 2):
        browser.ask(f"document.querySelector('label[for=budget-{budget}]').click()")
        screenshots.append(browser.brightness("figure > svg[role=img]"))
    few, everything = screenshots
    assert few < 0.75 * everything


def test_print(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.pdf().startswith(b"%PDF-")
