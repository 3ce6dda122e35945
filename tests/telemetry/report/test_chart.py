"""Charts: that lines, bands, bars and intervals stand where their numbers say."""

from __future__ import annotations

import re
from html import unescape

import numpy as np
import pytest

from antiphon.telemetry.report.chart import Bar, Line, bars, legend, lines, words
from tests.some import some
from tests.telemetry.report.made import HOSTILE, Elements

STEPS = np.arange(5.0)


def paths(drawing: str, kind: str) -> list[list[tuple[float, float]]]:
    """Return the points of paths of a class that are absolute moves and lines."""
    found = re.findall(rf'<path d="([^"]*)" class="{kind}', drawing)
    return [[(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", path)] for path in found]


def test_a_line_rises_with_its_values_and_its_band_lies_around_it() -> None:
    middle = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    drawing = lines([Line("one", 0, STEPS, middle, middle - 0.5, middle + 0.5)], across="steps", title="t")
    (line,) = paths(drawing, "line c0 d0")
    assert len(line) == 5
    assert np.all(np.diff([x for x, _ in line]) > 0)
    heights = [y for _, y in line]
    assert np.all(np.diff(heights) < 0)
    assert np.ptp(np.diff(heights)) < 0.5  # straight
    (band,) = paths(drawing, "band f0")
    high, low = band[:5], band[5:][::-1]
    assert all(h[1] < m[1] < b[1] for h, m, b in zip(high, line, low, strict=True))


def test_gaps_are_not_drawn_over_and_single_points_are_dots() -> None:
    middle = np.array([1.0, 2.0, np.nan, 3.0, np.nan])
    drawing = lines([Line("one", 1, STEPS, middle)], across="steps", title="t")
    (path,) = re.findall(r'<path d="([^"]*)" class="line c1 d1"', drawing)
    assert path.count("M") == 2
    assert path.count("L") == 1
    assert len(paths(drawing, "dot c1")[0]) == 3
    assert "nan" not in drawing


def test_a_band_with_a_gap_is_two_pieces() -> None:
    middle = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    low = np.where(STEPS == 2, np.nan, middle - 1)
    drawing = lines([Line("one", 0, STEPS, middle, low, middle + 1)], across="steps", title="t")
    (path,) = re.findall(r'<path d="([^"]*)" class="band f0"', drawing)
    assert path.count("M") == path.count("Z") == 2


def test_many_decades_are_drawn_on_a_logarithmic_axis() -> None:
    drawing = lines([Line("one", 0, STEPS, 10.0**-STEPS)], across="steps", title="t")
    heights = [y for _, y in paths(drawing, "line c0 d0")[0]]
    assert np.ptp(np.diff(heights)) < 0.5
    assert {"0.1", "0.01", "0.001"} <= set(Elements(drawing).texts)


def test_long_lines_are_thinned_and_keep_their_ends() -> None:
    steps = np.arange(10_000.0)
    line = paths(lines([Line("one", 0, steps, steps)], across="steps", title="t"), "line")[0]
    assert len(line) == 400
    assert (line[0][0], line[-1][0]) == (50, 350)


def test_bars_start_at_zero_and_are_as_long_as_their_values() -> None:
    drawing = bars([Bar("a", 2.0, 1.0, 3.0), Bar("b", -1.0), Bar("c", None)], across="x", title="t")
    found = re.findall(r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', drawing)
    (first, long), (second, short) = [(float(x), float(width)) for x, width in found]
    assert long == pytest.approx(2 * short, abs=0.1)
    assert second + short == pytest.approx(first, abs=0.1)
    whisker = some(re.search(r'd="M([\d.]+) [\d.]+H([\d.]+)', drawing))
    assert float(whisker[1]) == pytest.approx(first + long / 2, abs=0.2)
    assert float(whisker[2]) == pytest.approx(first + 1.5 * long, abs=0.2)
    assert "undefined" in Elements(drawing).texts


def test_an_interval_far_beyond_all_values_ends_in_an_arrow_at_the_edge() -> None:
    drawing = bars([Bar("a", 1.0, -1e9, 1e9), Bar("b", 0.5, 0.4, 0.6)], across="x", title="t")
    wide, narrow = re.findall(r'd="([^"]*)" class="whisker"', drawing)
    assert wide.count("L") == 4
    assert narrow.count("v8") == 2
    widths = [float(width) for width in re.findall(r'width="([\d.]+)" height="11"', drawing)]
    assert widths[0] > 50  # the bars can still be told apart
    assert widths[0] == pytest.approx(2 * widths[1], abs=0.1)


def test_a_bar_has_its_number_with_its_interval_and_names_are_whole() -> None:
    long = "a-sender-of-a-long-name->a-receiver:key"
    drawing = bars([Bar(long, -0.25, -0.5, 0.0, weak=True), Bar("b", 2.0)], across="x", title="t")
    found = Elements(drawing)
    assert {long, "−0.250 [−0.500, 0]", "2.00"} <= set(found.texts)
    assert 'class="bar less weak"' in drawing
    texts = re.findall(r'<text x="([\d.]+)" y="[\d.]+" text-anchor="(\w+)">([^<]*)', drawing)
    (width,) = re.findall(r'viewBox="0 0 (\d+) \d+"', drawing)
    for x, anchor, escaped in texts:
        text = unescape(escaped)
        reach = 6.2 * len(text) * {"start": 1, "middle": 0.5, "end": 0}[anchor]
        back = 6.2 * len(text) * {"start": 0, "middle": 0.5, "end": 1}[anchor]
        assert float(x) - back >= 0, text
        assert float(x) + reach <= float(width), text


def test_names_of_anybody_are_text() -> None:
    for name in HOSTILE:
        drawings = [
            lines([Line(name, 0, STEPS, STEPS)], across=name, title=name),
            bars([Bar(name, 1.0)], across=name, title=name),
            legend([(name, 0)]),
        ]
        for drawing in drawings:
            found = Elements(drawing)
            assert {tag for tag, _ in found.found} <= {
                "svg",
                "title",
                "path",
                "text",
                "g",
                "rect",
                "ul",
                "li",
                "span",
            }
            assert not any(attribute.startswith("on") for _, names in found.found for attribute in names)
            assert name in found.texts


def test_words_are_shortened_in_the_middle() -> None:
    assert words("short", 10) == "short"
    assert words("a-very-long-name->b", 10) == "a-very…->b"
    assert len(words("x" * 99, 24)) == 24
