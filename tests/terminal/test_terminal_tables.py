"""Tables in the terminal, at any width: no cell is lost, and each row is told apart from the others."""

from __future__ import annotations

import pytest

from antiphon.base.table import Table
from antiphon.terminal.output import show_result

HEADS = ["channel", "coupling", "accuracy %", "95 % interval", "recovered [95 %]", "n"]
NUMBERS = ("97.01 ± 0.10", "96.0 – 98.1", "1.00 [0.98 – 1.02]")
ROWS = [
    [f"a_rather_long_name_{i}->another_name", "decoupled, given label", *NUMBERS, f"{i}"] for i in range(3)
]


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_no_cell_is_lost_at_any_width(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    shown = str(Table(HEADS, ROWS, 2, "title", ["a note"])).splitlines()
    assert max(map(len, shown)) <= width
    assert (shown[0], shown[-1]) == ("title", "a note")
    letters = "".join("".join(shown).split())
    assert letters.count("decoupled") == 3 or width == 60
    assert len(letters) >= sum(len("".join(cell.split())) for row in ROWS for cell in row)


def test_markdown_has_the_same_cells() -> None:
    table = Table(["name", "n"], [["a<b", "1"]], 1)
    assert table.markdown() == "| name | n |\n| --- | ---: |\n| a<b | 1 |"


def test_the_end_of_a_run_tells_scores_and_metrics_of_the_environment(
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = {"scenario": "toy", "variant": None, "seed": 0, "steps": 4, "exit": "done", "run_dir": "a"}
    agents = {"a": {"bits": 0.41234, "loss": 2.0}, "quiet": {"updates": 3.0}}
    env = {"solved": 9.0, "bits": 0.41234, "odd": None}
    show_result(result | {"examples": 360, "bits": 0.41234, "env": env, "channels": {}, "agents": agents})
    text = capsys.readouterr().out
    assert [line.split() for line in text.splitlines() if "agent" in line] == [["agent", "bits", "loss"]]
    assert "bits         0.412   (360 examples of test)" in text
    assert "environment  solved 9, bits 0.412, odd –" in text
    assert "quiet" not in text
