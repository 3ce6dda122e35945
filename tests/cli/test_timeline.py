"""`antiphon show --timeline`: what it prints, and what it refuses."""

from __future__ import annotations

import pytest

from tests.kit.commands import Commands


def test_the_timeline_of_a_hierarchy(cli: Commands) -> None:
    text = cli("show two-timescales --timeline --steps 8")
    lines = text.splitlines()
    assert lines[0].split() == ["step", *map(str, range(1, 9))]
    assert lines[1].split() == ["A", "o", "o", "o", "#", "o", "o", "o", "#"]
    assert lines[3].split() == ["B", ".", ".", ".", "o", ".", ".", ".", "o"]
    assert "a synthetic gradient replaces the rest" in text
    assert max(map(len, lines[:-4])) <= 120


def test_the_timeline_as_json(cli: Commands) -> None:
    """Steps are counted from 1, as in the text."""
    found = cli.json("show two-timescales --timeline --steps 8")
    assert found["start"] == 1
    assert found["agents"]["A"]["since"] == [1, 1, 1, 1, 5, 5, 5, 5]
    assert found["agents"]["B"]["since"][:4] == [-1, -1, -1, 4]
    assert found["scenario"] == "two-timescales"
    assert found["agents"]["B"]["ticks"] == [step % 4 == 3 for step in range(8)]
    assert found["channels"]["A->B"]["stamps"][3] == [4]


def test_many_agents_are_cut_with_a_line_that_says_so(cli: Commands) -> None:
    assert "… and 20 more agents, " in cli("show corporation --set agents=32 --timeline --steps 3")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("two-timescales --timeline --steps 0", "--steps: must be at least 1, not 0"),
        ("two-timescales --timeline --yaml", "--timeline are mutually exclusive"),
        ("two-timescales --steps 3", "--steps is for --timeline"),
        ("--timeline", "name a scenario"),
        ("two-timscales --timeline", "did you mean 'two-timescales'"),
    ],
)
def test_what_cannot_be_shown_is_one_line(words: str, line: str, cli: Commands) -> None:
    assert line in cli.refused(f"show {words}")
