"""`antiphon show --timeline`: what it prints, and what it refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from antiphon.commands.show import show
from antiphon.errors import ScenarioError


def shown(capsys: pytest.CaptureFixture[str], what: str | None, **options: Any) -> str:
    show(what, **{"timeline": True, **options})
    return capsys.readouterr().out


def test_the_timeline_of_a_hierarchy(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "two-timescales", steps=8)
    lines = text.splitlines()
    assert lines[0].split() == ["step", *map(str, range(1, 9))]
    assert lines[1].split() == ["A", "o", "o", "o", "#", "o", "o", "o", "#"]
    assert lines[3].split() == ["B", ".", ".", ".", "o", ".", ".", ".", "o"]
    assert "a synthetic gradient replaces the rest" in text
    assert max(map(len, lines[:-4])) <= 120


def test_the_timeline_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Steps are counted from 1, as in the text."""
    found = json.loads(shown(capsys, "two-timescales", steps=8, json=True))
    assert found["start"] == 1
    assert found["agents"]["A"]["since"] == [1, 1, 1, 1, 5, 5, 5, 5]
    assert found["agents"]["B"]["since"][:4] == [-1, -1, -1, 4]
    assert found["scenario"] == "two-timescales"
    assert found["agents"]["B"]["ticks"] == [step % 4 == 3 for step in range(8)]
    assert found["channels"]["A->B"]["stamps"][3] == [4]


def test_many_agents_are_cut_with_a_line_that_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert "… and 20 more agents, " in shown(capsys, "corporation", settings=["agents=32"], steps=3)


@pytest.mark.parametrize(
    ("what", "options", "words"),
    [
        ("two-timescales", {"steps": 0}, "steps is 0; it must be at least 1"),
        ("two-timescales", {"yaml": True}, "--timeline are mutually exclusive"),
        ("two-timescales", {"timeline": False, "steps": 3}, "--steps is for --timeline"),
        (None, {}, "name a scenario"),
        ("two-timscales", {}, "did you mean 'two-timescales'"),
    ],
)
def test_what_cannot_be_shown_is_one_line(
    capsys: pytest.CaptureFixture[str], what: str | None, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ScenarioError, match=words):
        shown(capsys, what, **options)
