"""Export: the corporation as one torch module equals its agents, ticked by hand in evaluation mode."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx import GraphModule, symbolic_trace

from antiphon.engine.inference.rollout import steps_needed
from antiphon.engine.simulation import Simulation
from antiphon.envs import from_tensors
from antiphon.errors import ScenarioError
from tests.engine.scenes import scenario_of

Document = dict[str, Any]
GOAL = {"kind": "classification", "target": "label"}


def make(
    agents: dict[str, Document], channels: list[Document], env: Any = None, **options: Any
) -> Simulation:
    agents = {name: {"network": {"kind": "mlp", "hidden": [6]}, **agent} for name, agent in agents.items()}
    env = options if env is None else env
    scenario = scenario_of(agents, channels, env, batch=5, optimiser={"kind": "adam", "lr": 0.01})
    simulation = Simulation(scenario, dtype=torch.float64)
    simulation.run(6)
    return simulation


def one_hot(kind: Tensor) -> Tensor:
    """Of the four kinds of things: [5, 4, …]."""
    return torch.stack([kind == one for one in range(4)], 1).double()


def by_hand(simulation: Simulation, signals: dict[str, Tensor], steps: int) -> dict[str, Tensor]:
    """Tick the running system's agents in evaluation mode, from silence, on one example."""
    scenario, modules = simulation.scenario, {n: a.module for n, a in simulation.agents.items()}
    sent: dict[str, dict[int, Tensor]] = {c.name: {} for c in scenario.channels}
    outputs = {}
    for step in range(steps):
        for name in (name for wave in scenario.waves() for name in wave):
            spec = scenario.agents[name]
            if (step - spec.clock.phase) % spec.clock.period:
                continue
            shape = simulation._system.agents[name].learner.network.input_shape
            told, came = [], 0
            for channel in scenario.inputs_of(name):
                arrived = [s for s in sent[channel.name] if s + channel.link.delay <= step]
                came += bool(arrived)
                size = simulation._system.channels[channel.name].shape
                message = (
                    sent[channel.name][max(arrived)]
                    if arrived
                    else torch.zeros(5, *size, dtype=torch.float64)
                )
                told.append(message.reshape(5, *size) if len(shape) > 1 else message.flatten(1))
            if spec.fan_in != "concat" and told:
                told = [torch.stack(told).sum(0) / (came if spec.fan_in == "mean" and came else 1)]
            known = simulation._system.description.signals
            seen = [signals[s] if known[s].classes is None else one_hot(signals[s]) for s in spec.observes]
            seen = [one if len(shape) > 1 else one.reshape(5, -1) for one in seen]
            ports = modules[name](torch.cat([*seen, *told], 1))
            for channel in scenario.outputs_of(name):
                sent[channel.name][step] = ports[simulation._system.channels[channel.name].port]
            if spec.objective is not None:
                outputs[name] = ports["objective"]
    return outputs


def assert_composed(simulation: Simulation, steps: int, *, filling: bool = True) -> None:
    assert steps_needed(simulation._system) == steps
    signals = simulation.world.step_signals.signals
    module = simulation.compose()
    shown = {node.target: signals[node.target] for node in module.graph.nodes if node.op == "placeholder"}
    found = module(**shown)
    expected = by_hand(simulation, signals, steps)
    assert set(found) == set(simulation.scenario.readouts)
    for name, output in found.items():
        torch.testing.assert_close(output, expected[name], atol=1e-12, rtol=0)
    fewer = by_hand(simulation, signals, steps - 1)
    assert (
        steps == 1
        or not filling
        or any(n not in fewer or not torch.allclose(fewer[n], o) for n, o in found.items())
    )


def chain(**channel: Any) -> list[Document]:
    return [{"from": s, "to": r, "size": 4, **channel} for s, r in ("ab", "bc")]


def line(**more: Document) -> dict[str, Document]:
    base: dict[str, Document] = {"a": {"observes": ["image"]}, "b": {}, "c": {"objective": GOAL}}
    return {name: {**base[name], **more.get(name, {})} for name in base}


def test_a_chain_without_delay_takes_one_step() -> None:
    assert_composed(make(line(), chain()), 1)


def test_delays_are_kept_until_every_path_has_filled() -> None:
    assert_composed(make(line(), chain(link={"delay": 2})), 5)
    skip = {"from": "a", "to": "c", "size": 3}
    assert_composed(make(line(), [*chain(link={"delay": 2}), skip]), 5)


def test_an_example_is_shown_for_as_long_as_it_is_held() -> None:
    cycle = [{"from": s, "to": r, "size": 4, "link": {"delay": 1}} for s, r in ("ab", "bc", "ca", "ba", "cc")]
    assert_composed(make(line(), cycle, hold=6, episode="example"), 6)
    assert_composed(make(line(), cycle, hold=6), 6)


@pytest.mark.parametrize("fan_in", ["sum", "mean"])
def test_fan_in_counts_what_has_come(fan_in: str) -> None:
    agents = line(b={"observes": ["left_half"]}, c={"objective": GOAL, "fan_in": fan_in})
    channels: list[Document] = [
        {"from": "a", "to": "c", "size": 4},
        {"from": "b", "to": "c", "size": 4, "link": {"delay": 9}},
    ]
    simulation = make(agents, channels, hold=3, episode="example")
    assert_composed(simulation, 3, filling=False)


def test_clocks_are_kept() -> None:
    agents = line(
        a={"clock": {"period": 4, "phase": 3}},
        b={"clock": {"period": 2}},
        c={"clock": {"period": 3, "phase": -1}},
    )
    assert_composed(make(agents, chain()), 6)  # a at 3, b at 4, c at 5
    assert_composed(make(line(c={"clock": {"period": 4, "phase": -1}}), chain()), 4)
    late = line(c={"clock": {"period": 4, "phase": -1}})
    assert_composed(make(late, chain(), hold=2, episode="example"), 4)  # whoever ticks late is waited for


def test_in_a_cycle_it_is_enough_that_all_have_heard_of_each_other() -> None:
    ring = [{"from": s, "to": r, "size": 4, "link": {"delay": 1}} for s, r in ("ab", "bc", "ca")]
    assert_composed(make(line(), ring), 3)
    loop = {"from": "c", "to": "c", "size": 4, "link": {"delay": 1}}
    assert_composed(make(line(), [*chain(link={"delay": 1}), loop]), 3)


def test_convolutions_are_told_feature_maps() -> None:
    conv = {"kind": "conv", "hidden": [3], "filter": 3, "pool": ["max"], "norm": "batch"}
    agents = line(a={"network": conv}, b={"network": {**conv, "norm": "layer", "pool": ["avg"]}})
    channels: list[Document] = [
        {"from": "a", "to": "b", "link": {"delay": 1}},
        {"from": "b", "to": "c", "size": [2, 3, 3], "norm": "layer"},
    ]
    assert_composed(make(agents, channels), 2)


def test_tied_agents_and_shared_ports() -> None:
    eye = {"share": "eye"}
    agents: dict[str, Document] = {
        "a": {"observes": ["left_half"], **eye},
        "b": {"observes": ["right_half"], **eye},
        "c": {"objective": GOAL},
    }
    channels: list[Document] = [
        {"from": s, "to": "c", "size": 4, "port": "p", "key": k} for s in "ab" for k in (0, "again")
    ]
    simulation = make(agents, channels)
    assert_composed(simulation, 1)
    assert len(list(simulation.compose().parameters())) == len(
        [*simulation.agents["a"].parameters, *simulation.agents["c"].parameters]
    )


def test_names_that_differ_in_little_are_kept_apart() -> None:
    agents: dict[str, Document] = {
        "a-b": {"observes": ["image"]},
        "a_b": {"observes": ["image"], "network": {"kind": "mlp", "hidden": [9]}},
        "c": {"objective": GOAL},
    }
    simulation = make(agents, [{"from": "a-b", "to": "c"}, {"from": "a_b", "to": "c"}])
    assert_composed(simulation, 1)


def test_signals_of_single_numbers_and_classes_are_seen() -> None:
    g = torch.Generator().manual_seed(0)
    numbers, kinds = (
        torch.randn(60, generator=g, dtype=torch.float64),
        torch.randint(0, 4, (60, 2), generator=g),
    )
    env = from_tensors(number=numbers, kind=kinds, label=(numbers > 0).long())
    agents: dict[str, Document] = {"a": {"observes": ["number", "kind"]}, "c": {"objective": GOAL}}
    channel = {"from": "a", "to": "c", "size": 3, "gradient": {"context": ["number", "kind"]}}
    simulation = make(agents, [channel], env)
    assert_composed(simulation, 1)
    assert simulation.evaluate().examples == 12


def test_the_module_holds_copies() -> None:
    simulation = make(line(), chain())
    module = simulation.compose()
    image = simulation.world.step_signals.signals["image"]
    before = module(image=image)["c"]
    simulation.run(5)
    assert torch.equal(module(image=image)["c"], before)
    assert not module.training


def test_a_system_that_sees_nothing_cannot_be_composed() -> None:
    pair = [{"from": "a", "to": "c", "size": 2, "link": {"delay": 1}}, {"from": "c", "to": "a", "size": 2}]
    simulation = make({"a": {}, "c": {"objective": GOAL}}, pair)
    with pytest.raises(ScenarioError, match="none observes a signal"):
        simulation.compose()


# --- what accepts the module -------------------------------------------------------------------------------


def example(simulation: Simulation) -> tuple[GraphModule, tuple[Any, ...]]:
    """Return the exported module and arguments of it that are not those of the first call in silence."""
    module = simulation.compose()
    signals = simulation.world.step_signals.signals
    names = [node.target for node in module.graph.nodes if node.op == "placeholder"]
    if simulation._system.description.is_stream:
        return module, tuple(signals[str(name)] for name in names)
    shape = simulation._system.description.signals["image"].shape
    draw = torch.Generator().manual_seed(0)
    image = torch.rand(4 * module.steps_per_round, 5, *shape, dtype=torch.float64, generator=draw)
    return module, (image, module(image)[1])


def in_time() -> Simulation:
    """A slow recurrent agent that reads a fast one over a channel with a delay."""
    agents: dict[str, Document] = {
        "a": {"observes": ["image"], "network": {"kind": "lstm", "size": 4}},
        "b": {
            "network": {"kind": "gru", "size": 3},
            "clock": {"period": 3, "phase": -1},
            "objective": {"kind": "classification", "target": "odd_so_far"},
        },
    }
    channels = [{"from": "a", "to": "b", "size": 2, "link": {"delay": 4}}]
    return make(agents, channels, env={"id": "antiphon/CountDigits-v0"})


ACCEPTED = {
    "chain": lambda: make(line(), chain()),
    "delayed": lambda: make(line(), chain(link={"delay": 2})),
    "recurrent": in_time,
}


@torch.no_grad()
@pytest.mark.parametrize("name", ACCEPTED)
def test_fx_traces_the_module(name: str) -> None:
    module, arguments = example(ACCEPTED[name]())
    traced = symbolic_trace(module)
    torch.testing.assert_close(traced(*arguments), module(*arguments), rtol=0, atol=0)
