"""Steps taken by parts and by the whole simulation in turn: the same files, limits, divergences and states as without parts."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from antiphon.engine.base_simulation import BaseSimulation
from antiphon.engine.parts import coordinator
from antiphon.engine.parts.settings import PartsSettings
from antiphon.engine.runs.run_loop import Observer, RunLoop
from antiphon.engine.simulation import Simulation
from antiphon.errors import DivergenceError, RunError, ScenarioError
from antiphon.scenarios import Scenario, Template, load
from antiphon.telemetry.parts.part_figures import PartFigures
from tests.engine.parts.fakes import FakeParts
from tests.engine.scenes import CLASSIFY, scenario_of
from tests.parts_table import read_parts
from tests.recorded import metrics

Opened = list[FakeParts]
VALUES = {"depth": 3, "width": 8, "batch": 16}
TEMPLATE = Template.from_yaml(load("digits-mlp").text + "telemetry: {every: 5}\n", "tiny.yaml")


def scenario(steps: int = 23) -> Scenario:
    return TEMPLATE.resolve(None, VALUES).with_training(steps=steps)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    """The parts that are opened, in order."""
    found: Opened = []

    def open_parts(simulation: BaseSimulation, settings: PartsSettings) -> FakeParts:
        found.append(FakeParts(simulation, settings))
        return found[-1]

    monkeypatch.setattr(coordinator, "open_parts", open_parts)
    return found


def tensors(tree: Any, place: str = "") -> dict[str, Any]:
    """The leaves of a state, by place."""
    items = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree)
        if isinstance(tree, list | tuple)
        else None
    )
    if items is None:
        return {place: tree}
    return {key: leaf for name, own in items for key, leaf in tensors(own, f"{place}.{name}").items()}


def same(one: Any, other: Any) -> bool:
    first, second = tensors(one), tensors(other)
    return first.keys() == second.keys() and all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
        for a, b in ((first[key], second[key]) for key in first)
    )


def facts(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / "run.json").read_text(encoding="utf-8"))
    return found


def same_runs(one: Path, other: Path) -> bool:
    names = [sorted(p.name for p in (path / "checkpoints").iterdir()) for path in (one, other)]
    saved = [
        [(path / "checkpoints" / name / "state.safetensors").read_bytes() for name in names[0]]
        for path in (one, other)
    ]
    results = [json.loads((path / "result.json").read_text()) for path in (one, other)]
    for result in results:
        del result["seconds"], result["run_dir"]
    tables = [metrics(path) for path in (one, other)]
    return all(first == second for first, second in (tables, names, saved, results))


def test_a_run_in_parts_writes_the_same_files(tmp_path: Path, opened: Opened) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for path, parts in ((one, None), (two, 2)):
        with Simulation(scenario(), seed=3, logdir=path, checkpoint_every=7, parts=parts) as simulation:
            simulation.run()
    assert same_runs(one, two)
    assert "parts" not in facts(one)
    assert facts(two)["parts"] == {
        "count": 2,
        "placement": {"n0": 0, "n1": 0, "n2": 1},
        "mode": "lockstep",
        "every": 1,
    }
    (parts,) = opened
    # Rows at steps 1, 5, 10, 15, 20 and 23, checkpoints at 7, 14 and 21: the steps before are the whole's.
    assert parts.calls == [(1, 4), (4, 6), (6, 9), (9, 13), (15, 19), (21, 22)]
    assert parts.closed
    figures = read_parts(two / "parts.csv")
    assert list(figures) == [1, 5, 10, 15, 20, 23]
    assert [one.steps_taken for one in figures[20]] == [19, 19]
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
    with Simulation(scenario(), parts=2) as simulation, Simulation(scenario()) as whole:
        simulation.run(20)
        whole.run(20)
        assert opened[0].calls == [(0, 19)]
        assert same(simulation._state_dict(), whole._state_dict())
        simulation.run(10)
        whole.run(10)
        assert opened[0].calls == [(0, 19), (20, 29)]
        assert same(simulation._state_dict(), whole._state_dict())
        assert simulation.evaluate() == whole.evaluate()


@pytest.mark.parametrize("then", ["set", "load", "write"])
def test_parts_take_over_whatever_is_done_to_the_simulation(
    then: str, opened: Opened, tmp_path: Path
) -> None:
    def change(simulation: Simulation) -> None:
        if then == "set":
            simulation.set("n0.learning_rate", 0.5)
        elif then == "load":
            with Simulation(scenario(), seed=9) as other:
                other.run(4)
                simulation._load_state_dict(other._state_dict())
        else:
            for parameter in simulation._system.agents["n1"].learner.parameters.values():
                parameter.data.mul_(1.5)

    found = []
    for parts in (None, 2):
        with Simulation(scenario(), parts=parts) as simulation:
            simulation.run(6)
            change(simulation)
            simulation.run(6)
            found.append(simulation._state_dict())
    assert same(*found)
    assert sum(end - start for parts in opened for start, end in parts.calls) == 10
    assert len(opened) == (1 if then == "write" else 2)  # parts of another scenario or seed are new ones


def test_steps_that_are_read_are_the_wholes(opened: Opened) -> None:
    """Steps by hand, an observer of every step, a recording, and a limit of episodes."""
    read: list[float] = []
    with Simulation(scenario(), parts=2) as simulation, Simulation(scenario()) as whole:
        losses = [float(info["losses"]["n2"]) for info in (simulation.step() for _ in range(3))]
        assert losses == [float(info["losses"]["n2"]) for info in (whole.step() for _ in range(3))]
        simulation.run(3, on_step=lambda one: read.append(float(next(one.learned.losses())[1].loss)))
        assert len(read) == 3
        recording = simulation.agents["n0"].record(["0.weight"])
        simulation.run(3)
        assert recording.steps == {"0.weight": [6, 7, 8]}
        assert opened[0].calls == []
        simulation.recordings.clear()
        simulation.run(3)
        whole.run(9)
        assert opened[0].calls == [(9, 11)]
        assert same(simulation._state_dict(), whole._state_dict())


def test_a_limit_of_episodes_counts_all_ends(opened: Opened) -> None:
    copy = load("copy").resolve()
    with Simulation(copy, parts=1) as plain:
        plain.run(episodes=2)
    with Simulation(copy, parts={"count": 1, "ray": "local"}) as simulation:
        simulation.run(episodes=2)
        assert simulation.now == plain.now > 2
    assert len(opened) == 1  # one part in this process is no division


class Signals(Observer):
    """Sends a signal to this process while the parts are at a step."""

    def __init__(self, parts: FakeParts, at: int, number: int) -> None:
        inner = parts.parts[0].step

        def step() -> Any:
            if parts.parts[0].now == at:
                os.kill(os.getpid(), number)
            return inner()

        parts.parts[0].step = step  # type: ignore[method-assign]

    def reads_state_at(self, simulation: BaseSimulation) -> float:
        return math.inf


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_where_all_parts_are(number: int, opened: Opened, tmp_path: Path) -> None:
    with Simulation(scenario(), logdir=tmp_path / "a", parts=2) as simulation:
        watcher = Signals(opened[0], 12, number)
        observers = [simulation._writer, watcher]
        (outcome,) = RunLoop([simulation], observers).run(23)  # type: ignore[arg-type]
        assert (outcome.status, outcome.exit_code) == ("stopped", 128 + number)
        assert simulation.now == facts(tmp_path / "a")["step"] == 13
    with Simulation.resume(tmp_path / "a") as simulation:
        assert simulation.now == 13
        simulation.run()
        found = simulation._state_dict()
    assert opened[1].calls[-1] == (19, 22)
    with Simulation(scenario()) as whole:
        whole.run()
        assert same(found["system"], whole._state_dict()["system"])


@pytest.mark.parametrize("at", [1, 2, 5, 6, 7, 8])
def test_a_run_that_is_stopped_anywhere_is_where_its_parts_are(
    at: int, opened: Opened, tmp_path: Path
) -> None:
    """Also just after a step that the whole has taken, and the parts have not."""
    with Simulation(scenario(), logdir=tmp_path / "a", checkpoint_every=4, parts=2) as simulation:
        assert simulation._writer is not None
        watcher = Signals(opened[0], at, signal.SIGINT)
        (outcome,) = RunLoop([simulation], [simulation._writer, watcher]).run(23)
        assert outcome.status == "stopped"
        found = simulation._state_dict()
        assert found["now"] == simulation.now
    with Simulation(scenario()) as whole:
        whole.run(simulation.now)
        assert same(found["system"], whole._state_dict()["system"])


def test_seconds_end_a_run(opened: Opened) -> None:
    with Simulation(scenario(10**6), parts=2) as simulation:
        simulation.run(seconds=0.3)
        assert 2 <= simulation.now < 10**5
        assert simulation._state_dict()["now"] == simulation.now == opened[0].parts[0].now


@pytest.mark.parametrize("before", [0, 3])
def test_a_divergence_is_that_of_the_whole(before: int, opened: Opened, tmp_path: Path) -> None:
    """Parts go on a little when one of them diverges: the step is repeated in the whole."""
    paths = [tmp_path / "one", tmp_path / "two"]
    errors = []
    for path, parts in zip(paths, (None, 2), strict=True):
        with Simulation(scenario(), logdir=path, parts=parts) as simulation:
            simulation.run(before)
            simulation.set("n2.learning_rate", 1e22)
            with pytest.raises(DivergenceError) as error:
                simulation.run(23)
            errors.append(str(error.value))
            assert simulation.diverged == str(error.value)
    assert errors[0] == errors[1]
    assert facts(paths[0])["exit"] == facts(paths[1])["exit"] == "diverged"
    assert same_runs(*paths)


def test_a_part_that_is_gone_leaves_the_newest_state_that_is_known(opened: Opened, tmp_path: Path) -> None:
    with Simulation(scenario(), logdir=tmp_path / "a", checkpoint_every=7, parts=2) as simulation:
        opened[0].parts[1].close()
        with pytest.raises(RunError, match="closed"):
            simulation.run()
        assert simulation.now == simulation._state_dict()["now"] == 1
    assert facts(tmp_path / "a")["exit"] == "failed"


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_a_run_is_resumed_on_any_number_of_parts(parts: int, opened: Opened, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for path, before, after in ((one, None, None), (two, 2, parts)):
        with Simulation(scenario(), logdir=path, checkpoint_every=4, parts=before) as simulation:
            simulation.run(11)
        with Simulation.resume(path, checkpoint_every=4, parts=after) as simulation:
            simulation.run(12)
    assert same_runs(one, two)
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
        ({"count": 2, "rya": "local"}, "no setting 'rya'; did you mean 'ray'?"),
        ({"count": 2, "mode": "fast"}, "no mode 'fast'"),
        ({"n0": 0, "n3": 1}, "no agent 'n3'"),
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


class MortalParts(FakeParts):
    """Parts of which the second is gone when the first has taken 7 and 8 steps, and comes back as another start."""

    def statistics(self) -> list[PartFigures]:
        first, second = super().statistics()
        step = first.steps_taken
        return [first, replace(second, alive=not 7 <= step < 9, incarnation=int(step >= 9))]


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
    gone, back = ("5", "0", "0"), ("5", "1", "1")  # at the step that all parts have reached
    assert rows == [("1", "1", "0"), ("5", "1", "0"), gone, back, ("10", "1", "1"), ("12", "1", "1")]


@pytest.mark.parametrize("parts", [1, 2])
def test_rows_that_a_checkpoint_does_not_know_are_dropped_also_in_one_process(
    parts: int, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    with Simulation("lossy", logdir=folder, parts=2) as simulation:
        simulation.run(steps=3)
    table = folder / "parts.csv"
    newest = table.read_text().splitlines()[-1]
    table.write_text(table.read_text() + newest.replace("3,", "9,", 1) + "\n")
    with Simulation.resume(folder, parts=parts) as simulation:
        simulation.run(steps=2)
    assert list(read_parts(table)) == [1, 3] + [5] * (parts - 1)


def test_the_figures_of_parts_add_up(tmp_path: Path) -> None:
    with Simulation("lossy", logdir=tmp_path / "run", parts=2) as simulation:
        simulation.run(steps=120)
    table = read_parts(tmp_path / "run" / "parts.csv")
    assert list(table) == [1, 100, 120]
    for step, rows in table.items():
        assert [(row.part, row.steps_taken) for row in rows] == [(0, step - 1), (1, step - 1)]
        assert sum(row.bytes_sent for row in rows) == sum(row.bytes_received for row in rows)
    newest = table[120]
    assert all(row.calls > 0 and 0 < row.computing < row.seconds and row.bytes_sent > 0 for row in newest)
