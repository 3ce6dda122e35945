"""Critics of their own: a second network of the same learner, on which nothing rests but the value."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from antiphon.agents import OBJECTIVE, VALUE
from antiphon.engine.planning.cost_model import CostModel
from antiphon.engine.planning.memory_estimate import memory_of
from antiphon.engine.simulation import Simulation
from antiphon.errors import ScenarioError
from antiphon.scenarios import Scenario
from tests.contracts.backend_twins import made
from tests.engine.scenes import CLASSIFY, scenario_of

SEES_ALL: dict[str, Any] = {"observes": ["label", "image"], "network": {"kind": "mlp", "hidden": [5]}}
MAPS: dict[str, Any] = {"observes": ["image"], "network": {"kind": "conv", "hidden": [3], "norm": "batch"}}


def _scenario(
    critic: dict[str, Any] | None = SEES_ALL, network: Any = None, members: int = 1, **keys: Any
) -> Scenario:
    goal = CLASSIFY if critic is None else {**CLASSIFY, "critic": critic}
    agent: dict[str, Any] = {"observes": ["image"], "objective": goal, "clock": {"unroll": 2}, **keys}
    agent["network"] = network or {"kind": "mlp", "hidden": [4]}
    agents = {f"a{i}": agent for i in range(members)} | {"b": {"objective": CLASSIFY}}
    channels = [
        {"from": f"a{i}", "to": "b", "size": 3, "port": "talk", "coupling": "detached"}
        for i in range(members)
    ]
    return scenario_of(agents, channels)


def _net(inputs: int, outputs: int) -> nn.Module:
    return nn.Linear(inputs, outputs)


def _ports(simulation: Simulation) -> dict[str, Tensor]:
    """What the first agent computed at the newest tick of its open window."""
    backend: Any = simulation.backend
    if backend.name == "reference":
        return dict(backend.engine.state.group_of["a0"].tape.evaluations[-1][1][0].ports)
    stack, _ = backend.stacked.place["a0"]
    return dict(backend.system.group_of[stack].tape.ticks[-1].parts[0].ports)


def _own(simulation: Simulation, name: str = "a0") -> dict[str, Tensor]:
    return dict(simulation.system.agents[name].learner.parameters)


NETWORKS = [
    {"kind": "mlp", "hidden": [4]},
    {"kind": "conv", "hidden": [2]},
    {"kind": "gru", "size": 4},
    _net,
]


@pytest.mark.parametrize("critic", [SEES_ALL, MAPS])
@pytest.mark.parametrize("network", NETWORKS)
def test_the_value_is_that_of_the_second_network_by_either_engine(
    critic: dict[str, Any], network: Any
) -> None:
    found = []
    for backend in ("reference", "cohort"):
        with made(_scenario(critic, network), backend) as simulation:
            given = {n: p.clone() for n, p in _own(simulation).items() if n.startswith("critic.")}
            signals = {n: t.clone() for n, t in simulation.world.step_signals.signals.items()}
            simulation.step()
            found.append(_ports(simulation)[VALUE])
            assert found[-1].shape == (8, 1)
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-12)
    if critic is SEES_ALL:
        image = signals["image"].flatten(1).double()
        hidden = torch.cat([nn.functional.one_hot(signals["label"], 10).double(), image], 1)
        hidden = hidden @ given["critic.0.weight"].T + given["critic.0.bias"]
        gain, bias = given["critic.0.norm.gain"], given["critic.0.norm.bias"]
        hidden = nn.functional.batch_norm(hidden, None, None, gain, bias, training=True).relu()
        value = hidden @ given["critic.value.weight"].T + given["critic.value.bias"]
        torch.testing.assert_close(found[0], value)


@pytest.mark.parametrize("network", NETWORKS)
def test_what_the_agent_does_is_bit_by_bit_that_of_an_agent_without_a_critic(network: Any) -> None:
    found = []
    for critic in (None, SEES_ALL):
        with made(_scenario(critic, network), "cohort", dtype=torch.float32) as simulation:
            for _ in range(5):
                simulation.step()
            own = {n: p for n, p in _own(simulation).items() if not n.startswith("critic.")}
            found.append({**own, "output": _ports(simulation)[OBJECTIVE]})
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


@pytest.mark.parametrize("critic", [SEES_ALL, MAPS])
@pytest.mark.parametrize("network", NETWORKS[:3])
def test_stacked_critics_are_those_of_single_agents(critic: dict[str, Any], network: Any) -> None:
    found = []
    for settings in ({"stacked": False}, {}):
        with made(_scenario(critic, network, 3), "cohort", **settings) as simulation:
            for _ in range(3):
                simulation.step()
            found.append(_ports(simulation)[VALUE])
            statistics = simulation.system.agents["a1"].learner.buffers
            found.append(statistics["critic.0.norm.mean"])
    assert found[2].shape == (24, 1)
    torch.testing.assert_close(found[0], found[2][:8])
    torch.testing.assert_close(found[1], found[3])


def test_tied_agents_share_one_critic() -> None:
    scenario = _scenario(members=2, share="twins")
    found = []
    for backend in ("reference", "cohort"):
        with made(scenario, backend) as simulation:
            simulation.step()
            first, second = (simulation.system.agents[name].learner for name in ("a0", "a1"))
            assert first is second
            found.append(_ports(simulation)[VALUE])
    torch.testing.assert_close(*found)
    assert found[0].shape == (8, 1)


def test_tied_agents_need_one_critic() -> None:
    agent = {"observes": ["image"], "share": "twins", "network": {"kind": "mlp", "hidden": [4]}}
    agents = {
        "a": {**agent, "objective": {**CLASSIFY, "critic": SEES_ALL}},
        "b": {**agent, "objective": CLASSIFY},
    }
    with pytest.raises(ScenarioError, match=r"agents.b.share: tied agents need critics of equal inputs"):
        Simulation(scenario_of(agents))


def test_checkpoints_open_windows_and_forks_have_the_critic(tmp_path: Any) -> None:
    with made(_scenario(), "cohort") as simulation:
        simulation.step()
        fork = simulation.fork()
        before = _ports(simulation)[VALUE]
        torch.testing.assert_close(_ports(fork)[VALUE], before)
        state = simulation.state_dict()
    with made(_scenario(), "reference", seed=9) as other:
        other.load_state_dict(state)
        torch.testing.assert_close(_ports(other)[VALUE], before)


def test_it_is_not_there_when_the_agent_is_deployed(tmp_path: Any) -> None:
    found = []
    for critic in (None, SEES_ALL):
        with made(_scenario(critic, clock={"unroll": 1}), "cohort") as simulation:
            simulation.step()
            module = simulation.agents["a0"].module
            assert not any("critic" in name for name in module.state_dict())
            x = torch.linspace(-1, 1, 128, dtype=torch.float64).view(2, 64)
            found.append([simulation.evaluate(), module(x)[OBJECTIVE], simulation.compose()])
            assert simulation.evaluate(links="as_run") is not None
    assert found[0][0] == found[1][0]
    assert torch.equal(found[0][1], found[1][1])
    example = torch.linspace(-1, 1, 128, dtype=torch.float64).view(2, 1, 8, 8)
    torch.testing.assert_close(found[0][2](image=example), found[1][2](image=example), rtol=0, atol=0)


def test_costs_and_memory_count_it() -> None:
    with made(_scenario(None), "cohort") as without, made(_scenario(), "cohort") as simulation:
        critic = sum(p.numel() for n, p in _own(simulation).items() if n.startswith("critic."))
        assert critic == 74 * 5 + 5 + 10 + 6
        one, other = (memory_of(s.system).parameters for s in (without, simulation))
        assert other - one == 8 * (critic + 10)  # and its norm's running statistics
        assert memory_of(simulation.system).activations > memory_of(without.system).activations
        costs = [CostModel(s.system).network(s.system.agents["a0"]) for s in (without, simulation)]
        assert costs[1].forward - costs[0].forward == 8 * 2 * (74 * 5 + 5)


@pytest.mark.parametrize(
    ("critic", "line"),
    [
        ({"observes": []}, "agents.a0.objective.critic.observes"),
        ({"network": "mlp"}, "agents.a0.objective.critic.observes: is missing"),
        (
            {"observes": ["labels"]},
            r"agents.a0.objective.critic.observes: no signal 'labels'; did you mean 'label'",
        ),
        ({"observes": ["age"]}, r"agents.a0.objective.critic.observes: no signal 'age'"),
        (
            {"observes": ["label"], "network": {"kind": "conv", "hidden": [2]}},
            r"agents.a0.objective.critic: a conv network needs \[channels, height, width\].*got \[10\]",
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
