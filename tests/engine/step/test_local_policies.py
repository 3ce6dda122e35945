"""`gradient: local_policy`: a policy of the sender's own on its message, trained by what the receiver did and got."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon.agents.policies import Advantages, PolicyObjective, Trajectory
from antiphon.engine.simulation import Simulation
from antiphon.errors import ScenarioError
from antiphon.scenarios import Scenario
from tests.contracts.twins import agree, made, twins
from tests.engine.games import Game
from tests.engine.scenes import scenario_of

ENGINES = pytest.mark.parametrize("backend", ["cohort", "reference"])
POLICY: dict[str, Any] = {"kind": "local_policy"}


def _scenario(
    *,
    gradient: dict[str, Any] = POLICY,
    goal: dict[str, Any] | None = None,
    sender: dict[str, Any] | None = None,
    receiver: dict[str, Any] | None = None,
    channel: dict[str, Any] | None = None,
    pairs: int = 1,
    env: Any = None,
    **training: Any,
) -> Scenario:
    """Pairs of one that sees and one that acts."""
    network = {"kind": "mlp", "hidden": [4], "norm": "none"}
    names = tuple(f"arm{i}" for i in range(pairs))
    agents: dict[str, Any] = {}
    channels = []
    for i, name in enumerate(names):
        agents[f"eye{i}"] = {"observes": ["x"], "network": network, "clock": {"unroll": 4}, **(sender or {})}
        agents[name] = {
            "observes": ["y"],
            "network": network,
            "clock": {"unroll": 4},
            "acts": name,
            "objective": {"kind": "a2c", **(goal or {})},
            **(receiver or {}),
        }
        own = {"from": f"eye{i}", "to": name, "size": 3, "gradient": gradient, **(channel or {})}
        channels.append(own)
    settings = {"batch": 6, "optimiser": {"kind": "adam", "lr": 0.01}, **training}
    return scenario_of(agents, channels, env or Game(parts=names), **settings)


def _run(scenario: Scenario, backend: str = "cohort", steps: int = 21, **settings: Any) -> dict[str, Tensor]:
    with made(scenario, backend, **settings) as simulation:
        for _ in range(steps):
            simulation.step()
        system = simulation._system
        found = {f"{n} {k}": p for n, a in system.agents.items() for k, p in a.learner.parameters.items()}
        for name, channel in system.channels.items():
            if channel.predictor is not None:
                found |= {f"{name} {k}": p for k, p in channel.predictor.parameters.items()}
        return {name: value.detach().clone() for name, value in found.items()}


CASES: dict[str, dict[str, Any]] = {
    "linear": {},
    "hidden": {"gradient": {**POLICY, "hidden": [5], "norm": "layer", "residual": True}},
    "batch norm": {"gradient": {**POLICY, "hidden": [5]}, "optimiser": {"kind": "sgd", "lr": 0.1}},
    "context": {"gradient": {**POLICY, "context": ["label"], "normalise": "layer"}},
    "clipped, scaled": {"gradient": {**POLICY, "clip": 0.5, "scale": 2.0}},
    "ppo": {"goal": {"kind": "ppo", "epochs": 3, "minibatches": 2}},
    "reinforce": {"goal": {"kind": "reinforce"}},
    "gaussian": {"env": Game(parts=("arm0",), discrete=False)},
    "a weight": {"goal": {"weight": 2.5}},
    "p_update": {"receiver": {"p_update": 0.5}, "sender": {"p_update": 0.7}},
    "a slower receiver": {
        "receiver": {"clock": {"period": 2, "phase": -1, "unroll": 2}},
        "channel": {"read": "mean"},
    },
    "noise": {"channel": {"link": {"noise": 0.1}}},
    "not applied": {"gradient": {**POLICY, "apply": False}},
    "recurrent": {
        "sender": {"network": {"kind": "gru", "size": 4}},
        "receiver": {"network": {"kind": "lstm", "size": 3}},
    },
    "ends at every step": {"env": Game(parts=("arm0",), share=0.9)},
}


@pytest.mark.parametrize("name", CASES)
def test_both_engines_do_the_same(name: str) -> None:
    with twins(_scenario(**CASES[name]))[0] as one, twins(_scenario(**CASES[name]))[1] as other:
        for _ in range(21):
            one.step()
            other.step()
        agree(one, other)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if "env" not in case])
def test_stacked_pairs_are_pairs_one_by_one(name: str) -> None:
    scenario = _scenario(pairs=3, **CASES[name])
    one, other = _run(scenario, stacked=False), _run(scenario)
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@ENGINES
def test_the_sender_follows_the_policy_gradient_of_its_own_head(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One window by hand: loss and slope of -A log p(a | m), scaled as the receiver's own loss is."""
    windows: list[tuple[Trajectory, Advantages]] = []
    usual = PolicyObjective.advantages

    def noted(self: PolicyObjective, trajectory: Trajectory, *rest: Any, **more: Any) -> Advantages:
        windows.append((trajectory, usual(self, trajectory, *rest, **more)))
        return windows[-1][1]

    monkeypatch.setattr(PolicyObjective, "advantages", noted)
    plain = {"kind": "sgd", "lr": 1.0}
    scenario = _scenario(env=Game(parts=("arm0",), share=0.1), optimiser=plain, predictor=plain)
    with made(scenario, backend) as simulation:
        channel = simulation._system.channels["eye0->arm0"]
        assert channel.predictor is not None
        weight = channel.predictor.parameters["last.weight"]
        with torch.no_grad():  # an untrained head has no slope
            weight.copy_(torch.linspace(-1, 1, weight.numel(), dtype=weight.dtype).view_as(weight))
        eye, head = simulation._system.agents["eye0"].learner, channel.predictor
        mine = {n: p.detach().clone().requires_grad_() for n, p in eye.parameters.items()}
        own = {n: p.detach().clone().requires_grad_() for n, p in head.parameters.items()}
        seen = []
        for _ in range(4):
            seen.append(simulation.world.step_signals.signals["x"].clone())
            simulation.step()
        after = {**simulation._system.agents["eye0"].learner.parameters, **channel.predictor.parameters}
    ((trajectory, advantages),) = windows
    assert trajectory.actions is not None
    loss = torch.zeros((), dtype=torch.float64)
    for x, action, advantage in zip(seen, trajectory.actions, advantages.advantages, strict=True):
        message = eye.network(mine, {}, x, training=True)[0]["to_arm0"]
        logits = message @ own["last.weight"].T + own["last.bias"]
        chosen = logits.log_softmax(1).gather(1, action.view(-1, 1)).squeeze(1)
        loss = loss - (advantage * chosen).sum() / advantages.valid.sum()
    assert loss.abs() > 0.01
    before = {**mine, **own}
    for (name, old), gradient in zip(
        before.items(), torch.autograd.grad(loss, list(before.values())), strict=True
    ):
        torch.testing.assert_close(after[name].detach(), old.detach() - gradient, rtol=1e-7, atol=1e-9)


def test_nothing_of_the_receivers_network_reaches_the_sender() -> None:
    """Of two receivers that do the same, whatever their networks are, the sender learns the same."""
    found = []
    for frozen in (False, True):
        scenario = _scenario(receiver={"learn": not frozen, "optimiser": {"kind": "sgd", "lr": 1e-12}})
        found.append({n: p for n, p in _run(scenario).items() if n.startswith("eye")})
    torch.testing.assert_close(found[0], found[1], rtol=1e-6, atol=1e-8)


@ENGINES
def test_untrained_it_injects_nothing(backend: str) -> None:
    with made(_scenario(optimiser={"kind": "sgd", "lr": 1.0}), backend) as simulation:
        before = {
            n: p.detach().clone() for n, p in simulation._system.agents["eye0"].learner.parameters.items()
        }
        for _ in range(4):
            simulation.step()
        after = simulation._system.agents["eye0"].learner.parameters
        assert all(torch.equal(p, after[name]) for name, p in before.items())
        channel = simulation._system.channels["eye0->arm0"]
        assert channel.predictor is not None
        assert channel.predictor.parameters["last.weight"].any()


@ENGINES
@pytest.mark.parametrize("after", [3, 4, 6])
def test_it_goes_on_from_a_checkpoint_bit_by_bit(backend: str, after: int) -> None:
    with made(_scenario(), backend) as simulation, made(_scenario(), backend, seed=8) as other:
        for _ in range(after):
            simulation.step()
        other._load_state_dict(simulation._state_dict())
        for _ in range(6):
            simulation.step()
            other.step()
        for name, agent in simulation._system.agents.items():
            same = other._system.agents[name].learner.parameters
            assert all(torch.equal(p, same[key]) for key, p in agent.learner.parameters.items())


def test_the_sender_learns_to_tell_what_only_it_sees() -> None:
    """The action that is rewarded is named by what the sender sees; without its message chance is a third."""
    shared = {
        "batch": 64,
        "optimiser": {"kind": "adam", "lr": 0.01},
        "predictor": {"kind": "adam", "lr": 0.01},
    }
    rewards = []
    for keys in ({"gradient": POLICY}, {"channel": {"coupling": "detached"}}):
        scenario = _scenario(goal={"entropy": 0.0}, receiver={"observes": []}, **keys, **shared)
        total = 0.0
        with made(scenario, "cohort", dtype=torch.float32) as simulation:
            for step in range(280):
                before = simulation.world.step_signals
                simulation.step()
                if step >= 240:
                    total += float(before.signals["reward"].mean()) / 40
        rewards.append(total)
    assert rewards[0] > rewards[1] + 0.1, rewards


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no policy": (
        {"receiver": {"objective": {"kind": "regression", "target": "goal"}}},
        "channels[0].gradient.kind: local_policy follows the actions of the receiver, and 'arm0' has no policy that acts",
    ),
    "a delay": (
        {"channel": {"link": {"delay": 1}}},
        (
            "channels[0].gradient.kind: local_policy needs what the receiver returns at the same step, but the link has a "
            "delay of 1; make it 0, or use another kind"
        ),
    ),
    "other windows": (
        {"sender": {"clock": {"unroll": 2}}},
        "'eye0' and 'arm0' learn at different steps; give them one clock, or use another kind",
    ),
    "a message that is read in the next window": (
        {"sender": {"clock": {"period": 2, "phase": -1, "unroll": 2}}},
        (
            "channels[eye0->arm0].gradient.kind: local_policy needs what 'arm0' did with a message when 'eye0' learns from it, "
            "and the message of step 3 is read until step 7; change the clocks, or use another kind"
        ),
    ),
    "a trace": ({"gradient": {**POLICY, "trace": 0.5}}, "a local_policy gradient takes nothing from it"),
    "propagated": (
        {"gradient": {**POLICY, "propagate": 0.5}},
        "gradient.propagate: the loss of a gradient of kind",
    ),
    "sites": (
        {"gradient": {**POLICY, "sites": True}, "channel": {"size": [2, 3]}},
        "gradient.sites: a policy reads",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_cannot_be_used_for_is_refused_in_one_line(name: str) -> None:
    keys, line = REFUSED[name]
    with pytest.raises(ScenarioError) as found:
        Simulation(_scenario(**keys))
    assert line in str(found.value)
    assert "\n" not in str(found.value)


def test_a_state_has_none() -> None:
    network = {"kind": "gru", "size": 3}
    channel = {"from": "arm", "to": "arm", "carries": "state", "gradient": POLICY}
    agent = {"observes": ["x"], "network": network, "acts": True, "objective": {"kind": "a2c"}}
    with pytest.raises(ScenarioError, match="kind: local_policy is of message channels only; use another"):
        scenario_of({"arm": {**agent, "clock": {"unroll": 4}}}, [channel], Game())


@ENGINES
def test_the_reported_norm_is_of_the_newest_message_that_teaches(backend: str) -> None:
    """The last tick of a window teaches nothing unless its episode ends, so that nothing is injected there."""
    with made(_scenario(env=Game(parts=("arm0",), share=0.0)), backend) as simulation:
        for _ in range(12):
            simulation.step()
        assert simulation.channels["eye0->arm0"].figures()["injection_norm"] > 0
