"""Rehearsals: the run's own way forward, over other examples and with links of their own (semantics 24)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon.agents.network import OBJECTIVE
from antiphon.engine.inference.compose import compose, observed, steps_needed
from antiphon.engine.inference.rehearsal import Links, Rehearsal, Replacement, Trace
from antiphon.engine.probes.ablation import ablate
from antiphon.engine.probes.representation import represent
from antiphon.engine.simulation import Simulation
from antiphon.envs import from_tensors
from antiphon.errors import ScenarioError
from antiphon.scenarios import Scenario

Tensors = dict[str, Tensor]
ROWS = 16
GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(60, 5, generator=GENERATOR)
LABEL = (X[:, 0] > 0).long()
NET = {"kind": "mlp", "hidden": [6], "activation": "tanh"}
GOAL = {"kind": "classification", "target": "label"}
HEARER = {"network": NET, "learn": False, "fan_in": "mean", "objective": GOAL}
LINKS: dict[str, dict[str, Any]] = {
    "delay": {"delay": 2},
    "drop": {"drop": 0.4, "delay": 1},
    "noise": {"noise": 0.5},
    "bits": {"bits": 2},
    "rate": {"rate": 0.5},
    "all": {"delay": 1, "drop": 0.3, "noise": 0.2, "bits": 3, "rate": 0.7},
}
INPUT = {"kind": "linear", "context": ["x", "held", "age", "from.phase", "to.phase"]}


def ring(link: Mapping[str, Any], *, unroll: int = 2, **channel: Any) -> Scenario:
    """Three agents on a cycle and a fourth that hears two of them, with clocks of their own."""
    common = {"size": 3, "gradient": {"context": ["label"]}, **channel}
    return Scenario.model_validate(
        {
            "scenario": "ring",
            "env": from_tensors(x=X, label=LABEL, hold=7, test=0.5),
            "readout": "d",
            "agents": {
                "a": {"observes": ["x"], "network": NET, "learn": False, "clock": {"unroll": unroll}},
                "b": {"network": NET, "learn": False, "clock": {"period": 2, "unroll": unroll}},
                "c": {"network": NET, "learn": False, "fan_in": "mean", "clock": {"unroll": unroll}},
                "d": {**HEARER, "clock": {"unroll": unroll}},
            },
            "channels": [
                {"from": "a", "to": "b", "link": {**link}, **common},
                {"from": "b", "to": "c", "link": {**link}, **common},
                {"from": "a", "to": "c", "link": {**link}, **common},
                {"from": "c", "to": "a", "link": {"delay": 1, **link, **delayed(link)}, **common},
                {"from": "b", "to": "d", "link": {**link}, **common},
                {"from": "c", "to": "d", "link": {**link}, **common},
            ],
            "training": {"batch": ROWS, "steps": 50},
        }
    )


def corporation(link: Mapping[str, Any], *, unroll: int = 2, **channel: Any) -> Scenario:
    """Recurrent agents on a cycle, one of them slow; an example is an episode of six steps."""
    common = {"size": 3, "gradient": {"context": ["label"]}, **channel}
    slow = {key: value for key, value in link.items() if key in ("delay", "noise", "bits")}
    kinds = {"a": "lstm", "b": "gru", "c": "leaky", "d": "rnn"}
    agents: dict[str, dict[str, Any]] = {
        name: {"network": {"kind": kind, "size": 5}, "learn": False, "clock": {"unroll": unroll}}
        for name, kind in kinds.items()
    }
    agents["a"]["observes"] = ["x"]
    agents["b"]["clock"] = {"period": 3, "phase": -1, "unroll": unroll}
    agents["c"] |= {"fan_in": "mean", "observes": ["age"]}
    agents["d"] |= {"objective": GOAL, "observes": ["x", "age"]}
    return Scenario.model_validate(
        {
            "scenario": "corporation",
            "env": from_tensors(x=X, label=LABEL, hold=6, episode="example", test=0.5),
            "readout": "d",
            "agents": agents,
            "channels": [
                {"from": "a", "to": "b", **common, "input": None, "link": slow, "read": "concat"},
                {"from": "a", "to": "b", "key": 1, **common, "input": None, "link": slow, "read": "mean"},
                {"from": "b", "to": "c", "link": {**link}, **common},
                {"from": "a", "to": "c", "link": {**link}, **common},
                {"from": "c", "to": "a", "link": {**link, **delayed(link)}, **common},
                {"from": "c", "to": "d", "link": {**link}, **common},
                {"from": "a", "to": "a", "carries": "state"},
            ],
            "training": {"batch": ROWS, "steps": 50},
        }
    )


KINDS = {"ring": ring, "corporation": corporation}


def delayed(link: Mapping[str, Any]) -> dict[str, Any]:
    return {"delay": max(1, link.get("delay", 0))}


def simulate(scenario: Scenario) -> Simulation:
    """Return a simulation whose synthetic inputs expect something, and whose records may stay open."""
    simulation = Simulation(scenario, seed=3, stacked=False)
    draw = torch.Generator().manual_seed(1)
    for channel in simulation.system.channels.values():
        channel.ledger.slack += 100
        if channel.input is not None:
            for parameter in channel.input.parameters.values():
                parameter.data.copy_(torch.randn(parameter.shape, generator=draw))
    return simulation


def lived(simulation: Simulation, steps: int) -> tuple[dict[tuple[str, int], Tensors], Tensors]:
    """Let the run itself tick, learning nothing; return all ports by agent and step, and what was shown."""
    shown = dict(simulation.world.step_signals.signals)
    for step in range(steps):
        simulation.backend.tick(step, simulation.world.step_signals)
        simulation.world.advance()
    ticks = [tick for unit in simulation.system.units for tick in unit.tape.ticks]
    return {(part.agent, tick.step): dict(part.ports) for tick in ticks for part in tick.parts}, shown


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("inputs", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_as_run_is_what_the_run_itself_does(kind: str, name: str, inputs: bool) -> None:
    given = {"input": INPUT} if inputs else {}
    scenario = KINDS[kind](LINKS[name], unroll=40, **given)  # all in one window
    simulation = simulate(scenario)
    steps = steps_needed(simulation.system)
    happened, shown = lived(simulation, steps)
    rehearsal = Rehearsal(simulation.system, shown, Links("as_run"), seed=simulation.seed)
    trace = rehearsal.run()
    assert {agent for agent, _ in trace.ports} == set("abcd")
    for tick, ports in trace.ports.items():
        for port, value in ports.items():
            torch.testing.assert_close(value, happened[tick][port], rtol=0, atol=1e-6)


def test_the_comparison_with_the_run_can_fail() -> None:
    simulation = simulate(ring(LINKS["all"], input=INPUT))
    _, shown = lived(simulation, 1)
    seen = {}
    for seed in (simulation.seed, simulation.seed + 1):
        rehearsal = Rehearsal(simulation.system, shown, Links("as_run"), seed=seed)
        seen[seed] = rehearsal.last(rehearsal.run(), "d")[OBJECTIVE]
    one, other = seen.values()
    assert not torch.allclose(one, other)


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("kind", KINDS)
def test_over_perfect_links_it_is_the_composed_module(kind: str, name: str) -> None:
    simulation = simulate(KINDS[kind](LINKS[name], input=INPUT))
    signals = {"x": X, "label": LABEL}
    rehearsal = Rehearsal(simulation.system, signals, Links(), seed=0)
    module = compose(simulation.system, ["d"])
    expected = module(*(signals[s] for s in observed(simulation.system)))["d"]
    torch.testing.assert_close(rehearsal.last(rehearsal.run(), "d")[OBJECTIVE], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["delay", "all"])
@pytest.mark.parametrize("links", ["perfect", "as_run"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_replacement_leaves_alone_is_not_computed_again(kind: str, name: str, links: str) -> None:
    simulation = simulate(KINDS[kind](LINKS[name], input=INPUT))
    rehearsal = Rehearsal(simulation.system, {"x": X, "label": LABEL}, Links(links), seed=0, history=True)
    intact = rehearsal.run()

    def zeros(stamp: int, made: Mapping[int, Tensor]) -> Tensor:
        return torch.zeros_like(made[stamp])

    for channel in simulation.system.channels:
        anew, reused = (rehearsal.run(Replacement(channel, zeros), against) for against in (None, intact))
        assert all(
            torch.equal(value, reused.ports[key][port])
            for key, ports in anew.ports.items()
            for port, value in ports.items()
        )
    shared = _shared(
        intact, rehearsal.run(Replacement("c->d" if kind == "corporation" else "b->d", zeros), intact)
    )
    assert {agent for agent, _ in shared} >= {"a", "b", "c"}
    assert "d" not in {agent for agent, step in shared if step == steps_needed(simulation.system) - 1}


def _shared(one: Trace, other: Trace) -> set[tuple[str, int]]:
    return {key for key, ports in one.ports.items() if other.ports[key] is ports}


def test_it_changes_no_bit_of_the_run() -> None:
    watched, plain = (Simulation(ring(LINKS["all"], input=INPUT), seed=1) for _ in range(2))
    for _ in range(12):
        Rehearsal(watched.system, {"x": X, "label": LABEL}, Links("as_run"), seed=5).run()
        watched.step()
        plain.step()
    for name, channel in plain.system.channels.items():
        other = watched.system.channels[name]
        assert channel.predictor is not None
        assert other.predictor is not None
        for key, value in channel.predictor.parameters.items():
            assert torch.equal(value, other.predictor.parameters[key])
        assert channel.ledger.records.keys() == other.ledger.records.keys()
    assert torch.equal(
        torch.stack(list(plain.world.step_signals.signals.values())[:1]),
        torch.stack(list(watched.world.step_signals.signals.values())[:1]),
    )


def test_with_every_message_lost_synthetic_inputs_are_alone() -> None:
    simulation = simulate(ring({}, input={"kind": "linear", "context": []}))
    signals = {"x": X, "label": LABEL}
    channel = simulation.system.channels["b->d"]
    assert channel.input is not None
    for inputs in (True, False):
        rehearsal = Rehearsal(simulation.system, signals, Links("as_run", drop=1.0, inputs=inputs), seed=0)
        read = [value for (name, _), (value, _) in rehearsal.run().readings.items() if name == "b->d"]
        expected = channel.input.predict(None, len(X)) if inputs else torch.zeros(len(X), 3)
        torch.testing.assert_close(read[-1], expected)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"kind": "as_rnu"}, "links: 'as_rnu' is not known; use 'perfect' or 'as_run'"),
        ({"kind": "as_run", "drop": 1.5}, "drop: must be from 0 to 1, not 1.5"),
        ({"kind": "as_run", "drop": float("nan")}, "drop: must be from 0 to 1, not nan"),
        ({"drop": 0.2}, "perfect links lose nothing, got 0.2; use links 'as_run'"),
        ({"inputs": False}, "over perfect links none stands in; use links 'as_run'"),
    ],
)
def test_links_that_cannot_be_are_one_clear_line(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(ScenarioError, match=expected) as caught:
        Links(**settings)
    assert "\n" not in str(caught.value)


def test_an_aligned_agent_sees_nothing_before_its_first_message() -> None:
    scenario = {
        "scenario": "aligned",
        "env": from_tensors(x=X, label=LABEL, hold=4, test=0.5),
        "agents": {
            "a": {"observes": ["x"], "network": NET, "clock": {"unroll": 40}},
            "b": {"observes": ["x"], "network": NET, "align": "a->b", "clock": {"unroll": 40}},
            "c": {"network": NET, "objective": GOAL, "clock": {"unroll": 40}},
        },
        "channels": [
            {"from": "a", "to": "b", "size": 3, "link": {"delay": 2}},
            {"from": "b", "to": "c", "size": 3, "link": {"drop": 0.5}, "input": {"context": ["x"]}},
        ],
        "training": {"batch": ROWS, "steps": 50},
    }
    for agent in scenario["agents"].values():  # type: ignore[attr-defined]
        agent["learn"] = False
    simulation = simulate(Scenario.model_validate(scenario))
    happened, shown = lived(simulation, 4)
    rehearsal = Rehearsal(simulation.system, shown, Links("as_run"), seed=simulation.seed)
    trace = rehearsal.run()
    assert trace.blank == {("b", 0), ("b", 1)}
    torch.testing.assert_close(
        rehearsal.last(trace, "c")[OBJECTIVE], happened["c", 3][OBJECTIVE], rtol=0, atol=1e-6
    )


def test_messages_of_a_silenced_agent_are_nothing_as_the_run_goes() -> None:
    simulation = simulate(ring({}))
    simulation.system.agents["b"].agent_disabled = True
    read = {}
    for kind in ("perfect", "as_run"):
        rehearsal = Rehearsal(simulation.system, {"x": X, "label": LABEL}, Links(kind), seed=0)
        readings = rehearsal.run().readings
        read[kind] = [value for (name, _), (value, _) in readings.items() if name == "b->d"][-1]
    assert read["perfect"].any()
    assert not read["as_run"].any()


def test_a_state_is_handed_on_within_its_example_alone() -> None:
    simulation = simulate(corporation({}))
    system = simulation.system
    rehearsal = Rehearsal(system, {"x": X, "label": LABEL}, Links(), seed=0)
    trace = rehearsal.run()
    read = {step: reading for (name, step), reading in trace.readings.items() if name == "a->a:state"}
    assert list(read) == list(range(6))
    assert not read[0][0].any()
    assert all(torch.equal(read[step][0], trace.ports["a", step - 1]["state"]) for step in range(1, 6))
    forgetful = rehearsal.run(
        Replacement("a->a:state", lambda stamp, made: torch.zeros_like(made[stamp])), trace
    )
    assert not torch.allclose(
        rehearsal.last(trace, "d")[OBJECTIVE], rehearsal.last(forgetful, "d")[OBJECTIVE]
    )


def test_what_rests_on_it_looks_into_recurrent_agents() -> None:
    simulation = simulate(corporation({"drop": 0.3}))
    assert simulation.evaluate("test", "as_run").examples == simulation.evaluate().examples == 30
    found = ablate(simulation, "resample", channels=["c->d", "a->b"])
    assert found.channels["c->d"]["d"]["loss"].value != 0
    assert {made.shape for made in represent(simulation, 10).agents.values()} == {(10, 5)}
