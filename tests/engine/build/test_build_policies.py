"""Agents that act and learn from rewards: what they are built with, and what is refused, in one line each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from antiphon.agents.distributions import Categorical, Gaussian, MultiCategorical
from antiphon.agents.network import OBJECTIVE, VALUE
from antiphon.engine.build.builder import build
from antiphon.engine.core.agent import Agent
from antiphon.errors import ScenarioError
from antiphon.scenarios import Scenario
from tests.engine.acting import ONE, SEVERAL, Stage
from tests.engine.scenes import scenario_of

MLP = {"kind": "mlp", "hidden": [4], "norm": "none"}
CLOCK = {"unroll": 4}
PPO = {"kind": "ppo"}


def actor(objective: Any = None, **keys: Any) -> dict[str, Any]:
    own = {"observes": ["view"], "network": MLP, "clock": CLOCK, "acts": True}
    return {**own, "objective": objective or PPO, **keys}


def built(agents: Any, channels: Any = (), source: Any = None) -> dict[str, Agent]:
    source = source or Stage(ONE)
    scenario = scenario_of(agents, channels, source)
    where = {"device": torch.device("cpu"), "dtype": torch.float32}
    return build(scenario, source.description, seed=0, **where).agents


@pytest.mark.parametrize(
    ("space", "distribution", "outputs"),
    [
        (spaces.Discrete(5, start=2), Categorical(5), 5),
        (spaces.MultiDiscrete([2, 3]), MultiCategorical((2, 3)), 5),
        (spaces.MultiBinary(3), MultiCategorical((2, 2, 2)), 6),
        (spaces.Box(-1, 1, (2, 2)), Gaussian(4), 8),
    ],
)
def test_outputs_are_a_distributions_parameters(space: Any, distribution: Any, outputs: int) -> None:
    agent = built({"m": actor()}, source=Stage(space))["m"]
    assert agent.goal is not None
    assert agent.goal.policy is not None
    assert agent.goal.policy.distribution == distribution
    assert agent.learner.network.heads[OBJECTIVE].size == (outputs,)
    assert agent.learner.network.heads[VALUE].size == (1,)
    assert VALUE not in built({"m": actor({"kind": "reinforce"})})["m"].learner.network.heads


def test_rewards_are_the_agents_own_where_the_world_has_one() -> None:
    agents = {
        "l": actor(acts="left"),
        "r": actor({**PPO, "reward": {"reward.l": 2, "reward": -1}}, acts="right"),
    }
    found = built(agents, source=Stage(SEVERAL, rewards=("l",)))
    goals = {name: agent.goal for name, agent in found.items()}
    assert {name: goal.rewards for name, goal in goals.items() if goal is not None} == {
        "l": (("reward.l", 1.0),),
        "r": (("reward.l", 2.0), ("reward", -1.0)),
    }


def test_a_policy_of_messages_alone_has_no_outputs_of_its_own() -> None:
    agents = {"s": actor(acts=False), "m": actor()}
    word = {"from": "s", "to": "m", "symbols": {"vocabulary": 4, "by": "reinforce"}}
    heads = built(agents, [word])["s"].learner.network.heads
    assert OBJECTIVE not in heads
    assert list(heads) == [VALUE, "to_m"]


GOAL = {"channel": "s->m", "signal": "place"}
COSINE = {**PPO, "reward": {"goal.cosine": 1}, "goal": GOAL}
SENDER = {"observes": ["view"], "network": MLP, "clock": CLOCK}
MESSAGE = {"from": "s", "to": "m", "size": 3}
REFUSED: list[tuple[Any, Any, Any, str]] = [
    (
        {"m": actor(acts=False)},
        (),
        None,
        "agents.m.objective: a policy (ppo) needs something to do; give the agent",
    ),
    (
        {"m": {**actor(), "objective": None}, "n": actor(acts=False)},
        (),
        None,
        "agents.m.acts: the action is the",
    ),
    (
        {"m": actor(clock={"unroll": 1})},
        (),
        None,
        "agents.m.clock.unroll: a policy's window is one tick, which does",
    ),
    (
        {"m": actor(), "n": actor()},
        (),
        None,
        "agents.n.acts: 'm' acts already, and the environment takes the actions",
    ),
    (
        {"m": actor(acts="left"), "n": actor(acts="left")},
        (),
        Stage(SEVERAL),
        "agents.n.acts: 'm' acts already for",
    ),
    (
        {"m": actor(acts="lift")},
        (),
        Stage(SEVERAL),
        "agents.m.acts: the environment's actions have no part 'lift'; did",
    ),
    (
        {"m": actor()},
        (),
        Stage(SEVERAL),
        "agents.m.acts: the environment's actions have parts; name one of left, right",
    ),
    (
        {"m": actor(acts="left")},
        (),
        None,
        "agents.m.acts: 'left' is a part of a Dict of actions, and the environment's",
    ),
    (
        {"s": SENDER, "m": actor()},
        ({**MESSAGE, "coupling": "locked", "feedback": "dfa"},),
        None,
        "channels[0].feedback.kind: agent 'm' is a policy, whose error is that of a whole window; use fa",
    ),
    ({"m": actor()}, (), Stage(spaces.Text(3)), "agents.m.acts: no policy acts in Text"),
    ({"m": actor()}, (), Stage(spaces.Box(0, 9, (2,), np.int64)), "agents.m.acts: no policy acts in Box"),
    (
        {"m": actor({**PPO, "target": "place"})},
        (),
        None,
        "agents.m.objective.target: ppo learns from rewards and has no",
    ),
    (
        {"m": actor({**PPO, "when": "each"})},
        (),
        None,
        "agents.m.objective.when: ppo learns from rewards and has no when",
    ),
    (
        {"m": actor({"kind": "a2c", "clip": 0.1})},
        (),
        None,
        "agents.m.objective: clip is not used by a2c, which has",
    ),
    (
        {"m": actor({"kind": "reinforce", "critic": {"observes": ["view"]}})},
        (),
        None,
        "agents.m.objective.critic: ",
    ),
    (
        {"m": actor({"kind": "regression", "target": "place", "discount": 0.9})},
        (),
        None,
        "agents.m.objective.discount: regression is no policy (a2c, ppo, reinforce) and has no discount; leave it out",
    ),
    (
        {"m": actor({**PPO, "reward": "rewards"})},
        (),
        None,
        "agents.m.objective.reward: no signal 'rewards'; did you mean",
    ),
    (
        {"m": actor({**PPO, "reward": "view"})},
        (),
        None,
        "agents.m.objective.reward: 'view' is no single number at each",
    ),
    ({"m": actor({**PPO, "reward": {}})}, (), None, "agents.m.objective.reward: is empty; leave it out"),
    (
        {"m": actor({**PPO, "reward": {"reward": "x"}})},
        (),
        None,
        "agents.m.objective.reward.reward: must be a number",
    ),
    (
        {"m": actor({**PPO, "minibatches": 9})},
        (),
        None,
        "agents.m.objective.minibatches: 9 minibatches of 8 environment",
    ),
    (
        {"m": actor(network={**MLP, "norm": "batch"})},
        (),
        None,
        "agents.m.network.norm: batch norm has other statistics",
    ),
    (
        {"m": actor({**PPO, "reward": {"goal.cosine": 1}})},
        (),
        None,
        "agents.m.objective.reward: 'goal.cosine' needs a",
    ),
    (
        {"m": actor({**PPO, "goal": GOAL})},
        (),
        None,
        "agents.m.objective.goal: is for the reward 'goal.cosine'; give it",
    ),
    (
        {"m": actor(COSINE)},
        (),
        None,
        "agents.m.objective.goal.channel: no channel 's->m' leads to this agent",
    ),
    (
        {"s": SENDER, "m": actor(COSINE)},
        [MESSAGE],
        None,
        "agents.m.objective.goal.channel: the message has 3 components",
    ),
    (
        {"s": SENDER, "m": actor({**COSINE, "goal": {**GOAL, "signal": "plaice"}})},
        [MESSAGE],
        None,
        "agents.m.objective.goal.signal: no signal 'plaice'; did you mean 'place'?",
    ),
    (
        {"s": SENDER, "m": actor(align=True)},
        [MESSAGE],
        None,
        "agents.m.align: a policy acts on what is there at its",
    ),
    (
        {"l": actor(acts="left"), "m": actor({**PPO, "epochs": 2}, acts="right")},
        [{"from": "l", "to": "m", "size": 3, "coupling": "locked"}],
        Stage(SEVERAL),
        "agents.m.objective.epochs: differs from that of 'l', with which the agent learns as one; make them equal",
    ),
    (
        {"s": SENDER, "m": actor()},
        [{"from": "s", "to": "m", "size": 2, "sample": {"deviation": 0.1}}],
        None,
        "channels[0].sample: are learned by the policy of their sender, and 's' has none; give it an objective of",
    ),
    (
        {"m": actor(acts=1)},
        (),
        None,
        "agents.m.acts: must be true or the name of a part of the action, not 1",
    ),
]


@pytest.mark.parametrize(("agents", "channels", "source", "line"), REFUSED, ids=[r[-1][:60] for r in REFUSED])
def test_refused_in_one_line(agents: Any, channels: Any, source: Any, line: str) -> None:
    with pytest.raises(ScenarioError) as error:
        built(agents, channels, source)
    assert str(error.value).startswith(line)
    assert "\n" not in str(error.value)


def test_streams_have_no_actions() -> None:
    scenario = Scenario.model_validate(
        {
            "scenario": "s",
            "env": {"id": "antiphon/Digits-v0"},
            "agents": {"m": {"observes": ["image"], "acts": True, "clock": CLOCK, "objective": PPO}},
        }
    )
    from antiphon.envs.registry import describe

    with pytest.raises(
        ScenarioError, match=r"agents\.m\.acts: the environment takes no actions; give it a target"
    ):
        build(scenario, describe(scenario.env), seed=0, device=torch.device("cpu"), dtype=torch.float32)


def test_fields_are_written_and_read() -> None:
    critic = {"observes": ["view"], "network": {"kind": "mlp", "hidden": [8]}}
    objective = {"kind": "ppo", "reward": {"reward": 0.05, "goal.cosine": 0.5}, "discount": 0.9, "trace": 0.8}
    objective |= {"entropy": 0.0, "value": 1.0, "clip": 0.1, "epochs": 2, "minibatches": 1, "critic": critic}
    document = {
        "scenario": "s",
        "env": {"id": "antiphon/CartPole-v0"},
        "agents": {"s": SENDER, "m": actor({**objective, "goal": GOAL}, acts="left")},
        "channels": [MESSAGE],
    }
    scenario = Scenario.model_validate(document)
    assert Scenario.from_yaml(scenario.to_yaml()) == scenario
    bare = Scenario.model_validate(
        {**document, "agents": {"m": actor({**PPO, "reward": "reward"})}, "channels": []}
    )
    assert bare.agents["m"].objective == actor_objective({"reward": 1.0})


def actor_objective(reward: dict[str, float]) -> Any:
    agents = {"m": actor({**PPO, "reward": reward})}
    return scenario_of(agents, (), Stage(ONE)).agents["m"].objective
