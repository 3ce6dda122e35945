"""Errors: one line each, not longer than a terminal shows."""

from __future__ import annotations

import pytest

import antiphon
from antiphon.base.errors import in_one_line, with_article
from antiphon.base.nearest_names import suggest, suggest_registered
from antiphon.errors import AntiphonError, RunError, ScenarioWarning


def test_a_short_line_stays_and_a_long_one_keeps_its_place_and_its_fix() -> None:
    assert in_one_line("é" * 290) == "é" * 290
    line = str(RunError("file.yaml:3: agents: " + "x, " * 50_000 + "; take fewer"))
    assert len(line) <= 290
    assert line.startswith("file.yaml:3: agents: x, x")
    assert " … " in line
    assert line.endswith("x, ; take fewer")


def test_a_long_line_keeps_a_fix_of_several_parts_whole() -> None:
    """Those of 16 names and of what to do if a module registers another were cut within the last."""
    names = [f"environment-{number:02}" for number in range(20)]
    line = str(RunError(f"env.id: no environment 'x'{suggest_registered('x', names)}"))
    assert len(line) <= 290
    fix = "import that (commands: antiphon --allow-import MODULE …)"
    assert line.endswith(f" …; if a module of yours registers it, {fix}")
    assert str(RunError(f"split: {line}")).endswith(f" …; if a module of yours registers it, {fix}")


def test_a_long_line_and_a_long_list_are_cut_between_words() -> None:
    line = str(RunError("place: " + "environment-name, " * 40 + "; take another"))
    head, _, end = line.partition(" …")
    assert {word.strip(",;") for word in head.split()[1:]} == {"environment-name"}
    assert end.endswith("; take another")
    assert {word.strip(",;") for word in end.split()} == {"environment-name", "", "take", "another"}
    names = [f"antiphon/{word}-v0" for word in ("Copy", "Digits", "Keys", "Pole")] + ["x" * 90, "y" * 90]
    assert suggest("zzz", names, longest=40).endswith("-v0, …")
    assert len(suggest("zzz", names, longest=40)) < 60


def test_a_list_that_is_too_long_has_the_names_that_are_most_similar() -> None:
    names = [f"{letter}{letter}{letter}{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
    assert suggest("zz--y", names) == f"; known: {', '.join([*names[:14], 'yyyy', 'zzzz', '…'])}"
    assert suggest("zz--y", names[20:]) == f"; known: {', '.join(names[20:])}"


@pytest.mark.parametrize("sign", ["\n", "\x1b", "\u2028", "\u202e", "\ud800", "\x00"])
def test_control_characters_are_escaped(sign: str) -> None:
    line = in_one_line(f"a{sign * 500}b")
    assert line.isprintable()
    assert len(line) <= 290
    assert (line[:2], line[-1]) == ("a\\", "b")


def test_no_similar_name_is_sought_for_a_huge_one() -> None:
    assert suggest("widht", ["width", "depth"]) == "; did you mean 'width'?"
    assert suggest("x" * 10**6, ["x" * (10**6 - 1), "depth"]).startswith("; known: ")


def test_users_find_every_error_in_one_module() -> None:
    from antiphon.base import errors

    ours = {
        name
        for name, what in vars(errors).items()
        if isinstance(what, type) and issubclass(what, AntiphonError | ScenarioWarning)
    }
    assert set(antiphon.errors.__all__) == ours
    assert antiphon.errors.RunError is antiphon.RunError


def test_a_name_has_the_article_that_it_is_read_with() -> None:
    names = ("Adam", "mlp", "LSTM", "RMSprop", "unlocked", "uint8", "gru", "Text", "SGD", "pointer")
    found = [with_article(name).split()[0] for name in names]
    assert found == ["an", "an", "an", "an", "an", "a", "a", "a", "an", "a"]
