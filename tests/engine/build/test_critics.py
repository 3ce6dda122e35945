"""Critics of their own: a second network of the same learner, on which nothing rests but the value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from antiphon.agents.network import OBJECTIVE, VALUE
from antiphon.engine.planning.cost_model import CostModel
from antiphon.engine.planning.memory_estimate import memory_of
from antiphon.engine.planning.plan import network_in_words
from antiphon.engine.simulation import Simulation
from antiphon.errors import ScenarioError
from antiphon.scenarios import Scenario
from antiphon.scenarios.spec import plain
from tests.contracts.builders import LABEL
from tests.contracts.twins import made
from tests.engine.games import Game
from tests.engine.numbers import newest_ports
from tests.engine.scenes import scenario_of

SEES_ALL: dict[str, Any] = {"observes": ["secret", "x"], "network": {"kind": "mlp", "hidden": [5]}}
MAPS: dict[str, Any] = {"observes": ["image"], "network": {"kind": "conv", "hidden": [3]}}


def _scenario(
    critic: dict[str, Any] | None = SEES_ALL, network: Any = None, members: int = 1, **keys: Any
) -> Scenario:
    """Agents that act, and one that reads what they send."""
    goal: dict[str, Any] = {"kind": "a2c", "reward": "reward"}
    goal |= {} if critic is None else {"critic": critic}
    agent: dict[str, Any] = {"observes": ["image"], "clock": {"unroll": 2}, "objective": goal, **keys}
    agent["network"] = network or {"kind": "mlp", "hidden": [4]}
    names = tuple(f"a{i}" for i in range(members))
    agents = {name: {**agent, "acts": name} for name in names} | {"b": {"objective": LABEL}}
    channels = [
        {"from": name, "to": "b", "size": 3, "port": "talk", "coupling": "detached"} for name in names
    ]
    return scenario_of(agents, channels, Game(parts=names))


def _net(inputs: int, outputs: int) -> nn.Module:
    return nn.Linear(inputs, outputs)


def _own(simulation: Simulation, name: str = "a0") -> dict[str, Tensor]:
    return dict(simulation._system.agents[name].learner.parameters)


NETWORKS: list[Any] = [
    {"kind": "mlp", "hidden": [4]},
    {"kind": "conv", "hidden": [2]},
    {"kind": "gru", "size": 4},
    _net,
]
ENGINES = pytest.mark.parametrize("backend", ["cohort", "reference"])


def _given(simulation: Simulation) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Copies of the first agent's parameters, and of the present signals."""
    own = {name: p.detach().clone() for name, p in _own(simulation).items()}
    return own, {name: t.clone() for name, t in simulation.world.step_signals.signals.items()}


@ENGINES
@pytest.mark.parametrize("network", NETWORKS)
def test_the_value_is_that_of_the_second_network(backend: str, network: Any) -> None:
    with made(_scenario(SEES_ALL, network), backend) as simulation:
        own, signals = _given(simulation)
        simulation.step()
        value = newest_ports(simulation, "a0")[VALUE]
    seen = torch.cat([nn.functional.one_hot(signals["secret"], 3).double(), signals["x"]], 1)
    hidden = seen @ own["critic.0.weight"].T + own["critic.0.bias"]
    hidden = nn.functional.layer_norm(hidden, (5,)) * own["critic.0.norm.gain"] + own["critic.0.norm.bias"]
    expected = hidden.relu() @ own["critic.value.weight"].T + own["critic.value.bias"]
    torch.testing.assert_close(value, expected)


@ENGINES
def test_a_conv_critic_reads_maps(backend: str) -> None:
    with made(_scenario(MAPS), backend) as simulation:
        own, signals = _given(simulation)
        network = simulation._system.agents["a0"].learner.critic
        simulation.step()
        value = newest_ports(simulation, "a0")[VALUE]
    assert network.input_shape == (1, 6, 6)
    parameters = {n.removeprefix("critic."): p for n, p in own.items() if n.startswith("critic.")}
    torch.testing.assert_close(value, network(parameters, {}, signals["image"], training=True)[0][VALUE])


def _windows(critic: dict[str, Any] | None, network: Any, backend: str = "cohort", **settings: Any) -> Any:
    """Parameters after some windows, by agent; and what was sampled on the way."""
    members = settings.pop("members", 2)
    with made(_scenario(critic, network, members), backend, **settings) as simulation:
        before, _ = _given(simulation)
        for _ in range(7):
            simulation.step()
        return before, {
            f"{name} {key}": value.detach().clone()
            for name, agent in simulation._system.agents.items()
            for key, value in {**agent.learner.parameters, **agent.learner.buffers}.items()
        }


@pytest.mark.parametrize("critic", [SEES_ALL, MAPS])
@pytest.mark.parametrize("network", NETWORKS)
def test_both_engines_learn_the_same(critic: dict[str, Any], network: Any) -> None:
    _, one = _windows(critic, network, "reference")
    before, other = _windows(critic, network)
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)
    learned = [name for name in before if not torch.equal(before[name], other[f"a0 {name}"])]
    assert {"critic.0.weight", "critic.value.weight", "critic.value.bias"} <= set(learned)


@pytest.mark.parametrize("critic", [SEES_ALL, MAPS])
@pytest.mark.parametrize("network", NETWORKS)
def test_stacked_critics_are_those_of_single_agents(critic: dict[str, Any], network: Any) -> None:
    _, one = _windows(critic, network, members=3, stacked=False)
    _, other = _windows(critic, network, members=3)
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


def test_critics_that_see_different_signals_of_one_shape_are_one_stack() -> None:
    scenario = _scenario(members=3)
    sees = {"a0": ("secret", "x"), "a1": ("label", "z"), "a2": ("label", "x")}
    agents = dict(scenario.agents)
    for name, names in sees.items():
        agent = agents[name]
        assert agent.objective is not None
        assert agent.objective.critic is not None
        critic = agent.objective.critic.model_copy(update={"observes": names})
        objective = agent.objective.model_copy(update={"critic": critic})
        agents[name] = agent.model_copy(update={"objective": objective})
    scenario = scenario.model_copy(update={"agents": agents})
    found = []
    for settings in ({"stacked": False}, {}):
        with made(scenario, "cohort", **settings) as simulation:
            for _ in range(7):
                simulation.step()
            backend: Any = simulation.backend
            stacks = [agent.names for agent in backend.system.agents.values()]
            found.append({name: dict(simulation._system.agents[name].learner.parameters) for name in sees})
    assert ("a0", "a1", "a2") in stacks
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("network", NETWORKS[:3])
def test_what_the_agent_does_is_bit_by_bit_that_of_an_agent_without_a_critic(network: Any) -> None:
    found = []
    for critic in (None, SEES_ALL):
        with made(_scenario(critic, network), "cohort", dtype=torch.float32) as simulation:
            own, _ = _given(simulation)
            simulation.step()
            found.append(own | {"output": newest_ports(simulation, "a0")[OBJECTIVE]})
    shared = [name for name in found[0] if name in found[1]]
    assert {"output", "objective.weight"} < set(shared)
    assert all(torch.equal(found[0][name], found[1][name]) for name in shared)


@ENGINES
def test_tied_agents_share_one_critic(backend: str) -> None:
    with made(_scenario(members=2, share="twins"), backend) as simulation:
        before, _ = _given(simulation)
        for _ in range(4):
            simulation.step()
        first, second = (simulation._system.agents[name].learner for name in ("a0", "a1"))
        assert first is second
        assert not torch.equal(before["critic.0.weight"], first.parameters["critic.0.weight"])


@ENGINES
def test_parameters_of_critics_can_be_tied(backend: str) -> None:
    document = plain(_scenario(members=2))
    document["tied"] = [["a0.critic.0.weight", "a1.critic.0.weight"]]
    with made(document, backend) as simulation:
        before = _own(simulation)["critic.0.weight"].detach().clone()
        for _ in range(4):
            simulation.step()
        one, other = (_own(simulation, name)["critic.0.weight"] for name in ("a0", "a1"))
        assert torch.equal(one, other)
        assert not torch.equal(one, before)


def test_tied_agents_need_one_critic() -> None:
    agent = {"observes": ["x"], "share": "twins", "network": {"kind": "mlp", "hidden": [4]}}
    agent["clock"] = {"unroll": 2}
    goal = {"kind": "a2c", "critic": SEES_ALL}
    other = {**goal, "critic": {**SEES_ALL, "observes": ["x"]}}
    agents = {
        "a": {**agent, "objective": goal, "acts": "a"},
        "b": {**agent, "objective": other, "acts": "b"},
    }
    with pytest.raises(ScenarioError, match=r"agents.b.share: tied agents need critics of equal inputs"):
        Simulation(scenario_of(agents, env=Game(parts=("a", "b"))))


@ENGINES
def test_checkpoints_forks_and_open_windows_have_the_critic(backend: str, tmp_path: Path) -> None:
    with made(_scenario(), backend) as simulation:
        for _ in range(3):
            simulation.step()
        value = newest_ports(simulation, "a0")[VALUE].detach()
        with simulation.fork() as fork, made(_scenario(), backend, seed=9) as other:
            other._load_state_dict(simulation._state_dict())
            for each in (fork, other):
                torch.testing.assert_close(newest_ports(each, "a0")[VALUE].detach(), value, rtol=0, atol=0)
            for each in (simulation, fork, other):
                for _ in range(3):
                    each.step()
            for each in (fork, other):
                assert all(torch.equal(p, _own(simulation)[name]) for name, p in _own(each).items())


def test_it_is_not_there_when_the_agent_is_deployed() -> None:
    found = []
    for critic in (None, SEES_ALL):
        with made(_scenario(critic), "cohort") as simulation:
            module = simulation.agents["a0"].module
            assert not any("critic" in name for name in module.state_dict())
            x = torch.linspace(-1, 1, 72, dtype=torch.float64).view(2, 36)
            outputs = simulation.compose(agents=["a0"])(image=x.view(1, 2, 1, 6, 6))
            found.append([module(x)[OBJECTIVE], outputs[0]["a0"]])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_costs_and_memory_count_it() -> None:
    with made(_scenario(None), "cohort") as without, made(_scenario(), "cohort") as simulation:
        critic = sum(p.numel() for n, p in _own(simulation).items() if n.startswith("critic."))
        assert critic == 7 * 5 + 5 + 10 + 6
        head = 4 + 1
        one, other = (memory_of(s._system) for s in (without, simulation))
        assert other.parameters - one.parameters == 8 * (critic - head)
        assert other.activations > one.activations
        costs = [CostModel(s._system).network(s._system.agents["a0"]) for s in (without, simulation)]
        assert costs[1].forward - costs[0].forward == 8 * 2 * (7 * 5 + 5 - 4)


def test_it_is_named_where_the_network_is() -> None:
    words = network_in_words(_scenario().agents["a0"])
    assert words == "mlp 4, critic mlp 5 of secret, x"
    assert network_in_words(_scenario(None).agents["a0"]) == "mlp 4"


@pytest.mark.parametrize(
    ("critic", "line"),
    [
        ({"observes": []}, "agents.a0.objective.critic.observes"),
        ({"network": "mlp"}, "agents.a0.objective.critic.observes: is missing"),
        (
            {"observes": ["secre"]},
            r"agents.a0.objective.critic.observes: no signal 'secre'; did you mean 'secret'",
        ),
        ({"observes": ["age"]}, r"agents.a0.objective.critic.observes: no signal 'age'"),
        (
            {"observes": ["x", "goal"]},
            "agents.a0.objective.critic.observes: 'goal' is known only after the step, and a value is needed at",
        ),
        (
            {"observes": ["label"], "network": {"kind": "conv", "hidden": [2]}},
            r"agents.a0.objective.critic: a conv network needs \[channels, height, width\].*got \[3\]",
        ),
        (
            {"observes": ["label"], "network": {"kind": "lstm"}},
            "agents.a0.objective.critic.network.kind: .* no module of your own; use mlp or conv, not lstm",
        ),
    ],
)
def test_bad_critics_are_refused_in_one_line(critic: dict[str, Any], line: str) -> None:
    with pytest.raises(ScenarioError, match=line) as found:
        Simulation(_scenario(critic))
    assert "\n" not in str(found.value)
