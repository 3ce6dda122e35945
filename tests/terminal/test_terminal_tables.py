"""Tables in the terminal, at any width: no cell is lost, and each row is told apart from the others."""

from __future__ import annotations

from typing import Any

import pytest

from antiphon.base.table import Table
from antiphon.terminal.end_of_run import show_result

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


def test_a_notebook_and_markdown_have_the_same_cells() -> None:
    table = Table(["name", "n"], [["a<b", "1"]], 1)
    assert "<th>name</th><th>n</th></tr><tr><td>a&lt;b</td><td>1</td></tr>" in table._repr_html_()
    assert table.markdown() == "| name | n |\n| --- | ---: |\n| a<b | 1 |"


def closing(capsys: pytest.CaptureFixture[str], agents: dict[str, Any], **more: Any) -> str:
    """Return what a run prints in the end."""
    readout = next(iter(agents))
    found = {metric: agents[readout].get(metric) for metric in ("accuracy", "error", "bits")}
    head: dict[str, Any] = {"scenario": "toy", "variant": None, "seed": 0, "steps": 4, "seconds": 1.0}
    head |= {"exit": "done", "run_dir": "a", "readout": readout, "examples": 360, "env": {}, "channels": {}}
    show_result(head | found | {"agents": agents} | more)
    return capsys.readouterr().out


def test_the_end_of_a_run_tells_bits_errors_metrics_of_the_environment_and_returns(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = closing(capsys, {"a": {"bits": 0.41234, "loss": 2.0}, "quiet": {"updates": 3.0}})
    assert "test bits" in text
    assert "bits         0.412   (a; test split, 360 examples)" in text
    assert "accuracy" not in text
    assert "updates      3 (quiet)" in text
    assert text.count("quiet") == 1
    both = {"a": {"accuracy": 0.5, "loss": 1.0}, "b": {"error": 2.0, "loss": 2.0}}
    assert "on the test split" in closing(capsys, both)
    scored = {"a": {"accuracy": 360}, "b": {"error": 50}, "c": {"error": 40}}
    both["c"], readout = {"error": 4.0, "loss": 4.0}, ["a", "b", "c"]
    text = closing(capsys, both, readout=readout, accuracy=0.5, error=3.0, scored=scored)
    assert "accuracy     50.00 %   (a; test split, 360 examples)" in text
    assert "error        3.000   (mean of 2 readouts; test split, 40 examples)" in text
    unread = {"a": {"bits": None, "loss": None}}
    text = closing(capsys, unread, examples=None, env={"solved": 9.0, "bits": 0.41234, "odd": None})
    assert "environment  solved 9, bits 0.412, odd –" in text
    assert "test" not in text
    episodes = {"count": 16, "length": 341.25, "actions": "greedy", "returns": {"reward": 341.25}}
    found = {"return": 341.25, "examples": 16, "episodes": episodes}
    text = closing(capsys, {"motor": {"return": 341.25, "loss": None}, "sensor": {"updates": 2.0}}, **found)
    assert [line.split() for line in text.splitlines() if "agent" in line] == [["agent", "return"]]
    assert "return       341.250   (motor; 16 whole episodes of 341.2 steps, greedy)" in text
    assert "test" not in text
