"""The builder and the simulation's front: what is made, and how it is run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from antiphon.engine.simulation import Simulation
from antiphon.scenarios import Scenario, load
from tests.engine.numbers import equal, one_line, parameters
from tests.engine.scenes import CLASSIFY, scenario_of

SMALL = {"width": 5, "size": 3, "batch": 4}


def eyes(**values: Any) -> Simulation:
    return Simulation(load("eyes").resolve(values={**SMALL, **values}))


def single(**agent: Any) -> Scenario:
    first = {"observes": ["image"], "network": {"hidden": [4]}, "objective": CLASSIFY}
    env = agent.pop("env", {})
    return scenario_of({"a": {**first, **agent}}, env=env, batch=4)


def test_a_name_a_template_and_a_scenario_are_all_taken() -> None:
    template = load("digits-mlp")
    for given in ("digits-mlp", template, template.resolve()):
        assert list(Simulation(given).agents) == ["n0", "n1", "n2", "n3"]


def test_an_untrained_predictor_begins_at_nothing() -> None:
    for gradient in ("linear", "mlp", "local"):
        for channel in eyes(gradient=gradient)._system.channels.values():
            assert channel.predictor is not None
            assert not bool(channel.predictor.parameters["last.weight"].any())
            assert not bool(channel.predictor.parameters["last.bias"].any())


def test_the_control_does_not_see_its_own_target() -> None:
    channel = eyes(gradient="local")._system.channels["left->mind"]
    assert channel.context == ()
    assert channel.target == "label"
    assert [spec.name for spec in eyes()._system.channels["left->mind"].context] == ["label"]


@pytest.mark.parametrize("coupling", ["locked", "delayed", "detached"])
def test_only_decoupled_channels_have_predictors(coupling: str) -> None:
    channels = eyes(coupling=coupling)._system.channels.values()
    assert [channel.predictor for channel in channels] == [None, None]
    assert [channel.ledger.wants_deltas for channel in channels] == [coupling == "delayed"] * 2


def test_predictors_may_have_an_optimiser_of_their_own() -> None:
    scenario = load("eyes").resolve(values=SMALL)
    channels = [c.model_dump(by_alias=False) for c in scenario.channels]
    channels[0]["gradient"]["optimiser"] = {"kind": "sgd", "lr": 0.5}
    kinds = {"predictor": {"kind": "adamw", "lr": 0.25}, "optimiser": {"kind": "adam", "lr": 0.125}}
    system = Simulation(scenario_of(scenario.agents, channels, scenario.env, **kinds))._system
    rates = [channel.predictor.rate.base for channel in system.channels.values() if channel.predictor]
    kinds = [channel.predictor.optimiser.kind for channel in system.channels.values() if channel.predictor]
    assert (rates, kinds) == ([0.5, 0.25], ["sgd", "adamw"])
    assert system.agents["mind"].learner.rate.base == 0.125


@pytest.mark.parametrize(
    ("episode", "when", "counted"),
    [
        ("stream", None, [1, 1, 1, 1, 1, 1]),
        ("example", None, [0, 0, 1, 0, 0, 1]),
        ("stream", "last", [0, 0, 1, 0, 0, 1]),
        ("example", "each", [1, 1, 1, 1, 1, 1]),
    ],
)
def test_when_an_objective_counts(episode: str, when: str | None, counted: list[int]) -> None:
    simulation = Simulation(single(objective={**CLASSIFY, "when": when}, env={"hold": 3, "episode": episode}))
    assert [len(info["losses"]) for info in (simulation.step() for _ in range(6))] == counted


def test_a_users_network_is_called_with_its_sizes() -> None:
    asked = []

    def factory(inputs: int, outputs: int) -> nn.Module:
        asked.append((inputs, outputs))
        return nn.Linear(inputs, outputs)

    simulation = Simulation(single(network=factory))
    assert asked == [(64, 10)]
    simulation.run(3)
    assert simulation.agents["a"].updates == 3
    with one_line(r"agents\.a\.network: Linear turns \[2, 64\] into \[2, 9\]"):
        Simulation(single(network=lambda inputs, outputs: nn.Linear(inputs, 9)))


def test_an_agents_module_is_its_network_in_evaluation_mode() -> None:
    simulation = eyes()
    simulation.run(4)
    agent = simulation.agents["left"]
    x = simulation.world.step_signals.signals["left_half"].flatten(1)
    learner = simulation._system.agents["left"].learner
    expected, _ = learner.network(learner.parameters, learner.buffers, x, training=False)
    found = agent.module(x)
    assert set(found) == {"hidden", "to_mind"}
    torch.testing.assert_close(found["to_mind"], expected["to_mind"])
    before = found["to_mind"].data.clone()
    simulation.run(2)
    assert agent.name == "left"
    assert not torch.equal(agent.module(x)["to_mind"], before)
    assert type(agent.module).__module__.startswith("torch")


def test_the_graph_shows_the_newest_figures() -> None:
    simulation = eyes()
    simulation.run(3)
    graph = simulation.graph
    assert graph.nodes["mind"]["role"] == "readout"
    assert graph.nodes["mind"]["updates"] == 3.0
    assert graph.nodes["mind"]["loss"] > 0
    edge = graph.edges["left", "mind", 0]
    assert edge["coupling"] == "decoupled"
    assert edge["age"] == edge["delay"] == 0
    assert edge["sg_loss"] > 0


def test_the_figures_of_channels_come_from_a_fork() -> None:
    simulation = eyes()
    simulation.run(3)
    before = parameters(simulation, "left")
    found = simulation.channels["left->mind"].figures()
    assert {"cosine", "norm_ratio", "sg_loss", "age", "message_mean", "message_std"} <= set(found)
    assert simulation.now == 3
    assert equal(before, parameters(simulation, "left"))


def test_one_sample_of_one_number_has_figures_too() -> None:
    simulation = eyes(batch=1, size=1)
    simulation.run(2)
    assert simulation.graph.edges["left", "mind", 0]["message_std"] == 0.0


def test_a_run_stops_after_steps_episodes_seconds_or_the_training() -> None:
    simulation = Simulation(single(env={"hold": 3, "episode": "example"}).with_training(steps=20))
    seen: list[int] = []
    simulation.run(2, on_step=lambda s: seen.append(s.now))
    assert seen == [1, 2]
    simulation.run(episodes=2)
    assert simulation.now == 6
    simulation.run()
    assert simulation.now == 20
    simulation.run(seconds=0.05)
    assert simulation.now > 20
    simulation.run()
    assert [info["step"] for info in (simulation.step() for _ in range(2))] == [
        simulation.now - 2,
        simulation.now - 1,
    ]


def test_it_is_a_context_that_closes_once() -> None:
    with eyes() as simulation:
        simulation.run(1)
    simulation.close()
    assert simulation.recorders == []


@pytest.mark.parametrize(
    ("channel", "line"),
    [
        (
            {"size": 8, "gradient": {"sites": True}},
            r"channels\[a->b\]\.gradient\.sites: a message of 8 components has none; give it a size such as",
        ),
        (
            {"gradient": {"kind": "mlp", "sites": True}},
            r"channels\[a->b\]\.gradient\.sites: a message of 128 components has none; .* or leave sites out",
        ),
        (
            {"size": 8, "input": {"sites": True}},
            r"channels\[a->b\]\.input\.sites: a message of 8 components has none",
        ),
        (
            {"size": [2, 3, 3], "gradient": {"kind": "conv", "sites": True}},
            r"channels\[a->b\]\.gradient\.sites: a conv gradient reads every site of a map .*; leave it out",
        ),
    ],
)
def test_sites_are_refused_where_a_message_has_none(channel: dict[str, Any], line: str) -> None:
    agents = {"a": {"observes": ["image"]}, "b": {"objective": CLASSIFY}}
    with one_line(line):
        Simulation(scenario_of(agents, [{"from": "a", "to": "b", **channel}]))


def test_the_state_of_an_agent_has_no_sites() -> None:
    agents = {
        "a": {"observes": ["image"], "network": {"kind": "gru", "size": 4}, "objective": CLASSIFY},
    }
    state = {"from": "a", "to": "a", "carries": "state", "gradient": {"sites": True}}
    with one_line(r"channels\[a->a:state\]\.gradient\.sites: a message of 4 components has none"):
        Simulation(scenario_of(agents, [state]))
