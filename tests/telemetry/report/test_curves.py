"""metrics.csv as the report reads it, whole and damaged."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from antiphon.telemetry.report.run import read_table

HEADER = "step,kind,name,metric,value\n"
ROWS = """\
10,agent,a,loss,2.0
10,agent,a,gradient_norm,9.0
10,channel,a->b,cosine,0.5
10,channel,b->a,cosine,0.1
10,channel,b->a,message_std,0.1
10,env,,return,3.0
10,channel,a->b,value,0.7
10,run,,seconds,0.1
20,agent,a,loss,nan
20,channel,a->b,cosine,nan
20,channel,b->a,cosine,0.2
20,channel,a->b,value,0.9
20,channel,a->b,value_low,0.8
"""


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "metrics.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_scores_means_over_channels_and_newest_measurements_are_kept(tmp_path: Path) -> None:
    found = read_table(table(tmp_path, HEADER + ROWS))
    assert found.damage == ""
    assert list(found.agents) == [("a", "loss")]
    loss = found.agents["a", "loss"]
    assert (list(loss), str(list(loss.values()))) == ([10, 20], "[2.0, nan]")
    assert list(found.channels) == ["cosine"]
    assert list(found.channels["cosine"].values()) == [0.3, 0.2]
    assert list(found.env["return"].values()) == [3.0]
    assert found.measured == {"a->b": {"value": (20, 0.9), "value_low": (20, 0.8)}}


def test_names_with_commas_quotes_and_lines_are_whole(tmp_path: Path) -> None:
    name = 'a,"b"\nc'
    with (tmp_path / "metrics.csv").open("w", newline="") as file:
        csv.writer(file).writerows([HEADER.strip().split(","), [1, "agent", name, "loss", 1.0]])
        csv.writer(file).writerow([1, "channel", name, "value", 2.0])
    found = read_table(tmp_path / "metrics.csv")
    assert list(found.agents) == [(name, "loss")]
    assert found.measured == {name: {"value": (1, 2.0)}}


def test_a_row_that_is_being_written_counts_for_nothing(tmp_path: Path) -> None:
    found = read_table(table(tmp_path, HEADER + ROWS + "30,agent,a,lo"))
    assert found.damage == ""
    assert list(found.agents["a", "loss"]) == [10, 20]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("30,agent,a,loss", "line 15: '30,agent,a,loss' is no row of step"),
        ("soon,agent,a,loss,1", "line 15"),
        ("30,agent,a,loss,much", "line 15"),
        ("9999999999999999999,env,,x,1", "line 15"),
        ("\0", "line"),
    ],
)
def test_a_damaged_row_ends_the_table_and_is_named(tmp_path: Path, row: str, said: str) -> None:
    found = read_table(table(tmp_path, f"{HEADER}{ROWS}{row}\n40,agent,a,loss,1\n"))
    assert said in found.damage
    assert list(found.agents["a", "loss"]) == [10, 20]


def test_what_is_no_table_of_figures_has_none(tmp_path: Path) -> None:
    assert "line 1 is not step,kind" in read_table(table(tmp_path, "a,b\n1,2\n")).damage
    assert read_table(tmp_path / "none.csv").damage == "none.csv is not there"
    assert "is a link, a folder or a special file" in read_table(tmp_path).damage
    assert read_table(table(tmp_path, "")).damage == ""
