"""What a sender follows and returns, against finite differences of the surrogate it is said to follow (semantics 2, 3).

The surrogate of a window is  sum of losses + sum_j scale_j <m_j, SG_j> / B  with the synthetic gradients fixed;
with `discount` for `scale` it gives the deltas at the window's leaves. Both sides evaluate networks by replaying
the window's tape; the right-hand side uses no autograd.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon import Simulation
from antiphon.engine.core.records import Consumption, Tape
from antiphon.scenarios import Scenario

BATCH = 8
EPSILON = 1e-5
GOAL = {"kind": "classification", "target": "label"}
FAST = {"kind": "adam", "lr": 0.02}


def mlp(norm: str, *hidden: int, activation: str = "tanh") -> dict[str, Any]:
    return {"kind": "mlp", "hidden": list(hidden), "norm": norm, "activation": activation}


def simulation(
    agents: dict[str, Any],
    channels: list[dict[str, Any]],
    *,
    steps: int,
    scale: float = 0.3,
    discount: float = 0.7,
    **env: Any,
) -> Simulation:
    """After `steps` steps: predictors have learned, so that there is something to inject."""
    gradient = {
        "kind": "linear",
        "context": ["label"],
        "scale": scale,
        "discount": discount,
        "optimiser": FAST,
    }
    scenario = Scenario.model_validate(
        {
            "scenario": "differences",
            "env": {"id": "antiphon/Digits-v0", **env},
            "agents": agents,
            "channels": [{"gradient": gradient, **channel} for channel in channels],
            "training": {"batch": BATCH, "optimiser": {"kind": "adam", "lr": 0.003}},
        }
    )
    made = Simulation(scenario, dtype=torch.float64)
    made.run(steps)
    return made


@dataclass
class Window:
    """The window that an agent closes at the next step, just before anything is learned from it."""

    simulation: Simulation
    agent: str
    tape: Tape
    predictions: dict[tuple[str, int], Tensor]
    """By channel and stamp: what is injected."""
    gradients: dict[str, Tensor]
    """By parameter: what the agent's learner was given in the run."""
    before: dict[tuple[str, int], Tensor]
    """By channel and stamp: the delta that a leaf's record had from earlier windows."""
    deltas: dict[tuple[str, int], Tensor]
    """By channel and stamp: the same after the window closed."""

    def surrogate(self, factor: str) -> float:
        """Sum of losses and injections, evaluated from the tape with the numbers as they stand."""
        self.simulation.backend.forward_pass.replay(self.tape)
        goal = self.simulation._system.agents[self.agent].goal
        total = torch.zeros((), dtype=torch.float64)
        for tick in self.tape.ticks:
            for part in tick.parts:
                if goal is not None:
                    label = part.step_signals.signals["label"]
                    log_p = part.ports["objective"].log_softmax(1)[range(BATCH), label]
                    total = total - goal.weight * log_p.sum() / BATCH
        for name, record in self.tape.sent:
            prediction = self.predictions.get((name, record.stamp))
            if prediction is not None:
                assert record.graph_output is not None
                channel = self.simulation._system.channels[name]
                weight = channel.scale.base if factor == "scale" else channel.discount
                total = total + weight * (record.graph_output.flatten(1) * prediction).sum() / BATCH
        return total.item()

    def slope(self, tensor: Tensor, index: int, factor: str) -> float:
        """Central difference of the surrogate by one component of a parameter or leaf."""
        flat = tensor.data.view(-1)
        start = flat[index].item()
        found = []
        for sign in (1, -1):
            flat[index] = start + sign * EPSILON
            found.append(self.surrogate(factor))
        flat[index] = start
        return (found[0] - found[1]) / (2 * EPSILON)

    def uses(self) -> dict[tuple[str, int], Consumption]:
        entries = [e for tick in self.tape.ticks for part in tick.parts for e in part.reads]
        return {(e.channel, e.use.record.stamp): e.use for e in entries if e.use is not None}


def deltas_of(simulation: Simulation, stamps: list[tuple[str, int]]) -> dict[tuple[str, int], Tensor]:
    found = {}
    for name, stamp in stamps:
        delta = simulation._system.channels[name].ledger.records[stamp].delta
        found[name, stamp] = torch.zeros(()) if delta is None else delta.clone()
    return found


def closing_window(run: Simulation, agent: str) -> Window:
    """Let `run` take the step that closes a window of `agent`, and keep a fork from just before it learns."""
    twin = run.fork(stacked=False)
    step = twin.now
    twin.backend.tick(step, twin.world.step_signals)
    twin.world.advance()
    unit = twin._system.group_of[agent]
    tape = unit.tape
    assert unit.windows.ending(step) == tape.window
    predictions = {}
    for name, record in tape.sent:
        channel = twin._system.channels[name]
        if channel.apply and not record.unread:
            predicted = twin.backend.predictor_trainer.predict(channel, record)
            assert predicted is not None
            predictions[name, record.stamp] = predicted
    window = Window(twin, agent, tape, predictions, {}, {}, {})
    window.before = deltas_of(twin, list(window.uses()))
    run.step()
    (update,) = [update for update in run.learned.updates if agent in update.gradients]
    names = run._system.agents[agent].learner.parameters
    window.gradients = {
        name: torch.zeros_like(names[name]) if g is None else g
        for name, g in zip(names, update.gradients[agent], strict=True)
    }
    window.deltas = deltas_of(run, list(window.uses()))
    return window


def check_parameters(window: Window, count: int = 5) -> None:
    parameters = window.simulation._system.agents[window.agent].learner.parameters
    biggest = max(float(g.abs().max()) for g in window.gradients.values())
    assert biggest > 1e-3
    for number, (name, parameter) in enumerate(parameters.items()):
        gradient = window.gradients[name].reshape(-1)
        picked = {int(gradient.abs().argmax()), *(((7 * i + number) % len(gradient)) for i in range(count))}
        for index in picked:
            slope = window.slope(parameter, index, "scale")
            assert float(gradient[index]) == pytest.approx(slope, abs=1e-8, rel=1e-6), (name, index)


def check_leaves(window: Window, count: int = 4) -> None:
    uses = window.uses()
    assert uses
    for number, (key, use) in enumerate(uses.items()):
        delta = (window.deltas[key] - window.before[key]).reshape(-1)
        assert float(delta.abs().max()) > 1e-4, key
        picked = {int(delta.abs().argmax()), *(((7 * i + number) % len(delta)) for i in range(count))}
        for index in picked:
            slope = BATCH * window.slope(use.leaf, index, "discount")
            assert float(delta[index]) == pytest.approx(slope, abs=1e-8, rel=1e-6), (key, index)


@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
@pytest.mark.parametrize(("scale", "discount"), [(1.0, 1.0), (0.3, 0.7), (2.0, 0.5), (0.0, 1.0)])
def test_a_link_of_a_chain_follows_and_returns_the_surrogate(
    norm: str, scale: float, discount: float
) -> None:
    agents = {
        "a": {"observes": ["image"], "network": mlp(norm, 6)},
        "b": {"network": mlp(norm, 7, 5)},
        "c": {"network": mlp(norm, 6), "objective": GOAL},
    }
    channels = [{"from": s, "to": r, "size": 5, "norm": norm} for s, r in ("ab", "bc")]
    run = simulation(agents, channels, steps=30, scale=scale, discount=discount)
    window = closing_window(run, "b")
    assert set(window.predictions) == {("b->c", 30)}
    if scale:
        check_parameters(window)
    else:
        assert all(not g.any() for g in window.gradients.values())
    check_leaves(window)


def test_an_objective_and_several_injections_add_up_whatever_port_they_are_put_on() -> None:
    """Two channels share a port, one has its own, one is a shadow; the sender has an objective of its own."""
    shadow = {"kind": "mlp", "hidden": [9], "norm": "layer", "apply": False, "optimiser": FAST}
    deep = {"kind": "mlp", "hidden": [9], "norm": "batch", "scale": 3.0, "discount": 0.2, "optimiser": FAST}
    agents = {
        "a": {"observes": ["left_half"], "network": mlp("layer", 6, activation="gelu")},
        "b": {"network": mlp("layer", 6, activation="gelu"), "objective": {**GOAL, "weight": 0.4}},
        "c": {"network": mlp("layer", 6), "objective": GOAL},
        "d": {"observes": ["right_half"], "network": mlp("layer", 6), "objective": GOAL},
    }
    channels: list[dict[str, Any]] = [
        {"from": "a", "to": "b", "size": 4},
        {"from": "b", "to": "c", "size": 3, "port": "out"},
        {"from": "b", "to": "d", "size": 3, "port": "out", "gradient": deep},
        {"from": "b", "to": "d", "key": 1, "size": 2},
        {"from": "b", "to": "c", "key": "aside", "gradient": shadow},
    ]
    window = closing_window(simulation(agents, channels, steps=30), "b")
    assert set(window.predictions) == {("b->c", 30), ("b->d", 30), ("b->d:1", 30)}
    check_parameters(window)
    check_leaves(window)


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_convolutions_that_send_feature_maps(norm: str) -> None:
    network = {"kind": "conv", "norm": norm, "activation": "tanh", "filter": 3}
    agents = {
        "a": {"observes": ["image"], "network": {**network, "hidden": [2]}},
        "b": {"network": {**network, "hidden": [3, 2], "pool": ["avg", "none"]}},
        "c": {"network": mlp(norm, 6), "objective": GOAL},
    }
    channels: list[dict[str, Any]] = [{"from": "a", "to": "b"}, {"from": "b", "to": "c", "size": [1, 2, 3]}]
    window = closing_window(simulation(agents, channels, steps=20), "b")
    check_parameters(window)
    check_leaves(window)


@pytest.mark.parametrize("fan_in", ["concat", "sum", "mean"])
def test_every_fan_in_returns_each_sender_its_own(fan_in: str) -> None:
    agents: dict[str, Any] = {
        name: {"observes": [f"patch_{i}"], "network": mlp("layer", 5)} for i, name in enumerate("abc")
    }
    agents["hub"] = {
        "observes": ["patch_3"],
        "network": mlp("layer", 6),
        "fan_in": fan_in,
        "clock": {"unroll": 2},
    }
    agents["judge"] = {"network": mlp("layer", 6), "objective": GOAL}
    pairs = [*((name, "hub") for name in "abc"), ("hub", "judge")]
    channels = [{"from": s, "to": r, "size": 4, "link": {"delay": "abc".find(s) + 1}} for s, r in pairs]
    window = closing_window(simulation(agents, channels, steps=41, patches=4, hold=2), "hub")
    assert len(window.uses()) == 6
    check_parameters(window)
    check_leaves(window)


@pytest.mark.parametrize("port", [None, "out"])
def test_three_windows_of_three_ticks_on_a_cycle_of_unequal_clocks(port: str | None) -> None:
    """A slower sender's message is one leaf for all ticks of a window that read it."""
    agents: dict[str, Any] = {
        "core": {
            "observes": ["image"],
            "network": mlp("layer", 6),
            "clock": {"unroll": 3},
            "objective": GOAL,
        },
        "slow": {"network": mlp("layer", 5), "clock": {"period": 2, "unroll": 3}},
        "next": {"network": mlp("layer", 5), "clock": {"unroll": 2}, "objective": GOAL},
    }
    shared = {} if port is None else {"port": port}
    channels = [
        {"from": "core", "to": "slow", "size": 4, **shared},
        {"from": "slow", "to": "core", "size": 4, "link": {"delay": 1}},
        {"from": "core", "to": "next", "size": 4, "link": {"delay": 2}, **shared},
        {"from": "next", "to": "core", "size": 3, "link": {"delay": 1}},
    ]
    run = simulation(agents, channels, steps=29, hold=3)
    for _ in range(3):
        window = closing_window(run, "core")
        assert len(window.tape.ticks) == 3
        check_parameters(window, count=3)
        check_leaves(window, count=2)
        run.run(2)
