"""Policies: what a window holds, who has left, what further passes move, and the senders in them (rules 37 to 42)."""

from __future__ import annotations

import sys
from pkgutil import resolve_name
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from pettingzoo import ParallelEnv

from antiphon import Scenario, Simulation
from antiphon.agents.advantages import Trajectory
from antiphon.agents.policy_gradients import PolicyGradient
from tests.contracts.builders import LABEL, Document, document
from tests.contracts.documents import PPO, pairs
from tests.contracts.games import Game
from tests.contracts.twins import differences, facts, made
from tests.kit import seams
from tests.kit.tiers import sampled
from tests.reference.backend import Chosen, reference

MLP: Document = {"kind": "mlp", "hidden": [5], "norm": "none", "activation": "tanh"}
BATCH = 8
BOTH = pytest.mark.parametrize("backend", ["cohort", reference])


@pytest.fixture
def trajectories(monkeypatch: pytest.MonkeyPatch) -> list[Trajectory]:
    """The trajectories of all windows."""
    found: list[Trajectory] = []
    advantages = PolicyGradient.advantages

    def spy(self: PolicyGradient, trajectory: Trajectory, *args: Any, **settings: Any) -> Any:
        found.append(trajectory)
        return advantages(self, trajectory, *args, **settings)

    monkeypatch.setattr(PolicyGradient, "advantages", spy)
    return found


def followed(simulation: Simulation, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, torch.Tensor]]:
    """What each step of a simulation's environment returns: rewards, ends and what else is there."""
    found: list[dict[str, torch.Tensor]] = []
    env = simulation.world.env
    step = env.step

    def noted(actions: Any = None) -> Any:
        seen, reward, terminated, truncated, info = step(actions)
        own = {name: value.clone() for name, value in info.items() if isinstance(value, torch.Tensor)}
        found.append({"reward": reward.clone(), "over": terminated | truncated, **own})
        return seen, reward, terminated, truncated, info

    monkeypatch.setattr(env, "step", noted)
    return found


def actor(objective: Document, **keys: Any) -> Document:
    own = {"observes": ["x"], "acts": True, "network": MLP, "clock": {"unroll": 4}}
    return {**own, "objective": objective, **keys}


def playing(
    backend: Chosen, agents: Document, channels: list[Document] | None = None, **game: Any
) -> Simulation:
    env = Game(**{"share": 0.3, **game})
    optimiser = {"kind": "sgd", "lr": 0.1}
    return made(document(agents, channels or [], env, batch=BATCH, optimiser=optimiser), backend)


@BOTH
@pytest.mark.parametrize("coupling", ["locked", "decoupled"])
def test_the_cosine_of_a_goal(
    coupling: str, backend: Chosen, trajectories: list[Trajectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the message that a tick read and the change of the signal up to the next; none where the episode ends."""
    goal = {"channel": "s->a", "observes": "position"}
    objective = {"kind": "a2c", "reward": {"goal.cosine": 0.5, "reward": 1.0}, "goal": goal}
    agents = {"s": {"observes": ["y"], "network": MLP, "clock": {"unroll": 4}}, "a": actor(objective)}
    channel = {"from": "s", "to": "a", "size": 4, "coupling": coupling}
    with playing(backend, agents, [channel]) as simulation:
        steps, places, sent = followed(simulation, monkeypatch), [], []
        for step in range(4):
            places.append(simulation.signals["position"].clone())
            simulation.step()
            sent.append(simulation.channels["s->a"].messages[step].value.detach())
    (found,) = trajectories
    for t in range(3):
        cosine = torch.cosine_similarity(places[t + 1] - places[t], sent[t])
        expected = steps[t]["reward"] + 0.5 * torch.where(steps[t]["over"], 0.0, cosine)
        torch.testing.assert_close(found.rewards[t], expected)


def test_further_passes_move_the_agents_group_and_nothing_else() -> None:
    """Of the group's members no objective but the policy's is followed."""

    def after(epochs: int) -> dict[str, Any]:
        agents = {
            "a": actor({"kind": "ppo", "epochs": epochs, "minibatches": 3}, observes=["y"]),
            "s": {"observes": ["x"], "network": MLP, "clock": {"unroll": 4}, "objective": LABEL},
            "t": {"observes": ["position"], "network": MLP, "clock": {"unroll": 4}},
        }
        channels = [
            {"from": "s", "to": "a", "size": 3, "coupling": "locked"},
            {"from": "t", "to": "a", "size": 3, "coupling": "decoupled", "gradient": {"kind": "linear"}},
        ]
        simulation = playing("cohort", agents, channels)
        simulation.run(4)
        return facts(simulation)

    one, three = after(1), after(3)
    moved = {line.split(":")[0].removeprefix("/") for line in differences(one, three, tolerance=0.0)}
    assert {"agent a objective.weight", "agent a value.weight", "agent s 0.weight"} <= moved
    assert all(place.startswith(("agent a ", "agent s ")) for place in moved)
    assert not any(place.startswith("agent s objective") for place in moved)
    taken = [three[f"agent {name} updates"] - one[f"agent {name} updates"] for name in "ast"]
    assert taken == [6, 6, 0]


SPEAKING: dict[str, tuple[Document, Document, int | None]] = {
    "decoupled": ({}, {}, 1),
    "detached": ({"coupling": "detached"}, {}, 1),
    "locked": ({"coupling": "locked"}, {}, None),
    "an action": ({"sample": {"kind": "gaussian", "noise": 0.4}}, {}, None),
    "beside one that is replayed": (
        {"coupling": "detached"},
        {"gradient": {"kind": "linear", "context": ["y"], "gate": "none", "passes": "all"}},
        1,
    ),
}
"""By name: keys of a channel, keys of a second one from its sender, which has a policy without that; and the steps that the head of the
first takes in a window with four further steps, if all of them are known: with a gradient of zeros it decays."""


@pytest.mark.cases(2)
@BOTH
@pytest.mark.parametrize("name", SPEAKING)
def test_the_head_of_a_message_is_at_rest_in_further_passes_that_do_not_credit_it(
    name: str, backend: Chosen
) -> None:
    channel, replayed, steps = SPEAKING[name]
    agents = {"a": actor(PPO, acts="part-a", observes=["y"]), "b": actor(PPO, acts="part-b")}
    channels = [{"from": "a", "to": "b", "key": "said", "size": 2, **channel}]
    if replayed:
        del agents["a"]["acts"], agents["a"]["objective"]
        channels.append({"from": "a", "to": "b", "size": 2, **replayed})
    env, optimiser = Game("choice", ("part-a", "part-b")), {"kind": "sgd", "lr": 0.5, "weight_decay": 0.2}
    if replayed:
        env, agents["b"]["acts"] = Game(), True
    scenario = document(agents, channels, env, batch=BATCH, optimiser=optimiser)
    with made(scenario, backend) as simulation:
        head = simulation.agents["a"].parameters["to_b_said.weight"]
        before = head.detach().clone()
        simulation.run(4)
        assert simulation.agents["a"].updates == 5
        decayed = [0.9**n * before for n in range(1, 6)]
        taken = [n for n, one in enumerate(decayed, 1) if torch.allclose(head, one, rtol=1e-12)]
        assert taken == ([] if steps is None else [steps])


LOCKED: dict[str, tuple[Document, Document]] = {
    "plain": ({}, {}),
    "delayed": ({"link": {"delay": 1}}, {}),
    "delayed longer than the window": ({"link": {"delay": 5}}, {}),
    "noisy, in bits, delayed": ({"link": {"delay": 2, "noise": 0.1, "bits": 4}}, {}),
    "symbols": ({"size": None, "sample": {"kind": "gumbel", "vocabulary": 3, "size": 2}}, {}),
    "latents, delayed": ({"sample": "latent", "link": {"delay": 1}}, {}),
    "ages": ({"link": {"delay": 1}}, {"actor": {"observes": ["x", "age"]}}),
    "a slower actor": ({"sample": "latent"}, {"actor": {"clock": {"period": 2, "unroll": 2}}}),
    "a slower sender": ({}, {"sender": {"clock": {"period": 2, "unroll": 2}}}),
}
"""By name: keys of the channels of locked pairs, and of their agents."""


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", sampled(LOCKED, 2, "nightly"))
def test_further_passes_evaluate_each_locked_agent_once_and_not_tick_by_tick(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel, ends = LOCKED[name]
    count = [0]
    evaluate = resolve_name(seams.EVALUATE_AGENT)

    def counted(self: Any, *args: Any, **settings: Any) -> Any:
        count[0] += 1
        return evaluate(self, *args, **settings)

    monkeypatch.setattr(seams.EVALUATE_AGENT, counted)

    def run(epochs: int) -> tuple[dict[str, Any], int]:
        count[0] = 0
        simulation = made(pairs({**PPO, "epochs": epochs}, coupling="locked", **channel, **ends), "cohort")
        simulation.run(4)
        of_a_window = count[0]
        simulation.run(12)
        return facts(simulation), of_a_window

    once, first_pass = run(1)
    at_once, in_all = run(3)
    assert in_all - first_pass == 2 * 2 * 2  # further epochs, minibatches, stacks
    monkeypatch.setattr(f"{seams.REPLAY_ROWS}.mixes_rows", staticmethod(lambda agents: True))
    by_tick, much_more = run(3)
    assert much_more > in_all
    assert not list(differences(at_once, by_tick, tolerance=1e-12))
    assert (
        any("sa0" in line for line in differences(once, at_once)) or name == "delayed longer than the window"
    )


# --- lives -----------------------------------------------------------------------------------------------


STEPS, LEAVES = 8, 3


class Pair(ParallelEnv[str, Any, Any]):
    """Agents a and b, of which the second leaves after `LEAVES` steps; the world ends after `STEPS`. All see the step."""

    metadata = {"name": "pair"}  # noqa: RUF012
    possible_agents = ["a", "b"]  # noqa: RUF012

    def __init__(self, leaves: str = "terminated", ends: str = "terminated") -> None:
        self.kinds = {LEAVES: leaves, STEPS: ends}

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        return spaces.Box(-99, 99, (1,), np.float32)

    def action_space(self, agent: str) -> spaces.Space[Any]:
        return spaces.Discrete(2)

    def _seen(self, agents: list[str]) -> dict[str, Any]:
        return {agent: np.array([self.steps + 1], np.float32) for agent in agents}

    def reset(self, seed: Any = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        self.steps, self.agents = 0, ["a", "b"]
        return self._seen(self.agents), {}

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        self.steps += 1
        acted, kind = self.agents, self.kinds.get(self.steps, "")
        self.agents = [agent for agent in acted if not kind or (agent == "a" and self.steps < STEPS)]
        over = [agent for agent in acted if agent not in self.agents]
        ends = (
            {agent: agent in over and kind in (own, "both") for agent in acted}
            for own in ("terminated", "truncated")
        )
        rewards = {agent: float(self.steps) if agent == "a" else 0.5 for agent in acted}
        return self._seen(acted), rewards, *ends, {agent: {} for agent in acted}

    def close(self) -> None:
        pass


@pytest.fixture
def lives(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Trajectory, Any]]:
    """The trajectories of all windows, and the values of their ticks."""
    found: list[tuple[Trajectory, Any]] = []
    advantages = PolicyGradient.advantages

    def spy(self: PolicyGradient, trajectory: Trajectory, values: Any, **settings: Any) -> Any:
        found.append((trajectory, values))
        return advantages(self, trajectory, values, **settings)

    monkeypatch.setattr(PolicyGradient, "advantages", spy)
    return found


def living(monkeypatch: pytest.MonkeyPatch, acts: str, reward: Any, **world: Any) -> Simulation:
    module = type(sys)("pair_of_a_test")
    module.parallel_env = Pair  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pair_of_a_test", module)
    agent = {"observes": [f"{acts}.observation"], "acts": acts, "clock": {"unroll": STEPS + 1}}
    document = {
        "scenario": "pair",
        "env": {"id": "pettingzoo/pair_of_a_test", **world},
        "agents": {"p": {**agent, "objective": {"kind": "a2c", "reward": reward}}},
        "training": {"batch": 2},
    }
    return Simulation(Scenario.model_validate(document))


@pytest.mark.parametrize("ends", ["terminated", "truncated", "both"])
def test_the_last_agent_is_terminated_where_it_is_truncated_too(
    ends: str, lives: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And with it the episode of the environment."""
    with living(monkeypatch, "a", "reward", ends=ends) as simulation:
        step, over = simulation.world.env.step, list[tuple[bool, bool]]()

        def noted(actions: Any = None) -> Any:
            found = step(actions)
            over.append((bool(found[2].all()), bool(found[3].all())))
            return found

        monkeypatch.setattr(simulation.world.env, "step", noted)
        simulation.run(STEPS + 1)
    ((found, _),) = lives
    assert bool(found.terminated[STEPS - 1].all()) is (ends != "truncated")
    assert bool(found.bootstrapped[STEPS - 1].all()) is (ends == "truncated")
    assert over[STEPS - 1] == (ends != "truncated", ends == "truncated")


# --- senders in further passes ---------------------------------------------------------------------------


WINDOWS = 3


def team(gradient: Document) -> Scenario:
    """A sensor that sends what it observes of a pole to a motor, which learns in three passes."""
    shared = {"network": {"hidden": [8]}, "clock": {"unroll": 4}}
    given = {
        "kind": "linear",
        "context": ["observation"],
        "gate": "none",
        "passes": "all",
        **gradient,
    }
    own = {key: value for key, value in given.items() if value is not None}
    return Scenario.model_validate(
        {
            "scenario": "team",
            "env": {"id": "antiphon/CartPole-v0"},
            "agents": {
                "sensor": {"observes": ["observation"], **shared},
                "motor": {
                    **shared,
                    "acts": True,
                    "objective": {"kind": "ppo", "epochs": 3, "minibatches": 2},
                },
            },
            "channels": [{"from": "sensor", "to": "motor", "size": 2, "gradient": own}],
            "training": {"batch": 8, "steps": 4 * WINDOWS},
        }
    )


@pytest.mark.cases(2)
@pytest.mark.parametrize(
    ("gradient", "steps"),
    [
        ({}, 5),
        ({"gate": "auto"}, 5),
        ({"passes": "first"}, 1),
        ({"passes": None}, 1),
        ({"passes": "first", "gate": "auto"}, 0),
        ({"scale": 0, "discount": 0}, 0),
    ],
)
def test_a_sender_takes_a_step_in_each_minibatch_of_its_receiver(gradient: Document, steps: int) -> None:
    with Simulation(team(gradient), seed=1) as simulation:
        simulation.run()
        taken = {name: simulation.agents[name].updates for name in ("sensor", "motor")}
        assert taken == {"sensor": steps * WINDOWS, "motor": 5 * WINDOWS}


@pytest.mark.parametrize(("period", "own"), [(1, 2), (1, 3)])
def test_further_passes_read_as_many_messages_at_each_tick_as_the_first_pass(period: int, own: int) -> None:
    def after(backend: Any) -> dict[str, Any]:
        agents = {
            "a": actor(
                {"kind": "ppo", "epochs": 2, "minibatches": 1}, clock={"period": own, "unroll": 6 // own}
            ),
            "s": {"observes": ["x"], "network": MLP, "clock": {"period": period, "unroll": 6 // period}},
        }
        channels = [{"from": "s", "to": "a", "size": 3, "coupling": "locked", "read": "concat"}]
        simulation = playing(backend, agents, channels)
        simulation.run(13)
        return facts(simulation)

    assert not [*differences(after("cohort"), after(reference), tolerance=1e-12)]
