"""Golden runs: directories that earlier versions wrote are opened, shown, resumed, compared, reported and served as then."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from antiphon import Simulation
from antiphon.engine.runs.directory import RunDirectory
from antiphon.engine.studies.scoring import kept_scores
from antiphon.manifests import FORMAT
from antiphon.telemetry.channels.reading import read_run
from antiphon.telemetry.csv_files import read_figures
from tests.commands import Commands
from tests.golden.make import STEPS, STOP, numbers, objects, restored
from tests.parts_table import read_parts
from tests.telemetry.channels.serving import client, figure, get

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


def close(found: Any, expected: Any, noisy: Collection[str] = ()) -> None:
    """Hold numbers to those recorded, but for what another processor rounds differently.

    Args:
        found: What `numbers` returns.
        expected: The same, recorded.
        noisy: Agents whose parameters are not compared: their losses are.
    """
    assert found.keys() == expected.keys()
    assert found["now"] == expected["now"]
    assert found["agents"].keys() == expected["agents"].keys()
    for name, sums in expected["agents"].items():
        if name not in noisy:
            assert found["agents"][name] == pytest.approx(sums, rel=1e-6, abs=1e-6), name
    assert found["losses"] == pytest.approx(expected["losses"], rel=1e-6, abs=1e-6)


def with_lost_biases(simulation: Simulation) -> set[str]:
    """Return the agents with a bias before batch norm: its gradient is rounding alone, which Adam enlarges to a step."""
    return {
        name
        for name, agent in simulation._system.agents.items()
        if any(key.endswith(".norm.mean") for key in agent.learner.buffers)
    }


def test_the_format_that_is_read_has_golden_runs() -> None:
    assert [str(FORMAT)] == VERSIONS


def test_a_run_gives_the_numbers_that_were_recorded(golden: tuple[Path, dict[str, Any]]) -> None:
    run, expected = golden
    directory = RunDirectory.open(run)
    assert (directory.facts["exit"], directory.facts["step"], directory.facts["steps"]) == (
        "stopped",
        STOP,
        STEPS,
    )
    assert str(directory.facts["format"]) in VERSIONS
    with restored(run) as simulation:
        close(numbers(simulation), expected["stopped"])
        simulation.run()
        close(numbers(simulation), expected["done"], with_lost_biases(simulation))
    directory = RunDirectory.open(run)
    assert (directory.facts["exit"], directory.facts["format"]) == ("done", FORMAT)
    assert directory.result is not None
    assert directory.result["steps"] == STEPS


def test_its_tables_are_read(golden: tuple[Path, dict[str, Any]]) -> None:
    run = golden[0]
    figures = list(read_figures(run / "metrics.csv"))
    steps = [1] if run.name == "acting" else [1, 3, 6]
    assert sorted({step for step, _ in figures}) == steps
    assert {row.kind for _, row in figures} >= {"agent", "channel", "run"}
    assert bool(read_parts(run / "parts.csv")) == (run.name in ("clocks", "virtual"))
    if run.name == "pair":
        assert kept_scores(run, STOP).keys() == {"validation"}


def test_it_is_shown_compared_and_reported(golden: tuple[Path, dict[str, Any]], cli: Commands) -> None:
    run = golden[0]
    page = run.with_name("report.html")
    cli("report", run, "-o", page)
    assert run.name in page.read_text(encoding="utf-8")
    if run.name == "objects":  # not recorded: shown and compared with the code alone
        assert "holds Python objects" in cli.refused("show", run)
        return
    assert f"{STOP} steps, stopped" in cli("show", run)
    copy = shutil.copytree(run, run.with_name("copy"))
    assert cli.code("diff", run, copy) == 0, cli.err


@pytest.mark.parametrize("version", VERSIONS)
def test_its_event_file_is_served(version: str, tmp_path: Path) -> None:
    shutil.copytree(HERE / version / "pair", tmp_path / "pair")
    data = read_run(tmp_path / "pair")
    assert [agent["name"] for agent in data.graph["agents"]] == ["ear", "eye"]
    steps, values = figure(
        get(client(tmp_path), "figure", run="pair", kind="channel", metric="message_energy")
    )
    assert steps == [1, 3, 6]
    recorded = [
        row.value
        for _, row in read_figures(tmp_path / "pair" / "metrics.csv")
        if row.metric == "message_energy"
    ]
    assert values[:, 0].tolist() == pytest.approx(recorded, rel=1e-6)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_agent_of_it_is_taken(version: str) -> None:
    run = HERE / version / "pair"
    with Simulation.load(run) as simulation:
        simulation.load_weights(run, ["eye"])
        close(numbers(simulation), EXPECTED[version]["pair"]["stopped"])


@pytest.mark.parametrize("version", VERSIONS)
def test_python_objects_of_it_are_compared_by_their_digests(version: str) -> None:
    with Simulation.load(HERE / version / "objects", objects()) as simulation:
        close(numbers(simulation), EXPECTED[version]["objects"]["stopped"])


def test_they_are_small_and_name_no_machine() -> None:
    files = [path for version in VERSIONS for path in (HERE / version).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 210_000 * len(VERSIONS)
    for path in files:
        assert b"/home/" not in (content := path.read_bytes())
        assert str(HERE.parents[1]).encode() not in content
        assert not path.is_symlink()
    assert not [path for path in files if path.name.startswith(".") or path.name == "run.lock"]
