"""Settings changed in mid-run: what follows is what a simulation with these settings does from there, on both backends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from antiphon.engine.runs.run import Run, resume
from antiphon.engine.runs.seeds import Seeds
from antiphon.engine.simulation import Simulation
from antiphon.engine.state.changes import AGENT_KEYS, CHANNEL_KEYS
from antiphon.errors import RunError, ScenarioError
from antiphon.scenarios import Scenario, load
from antiphon.scenarios.spec import plain
from tests.contracts.builders import LABEL, OWN, Document, document, ring
from tests.contracts.twins import agree, made
from tests.engine.numbers import all_parameters, assert_same_state, equal, one_line, parameters
from tests.engine.scenes import BATCH_NORM, ENDS, LSTM, gradient
from tests.engine.stacks import engine_of, single_agents

UNROLLED: Document = {"clock": {"unroll": 4}}
INPUT: Document = {"kind": "linear", "context": ["x", "held", "age"]}
LOSSY: Document = {"link": {"delay": 1, "drop": 0.5}, "input": INPUT, **gradient(kind="mlp", hidden=[4])}
NAME = "n0->n1"
CHANGES: dict[str, Any] = {
    "n0.learning_rate": 0.005,
    "n0.schedule": {"kind": "linear", "factor": 0.0},
    "n0.learn": False,
    f"{NAME}.learning_rate": 0.005,
    f"{NAME}.schedule": {"kind": "linear", "warmup": 0.4},
    f"{NAME}.scale": 0.3,
    f"{NAME}.learn": False,
    f"{NAME}.input.learning_rate": 0.005,
    f"{NAME}.input.schedule": {"kind": "cosine"},
    f"{NAME}.input.learn": False,
    f"{NAME}.drop": 1.0,
    f"{NAME}.noise": 0.3,
    f"{NAME}.bits": 2,
    "n*.learning_rate": 0.002,
}


def scene(**training: Any) -> Document:
    return ring(4, agent={**UNROLLED, **BATCH_NORM}, channel=LOSSY, env=ENDS, **training)


def test_every_key_is_tried() -> None:
    tried = {key.partition(".")[2] for key in CHANGES}
    assert tried == {*AGENT_KEYS, *CHANNEL_KEYS}


def far(one: Simulation, other: Simulation) -> list[str]:
    """The agents, synthetic gradients and inputs whose parameters differ by more than rounding."""
    found = []
    system, twin = one._system, other._system
    owners: dict[str, Any] = {
        n: (agent.learner, twin.agents[n].learner) for n, agent in system.agents.items()
    }
    for name, channel in system.channels.items():
        owners[name] = channel.predictor, twin.channels[name].predictor
        owners[f"{name}.input"] = channel.input, twin.channels[name].input
    for name, (a, b) in owners.items():
        pairs = [] if a is None else zip(a.parameters.values(), b.parameters.values(), strict=True)
        found += [name] * any(float((p - q).detach().abs().max()) > 1e-7 for p, q in pairs)
    return found


@pytest.mark.parametrize("key", CHANGES)
def test_both_backends_go_on_alike(key: str) -> None:
    """Within a window: at step 6 of windows of 4."""
    unchanged, stacked, single = made(scene(), "cohort"), made(scene(), "cohort"), single_agents(scene())
    reference = made(scene(), "reference")
    for simulation in (unchanged, stacked, single, reference):
        simulation.run(steps=6)
    for simulation in (stacked, single, reference):
        simulation.set(key, CHANGES[key])
    for simulation in (unchanged, stacked, single, reference):
        simulation.run(steps=6)
    agree(reference, stacked)
    agree(single, stacked)
    assert far(unchanged, stacked)


@pytest.mark.parametrize(
    ("key", "moved", "steps"),
    [
        ("n0.learning_rate", "n0", 7),  # before its window's last step
        (f"{NAME}.learning_rate", NAME, 8),  # before what this window returns has come back
        (f"{NAME}.input.learn", f"{NAME}.input", 7),
    ],
)
def test_only_what_was_named_changes(key: str, moved: str, steps: int) -> None:
    unchanged, simulation = made(scene(), "cohort"), made(scene(), "cohort")
    for each in (unchanged, simulation):
        each.run(steps=steps)
    simulation.set(key, CHANGES[key])
    assert far(unchanged, simulation) == []
    for each in (unchanged, simulation):
        each.run(steps=1)
    assert far(unchanged, simulation) == [moved]


def test_a_change_is_what_a_scenario_with_it_does_from_the_same_state() -> None:
    """The one agent that changes leaves its stack."""
    simulation = made(scene(), "cohort")
    simulation.run(steps=6)
    state = simulation._state_dict()
    declared = scene()
    declared["agents"]["n2"]["optimiser"] = {**plain(simulation.scenario.training.optimiser), "lr": 0.005}
    with made(declared, "cohort") as other:
        other._load_state_dict(state)
        simulation.set("n2.learning_rate", 0.005)
        assert {agent.names for agent in engine_of(simulation).system.agents.values()} == {
            agent.names for agent in engine_of(other).system.agents.values()
        }
        other.run(steps=7)
        simulation.run(steps=7)
        assert equal(all_parameters(simulation), all_parameters(other))


@pytest.mark.parametrize("backend", ["cohort", "reference"])
def test_checkpoints_and_forks_go_on_with_it(tmp_path: Path, backend: str) -> None:
    """The scenario holds an environment of the user's, so that the loader brings it as it was."""
    before = scene()
    simulation = made(before, backend)
    simulation.run(steps=5)
    simulation.set("n1.learning_rate", 0.005)
    simulation.run(steps=2)
    simulation.set(f"{NAME}.learn", False)
    simulation.set("n3.learn", False)
    simulation.run(steps=2)
    simulation.save(tmp_path / "c")
    loaded = Simulation.load(tmp_path / "c", scenario=Scenario.model_validate(before), backend=backend)
    fork = simulation.fork()
    for twin in (loaded, fork):
        assert twin.changes == simulation.changes
        assert twin.events == simulation.events
        assert twin.scenario.agents == simulation.scenario.agents
    for each in (simulation, loaded, fork):
        each.run(steps=6)
    for twin in (loaded, fork):
        assert_same_state(simulation, twin)


def test_one_that_is_frozen_stands_still_and_learns_again_with_a_new_optimiser() -> None:
    simulation = made(scene(), "cohort")
    simulation.run(steps=8)
    simulation.set("n1.learn", False)
    simulation.set(f"{NAME}.learn", False)
    predictor = simulation._system.channels[NAME].predictor
    assert predictor is not None
    before = [p.clone() for p in parameters(simulation, "n1")]
    statistics = {name: b.clone() for name, b in simulation._system.agents["n1"].learner.buffers.items()}
    predicted = [p.clone() for p in predictor.parameters.values()]
    simulation.run(steps=8)
    learner = simulation._system.agents["n1"].learner
    assert equal(before, parameters(simulation, "n1"))
    assert all(torch.equal(learner.buffers[name], b) for name, b in statistics.items())
    assert equal(predicted, predictor.parameters.values())
    simulation.set("n1.learn", True)
    steps = simulation._system.agents["n1"].learner.optimiser.state["steps"]
    assert [float(count) for count in steps] == [0.0]
    simulation.run(steps=8)
    assert not equal(before, parameters(simulation, "n1"))


def test_a_rate_is_the_base_of_its_schedule() -> None:
    agents: Document = {"a": {**OWN, "objective": LABEL}}
    schedule = {"kind": "linear", "factor": 0.0}
    agents["a"]["optimiser"] = {"kind": "sgd", "lr": 0.1, "schedule": schedule}
    simulation = made(document(agents, []), "cohort")
    simulation.run(steps=5)
    was = simulation._system.agents["a"].learner.rate
    simulation.set("a.learning_rate", 0.2)
    now = simulation._system.agents["a"].learner.rate
    for step in (5, 10, 19):
        assert now(step) == pytest.approx(2 * was(step))
    simulation.set("a.schedule", None)
    assert {simulation._system.agents["a"].learner.rate(step) for step in (5, 10, 19)} == {0.2}


def test_agents_that_share_parameters_are_set_together() -> None:
    agents: Document = {f"n{i}": {**OWN, "objective": LABEL, "share": "all"} for i in range(2)}
    agents["z"] = {**OWN, "objective": LABEL}
    simulation = made(document(agents, []), "cohort")
    simulation.set("n1.learning_rate", 0.005)
    found = {name: spec.optimiser for name, spec in simulation.scenario.agents.items()}
    assert found["n0"] == found["n1"] is not None
    assert found["z"] is None
    simulation.run(steps=3)


def test_states_and_their_channels() -> None:
    scene = ring(3, agent=LSTM, channel=gradient(context=["from.state"]), env=ENDS, state=gradient())
    runs = [made(scene, backend) for backend in ("reference", "cohort")]
    for run in runs:
        run.run(steps=7)
        run.set("n0->n0:state.scale", 0.2)
        run.set("n*->n*:state.learning_rate", 0.01)
        run.run(steps=7)
    agree(*runs)
    with one_line("drop of n0->n0:state: a state crosses no link"):
        runs[0].set("n0->n0:state.drop", 0.5)


REFUSED: dict[str, tuple[Any, str]] = {
    "n9.learn": (False, "set: no agent 'n9'; known: n0, n1"),
    "n0->n9.scale": (1.0, "set: no channel 'n0->n9'"),
    "n0.clock": (2, "'clock' of 'n0' cannot change in mid-run; what can: learning_rate, schedule, learn"),
    "n0": (2, "'' of 'n0' cannot change"),
    f"{NAME}.delay": (2, f"'delay' of '{NAME}' cannot change in mid-run; what can: learning_rate, .*, bits"),
    f"{NAME}.drop": (0.0, "changes between values above 0 only"),
    "n0.learning_rate": (-1.0, "set: n0.learning_rate: must be greater than 0, not -1"),
    "n1.learning_rate": (torch.ones(()), "set: n1.learning_rate: must be plain data"),
    "n0.schedule": ({"kind": "steps"}, "set: n0.schedule: a schedule of steps needs the fractions"),
}


@pytest.mark.parametrize("key", REFUSED)
def test_what_cannot_change_is_refused_and_nothing_has_changed(key: str) -> None:
    value, why = REFUSED[key]
    simulation, other = made(scene(), "cohort"), made(scene(), "cohort")
    with one_line(why):
        simulation.set(key, value)
    assert (simulation.changes, simulation.events, simulation.scenario) == ([], [], other.scenario)


def test_a_key_is_a_word_and_a_closed_simulation_is_not_changed() -> None:
    simulation = made(scene(), "cohort")
    with one_line(r"^set: None; must be a word such as 'AGENT\.learning_rate'$", ScenarioError):
        simulation.set(None, 0.1)  # type: ignore[arg-type]
    simulation.close()
    with one_line(r"^simulation: has been closed", RunError):
        simulation.set("n0.learning_rate", 0.1)
    with one_line(r"^simulation: has been closed", RunError):
        simulation.load_weights("nowhere")
    assert simulation.changes == []


def test_what_a_channel_has_not_is_refused() -> None:
    simulation = made(ring(channel={"coupling": "detached"}), "cohort")
    with one_line("scale of n0->n1: it is detached and has no synthetic gradient; choose"):
        simulation.set("n0->n1.scale", 0.1)
    with one_line("input.learn of n0->n1: it is detached"):
        simulation.set("n*->n*.input.learn", False)


def test_a_state_of_another_scenario_is_refused_and_nothing_has_changed() -> None:
    simulation, other = made(scene(), "cohort"), made(ring(2), "cohort")
    simulation.set("n3.learning_rate", 0.005)
    with one_line("no agent 'n3'", RunError):
        other._load_state_dict(simulation._state_dict())
    assert other.changes == []


def test_several_seeds_refuse_it() -> None:
    seeds = Seeds(Scenario.model_validate(ring(3)), [0, 1])
    with one_line("one of several seeds that go on together; change a fork of it"):
        seeds.simulations[0].set("n0.learn", False)
    with seeds.simulations[0].fork() as fork:
        fork.set("n0.learn", False)
        fork.run(steps=2)
    seeds.close()


def test_an_attribute_of_an_agent_cannot_be_assigned() -> None:
    simulation = made(ring(2), "cohort")
    with one_line(
        r"agents\['n0'\].lr cannot be assigned; .* simulation.set\('n0.learning_rate', …\)", ScenarioError
    ):
        simulation.agents["n0"].lr = 0.1  # type: ignore[attr-defined]


def test_a_run_directory_has_it_at_once_and_is_run_again_with_it(tmp_path: Path) -> None:
    scenario = load("digits-mlp").resolve(values={"depth": 2, "width": 8, "steps": 12, "batch": 4})
    for name in ("one", "other"):
        with Simulation(scenario, logdir=tmp_path / name) as simulation:
            simulation.run(steps=4)
            simulation.set("n0.learning_rate", 0.01)
            facts = json.loads((tmp_path / name / "run.json").read_text())
            assert facts["changes"] == [[4, "n0.learning_rate", 0.01]]
            assert (tmp_path / name / "checkpoints" / "step-000000004").is_dir()
            simulation.run()
        result = json.loads((tmp_path / name / "result.json").read_text())
        assert result["events"] == [{"step": 4, "event": "n0.learning_rate is 0.01 from here on"}]
    with Simulation.load(tmp_path / "one" / "checkpoints" / "step-000000004") as resumed:
        resumed.run()
        assert equal(all_parameters(resumed), all_parameters(simulation))


def test_a_run_is_resumed_with_what_was_changed(tmp_path: Path) -> None:
    """By the command's `resume` and from Python; the scenario on disk is that of the beginning."""
    scenario = load("digits-mlp").resolve(values={"depth": 2, "width": 8, "steps": 12, "batch": 4})
    for name in ("whole", "command", "python"):
        with Simulation(scenario, logdir=tmp_path / name) as simulation:
            simulation.run(steps=4)
            simulation.set("n0.learn", False)
            simulation.set("n1.learning_rate", 0.01)
            if name == "whole":
                simulation.run()
                whole = [p.detach().clone() for p in all_parameters(simulation)]
    run = resume(tmp_path / "command", steps=12)
    assert isinstance(run, Run)
    run.train()
    with Simulation.load(tmp_path / "command") as resumed:
        assert (resumed.now, equal(all_parameters(resumed), whole)) == (12, True)
    with Simulation.resume(tmp_path / "python") as resumed:
        resumed.run(steps=8)
        assert equal(all_parameters(resumed), whole)
    for name in ("command", "python"):
        facts = json.loads((tmp_path / name / "run.json").read_text())
        assert facts["changes"] == [[4, "n0.learn", False], [4, "n1.learning_rate", 0.01]]
