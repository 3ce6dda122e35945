"""Errors: one line each, not longer than a terminal shows."""

from __future__ import annotations

import pytest

from antiphon.base.errors import RunError, in_one_line, suggest


def test_a_short_line_stays_and_a_long_one_keeps_its_place_and_its_fix() -> None:
    assert in_one_line("é" * 290) == "é" * 290
    line = str(RunError("file.yaml:3: agents: " + "x, " * 50_000 + "; take fewer"))
    assert len(line) <= 290
    assert line.startswith("file.yaml:3: agents: x, x")
    assert " … " in line
    assert line.endswith("x, ; take fewer")


@pytest.mark.parametrize("sign", ["\n", "\x1b", "\u2028", "\u202e", "\ud800", "\x00"])
def test_control_characters_are_escaped(sign: str) -> None:
    line = in_one_line(f"a{sign * 500}b")
    assert line.isprintable()
    assert len(line) <= 290
    assert (line[:2], line[-1]) == ("a\\", "b")


def test_no_similar_name_is_sought_for_a_huge_one() -> None:
    assert suggest("widht", ["width", "depth"]) == "; did you mean 'width'?"
    assert suggest("x" * 10**6, ["x" * (10**6 - 1), "depth"]).startswith("; known: ")
