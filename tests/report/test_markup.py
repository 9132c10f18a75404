"""What is not markup is escaped wherever it goes."""

import pytest

from d2export.report.markup import Html, element, join


@pytest.mark.parametrize("hostile", ["<script>", '"><img>', "'", "&amp;"])
def test_text_and_attributes_are_escaped(hostile):
    markup = element("p", hostile, title=hostile)
    assert markup.count("<") == 2
    assert markup.count('"') == 2
    assert markup.count("&") == 2 * sum(letter in "<>&\"'" for letter in hostile)


def test_markup_goes_in_as_it_is_however_deep():
    inner = element("b", "1 < 2")
    assert element("p", ["a", [inner, None]], "&") == "<p>a<b>1 &lt; 2</b>&amp;</p>"


def test_attributes():
    assert element("input", class_="c", for_="f", stroke_width=2, checked=True, name="n") == (
        '<input class="c" for="f" stroke-width="2" checked name="n">'
    )
    assert element("p", id=None, hidden=False) == "<p></p>"


def test_joined_text_is_markup_only_where_it_was():
    assert join(["<", Html("<br>")]) == "&lt;<br>"
    assert isinstance(join(["<"]), Html)
