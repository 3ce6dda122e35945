"""Steps taken by parts and by the whole simulation in turn: the same files, limits, divergences and states as without parts."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from antiphon.engine.base_simulation import BaseSimulation
from antiphon.engine.parts import coordinator
from antiphon.engine.parts.part import Part
from antiphon.engine.parts.settings import PartsSettings
from antiphon.engine.parts.transport import LocalParts, Stop, never
from antiphon.engine.runs.run_loop import Observer, RunLoop
from antiphon.engine.simulation import Simulation
from antiphon.errors import DivergenceError, RunError, ScenarioError
from antiphon.scenarios import Scenario, load
from antiphon.telemetry.parts.part_figures import PartFigures
from tests.engine.parts.lockstep import equal
from tests.engine.parts.rings import ring
from tests.engine.scenes import CLASSIFY, scenario_of
from tests.parts_table import read_parts
from tests.recorded import metrics


class NotedParts(LocalParts):
    """Parts in this process that note the steps that they are asked to take."""

    def __init__(self, simulation: BaseSimulation, settings: PartsSettings) -> None:
        count = settings.count or 2
        place = {name: i * count // 4 for i, name in enumerate(simulation.scenario.agents)}
        super().__init__(
            lambda index: Part(simulation.scenario, place, index, seed=simulation.seed), place, every=1
        )
        self.calls: list[tuple[int, int]] = []

    def advance(self, until: int, *, stop: Stop = never, row_at: int | None = None) -> int:
        start = self.parts[0].now
        reached = super().advance(until, stop=stop, row_at=row_at)
        self.calls.append((start, reached))
        return reached


Opened = list[NotedParts]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    """The parts that are opened, in order."""
    found: Opened = []

    def open_parts(simulation: BaseSimulation, settings: PartsSettings) -> NotedParts:
        found.append(NotedParts(simulation, settings))
        return found[-1]

    monkeypatch.setattr(coordinator, "open_parts", open_parts)
    return found


def scenario(steps: int = 23) -> Scenario:
    return ring(steps, every=5)


def facts(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / "run.json").read_text(encoding="utf-8"))
    return found


def saved(path: Path) -> Mapping[str, Any]:
    """What a run has written, but for times and names."""
    result = json.loads((path / "result.json").read_text())
    del result["seconds"], result["run_dir"]
    states = {
        each.name: (each / "state.safetensors").read_bytes() for each in (path / "checkpoints").iterdir()
    }
    return {"result": result, "states": states, "metrics": metrics(path)}


def assert_whole(simulation: Simulation) -> None:
    """Hold a simulation to one without parts at the same step."""
    with Simulation(simulation.scenario) as whole:
        whole.run(simulation.now)
        assert equal(simulation._state_dict()["system"], whole._state_dict()["system"])


def test_a_run_in_parts_writes_the_same_files(tmp_path: Path, opened: Opened) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for path, parts in ((one, None), (two, 2)):
        with Simulation(scenario(), seed=3, logdir=path, checkpoint_every=7, parts=parts) as simulation:
            simulation.run()
    assert saved(one) == saved(two)
    assert "parts" not in facts(one)
    placement = {"a": 0, "b": 0, "c": 1, "d": 1}
    assert facts(two)["parts"] == {"count": 2, "placement": placement, "mode": "lockstep", "every": 1}
    # Rows at steps 1, 5, 10, 15, 20 and 23, checkpoints at 7, 14 and 21: the steps before are the whole's.
    assert opened[0].calls == [(1, 4), (4, 6), (6, 9), (9, 13), (15, 19), (21, 22)]
    figures = read_parts(two / "parts.csv")
    assert list(figures) == [1, 5, 10, 15, 20, 23]
    for rows in figures.values():
        assert sum(row.bytes_sent for row in rows) == sum(row.bytes_received for row in rows)
    assert [row.steps_taken for row in figures[20]] == [19, 19]
    assert all(row.calls > 0 and 0 < row.computing < row.seconds for row in figures[23])
    assert not (one / "parts.csv").exists()


def test_checkpoints_have_the_bytes_of_one_process_where_a_sender_keeps_its_messages(tmp_path: Path) -> None:
    """The sender keeps messages until its window ends, long after the receiver has returned their gradients."""
    found = []
    for parts in (None, 2):
        late = {"from": "eye", "to": "mind", "size": 4, "coupling": "delayed", "link": {"delay": 2}}
        network = {"kind": "mlp", "hidden": [8]}
        agents = {
            "eye": {"observes": ["image"], "network": network, "clock": {"unroll": 5}},
            "mind": {"network": network, "objective": CLASSIFY},
        }
        with Simulation(scenario_of(agents, [late]), parts=parts) as simulation:
            simulation.run(10)
            folder = simulation.save(tmp_path / str(parts))
        found.append([(folder / name).read_bytes() for name in ("state.json", "state.safetensors")])
    assert found[0] == found[1]


def test_without_recorders_the_parts_take_all_steps_but_the_last(opened: Opened) -> None:
    with Simulation(scenario(), parts=2) as simulation:
        simulation.run(20)
        assert opened[0].calls == [(0, 19)]
        assert_whole(simulation)
        simulation.run(10)
        assert opened[0].calls == [(0, 19), (20, 29)]
        assert_whole(simulation)


@pytest.mark.parametrize("then", ["set", "load", "write"])
def test_parts_take_over_whatever_is_done_to_the_simulation(then: str, opened: Opened) -> None:
    def change(simulation: Simulation) -> None:
        if then == "set":
            simulation.set("a.learning_rate", 0.5)
        elif then == "load":
            with Simulation(scenario(), seed=9) as other:
                other.run(4)
                simulation._load_state_dict(other._state_dict())
        else:
            for parameter in simulation.agents["b"].parameters.values():
                parameter.data.mul_(1.5)

    found = []
    for parts in (None, 2):
        with Simulation(scenario(), parts=parts) as simulation:
            simulation.run(6)
            change(simulation)
            simulation.run(6)
            found.append(simulation._state_dict())
    assert equal(*found)
    assert sum(end - start for parts in opened for start, end in parts.calls) == 10
    assert len(opened) == (1 if then == "write" else 2)  # parts of another scenario or seed are new ones


def test_steps_that_are_read_are_the_wholes(opened: Opened) -> None:
    """Steps by hand, an observer of every step, and a recording."""
    read: list[int] = []
    with Simulation(scenario(), parts=2) as simulation:
        for _ in range(3):
            simulation.step()
        simulation.run(3, on_step=lambda one: read.append(one.now))
        assert read == [4, 5, 6]
        recording = simulation.agents["a"].record(["0.weight"])
        simulation.run(3)
        assert recording.steps == {"0.weight": [6, 7, 8]}
        assert opened[0].calls == []
        simulation.recordings.clear()
        simulation.run(3)
        assert opened[0].calls == [(9, 11)]
        assert_whole(simulation)


def test_a_limit_of_episodes_counts_all_ends(opened: Opened) -> None:
    copy = load("copy").resolve()
    with Simulation(copy) as plain, Simulation(copy, parts={"count": 1, "ray": "local"}) as simulation:
        plain.run(episodes=2)
        simulation.run(episodes=2)
        assert len(opened) == 1
        assert simulation.now == plain.now > 2


class Signals(Observer):
    """Sends a signal to this process while the parts are at a step."""

    def __init__(self, parts: NotedParts, at: int, number: int) -> None:
        inner = parts.parts[0].step

        def step(**how: Any) -> Any:
            if parts.parts[0].now == at:
                os.kill(os.getpid(), number)
            return inner(**how)

        parts.parts[0].step = step  # type: ignore[method-assign]

    def reads_state_at(self, simulation: BaseSimulation) -> float:
        return math.inf


@pytest.mark.parametrize(
    ("at", "number"),
    [
        (1, signal.SIGINT),
        (5, signal.SIGTERM),
        *(pytest.param(n, signal.SIGINT, marks=pytest.mark.long) for n in (2, 6, 12)),
    ],
)
def test_a_signal_ends_a_run_where_all_parts_are(
    at: int, number: int, opened: Opened, tmp_path: Path
) -> None:
    """Also just after a step that the whole has taken, and the parts have not."""
    with Simulation(scenario(), logdir=tmp_path / "a", checkpoint_every=4, parts=2) as simulation:
        assert simulation._writer is not None
        watcher = Signals(opened[0], at, number)
        (outcome,) = RunLoop([simulation], [simulation._writer, watcher]).run(23)
        assert (outcome.status, outcome.exit_code) == ("stopped", 128 + number)
        assert at < simulation.now == facts(tmp_path / "a")["step"] < 23
        assert_whole(simulation)
    with Simulation.resume(tmp_path / "a") as simulation:
        simulation.run()
        assert_whole(simulation)


@pytest.mark.parametrize("before", [0, 3])
def test_a_divergence_is_that_of_the_whole(before: int, opened: Opened, tmp_path: Path) -> None:
    """Parts go on a little when one of them diverges: the step is repeated in the whole."""
    paths = [tmp_path / "one", tmp_path / "two"]
    errors = []
    for path, parts in zip(paths, (None, 2), strict=True):
        with Simulation(scenario(), logdir=path, parts=parts) as simulation:
            simulation.run(before)
            simulation.set("d.learning_rate", 1e22)
            with pytest.raises(DivergenceError) as error:
                simulation.run(23)
            errors.append(str(error.value))
            assert simulation.diverged == str(error.value)
    assert errors[0] == errors[1]
    assert facts(paths[0])["exit"] == facts(paths[1])["exit"] == "diverged"
    assert saved(paths[0]) == saved(paths[1])


def test_a_part_that_is_lost_leaves_the_newest_state_that_is_known(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(**how: Any) -> None:
        raise RunError("part 1 is gone")

    with Simulation(scenario(), logdir=tmp_path / "a", checkpoint_every=7, parts=2) as simulation:
        monkeypatch.setattr(opened[0].parts[1], "step", lost)
        with pytest.raises(RunError, match="part 1 is gone"):
            simulation.run()
        assert simulation.now == simulation._state_dict()["now"] == 1
    assert facts(tmp_path / "a")["exit"] == "failed"


@pytest.mark.parametrize(
    "parts", [1, pytest.param(2, marks=pytest.mark.long), pytest.param(4, marks=pytest.mark.long)]
)
def test_a_run_is_resumed_on_any_number_of_parts(parts: int, opened: Opened, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for path, before, after in ((one, None, None), (two, 2, parts)):
        with Simulation(scenario(), logdir=path, checkpoint_every=4, parts=before) as simulation:
            simulation.run(11)
        with Simulation.resume(path, checkpoint_every=4, parts=after) as simulation:
            simulation.run(12)
    assert saved(one) == saved(two)
    found = facts(two)["parts"]
    assert (found and found["count"]) == (None if parts == 1 else parts)
    with Simulation.resume(two) as simulation:  # as it was run
        assert simulation._division == found


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"count": None}, "into how many"),
        (0, "count is 0; must be a whole number, at least 1"),
        (True, "count is True; must be a whole number"),
        ({"count": 2, "every": 0}, "every is 0; must be a whole number, at least 1"),
        (
            {"count": 2, "every": 3},
            "every is 3, and parts of this placement may be 2 steps apart; give at most 2",
        ),
        ({"count": 2, "rya": "local"}, "no setting 'rya'; did you mean 'ray'?"),
        ({"count": 2, "mode": "fast"}, "no mode 'fast'"),
        ({"count": 5}, "the number of agents is 4; use at most 4"),
        ({"a": 0, "n3": 1}, "no agent 'n3'"),
    ],
)
def test_settings_that_cannot_be_are_refused(parts: Any, message: str) -> None:
    with pytest.raises(ScenarioError, match=re.escape(message)):
        Simulation(scenario(), parts=parts)


def test_parts_of_another_backend_or_of_a_damaged_run_are_refused() -> None:
    with pytest.raises(ScenarioError, match="leave out backend"):
        Simulation(scenario(), backend="reference", parts=2)
    with pytest.raises(ScenarioError, match="'parts' is damaged"):
        PartsSettings.of_facts({"parts": 3})


def test_one_part_in_this_process_divides_nothing() -> None:
    for parts in (1, dict.fromkeys("abcd", 0)):
        with Simulation(ring(), parts=parts) as simulation:
            assert simulation._division is None


class MortalParts(NotedParts):
    """Parts of which the second is gone when the first has taken 6 and 7 steps, and comes back as another start."""

    def statistics(self) -> list[PartFigures]:
        first, second = super().statistics()
        step = first.steps_taken
        return [first, replace(second, alive=not 6 <= step < 8, incarnation=int(step >= 8))]


def test_a_part_that_goes_and_comes_back_has_rows_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinator, "open_parts", MortalParts)
    with Simulation(scenario(12), logdir=tmp_path / "a", parts={"count": 2, "ray": "local"}) as simulation:
        simulation.run()
    with (tmp_path / "a" / "parts.csv").open(newline="") as file:
        rows = [
            (row["step"], row["alive"], row["incarnation"])
            for row in csv.DictReader(file)
            if row["part"] == "1"
        ]
    gone, back = ("6", "0", "0"), ("8", "1", "1")
    assert rows == [("1", "1", "0"), ("5", "1", "0"), gone, back, ("10", "1", "1"), ("12", "1", "1")]


@pytest.mark.parametrize("parts", [1, 2])
def test_rows_that_a_checkpoint_does_not_know_are_dropped_also_in_one_process(
    parts: int, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    with Simulation(scenario(), logdir=folder, parts=2) as simulation:
        simulation.run(steps=3)
    table = folder / "parts.csv"
    newest = table.read_text().splitlines()[-1]
    table.write_text(table.read_text() + newest.replace("3,", "9,", 1) + "\n")
    with Simulation.resume(folder, parts=parts) as simulation:
        simulation.run(steps=2)
    assert list(read_parts(table)) == [1, 3] + [5] * (parts - 1)
