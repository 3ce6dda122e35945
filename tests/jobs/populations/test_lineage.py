"""The picture of a population: lines that branch where a member is copied, and the table beside it."""

from __future__ import annotations

import pytest

from antiphon.jobs.populations.lineage import draw_lineage
from antiphon.jobs.populations.selection import (
    Entry,
    ancestry,
    initial_values,
    scored_values,
)
from tests.jobs.populations.made import RATES, spec


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


def test_a_line_branches_where_a_member_is_copied_and_the_winners_is_bold() -> None:
    """Member 1 is copied from member 0 at step 10, and wins: the bold line is 0's until then."""
    pytest.importorskip("matplotlib")
    keys = {"members": 2, "vary": {"lr": {"from": 0.01, "to": 1.0, "log": True}}}
    rates = [start["lr"] for start in initial_values(spec(**keys))]
    before = [Entry(10, 0, 0, 0.2, 0.0, {"lr": rates[0]}), Entry(10, 1, 0, 0.9, 0.0, {"lr": 0.5})]
    ends = [Entry(20, 0, 0, 0.5, 0.0, {"lr": rates[0]}), Entry(20, 1, 1, 0.1, 0.0, {"lr": 0.5})]
    scores, values = draw_lineage([*before, *ends], spec(**keys), "error").axes
    (thin,) = values.collections
    lines = [[tuple(point) for point in line] for line in thin.get_segments()]
    assert [(0, rates[1]), (10, rates[1])] in lines
    assert [(10, rates[0]), (10, 0.5)] in lines
    assert [(10, 0.5), (20, 0.5)] in lines
    assert values.get_yscale() == "log"
    (bold,) = values.lines
    assert [tuple(point) for point in bold.get_xydata()] == [
        (0, rates[0]),
        (10, rates[0]),
        (10, 0.5),
        (20, 0.5),
    ]
    (bold,) = scores.lines
    assert [tuple(point) for point in bold.get_xydata()] == [(10, 0.2), (20, 0.1)]


def test_members_without_scores_are_drawn() -> None:
    pytest.importorskip("matplotlib")
    ends = [Entry(3, member, member, None, 0.0, {"lr": 0.1}) for member in (0, 1)]
    for entries in ([], ends):
        scores, _ = draw_lineage(entries, spec(members=2, vary={"lr": RATES["lr"]}), "error").axes
        assert not scores.lines
