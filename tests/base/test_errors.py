"""Errors: one line each, not longer than a terminal shows."""

from __future__ import annotations

import antiphon
from antiphon.base.errors import in_one_line
from antiphon.base.nearest_names import suggest
from antiphon.errors import AntiphonError, RunError, ScenarioWarning


def test_a_short_line_stays_and_a_long_one_keeps_its_place_and_its_fix() -> None:
    assert in_one_line("é" * 290) == "é" * 290
    line = str(RunError("file.yaml:3: agents: " + "x, " * 50_000 + "; take fewer"))
    assert len(line) <= 290
    assert line.startswith("file.yaml:3: agents: x, x")
    assert line.endswith("x, ; take fewer")


def test_the_nearest_name_is_suggested_or_the_known_ones_are_listed() -> None:
    assert suggest("widht", ["width", "depth"]) == "; did you mean 'width'?"
    assert suggest("zz", ["width", "depth"]) == "; known: depth, width"


def test_users_find_every_error_in_one_module() -> None:
    from antiphon.base import errors

    ours = {
        name
        for name, what in vars(errors).items()
        if isinstance(what, type) and issubclass(what, AntiphonError | ScenarioWarning)
    }
    assert set(antiphon.errors.__all__) == ours
    assert antiphon.errors.RunError is antiphon.RunError
