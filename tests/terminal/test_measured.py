"""Tables of what a run has measured."""

from __future__ import annotations

import pytest

from antiphon.terminal.output import show_measured


def test_a_column_in_which_nothing_is_measured_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    show_measured(["agent", "return", "loss"], [["motor", "16.5", "–"], ["other", "–", "–"]])
    shown = capsys.readouterr().out
    assert "loss" not in shown
    assert shown.split()[:2] == ["agent", "return"]
    assert "other" in shown


def test_a_table_without_a_measurement_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    show_measured(["channel", "cosine"], [["a->b", "–"]])
    assert capsys.readouterr().out == ""
