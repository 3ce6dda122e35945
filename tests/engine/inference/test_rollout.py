"""Rollouts: the run's own way forward in an environment of their own, judged and not learned from (semantics 24)."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from antiphon.agents.network import OBJECTIVE
from antiphon.engine.core.records import AgentTick
from antiphon.engine.core.system import System
from antiphon.engine.inference.links import Links
from antiphon.engine.inference.rollout import EnvironmentRollout, filled
from antiphon.engine.simulation import Simulation
from antiphon.envs import registry
from antiphon.envs.base import StepResult, TorchVectorEnv
from antiphon.envs.counting import CountDigits
from antiphon.envs.options import CountOptions
from antiphon.scenarios import Scenario
from tests.engine.numbers import assert_same_state
from tests.engine.scenes import scenario_of

Document = dict[str, Any]
LSTM = {"kind": "lstm", "size": 7}
NAMES = ("odd", "threes")


def hierarchy(a: Document | None = None, b: Document | None = None, **channel: Any) -> Scenario:
    """A sees every digit, B hears A at every third step; the windows of the counts are 3 and 9 steps."""
    agents = {
        "a": {
            "observes": ["image"],
            "network": {**LSTM, "encoder": [6], "norm": "batch"},
            "clock": {"unroll": 3},
            "objective": {"kind": "classification", "target": "odd"},
            **(a or {}),
        },
        "b": {
            "network": LSTM,
            "clock": {"period": 3, "phase": -1, "unroll": 3},
            "objective": {"kind": "classification", "target": "threes"},
            **(b or {}),
        },
    }
    gradient = {"kind": "linear", "context": ["count_so_far"]}
    channels = [
        {"from": "a", "to": "b", "size": 4, "norm": "layer", "gradient": gradient, **channel},
        *[{"from": name, "to": name, "carries": "state", "coupling": "decoupled"} for name in "ab"],
    ]
    env, adam = {"id": "antiphon/CountDigits-v0", "levels": 2, "window": 3}, {"kind": "adam", "lr": 0.01}
    return scenario_of(agents, channels, env, readout="b", batch=4, steps=100, optimiser=adam)


def simulate(scenario: Scenario, seed: int = 0, steps: int = 0) -> Simulation:
    simulation = Simulation(scenario, seed=seed, dtype=torch.float64)
    simulation.run(steps)
    return simulation


def second(simulation: Simulation, batch: int = 5, split: str = "test") -> TorchVectorEnv:
    return registry.make(simulation.scenario.env, batch=batch, dtype=torch.float64, split=split)


def outputs(parts: list[AgentTick]) -> dict[str, Tensor]:
    return {part.agent: part.ports[OBJECTIVE] for part in parts}


# --- against a loop written by hand ------------------------------------------------------------------------


class ByHand:
    """The hierarchy as anybody would write it: two torch LSTM cells and a message at every third step."""

    def __init__(self, simulation: Simulation, batch: int) -> None:
        self.a = simulation._system.agents["a"].learner
        self.b = simulation._system.agents["b"].learner
        self.port = simulation._system.channels["a->b"].port
        self.states = {n: (torch.zeros(batch, 7).double(), torch.zeros(batch, 7).double()) for n in "ab"}

    def linear(self, name: str, key: str, x: Tensor) -> Tensor:
        own = getattr(self, name).parameters
        return F.linear(x, own[f"{key}.weight"], own[f"{key}.bias"])

    def cell(self, name: str, x: Tensor) -> Tensor:
        own = getattr(self, name).parameters
        keys = ("input.weight", "recurrent.weight", "input.bias", "recurrent.bias")
        self.states[name] = torch.lstm_cell(x, self.states[name], *(own[f"cell.{key}"] for key in keys))
        return self.states[name][0]

    def step(self, step: int, image: Tensor) -> dict[str, Tensor]:
        norm, held = self.a.parameters, self.a.buffers
        x = self.linear("a", "0", image.flatten(1))
        x = F.batch_norm(x, held["0.norm.mean"], held["0.norm.var"], norm["0.norm.gain"], norm["0.norm.bias"])
        h = self.cell("a", x.relu())
        said = {"a": self.linear("a", "objective", h)}
        if step % 3 == 2:
            message = F.layer_norm(
                self.linear("a", self.port, h),
                (4,),
                norm[f"{self.port}.norm.gain"],
                norm[f"{self.port}.norm.bias"],
            )
            said["b"] = self.linear("b", "objective", self.cell("b", message))
        return said


def test_it_is_the_loop_that_one_would_write_by_hand() -> None:
    simulation = simulate(hierarchy(), steps=30)
    assert any(value.abs().max() > 0 for value in simulation._system.agents["a"].learner.buffers.values())
    rollout, hand = (
        EnvironmentRollout(simulation._system, second(simulation), Links(), 3),
        ByHand(simulation, 5),
    )
    sums = {name: [0.0, 0.0, 0] for name in "ab"}
    for step in range(27):
        moment = rollout.world.step_signals
        with torch.no_grad():
            expected = hand.step(step, moment.signals["image"])
        found = outputs(rollout.step())
        assert found.keys() == expected.keys()
        for (name, output), target in zip(found.items(), NAMES, strict=False):
            torch.testing.assert_close(output, expected[name], rtol=0, atol=1e-10)
            if (step + 1) % (3 if name == "a" else 9) == 0:
                label = moment.signals[target]
                sums[name][0] += F.cross_entropy(output, label, reduction="sum").item()
                sums[name][1] += (output.argmax(1) == label).sum().item()
                sums[name][2] += 5
    for name, score in rollout.scores.items():
        assert [score.loss, score.metric, score.count] == pytest.approx(sums[name])
    assert (rollout.scores["a"].count, rollout.scores["b"].count) == (45, 15)


# --- against the run itself --------------------------------------------------------------------------------

_SLOW = {"kind": "linear", "context": ["image", "held", "age", "from.phase", "to.phase"]}
_FROZEN: dict[str, tuple[Document, Document]] = {
    "lossy": ({}, {"link": {"drop": 0.4, "noise": 0.3, "bits": 3, "delay": 1}, "input": _SLOW}),
    "unheard": ({}, {"link": {"drop": 0.4}}),
    "mean": ({}, {"read": "mean", "link": {"delay": 2}}),
    "concat": ({"observes": ["age"]}, {"read": "concat", "link": {"delay": 4}}),
    "aged": ({"observes": ["age"]}, {"link": {"drop": 0.5, "delay": 1}}),
    "aligned": ({"align": "a->b", "observes": ["image"]}, {"link": {"delay": 3}}),
}


@pytest.mark.parametrize("name", _FROZEN)
def test_as_run_is_what_the_run_itself_does(name: str) -> None:
    b, channel = _FROZEN[name]
    net: Document = {"network": LSTM, "learn": False}
    simulation = simulate(hierarchy(net, {**net, **b}, **channel), seed=3)
    draw = torch.Generator().manual_seed(1)
    model = simulation._system.channels["a->b"].input
    if model is not None:
        for parameter in model.parameters.values():
            parameter.data.copy_(torch.randn(parameter.shape, generator=draw))
    kept = {key: value.clone() for key, value in (model.parameters if model else {}).items()}
    rollout = EnvironmentRollout(simulation._system, second(simulation, 4, "train"), Links("as_run"), 3)
    for step in range(24):
        simulation.backend.tick(step, simulation.world.step_signals)
        units = simulation._system.groups
        newest = [tick for unit in units for tick in unit.tape.ticks if tick.step == step]
        lived = outputs([part for tick in newest for part in tick.parts])
        found = outputs(rollout.step())
        assert found.keys() == lived.keys()
        for agent, output in found.items():
            torch.testing.assert_close(output, lived[agent], rtol=0, atol=1e-12)
        simulation._system.cut(step, simulation.world.advance(simulation.backend.forward_pass.action))
        simulation.backend.learn(step)
        for key, value in kept.items():  # it would learn from what it hears
            assert model is not None
            model.parameters[key].data.copy_(value)


def test_over_perfect_links_nothing_is_lost() -> None:
    lossy, b = _FROZEN["lossy"][1], {"learn": False, "network": LSTM}
    simulation = simulate(hierarchy(b, b, **lossy))
    plain = simulate(hierarchy(b, b, link={"delay": 1}))
    said = [[outputs(r.step()) for _ in range(9)] for r in rollouts(simulation, plain)]
    assert all(torch.equal(x[n], y[n]) for x, y in zip(*said, strict=True) for n in x)
    as_run = EnvironmentRollout(simulation._system, second(simulation), Links("as_run"), 3)
    assert not all(
        torch.equal(x[n], y[n])
        for x, y in zip([outputs(as_run.step()) for _ in range(9)], said[0], strict=True)
        for n in y
    )


def rollouts(*simulations: Simulation) -> Iterator[EnvironmentRollout]:
    for simulation in simulations:
        yield EnvironmentRollout(simulation._system, second(simulation), Links(), 3)


def test_states_and_messages_end_with_their_episode() -> None:
    own = {"observes": ["symbol"], "network": LSTM, "learn": False}
    agents = {"a": {**own, "acts": True, "objective": {"kind": "coding", "target": "target"}}, "b": own}
    env: Any = {"id": "antiphon/Copy-v0", "bits": 3, "length": 2, "threshold": 0}
    scenario = scenario_of(agents, [{"from": "b", "to": "a", "size": 3, "link": {"delay": 2}}], env, batch=4)
    simulation = simulate(scenario, seed=3)
    env = registry.make(scenario.env, batch=4, dtype=torch.float64)
    rollout = EnvironmentRollout(simulation._system, env, Links(), 3)
    for step in range(25):
        simulation.backend.tick(step, simulation.world.step_signals)
        lived = outputs(
            [
                p
                for u in simulation._system.groups
                for t in u.tape.ticks
                for p in t.parts
                if OBJECTIVE in p.ports and t.step == step
            ]
        )
        parts = rollout.step()
        assert torch.equal(outputs([p for p in parts if p.agent == "a"])["a"], lived["a"])
        begun = [part.memory is not None and part.memory.available is False for part in parts]
        assert all(begun) == any(begun) == (step % 7 == 0)
        simulation._system.cut(step, simulation.world.advance(simulation.backend.forward_pass.action))
        simulation.backend.learn(step)


# --- what it must not do -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["perfect", "as_run"])
def test_it_changes_no_bit_of_the_run(kind: str) -> None:
    channel: Document = {"link": {"drop": 0.3, "delay": 1, "noise": 0.1}, "input": _SLOW}
    scenario = hierarchy({"p_update": 0.7}, {"observes": ["age"]}, **channel)
    watched, plain = simulate(scenario, 1), simulate(scenario, 1)
    for step in range(20):
        if step % 4 == 1:
            EnvironmentRollout(watched._system, second(watched), Links(kind), step).run(10)
        watched.step()
        plain.step()
    assert_same_state(watched, plain)


class Shuffled(CountDigits):
    """Shows the same digits, and gives every lane another one's training-only signals."""

    def step(self, actions: Any = None) -> StepResult:
        *rest, info = super().step(actions)
        return *rest, {key: value.flip(0) for key, value in info.items()}  # type: ignore[return-value]


@pytest.mark.parametrize("kind", ["perfect", "as_run"])
def test_shuffled_training_signals_change_no_bit_but_the_metrics(kind: str) -> None:
    simulation = simulate(
        hierarchy(link={"drop": 0.3}, input={"kind": "linear", "context": ["image"]}), steps=200
    )
    heard, scores = [], []
    for make in (CountDigits, Shuffled):
        env = make(32, CountOptions(levels=2, window=3, split="test"), dtype=torch.float64)
        rollout = EnvironmentRollout(simulation._system, env, Links(kind), 5)
        parts = [part for _ in range(36) for part in rollout.step()]
        read = [entry.value for part in parts for entry in part.consumed if entry.value is not None]
        heard.append(read + [value for part in parts for value in part.ports.values()])
        scores.append(rollout.scores)
    assert len(heard[0]) == len(heard[1]) > 100
    assert all(torch.equal(x, y) for x, y in zip(*heard, strict=True))
    for name in "ab":
        assert scores[0][name].loss != scores[1][name].loss
        assert scores[0][name].count == scores[1][name].count > 0


def test_ticks_count_once_every_path_has_filled() -> None:
    simulation = simulate(hierarchy(link={"delay": 10}))
    assert filled(simulation._system) == {"a": 0, "b": 11}
    scores = EnvironmentRollout(simulation._system, second(simulation), Links(), 0).run(18)
    assert (scores["a"].count, scores["b"].count) == (30, 5)  # b's first nine steps were before it


def test_who_learns_no_more_is_judged_and_heard_as_the_links_go() -> None:
    simulation = simulate(hierarchy())
    simulation._system.agents["a"].agent_disabled = True
    alive = {}
    for kind in ("perfect", "as_run"):
        rollout = EnvironmentRollout(simulation._system, second(simulation), Links(kind), 0)
        parts = [part for _ in range(9) for part in rollout.step()]
        alive[kind] = [part.reads[0].available for part in parts if part.agent == "b"]
        assert rollout.scores["a"].count == 15
    assert alive == {"perfect": [True] * 3, "as_run": [False] * 3}
    assert simulation._system.agents["a"].agent_disabled


def rests_on(system: System, steps: int) -> dict[str, list[set[tuple[str, int]]]]:
    """By agent: of each of its ticks, agents and steps of all ticks that it rests on through messages."""
    found: dict[str, dict[int, set[tuple[str, int]]]] = {name: {} for name in system.agents}
    for step in range(steps):
        for name in system.schedule.ticks(step):
            behind = {(name, step)}
            for channel in system.agents[name].incoming:
                behind |= {
                    tick for stamp in channel.mailbox.due(step)[-1:] for tick in found[channel.sender][stamp]
                }
            found[name][step] = behind
    return {name: list(ticks.values()) for name, ticks in found.items()}


@pytest.mark.parametrize("seed", range(6))
def test_on_a_cycle_a_path_has_filled_once_a_tick_rests_on_everybody(seed: int) -> None:
    generator = random.Random(seed)
    count = 7
    agents = {
        f"n{i}": {
            "observes": ["image"],
            "network": {"kind": "mlp", "hidden": [3]},
            "objective": {"kind": "classification", "target": "label"},
            "clock": {"period": generator.choice([1, 2, 3])},
        }
        for i in range(count)
    }
    arcs = {(i, (i + 1) % count) for i in range(count)}  # one cycle through all, and chords
    arcs |= {tuple(generator.sample(range(count), 2)) for _ in range(4)}
    channels = [
        {
            "from": f"n{a}",
            "to": f"n{b}",
            "size": 2,
            "coupling": "detached",
            "link": {"delay": generator.choice([1, 2, 5]), "rate": generator.choice([1.0, 0.5])},
        }
        for a, b in sorted(arcs)
    ]
    system = Simulation(scenario_of(agents, channels))._system
    found = filled(system)
    for name, ticks in rests_on(system, max(found.values()) + 1).items():
        clock = system.agents[name].clock
        full = [{agent for agent, _ in behind} == set(agents) for behind in ticks]
        assert found[name] == clock.step(full.index(True))


def test_what_ticks_rest_on_is_kept_no_longer_than_somebody_reads_it() -> None:
    def ring(count: int) -> System:
        agent = {
            "observes": ["image"],
            "network": {"kind": "mlp", "hidden": [2]},
            "objective": {"kind": "classification", "target": "label"},
        }
        link = {"size": 2, "coupling": "detached", "link": {"delay": 1}}
        channels = [{"from": f"n{i:03}", "to": f"n{(i + 1) % count:03}", **link} for i in range(count)]
        return Simulation(scenario_of({f"n{i:03}": agent for i in range(count)}, channels))._system

    peaks = []
    for count in (
        48,
        192,
    ):  # in the larger one a tick rests on four times as many, and there are 16 times as many ticks
        system = ring(count)
        tracemalloc.start()
        assert set(filled(system).values()) == {count - 1}
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 5 * peaks[0]
