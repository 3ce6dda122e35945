"""Tables of what a run has measured."""

from __future__ import annotations

import pytest

from antiphon.terminal.output import show_measured, updates_in_words


def test_a_column_in_which_nothing_is_measured_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    show_measured(["agent", "return", "loss"], [["motor", "16.5", "–"], ["other", "–", "–"]])
    shown = capsys.readouterr().out
    assert "loss" not in shown
    assert shown.split()[:2] == ["agent", "return"]
    assert "other" in shown


def test_a_table_without_a_measurement_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    show_measured(["channel", "cosine"], [["a->b", "–"]])
    assert capsys.readouterr().out == ""


def test_updates_behind_a_gate_are_not_promised() -> None:
    assert (
        updates_in_words({"eye": 9, "hand": 90}, ["hand"], ["eye"])
        == "9 (eye), 90 (hand); several for each window of hand; those of eye change nothing while its channel's gate is shut"
    )


def test_updates_of_many_agents_say_that_some_learn_once_an_episode() -> None:
    counts = {"a": 1, "b": 20, "c": None, "d": 3}
    assert updates_in_words(counts) == "1 to 20, or one per episode"
    assert updates_in_words({**counts, "c": 4}) == "1 to 20"
