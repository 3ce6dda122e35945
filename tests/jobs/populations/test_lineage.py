"""The picture of a population: lines that branch where a member is copied, and the table beside it."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

from antiphon.jobs.populations.lineage_figure import lineage_svg
from antiphon.jobs.populations.selection import (
    Entry,
    ancestry,
    initial_values,
    scored_values,
)
from tests.jobs.populations.made import RATES, spec

SVG = "{http://www.w3.org/2000/svg}"


HOSTILE = "</text><script>alert(1)</script>"


def drawn(
    vary: dict[str, Any], *entries: Entry
) -> list[tuple[dict[str, tuple[float, float]], list[list[float]]]]:
    """Return the panels of a lineage of two members: the places of the labels, and the ends x, y, x, y of the lines."""
    picture = ElementTree.fromstring(lineage_svg(entries, spec(members=2, vary=vary), "error"))
    assert {one.tag.removeprefix(SVG) for one in picture.iter()} == {
        "svg",
        "style",
        "rect",
        "g",
        "path",
        "text",
        "tspan",
    }
    panels = []
    for panel in list(picture.iter(f"{SVG}g"))[1:]:  # the first is the legend
        texts = {
            str(one.text): (float(one.attrib["x"]), float(one.attrib["y"]))
            for one in panel.iter(f"{SVG}text")
            if one.attrib.get("class") != "name"
        }
        paths = [one.attrib["d"] for one in panel.iter(f"{SVG}path") if "stroke" in one.attrib]
        lines = [line for path in paths for line in path.split("M")[1:]]
        panels.append((texts, [[float(number) for number in re.split("[ L]", line)] for line in lines]))
    return panels


def test_a_line_branches_where_a_member_is_copied() -> None:
    """Steps are linear, the axis of a parameter is as its range, and the best member is drawn last."""
    vary = {"lr": {"from": 0.01, "to": 1.0, "log": True}, HOSTILE: [1.0, 2.0, 4.0]}
    low, high = {"lr": 0.1, HOSTILE: 2.0}, {"lr": 1.0, HOSTILE: 1.0}
    before = [Entry(5, 0, 0, 0.5, 0.0, low), Entry(5, 1, 1, 0.75, 0.0, {"lr": 0.01, HOSTILE: 2.0})]
    copied = [Entry(10, 0, 0, 0.5, 0.0, low), Entry(10, 1, 0, 0.75, 0.0, high)]
    ends = [Entry(20, 0, 0, 0.75, 0.0, low), Entry(20, 1, 1, 0.25, 0.0, high)]
    (texts, scores), (places, rates), (others, _) = drawn(vary, *before, *copied, *ends)
    assert ("score (error)" in texts, "lr" in places, HOSTILE in others) == (True, True, True)
    start, ten, twenty = (places[step][0] for step in ("0", "10", "20"))
    assert ten == (start + twenty) / 2
    own, parent, copy = (places[value][1] - 4 for value in ("0.01", "0.1", "1"))
    assert parent == (own + copy) / 2
    assert [ten, parent, ten, copy] in rates
    assert [ten, copy, twenty, copy] in rates
    assert [ten, parent, twenty, parent] in rates
    x, y, then, reached = scores[-1]
    assert (x, then) == (ten, twenty)
    assert y < reached  # of member 1, whose error becomes the smallest


def test_a_list_over_decades_has_a_logarithmic_axis() -> None:
    held = [Entry(5, member, member, 0.5, 0.0, {"lr": 0.01, "scale": 1.0}) for member in range(2)]
    vary = {"lr": [0.0001, 0.01, 1.0], "scale": [1.0, 2.0, 4.0]}
    entries = [*held, Entry(10, 0, 0, 0.5, 0.0, {"lr": 1.0, "scale": 4.0})]
    for rate, log in ((0.0001, True), (0.2, False)):
        of_rates = lineage_svg(entries, spec(members=2, vary={**vary, "lr": [rate, 1.0]}), "error")
        assert (">0.01</text>" in of_rates) is log


def test_the_winner_is_bold_from_its_beginning_and_members_have_their_numbers() -> None:
    """Member 1 has won, which was copied from member 0 at step 10: the bold line is 0's until then."""
    rate, other = {"lr": 0.1}, {"lr": 0.4}
    before = [Entry(10, 0, 0, 0.2, 0.0, rate), Entry(10, 1, 0, 0.9, 0.0, other)]
    ends = [Entry(20, 0, 0, 0.5, 0.0, rate), Entry(20, 1, 1, 0.1, 0.0, other)]
    keys = {"members": 2, "vary": {"lr": [0.1, 0.4]}}
    first = initial_values(spec(**keys))[0]["lr"]
    picture = ElementTree.fromstring(lineage_svg([*before, *ends], spec(**keys), "error"))
    legend, *panels = picture.iter(f"{SVG}g")
    assert "".join(legend.itertext()).endswith("bold: the winner, member 1, from its beginning")
    bold = [path.attrib["d"] for path in picture.iter(f"{SVG}path") if path.attrib.get("class") == "winner"]
    scores, rates = ([tuple(map(float, end.split())) for end in path[1:].split("L")] for path in bold)
    places = {one.text: float(one.attrib["y"]) - 4 for one in panels[0].iter(f"{SVG}text")}
    assert [round(end[1]) for end in scores] == [round(places["0.2"]), scores[1][1]]
    assert scores[1][1] > scores[0][1]  # 0.1, the lowest error of all, is at the bottom
    heights = [end[1] for end in rates]
    assert heights[0] == heights[1]
    assert heights[2] == heights[3]
    assert (heights[1] > heights[2]) is (first < 0.4)
    names = [one.text for one in panels[0].iter(f"{SVG}text") if one.attrib.get("class") == "name"]
    assert names == ["0", "1"]  # from the top down
    names = [one.text for one in panels[1].iter(f"{SVG}text") if one.attrib.get("class") == "name"]
    assert names == ["1", "0"]  # by their values


def test_a_logarithmic_axis_of_less_than_two_decades_has_labels_near_its_ends() -> None:
    vary = {"lr": {"from": 0.001, "to": 1.0, "log": True}}
    starts = [one["lr"] for one in initial_values(spec(members=2, vary=vary))]
    ends = [Entry(20, member, member, 0.5, 0.0, {"lr": rate}) for member, rate in enumerate(starts)]
    (_, _), (texts, _) = drawn(vary, *ends)
    ticks = [float(text) for text, (x, _) in texts.items() if x < 52]
    assert max(starts) < 20 * min(starts)
    assert (min(ticks) < 2.5 * min(starts), max(ticks) > max(starts) / 2.5) == (True, True)
    vary["lr"]["from"], places = 0.0001, ("0.001", "0.003", "0.01", "0.03", "0.1")
    ends = [Entry(20, n, n, 0.5, 0.0, {"lr": rate}) for n, rate in enumerate((0.0006, 0.5))]
    (_, _), (texts, _) = drawn(
        vary, *[Entry(10, n, n, 0.5, 0.0, end.values) for n, end in enumerate(ends)], *ends
    )
    assert {*texts} >= {*places}


def test_three_panels_stand_side_by_side_and_four_in_a_square() -> None:
    names = ["lr", "scale", "clip"]
    for count, (width, height) in {1: (664, 270), 2: (996, 270), 3: (664, 510)}.items():
        vary = {name: [0.1, 0.4] for name in names[:count]}
        picture = ElementTree.fromstring(lineage_svg([], spec(members=2, vary=vary), "error"))
        assert (picture.attrib["width"], picture.attrib["height"]) == (str(width), str(height))


def test_the_winners_past_leads_through_those_it_was_copied_from() -> None:
    """At step 10 member 1 is copied from 0, and at step 20 member 2 from 1: the winner's past is 0's, 1's and its own."""
    keys = {"members": 3, "vary": {"lr": [0.1, 0.4]}}
    start = initial_values(spec(**keys))
    rates = [start[0], {"lr": 0.5}, {"lr": 0.7}]
    first = [Entry(10, 0, 0, 0.2, 0.0, rates[0]), Entry(10, 1, 0, 0.9, 0.0, rates[1])]
    second = [Entry(20, 1, 1, 0.1, 0.0, rates[1]), Entry(20, 2, 1, 0.8, 0.0, rates[2])]
    end = Entry(30, 2, 2, 0.05, 0.0, rates[2])
    stages = ancestry(spec(**keys), [*first, *second, end], "error")
    assert [(one.step, one.member, one.values) for one in stages] == [
        (10, 0, rates[0]),
        (20, 1, rates[1]),
        (30, 2, rates[2]),
    ]
    assert [one.entry for one in stages] == [first[0], second[0], end]
    assert ancestry(spec(**keys), [Entry(3, 0, 0, None, 0.0, rates[0])], "error") == []


def test_a_row_has_score_and_values_of_one_moment() -> None:
    keys = {"members": 2, "vary": {"lr": [0.1, 0.4]}}
    start = initial_values(spec(**keys))
    copied, end = Entry(10, 1, 0, 0.9, 0.0, {"lr": 0.7}), Entry(20, 1, 1, 0.1, 0.0, {"lr": 0.7})
    rows = list(scored_values(spec(**keys), [end, copied]))
    assert rows == [(copied, start[1]), (end, {"lr": 0.7})]


def test_members_without_scores_are_drawn() -> None:
    vary = {"lr": RATES["lr"]}
    assert [len(lines) for _, lines in drawn(vary)] == [0, 0]
    ends = [Entry(3, member, member, None, 0.0, {"lr": 0.1}) for member in (0, 1)]
    assert [len(lines) for _, lines in drawn(vary, *ends)] == [0, 2]


def test_names_of_members_stay_beside_the_axes() -> None:
    """Where the scores of many end near the lowest one, their names move up, apart from each other."""
    keys = {"members": 20, "vary": {"lr": [0.1, 0.4]}}
    ends = [Entry(20, n, n, 1.0 if n == 19 else 0.001 * n, 0.0, {"lr": 0.1}) for n in range(20)]
    picture = ElementTree.fromstring(lineage_svg(ends, spec(**keys), "return"))
    panel = list(picture.iter(f"{SVG}g"))[1]
    names = [one for one in panel.iter(f"{SVG}text") if one.attrib.get("class") == "name"]
    heights = [float(one.attrib["y"]) for one in names]
    assert heights == sorted(heights)
    assert min(later - earlier for earlier, later in pairwise(heights)) >= 8.9
    assert (heights[0] >= 26, heights[-1] <= 204) == (True, True)
