"""Elements as text: what is text stays text."""

from __future__ import annotations

from antiphon.telemetry.report.html import Html, element, figure, joined, section, table
from tests.telemetry.report.made import HOSTILE, Elements


def test_plain_text_is_escaped_and_markup_is_not() -> None:
    assert element("p", "a < b & c", element("b", "d")) == "<p>a &lt; b &amp; c<b>d</b></p>"
    assert joined(["<", None, Html("<br>")], " ") == "&lt; <br>"


def test_markup_put_into_other_text_is_text_again() -> None:
    """Only what an element returns is markup; a string made of it is nobody's word for it."""
    assert element("p", f"{element('b', 'x')}!") == "<p>&lt;b&gt;x&lt;/b&gt;!</p>"


def test_attributes_are_escaped_and_named_as_in_html() -> None:
    made = element("td", "x", class_='a "b" <c>', text_anchor="end", x=1.23456, title=None)
    assert made == '<td class="a &quot;b&quot; &lt;c&gt;" text-anchor="end" x="1.23">x</td>'
    assert element("path", d="M0 0") == '<path d="M0 0"/>'


def test_no_name_makes_an_element() -> None:
    for name in HOSTILE:
        whole = section(name, name, name, figure(Html(""), name, name, name), table([name], [[name]]))
        tags = [tag for tag, _ in Elements(whole).found]
        assert tags == [
            *("section", "h2", "p", "figure", "figcaption", "p", "p"),
            *("div", "table", "thead", "tr", "th", "tbody", "tr", "th"),
        ]
        assert Elements(whole).texts.count(name) == 7


def test_cells_of_numbers_stand_to_the_right() -> None:
    made = table(["who", "much"], [["a", "1"]], numbers=[1])
    assert '<th scope="row">a</th><td class="number">1</td>' in made
