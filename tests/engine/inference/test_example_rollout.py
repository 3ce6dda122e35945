"""Rollouts over examples: the run's own way forward, over other examples and with links of their own (semantics 24)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon.agents.network import OBJECTIVE
from antiphon.engine.core.records import AgentTick, StepSignals
from antiphon.engine.inference.export import export, observed
from antiphon.engine.inference.links import Links
from antiphon.engine.inference.rollout import ExampleRollout, Rollout, steps_needed
from antiphon.engine.probes.ablation import ablate
from antiphon.engine.probes.representation import represent
from antiphon.engine.simulation import Simulation
from antiphon.envs import from_tensors
from antiphon.scenarios import Scenario
from tests.engine.numbers import assert_same_state, kept, one_line
from tests.engine.scenes import scenario_of

Tensors = dict[str, Tensor]
ROWS = 16
GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(60, 5, generator=GENERATOR)
LABEL = (X[:, 0] > 0).long()
NET = {"kind": "mlp", "hidden": [6], "activation": "tanh"}
GOAL = {"kind": "classification", "target": "label"}
LINKS: dict[str, dict[str, Any]] = {
    "delay": {"delay": 2},
    "drop": {"drop": 0.4, "delay": 1},
    "noise": {"noise": 0.5},
    "bits": {"bits": 2},
    "rate": {"rate": 0.5},
    "all": {"delay": 1, "drop": 0.3, "noise": 0.2, "bits": 3, "rate": 0.7},
}
INPUT = {"kind": "linear", "context": ["x", "held", "age", "from.phase", "to.phase"]}


def scenario(agents: dict[str, Any], channels: list[dict[str, Any]], hold: int, **env: Any) -> Scenario:
    """One that sees random numbers, and learns nothing."""
    frozen = {name: {"learn": False, **agent} for name, agent in agents.items()}
    source = from_tensors(x=X, label=LABEL, hold=hold, test=0.5, **env)
    return scenario_of(frozen, channels, source, batch=ROWS, steps=50)


def ring(link: Mapping[str, Any], *, unroll: int = 2, **channel: Any) -> Scenario:
    """Three agents on a cycle and a fourth that hears two of them, with clocks of their own."""
    common = {"size": 3, "gradient": {"context": ["label"]}, "link": {**link}, **channel}
    own: dict[str, Any] = {"network": NET, "clock": {"unroll": unroll}}
    agents: dict[str, Any] = {
        "a": {**own, "observes": ["x"]},
        "b": {**own, "clock": {"period": 2, "unroll": unroll}},
        "c": {**own, "fan_in": "mean"},
        "d": {**own, "fan_in": "mean", "objective": GOAL},
    }
    channels = [{"from": s, "to": r, **common} for s, r in ("ab", "bc", "ac", "ca", "bd", "cd")]
    channels[3]["link"] = {**link, **delayed(link)}
    return scenario(agents, channels, 7)


def corporation(link: Mapping[str, Any], *, unroll: int = 2, **channel: Any) -> Scenario:
    """Recurrent agents on a cycle, one of them slow; an example is an episode of six steps."""
    common = {"size": 3, "gradient": {"context": ["label"]}, "link": {**link}, **channel}
    slow = {key: value for key, value in link.items() if key in ("delay", "noise", "bits")}
    kinds = {"a": "lstm", "b": "gru", "c": "leaky", "d": "rnn"}
    agents: dict[str, Any] = {
        name: {"network": {"kind": kind, "size": 5}, "clock": {"unroll": unroll}}
        for name, kind in kinds.items()
    }
    agents["a"]["observes"] = ["x"]
    agents["b"]["clock"] = {"period": 3, "phase": -1, "unroll": unroll}
    agents["c"] |= {"fan_in": "mean", "observes": ["age"]}
    agents["d"] |= {"objective": GOAL, "observes": ["x", "age"]}
    channels = [
        {"from": "a", "to": "b", **common, "input": None, "link": slow, "read": "concat"},
        {"from": "a", "to": "b", "key": 1, **common, "input": None, "link": slow, "read": "mean"},
        *[{"from": s, "to": r, **common} for s, r in ("bc", "ac", "cd")],
        {"from": "c", "to": "a", **common, "link": {**link, **delayed(link)}},
        {"from": "a", "to": "a", "carries": "state"},
    ]
    return scenario(agents, channels, 6, episode="example")


KINDS = {"ring": ring, "corporation": corporation}


def delayed(link: Mapping[str, Any]) -> dict[str, Any]:
    return {"delay": max(1, link.get("delay", 0))}


def simulate(scenario: Scenario) -> Simulation:
    """Return a simulation whose synthetic inputs expect something, and whose records may stay open."""
    simulation = Simulation(scenario, seed=3, stacked=False)
    draw = torch.Generator().manual_seed(1)
    for channel in simulation._system.channels.values():
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
    ticks = [tick for unit in simulation._system.groups for tick in unit.tape.ticks]
    return {(part.agent, tick.step): dict(part.ports) for tick in ticks for part in tick.parts}, shown


def ticks(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, int], AgentTick]:
    """Return a place where each tick of every rollout from here on is noted, by agent and step."""
    noted: dict[tuple[str, int], AgentTick] = {}
    genuine = Rollout.tick

    def tick(rollout: Rollout, step: int, *args: Any) -> list[AgentTick]:
        found = genuine(rollout, step, *args)
        noted.update({(part.agent, step): part for part in found})
        return found

    monkeypatch.setattr(Rollout, "tick", tick)
    return noted


def read(parts: Mapping[tuple[str, int], AgentTick], channel: str) -> dict[int, Tensor | None]:
    """Return what was read over a channel, by step of the tick; None: nothing has come."""
    return {
        step: entry.value
        for (_, step), part in parts.items()
        for entry in part.consumed
        if entry.channel == channel
    }


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("inputs", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_as_run_is_what_the_run_itself_does(
    kind: str, name: str, inputs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"input": INPUT} if inputs else {}
    simulation = simulate(KINDS[kind](LINKS[name], unroll=40, **given))  # all in one window
    steps = steps_needed(simulation._system)
    happened, shown = lived(simulation, steps)
    parts = ticks(monkeypatch)
    rollout = ExampleRollout(simulation._system, shown, Links("as_run"), seed=simulation.seed)
    assert {agent for agent, _ in parts} == set("abcd")
    for tick, part in parts.items():
        for port, value in part.ports.items():
            torch.testing.assert_close(value, happened[tick][port], rtol=0, atol=1e-6)
    for agent, ports in rollout.ports.items():
        newest = max(step for name, step in happened if name == agent)
        assert ports is parts[agent, newest].ports


def test_the_comparison_with_the_run_can_fail() -> None:
    simulation = simulate(ring(LINKS["all"], input=INPUT))
    _, shown = lived(simulation, 1)
    seen = {}
    for seed in (simulation.seed, simulation.seed + 1):
        rollout = ExampleRollout(simulation._system, shown, Links("as_run"), seed=seed)
        seen[seed] = rollout.ports["d"][OBJECTIVE]
    one, other = seen.values()
    assert not torch.allclose(one, other)


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("kind", KINDS)
def test_over_perfect_links_it_is_the_composed_module(kind: str, name: str) -> None:
    simulation = simulate(KINDS[kind](LINKS[name], input=INPUT))
    signals = {"x": X, "label": LABEL}
    rollout = ExampleRollout(simulation._system, signals, Links(), seed=0)
    module = export(simulation._system, ["d"])
    expected = module(*(signals[s] for s in observed(simulation._system)))["d"]
    torch.testing.assert_close(rollout.ports["d"][OBJECTIVE], expected, rtol=0, atol=1e-6)


def replaced_everywhere(
    simulation: Simulation, signals: Tensors, links: Links, channel: str
) -> dict[str, Tensors]:
    """Compute every tick with the messages of one channel replaced by zeros; return each agent's newest ports."""

    def deliver(name: str, stamp: int, made: Tensor) -> Tensor:
        return torch.zeros_like(made) if name == channel else made

    system = simulation._system
    rollout = Rollout(system, len(X), links, 0, deliver)
    found: dict[str, Tensors] = {}
    for step in range(steps_needed(system)):
        for part in rollout.tick(step, StepSignals(step, signals)):
            found[part.agent] = part.ports
    return found


def test_it_changes_no_bit_of_the_run() -> None:
    simulation = Simulation(ring(LINKS["all"], input=INPUT), seed=1)
    simulation.run(5)
    before = kept(simulation._state_dict())
    shown = {"x": X, "label": LABEL}
    ExampleRollout(simulation._system, shown, Links("as_run"), seed=5, deliver=lambda *sent: 2 * sent[2])
    assert_same_state(simulation, before)


def test_with_every_message_lost_synthetic_inputs_are_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    simulation = simulate(ring({}, input={"kind": "linear", "context": []}))
    signals = {"x": X, "label": LABEL}
    channel = simulation._system.channels["b->d"]
    assert channel.input is not None
    for inputs in (True, False):
        parts = ticks(monkeypatch)
        ExampleRollout(simulation._system, signals, Links("as_run", drop=1.0, inputs=inputs), seed=0)
        expected = channel.input.predict(None, len(X)) if inputs else torch.zeros(len(X), 3)
        torch.testing.assert_close(read(parts, "b->d")[6], expected)


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
    with one_line(expected):
        Links(**settings)


def test_an_aligned_agent_sees_nothing_before_its_first_message(monkeypatch: pytest.MonkeyPatch) -> None:
    own: dict[str, Any] = {"network": NET, "clock": {"unroll": 40}}
    agents = {
        "a": {**own, "observes": ["x"]},
        "b": {**own, "observes": ["x"], "align": "a->b"},
        "c": {**own, "objective": GOAL},
    }
    channels = [
        {"from": "a", "to": "b", "size": 3, "link": {"delay": 2}},
        {"from": "b", "to": "c", "size": 3, "link": {"drop": 0.5}, "input": {"context": ["x"]}},
    ]
    simulation = simulate(scenario(agents, channels, 4))
    happened, shown = lived(simulation, 4)
    parts = ticks(monkeypatch)
    rollout = ExampleRollout(simulation._system, shown, Links("as_run"), seed=simulation.seed)
    assert {tick for tick, part in parts.items() if not part.step_signals.signals} == {("b", 0), ("b", 1)}
    torch.testing.assert_close(rollout.ports["c"][OBJECTIVE], happened["c", 3][OBJECTIVE], rtol=0, atol=1e-6)


def test_messages_of_a_disabled_agent_are_void_as_the_run_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    simulation = simulate(ring({}))
    simulation._system.agents["b"].agent_disabled = True
    signals = {"x": X, "label": LABEL}
    found = {}
    for kind in ("perfect", "as_run"):
        parts = ticks(monkeypatch)
        ExampleRollout(simulation._system, signals, Links(kind), seed=0)
        found[kind] = read(parts, "b->d")[6]
    assert found["perfect"] is not None
    assert found["perfect"].any()
    assert found["as_run"] is None


def test_a_state_is_passed_on_within_its_example_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    simulation = simulate(corporation({}))
    parts = ticks(monkeypatch)
    rollout = ExampleRollout(simulation._system, {"x": X, "label": LABEL}, Links(), seed=0)
    states = read(parts, "a->a:state")
    assert list(states) == list(range(6))
    assert states[0] is None
    for step in range(1, 6):
        state = states[step]
        assert state is not None
        assert torch.equal(state, parts["a", step - 1].ports["state"])

    def forget(name: str, stamp: int, made: Tensor) -> Tensor:
        return torch.zeros_like(made) if name == "a->a:state" else made

    shown = {"x": X, "label": LABEL}
    forgetful = ExampleRollout(simulation._system, shown, Links(), seed=0, deliver=forget)
    assert not torch.allclose(rollout.ports["d"][OBJECTIVE], forgetful.ports["d"][OBJECTIVE])


def test_what_rests_on_it_looks_into_recurrent_agents() -> None:
    simulation = simulate(corporation({"drop": 0.3}))
    assert simulation.evaluate("test", "as_run").examples == simulation.evaluate().examples == 30
    found = ablate(simulation, "resample", channels=["c->d", "a->b"])
    assert found.channels["c->d"]["d"]["loss"].value != 0
    assert {made.shape for made in represent(simulation, 10).agents.values()} == {(10, 5)}
