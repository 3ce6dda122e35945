"""Errors: one line each, not longer than a terminal shows."""

from __future__ import annotations

import pytest

from antiphon.errors import RunError, in_one_line, suggest


@pytest.mark.parametrize("text", ["", "short", "é" * 290])
def test_a_short_line_stays(text: str) -> None:
    assert in_one_line(text) == text
    assert str(RunError(text)) == text


def test_a_long_line_keeps_its_place_and_its_fix() -> None:
    line = str(RunError("file.yaml:3: agents: " + "x, " * 50_000 + "; take fewer"))
    assert len(line) <= 290
    assert line.startswith("file.yaml:3: agents: x, x")
    assert " … " in line
    assert line.endswith("x, ; take fewer")


@pytest.mark.parametrize("sign", ["\n", "\r", "\x1b", "\u2028", "\u202e", "\ud800", "\x00"])
def test_control_characters_are_escaped(sign: str) -> None:
    for count in (1, 500):
        line = in_one_line(f"a{sign * count}b")
        assert line.isprintable()
        assert len(line) <= 290
        assert line.startswith("a\\")
        assert line.endswith("b")


def test_no_similar_name_is_sought_for_a_huge_one() -> None:
    assert suggest("widht", ["width", "depth"]) == "; did you mean 'width'?"
    assert suggest("x" * 10**6, ["x" * (10**6 - 1), "depth"]).startswith("; known: ")
