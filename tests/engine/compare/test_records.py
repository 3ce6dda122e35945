"""Where the records of two runs part: documents, digests, figures."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from antiphon.engine.compare.records import (
    MISSING,
    FigureDifference,
    SettingDifference,
    compare_digests,
    compare_figures,
    compare_settings,
)
from antiphon.engine.runs.directory import RunDirectory
from antiphon.errors import RunError
from antiphon.telemetry.csv_files import Column, Digests, Row
from tests.resigned import resign

FACTS: dict[str, Any] = {
    "scenario": "pair",
    "seed": 0,
    "steps": 3,
    "step": 3,
    "seconds": 1.0,
    "threads": 1,
}
FACTS |= {"device": "cpu", "dtype": "float32", "backend": "cohort", "warnings": [], "exit": "done"}
DOCUMENT: dict[str, Any] = {
    "scenario": "pair",
    "agents": {
        "eye": {"observes": ["image"], "network": {"kind": "mlp", "hidden": [4]}},
        "mind": {"clock": {"period": 1}},
    },
    "channels": [{"from": "eye", "to": "mind", "size": 3}, {"from": "eye", "to": "mind", "key": "b"}],
    "training": {"steps": 3, "optimiser": {"lr": 0.1}},
}


def run(path: Path, document: Any = DOCUMENT, **facts: Any) -> RunDirectory:
    path.mkdir()
    text = document if isinstance(document, str) else yaml.safe_dump(document)
    (path / "scenario.yaml").write_text(text)
    resign(path, **(FACTS | {"versions": {"torch": "2.13"}} | facts))
    return RunDirectory.open(path)


def settings(tmp_path: Path, document: Any = DOCUMENT, **facts: Any) -> list[SettingDifference]:
    return compare_settings(run(tmp_path / "a"), run(tmp_path / "b", document, **facts))


def test_runs_that_were_asked_for_alike(tmp_path: Path) -> None:
    assert settings(tmp_path, seconds=9.0, step=1, started="later") == []


def test_what_differs_is_named_by_its_path(tmp_path: Path) -> None:
    other = copy.deepcopy(DOCUMENT)
    other["agents"]["eye"]["network"]["hidden"] = [4, 4]
    other["agents"]["mind"] = {"clock": {"period": 2}, "align": True}
    other["channels"][1]["size"] = 5
    other["training"]["optimiser"]["lr"] = 0.2
    other["telemetry"] = {"every": 10}
    assert settings(tmp_path, other) == [
        ("agents", "eye", "network.hidden", [4], [4, 4]),
        ("agents", "mind", "clock.period", 1, 2),
        ("agents", "mind", "align", MISSING, True),
        ("channels", "eye->mind:b", "size", MISSING, 5),
        ("scenario", "", "training.optimiser.lr", 0.1, 0.2),
        ("scenario", "", "telemetry", MISSING, {"every": 10}),
    ]


def test_agents_and_channels_that_only_one_has(tmp_path: Path) -> None:
    other = copy.deepcopy(DOCUMENT)
    other["agents"]["ear"] = {"observes": ["image"]}
    del other["channels"][0]
    assert settings(tmp_path, other) == [
        ("agents", "ear", "", MISSING, {"observes": ["image"]}),
        ("channels", "eye->mind", "", {"from": "eye", "to": "mind", "size": 3}, MISSING),
    ]


def test_the_order_of_channels_does_not_matter(tmp_path: Path) -> None:
    assert settings(tmp_path, DOCUMENT | {"channels": DOCUMENT["channels"][::-1]}) == []


@pytest.mark.parametrize(("first", "second", "differs"), [(1, 1.0, False), (1, True, True), ("1", 1, True)])
def test_equal_numbers_are_equal_however_written(
    tmp_path: Path, first: Any, second: Any, differs: bool
) -> None:
    one = run(tmp_path / "a", DOCUMENT | {"x": first})
    other = run(tmp_path / "b", DOCUMENT | {"x": second})
    assert bool(compare_settings(one, other)) is differs


def test_what_decides_how_a_run_is_computed_counts(tmp_path: Path) -> None:
    found = settings(tmp_path, seed=1, threads=2, together=[1, 2], versions={"torch": "2.14", "numpy": "2"})
    assert found == [
        ("run", "", "seed", 0, 1),
        ("run", "", "threads", 1, 2),
        ("run", "", "together", MISSING, [1, 2]),
        ("run", "", "versions.torch", "2.13", "2.14"),
        ("run", "", "versions.numpy", MISSING, "2"),
    ]


def test_scenarios_of_python_objects_have_no_document(tmp_path: Path) -> None:
    found = settings(tmp_path, "# No document: env: a Python object\n{}\n")
    assert {each.b for each in found} == {MISSING}
    assert str(MISSING) == "–"


def test_a_damaged_document_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"scenario.yaml:1: broken YAML"):
        settings(tmp_path, "{a: [}")


# --- digests --------------------------------------------------------------------------------------------------

A: Column = ("agent", "a")
B: Column = ("agent", "b")
AB: Column = ("channel", "a->b")
NEW: Column = ("agent", "new")


def table(cells: dict[int, str], names: tuple[Column, ...] = (A, B, AB)) -> Digests:
    """A table whose digests are single letters."""
    rows = {
        step: Row(step, bytes(8), b"".join(letter.encode() * 8 for letter in word))
        for step, word in cells.items()
    }
    return Digests(names, rows)


def test_rows_that_agree() -> None:
    found = compare_digests(table({1: "xyz", 9: "xyw"}), table({1: "xyz", 9: "xyw", 12: "aaa"}))
    assert (found.compared, found.last_equal, found.first_different, found.different) == ((1, 9), 9, None, ())
    assert (found.columns, found.only_in) == (3, ((), ()))


def test_the_first_row_that_differs() -> None:
    found = compare_digests(table({1: "xyz", 5: "xyz", 9: "ayb"}), table({1: "xyz", 5: "xyz", 9: "xyz"}))
    assert (found.last_equal, found.first_different, found.different) == (5, 9, (A, AB))


def test_rows_at_other_steps_are_left_out() -> None:
    found = compare_digests(table({1: "xyz", 4: "xyz", 8: "xya"}), table({1: "xyz", 3: "aaa", 8: "xyz"}))
    assert (found.compared, found.last_equal, found.first_different, found.different) == ((1, 8), 1, 8, (AB,))


def test_nothing_is_known_before_the_first_row() -> None:
    found = compare_digests(table({1: "xyz"}), table({1: "xyy"}))
    assert (found.last_equal, found.first_different) == (None, 1)


def test_who_is_only_in_one_run_does_not_count() -> None:
    found = compare_digests(table({1: "xyz", 2: "xyz"}), table({1: "qx", 2: "qa"}, (NEW, A)))
    assert (found.last_equal, found.first_different, found.different, found.columns) == (1, 2, (A,), 1)
    assert found.only_in == ((B, AB), (NEW,))


def test_runs_without_a_common_row_or_name() -> None:
    assert compare_digests(table({1: "xyz"}), table({2: "xyz"})).compared == ()
    assert compare_digests(table({1: "xyz"}), table({1: "x"}, (NEW,))).columns == 0


# --- figures --------------------------------------------------------------------------------------------------

HEADER = "step,kind,name,metric,value\n"
ROWS = "1,agent,a,loss,0.5\n1,run,,seconds,1.0\n10,agent,a,loss,0.25\n10,run,,seconds,2.0\n"


def figures(tmp_path: Path, other: str, one: str = ROWS) -> Any:
    for name, text in (("a.csv", one), ("b.csv", other)):
        (tmp_path / name).write_text(HEADER + text)
    return compare_figures(tmp_path / "a.csv", tmp_path / "b.csv")


def test_figures_that_agree_but_for_the_seconds(tmp_path: Path) -> None:
    found = figures(tmp_path, ROWS.replace("2.0", "3.0") + "20,agent,a,loss,0.1\n")
    assert (found.compared, found.first_different) == ((1, 10), None)


def test_the_first_figure_that_differs(tmp_path: Path) -> None:
    found = figures(tmp_path, ROWS.replace("0.25", "0.26"))
    assert found.first_different == FigureDifference(10, "agent", "a", "loss", 0.25, 0.26)


def test_a_figure_that_one_run_does_not_have(tmp_path: Path) -> None:
    found = figures(tmp_path, ROWS + "10,agent,b,loss,nan\n")
    assert found.first_different[:4] == (10, "agent", "b", "loss")
    assert found.first_different.a is None
    assert found.first_different.b != found.first_different.b


def test_figures_at_other_steps_are_left_out(tmp_path: Path) -> None:
    found = figures(
        tmp_path, "1,agent,a,loss,0.5\n5,agent,a,loss,9\n", "1,agent,a,loss,0.5\n4,agent,a,loss,7\n"
    )
    assert (found.compared, found.first_different) == ((1,), None)


def test_a_last_line_that_is_being_written_does_not_count(tmp_path: Path) -> None:
    found = figures(tmp_path, ROWS[:-3])
    assert found.first_different is None


@pytest.mark.parametrize("rubbish", ["rubbish\n", "x,agent,a,loss,1\n", "10,agent,a,loss,what\n"])
def test_a_damaged_table_is_named(tmp_path: Path, rubbish: str) -> None:
    with pytest.raises(RunError, match=r"b.csv: does not fit"):
        figures(tmp_path, "1,agent,a,loss,0.5\n" + rubbish)


def test_tables_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(HEADER)
    assert compare_figures(tmp_path / "a.csv", tmp_path / "b.csv") is None
    (tmp_path / "b.csv").mkdir()
    with pytest.raises(RunError, match=r"b.csv: is a link, a folder or"):
        compare_figures(tmp_path / "a.csv", tmp_path / "b.csv")
