"""`antiphon show --timeline`: what it prints, and what it refuses."""

from __future__ import annotations

from tests.kit.commands import Commands


def test_the_timeline_of_a_hierarchy(cli: Commands) -> None:
    text = cli("show two-timescales --timeline --steps 8")
    lines = text.splitlines()
    assert lines[0].split() == ["step", *map(str, range(1, 9))]
    assert lines[1].split() == ["A", "o", "o", "o", "#", "o", "o", "o", "#"]
    assert lines[2].split() == ["B", ".", ".", ".", "o", ".", ".", ".", "o"]
    assert max(map(len, lines[:-4])) <= 120


def test_the_timeline_as_json(cli: Commands) -> None:
    """Steps are counted from 1, as in the text."""
    found = cli.json("show two-timescales --timeline --steps 8")
    assert found["start"] == 1
    assert found["scenario"] == "two-timescales"
    assert found["agents"]["B"]["ticks"] == [step % 4 == 3 for step in range(8)]
    assert found["channels"]["A->B"]["stamps"][3] == [4]
