"""Golden runs: directories that earlier versions wrote are opened, shown, resumed, compared, reported and served as then."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from antiphon import Simulation
from antiphon.base.files import FORMAT
from antiphon.telemetry import read_run
from antiphon.telemetry.csv_files import read_metrics
from tests.golden.make import STEPS, STOP, make, numbers, restored
from tests.kit.commands import Commands
from tests.kit.parts_table import read_parts

HERE = Path(__file__).resolve().parent
VERSIONS = sorted(path.name for path in HERE.iterdir() if path.name.isdecimal())
EXPECTED = {version: json.loads((HERE / version / "expected.json").read_text()) for version in VERSIONS}
RUNS = [(version, name) for version in VERSIONS for name in EXPECTED[version]]


@pytest.fixture(params=RUNS, ids="/".join)
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A copy of a golden run, and its numbers."""
    version, name = request.param
    copy = tmp_path / name
    shutil.copytree(HERE / version / name, copy)
    return copy, EXPECTED[version][name]


def facts(run: Path) -> dict[str, Any]:
    """What run.json says."""
    found: dict[str, Any] = json.loads((run / "run.json").read_text(encoding="utf-8"))
    return found


def close(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Hold what `numbers` returns to what was recorded, but for what another processor rounds differently."""
    assert found.keys() == expected.keys()
    assert found["now"] == expected["now"]
    assert found["agents"].keys() == expected["agents"].keys()
    for name in found["agents"]:
        assert found["agents"][name] == pytest.approx(expected["agents"][name], rel=1e-6, abs=1e-6), name
    assert found["losses"] == pytest.approx(expected["losses"], rel=1e-6, abs=1e-6)


def test_a_run_gives_the_numbers_that_were_recorded(golden: tuple[Path, dict[str, Any]]) -> None:
    run, expected = golden
    assert [facts(run)[key] for key in ("exit", "step", "steps")] == ["stopped", STOP, STEPS]
    assert str(facts(run)["format"]) in VERSIONS
    with restored(run) as simulation:
        close(numbers(simulation), expected["stopped"])
        simulation.run()
        close(numbers(simulation), expected["done"])
    assert (facts(run)["exit"], facts(run)["format"]) == ("done", FORMAT)
    assert json.loads((run / "result.json").read_text(encoding="utf-8"))["steps"] == STEPS


@pytest.mark.nightly
def test_they_are_made_again_with_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, again = (
        json.loads((make(tmp_path / name) / "expected.json").read_text()) for name in ("first", "again")
    )
    assert first == again


def test_its_tables_are_read(golden: tuple[Path, dict[str, Any]]) -> None:
    run = golden[0]
    metrics = list(read_metrics(run / "metrics.csv"))
    steps = [1] if run.name == "acting" else [1, 3, 6]
    assert sorted({step for step, _ in metrics}) == steps
    assert {row.kind for _, row in metrics} >= {"agent", "channel", "run"}
    assert bool(read_parts(run / "parts.csv")) == (run.name == "clocks")
    if run.name == "pair":
        assert json.loads((run / "evaluations.json").read_text(encoding="utf-8"))["scores"].keys() == {
            "validation"
        }


def test_it_is_shown_and_reported(golden: tuple[Path, dict[str, Any]], cli: Commands) -> None:
    run = golden[0]
    if run.name == "pair":  # only its event file is kept
        page = run.with_name("report.html")
        cli("report", run, "-o", page)
        assert run.name in page.read_text(encoding="utf-8")
    if run.name == "objects":  # not recorded: shown with the code alone
        assert "holds Python objects" in cli.refused("show", run)
        return
    assert f"{STOP} steps, stopped" in cli("show", run)


@pytest.mark.parametrize("version", VERSIONS)
def test_its_event_file_and_its_checkpoint_are_read(version: str) -> None:
    assert str(FORMAT) in VERSIONS
    run = HERE / version / "pair"
    data = read_run(run)
    assert [agent["name"] for agent in data.graph["agents"]] == ["ear", "eye"]
    energy = data.metrics["channel", "message_energy"]
    rows = [
        (step, row.value) for step, row in read_metrics(run / "metrics.csv") if row.metric == "message_energy"
    ]
    assert energy.steps.tolist() == [step for step, _ in rows]
    assert energy.values[:, 0].tolist() == pytest.approx([value for _, value in rows], rel=1e-6)
    with Simulation.load(run) as simulation:
        close(numbers(simulation), EXPECTED[version]["pair"]["stopped"])


def test_they_are_small_and_name_no_machine() -> None:
    files = [path for version in VERSIONS for path in (HERE / version).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 360_000 * len(VERSIONS)
    for path in files:
        assert b"/home/" not in (content := path.read_bytes())
        assert str(HERE.parents[1]).encode() not in content
        assert not path.is_symlink()
    assert not [path for path in files if path.name.startswith(".") or path.name == "run.lock"]
