"""Captured steps: what reads, changes or stops a simulation between replayed periods, and what is not recorded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from antiphon import DivergenceError, Scenario, ScenarioError, Simulation
from antiphon.engine.capture.loop import CapturedLoop, captured_loop
from tests.contracts.library import resolved
from tests.contracts.twins import differences, facts
from tests.engine.capture.dispatch_recorder import DispatchRecorder
from tests.engine.numbers import one_line
from tests.kit.running import captured, check_later
from tests.kit.tiers import sampled
from tests.reference.backend import reference


def simulation_of(scenario: Scenario, **how: Any) -> tuple[Simulation, Any]:
    found = captured(scenario, seed=3, **how)
    assert found is not None
    return found


def assert_same(one: Simulation, other: Simulation) -> None:
    """Hold everything that is known of two simulations to each other, to the bit."""
    found = list(differences(facts(other), facts(one), tolerance=0.0))
    assert not found, found[:12]


def ring(every: int | None = None) -> Scenario:
    scenario = resolved("ring-of-many", {"steps": 300, "agents": 4})
    if every is None:
        return scenario
    return scenario.model_copy(update={"telemetry": scenario.telemetry.model_copy(update={"period": every})})


@pytest.mark.long
def test_rows_of_metrics_are_those_without() -> None:
    plain = Simulation(ring(every=25), seed=3)
    replaying, loop = simulation_of(ring(every=25))
    rows = []
    for simulation in (plain, replaying):
        history = simulation.history
        simulation.run(60)
        rows.append(
            [repr(row) for row in history if "seconds" not in repr(row) and "per_second" not in repr(row)]
        )
    assert rows[0] == rows[1]
    assert len(rows[0]) > 60
    assert loop.replayed >= 3


def test_checkpoints_between_replays_are_gone_on_from(tmp_path: Path) -> None:
    unbroken = Simulation(ring(every=50), seed=3)
    unbroken.run(60)
    replaying, loop = simulation_of(ring(every=50), logdir=tmp_path / "run", checkpoint_every=25)
    replaying.run(52)
    replaying.close()
    with Simulation.resume(tmp_path / "run") as resumed:
        assert resumed.now == 52
        resumed.run(8)
    assert loop.replayed >= 2
    assert_same(resumed, unbroken)


def look(simulation: Simulation) -> None:
    with simulation.fork() as twin:
        twin.run(4)
    simulation.probe()
    simulation.evaluate()


BETWEEN: dict[str, Callable[[Simulation], object]] = {
    "forks, probes and evaluation": look,
    "another setting": lambda simulation: simulation.set("*.learning_rate", 0.01),
    "a loaded state": lambda simulation: simulation.running.load_state_dict(
        Simulation(ring()).running.state_dict()
    ),
    "a run that stops in mid-period": lambda simulation: simulation.run(1),
}


@pytest.mark.long
@pytest.mark.parametrize("name", sampled(BETWEEN, 2, "nightly"))
def test_what_comes_between_replays_is_as_between_steps(name: str) -> None:
    plain, (replaying, loop) = Simulation(ring(), seed=3), simulation_of(ring())
    replayed = 0
    for simulation in (plain, replaying):
        simulation.run(31)
        replayed = loop.replayed
        BETWEEN[name](simulation)
        simulation.run(33)
    assert loop.replayed >= replayed + 2
    assert_same(replaying, plain)


@pytest.mark.long
def test_a_divergence_within_replays_has_its_own_step_and_moves_nothing() -> None:
    scenario = resolved("hyperplane", {"steps": 300})
    plain, (replaying, loop) = Simulation(scenario, seed=3), simulation_of(scenario)
    check_later(plain)  # as on a GPU
    lines, replayed = [], 0
    for simulation in (plain, replaying):
        simulation.run(30)
        replayed = loop.replayed
        first = next(iter(simulation.agents.values()))
        with torch.no_grad():
            next(iter(first.parameters.values())).fill_(torch.inf)
        with pytest.raises(DivergenceError) as error:
            simulation.run(100)
        lines.append(str(error.value))
    assert "at step 31" in lines[0]
    assert lines[0] == lines[1]
    assert loop.replayed > replayed + 10
    assert_same(replaying, plain)


def test_every_step_that_somebody_reads_is_taken_by_itself() -> None:
    replaying, loop = simulation_of(ring())
    seen: list[int] = []
    replaying.run(40, callbacks=[lambda simulation: seen.append(simulation.now)])
    assert seen == list(range(1, 41))
    assert loop.replayed == 0


def test_there_is_nothing_to_capture_on_a_cpu() -> None:
    with pytest.raises(ScenarioError, match="capture: True on cpu"):
        Simulation(ring(), capture=True)


# --- what is not recorded --------------------------------------------------------------------------------


class OwnPredictor(nn.Linear):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)


def own_loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(output, target, reduction="none")


LABEL: dict[str, Any] = {"kind": "classification", "target": "label"}
OWN_LABEL: dict[str, Any] = {"kind": own_loss, "target": "label"}


@pytest.mark.cases(2)
@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (
            {"gradient": {"kind": OwnPredictor, "context": ["label"]}},
            "capture: the predictor of channel a->b is your own, and may count its calls",
        ),
        (
            {"input": {"kind": OwnPredictor, "context": ["image"]}},
            "capture: the predictor of channel a->b is your own, and may count its calls",
        ),
        (
            {"objective": OWN_LABEL},
            "capture: the objective of agent 'b' is your own, and may count its calls",
        ),
        ({"objective": [LABEL, OWN_LABEL]}, "capture: the objective of agent 'b' is your own"),
    ],
)
def test_steps_with_code_of_ones_own_that_a_replay_does_not_run_are_refused(
    keys: dict[str, Any], line: str
) -> None:
    agent = {"objective": LABEL} | {key: each for key, each in keys.items() if key == "objective"}
    channel = {"from": "a", "to": "b", "size": 4, "gradient": {"kind": "linear", "context": ["label"]}}
    channel |= {key: each for key, each in keys.items() if key in ("gradient", "input")}
    document: dict[str, Any] = {"scenario": "own", "env": {"id": "antiphon/Digits-v0"}, "channels": [channel]}
    document |= {"agents": {"a": {"observes": ["image"]}, "b": agent}, "training": {"batch": 4}}
    with one_line(line):
        Simulation(Scenario.model_validate(document), seed=3, capture=CapturedLoop(DispatchRecorder))


def test_capture_is_asked_for_and_refused_where_it_cannot_be() -> None:
    gpu = torch.device("cuda")
    assert isinstance(captured_loop(gpu, "cohort", capture=True), CapturedLoop)
    for device, backend in ((torch.device("cpu"), "cohort"), (gpu, reference), (gpu, "native")):
        with one_line("capture: True on .* recorded steps are CUDA graphs of the cohort backend"):
            captured_loop(device, backend, capture=True)
    with one_line("capture: the steps of parts are not captured; leave out one of them"):
        captured_loop(gpu, "cohort", capture=True, parts=True)
