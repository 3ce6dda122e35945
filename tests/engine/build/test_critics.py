"""Critics of their own: a second network of the same learner, on which nothing rests but the value.

That both backends learn the same with them, stacked or not, is tried by the documents of tests/contracts.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from antiphon import Simulation
from antiphon.agents.network import OBJECTIVE
from antiphon.engine.planning.cost_model import CostModel
from antiphon.engine.planning.memory_estimate import memory_of
from antiphon.engine.planning.plan import network_in_words
from antiphon.scenarios import Scenario
from antiphon.scenarios.spec import plain
from tests.contracts.builders import LABEL
from tests.contracts.twins import made
from tests.engine.games import Game
from tests.engine.numbers import close, newest_ports
from tests.engine.scenes import scenario_of

SEES_ALL: dict[str, Any] = {"observes": ["secret", "x"], "network": {"kind": "mlp", "hidden": [5]}}


def actors(critic: dict[str, Any] | None = SEES_ALL, members: int = 1, **keys: Any) -> Scenario:
    """Agents that act, and one that reads what they send."""
    goal: dict[str, Any] = {"kind": "a2c", "reward": "reward"}
    goal |= {} if critic is None else {"critic": critic}
    agent: dict[str, Any] = {"observes": ["image"], "clock": {"unroll": 2}, "objective": goal}
    agent |= {"network": {"kind": "mlp", "hidden": [4]}, **keys}
    names = tuple(f"a{i}" for i in range(members))
    agents = {name: {**agent, "acts": name} for name in names} | {"b": {"objective": LABEL}}
    channels = [
        {"from": name, "to": "b", "size": 3, "port": "talk", "coupling": "detached"} for name in names
    ]
    return scenario_of(agents, channels, Game(parts=names))


def test_the_value_is_that_of_the_second_network() -> None:
    """The value is no public reading: it is read off the open window."""
    with made(actors(), "cohort") as simulation:
        own = {name: p.detach().clone() for name, p in simulation.agents["a0"].parameters.items()}
        signals = dict(simulation.signals)
        simulation.step()
        value = newest_ports(simulation, "a0")["value"]
    seen = torch.cat([nn.functional.one_hot(signals["secret"], 3).double(), signals["x"]], 1)
    hidden = seen @ own["critic.0.weight"].T + own["critic.0.bias"]
    hidden = nn.functional.layer_norm(hidden, (5,)) * own["critic.0.norm.gain"] + own["critic.0.norm.bias"]
    close(value, hidden.relu() @ own["critic.value.weight"].T + own["critic.value.bias"])


def test_it_learns_and_changes_nothing_of_what_the_agent_does() -> None:
    first, scores = [], []
    for critic in (None, SEES_ALL):
        with Simulation(actors(critic)) as simulation:
            start = {name: p.detach().clone() for name, p in simulation.agents["a0"].parameters.items()}
            simulation.step()
            first.append(start | {"output": newest_ports(simulation, "a0")[OBJECTIVE].detach()})
            simulation.run(6)
            own = simulation.agents["a0"].parameters
            scores.append({name for name, p in own.items() if not torch.equal(p, start[name])})
    shared = [name for name in first[0] if name in first[1]]
    assert {"output", "objective.weight"} < set(shared)
    assert all(torch.equal(first[0][name], first[1][name]) for name in shared)
    assert {"critic.0.weight", "critic.value.weight", "critic.value.bias"} <= scores[1]


def test_critics_may_be_shared_or_have_tied_parameters() -> None:
    shared, tied = actors(members=2, share="twins"), plain(actors(members=2))
    tied["tied"] = [["a0.critic.0.weight", "a1.critic.0.weight"]]
    for document in (shared, tied):
        with made(document, "cohort") as simulation:
            before = simulation.agents["a0"].parameters["critic.0.weight"].detach().clone()
            simulation.run(4)
            one, other = (simulation.agents[name].parameters["critic.0.weight"] for name in ("a0", "a1"))
            assert torch.equal(one, other)
            assert not torch.equal(one, before)


def test_it_is_not_there_when_the_agent_is_deployed() -> None:
    found = []
    for critic in (None, SEES_ALL):
        with made(actors(critic), "cohort") as simulation:
            module = simulation.agents["a0"].module
            assert not any("critic" in name for name in module.state_dict())
            x = torch.linspace(-1, 1, 72, dtype=torch.float64).view(2, 36)
            outputs = simulation.compose(agents=["a0"])(image=x.view(1, 2, 1, 6, 6))
            found.append([module(x)[OBJECTIVE], outputs[0]["a0"]])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_costs_memory_and_words_count_it() -> None:
    with made(actors(None), "cohort") as without, made(actors(), "cohort") as simulation:
        own = simulation.agents["a0"].parameters
        critic = sum(p.numel() for name, p in own.items() if name.startswith("critic."))
        assert critic == 7 * 5 + 5 + 10 + 6
        head = 4 + 1
        one, other = (memory_of(s._system) for s in (without, simulation))
        assert other.parameters - one.parameters == 8 * (critic - head)
        assert other.activations > one.activations
        costs = [CostModel(s._system).network(s._system.agents["a0"]) for s in (without, simulation)]
        assert costs[1].forward - costs[0].forward == 8 * 2 * (7 * 5 + 5 - 4)
    assert network_in_words(actors().agents["a0"]) == "mlp 4, critic mlp 5 of secret, x"
    assert network_in_words(actors(None).agents["a0"]) == "mlp 4"


def test_a_conv_critic_reads_maps() -> None:
    critic = {"observes": ["image"], "network": {"kind": "conv", "hidden": [3]}}
    with made(actors(critic), "cohort") as simulation:
        assert simulation.agents["a0"].parameters["critic.0.weight"].shape[:2] == (3, 1)
        simulation.run(4)
        assert simulation.agents["a0"].updates == 2
