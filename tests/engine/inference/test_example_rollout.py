"""Rollouts over examples: the run's own way forward, over other examples and with links of their own (semantics 24)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon.agents.network import OBJECTIVE
from antiphon.engine.core.records import AgentTick
from antiphon.engine.inference.export import export, observed
from antiphon.engine.inference.links import Links
from antiphon.engine.inference.rollout import ExampleRollout, Rollout
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
SIGNALS = {"x": X, "label": LABEL}
GOAL = {"kind": "classification", "target": "label"}
SEES: dict[str, Any] = {"observes": ["x"], "network": {"kind": "mlp", "hidden": [6]}}
LOSSY = {"delay": 1, "drop": 0.3, "noise": 0.2, "bits": 3, "rate": 0.7}
INPUT = {"kind": "linear", "context": []}


def scenario(agents: dict[str, Any], channels: list[dict[str, Any]], hold: int, **env: Any) -> Scenario:
    """One that sees random numbers, and learns nothing."""
    frozen = {name: {"learn": False, **agent} for name, agent in agents.items()}
    source = from_tensors(x=X, label=LABEL, hold=hold, test=0.5, **env)
    return scenario_of(frozen, channels, source, batch=ROWS, steps=50)


def corporation(**link: Any) -> Scenario:
    """Recurrent agents on a cycle, one of them slow; an example is an episode of six steps."""
    common = {"size": 3, "gradient": {"context": ["label"]}, "link": link, "input": INPUT}
    sure = {"size": 3, "link": {**link, "drop": 0.0, "rate": 1.0}}
    kinds = {"a": "lstm", "b": "gru", "c": "leaky", "d": "rnn"}
    agents: dict[str, Any] = {name: {"network": {"kind": kind, "size": 5}} for name, kind in kinds.items()}
    agents["a"]["observes"] = ["x"]
    agents["b"]["clock"] = {"period": 3, "phase": -1}
    agents["c"] |= {"fan_in": "mean", "observes": ["age"]}
    agents["d"] |= {"objective": GOAL, "observes": ["x", "age"]}
    channels = [
        {"from": "a", "to": "b", **sure, "read": "concat"},
        {"from": "a", "to": "b", "key": 1, **sure, "read": "mean"},
        *[{"from": s, "to": r, **common} for s, r in ("bc", "ac", "cd")],
        {"from": "c", "to": "a", **common, "link": {**link, "delay": max(1, link.get("delay", 0))}},
        {"from": "a", "to": "a", "carries": "state"},
    ]
    return scenario(agents, channels, 6, episode="example")


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


def test_over_perfect_links_it_is_the_composed_module_and_changes_no_bit_of_the_run() -> None:
    simulation = simulate(corporation(**LOSSY))
    before = kept(simulation._state_dict())
    rollout = ExampleRollout(simulation._system, SIGNALS, Links(), seed=0)
    assert_same_state(simulation, before)
    module = export(simulation._system, ["d"])
    expected = module(*(SIGNALS[s] for s in observed(simulation._system)))["d"]
    torch.testing.assert_close(rollout.ports["d"][OBJECTIVE], expected, rtol=0, atol=1e-6)


def test_with_every_message_lost_synthetic_inputs_are_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    simulation = simulate(corporation())
    model = simulation._system.channels["c->d"].input
    assert model is not None
    for inputs in (True, False):
        parts = ticks(monkeypatch)
        ExampleRollout(simulation._system, SIGNALS, Links("as_run", drop=1.0, inputs=inputs), seed=0)
        heard = read(parts, "c->d")[5]
        expected = model.predict(None, len(X)) if inputs else torch.zeros(len(X), 3)
        torch.testing.assert_close(heard, expected)


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
    agents = {"a": SEES, "b": {**SEES, "align": "a->b"}, "c": {**SEES, "objective": GOAL}}
    channels = [
        {"from": "a", "to": "b", "size": 3, "link": {"delay": 2}},
        {"from": "b", "to": "c", "size": 3, "link": {"drop": 0.5}, "input": {"context": ["x"]}},
    ]
    simulation = simulate(scenario(agents, channels, 4))
    parts = ticks(monkeypatch)
    ExampleRollout(simulation._system, SIGNALS, Links("as_run"), seed=0)
    assert {tick for tick, part in parts.items() if not part.step_signals.signals} == {("b", 0), ("b", 1)}


def test_messages_of_a_disabled_agent_are_void_as_the_run_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    simulation = simulate(corporation())
    simulation._system.agents["c"].agent_disabled = True
    available = {}
    for kind in ("perfect", "as_run"):
        parts = ticks(monkeypatch)
        ExampleRollout(simulation._system, SIGNALS, Links(kind), seed=0)
        (available[kind],) = (read.available for read in parts["d", 5].reads)
    assert available == {"perfect": True, "as_run": False}


def test_a_state_is_passed_on_within_its_example_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    simulation = simulate(corporation())
    parts = ticks(monkeypatch)
    rollout = ExampleRollout(simulation._system, SIGNALS, Links(), seed=0)
    states = read(parts, "a->a:state")
    assert list(states) == list(range(6))
    assert states[0] is None
    for step in range(1, 6):
        state = states[step]
        assert state is not None
        assert torch.equal(state, parts["a", step - 1].ports["state"])

    def forget(name: str, stamp: int, made: Tensor) -> Tensor:
        return torch.zeros_like(made) if name == "a->a:state" else made

    forgetful = ExampleRollout(simulation._system, SIGNALS, Links(), seed=0, deliver=forget)
    assert not torch.allclose(rollout.ports["d"][OBJECTIVE], forgetful.ports["d"][OBJECTIVE])
