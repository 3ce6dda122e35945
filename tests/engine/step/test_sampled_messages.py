"""Messages that are sampled and learned by their sender's policy: symbols by `reinforce`, and Gaussian ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from gymnasium.spaces import Discrete
from torch import Tensor
from torch.distributions import Categorical, Independent, Normal

from antiphon.agents.network import OBJECTIVE, VALUE
from antiphon.engine.core.records import StepSignals
from antiphon.engine.inference.links import Links
from antiphon.engine.inference.rollout import Rollout
from antiphon.engine.runs.seeds import Seeds
from antiphon.engine.simulation import Simulation
from antiphon.envs.base import StepResult, TorchVectorEnv
from antiphon.envs.signal import Description, Signal
from antiphon.errors import ScenarioError
from antiphon.nets.random import integers
from antiphon.scenarios import Scenario
from tests.contracts.builders import Document
from tests.contracts.games import Game
from tests.contracts.twins import hold
from tests.engine.numbers import assert_same_state, kept

WORDS: Document = {"symbols": {"vocabulary": 3, "length": 2, "by": "reinforce"}}
GOAL: Document = {"size": 2, "norm": "none", "sample": {"deviation": 0.4}}
BACKENDS = ["cohort", "reference"]


@dataclass(frozen=True)
class Naming:
    """One of some things is shown, and the reward is 1 for the action of its number: games of one step."""

    things: int = 3

    @property
    def description(self) -> Description:
        return Description(
            signals={"thing": Signal(shape=(self.things,)), "nothing": Signal(shape=(1,))},
            example_counts={},
            longest_episode=1,
            action_space=Discrete(self.things),
        )

    def make(self, *, batch: int, **where: Any) -> TorchVectorEnv:
        """Return so many games."""
        where.pop("split", None)
        return _Naming(self, batch, **where)


class _Naming(TorchVectorEnv):
    def __init__(self, source: Naming, batch: int, **where: Any) -> None:
        super().__init__(batch, source.description, source.description.action_space, **where)
        self._things, self._step, self._seed = source.things, 0, 0

    @property
    def episode_length(self) -> int | None:
        return 1

    def _thing(self) -> Tensor:
        return integers(self._seed, self._step, self.num_envs, self._things)

    def _shown(self) -> dict[str, Tensor]:
        thing = torch.nn.functional.one_hot(self._thing(), self._things).to(self.dtype)
        return {"thing": thing, "nothing": torch.zeros(self.num_envs, 1, dtype=self.dtype)}

    def reset(self, *, seed: Any = None, **_: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
        self._step, self._seed = 0, int(seed or 0)
        return self._shown(), {}

    def step(self, actions: Any = None) -> StepResult:
        reward = (actions == self._thing()).to(self.dtype)
        self._step += 1
        ended = torch.ones(self.num_envs, dtype=torch.bool)
        return self._shown(), reward, ended, ~ended, {}

    def state_dict(self) -> dict[str, Any]:
        return {"step": self._step, "seed": self._seed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._step, self._seed = state["step"], state["seed"]


def scene(channel: Document, env: Any = None, kind: str = "ppo", **sender: Any) -> Scenario:
    """A sender whose policy is over its messages, and an actor."""
    network = {"kind": "mlp", "hidden": [8], "norm": "none"}
    own = {"network": network, "clock": {"unroll": 3}, "objective": {"kind": kind}}
    acts: Any = True if not isinstance(env, Game) or not env.parts else "other"
    document = {
        "scenario": "sampled",
        "env": env or Game(space="numbers", share=0.2),
        "agents": {"s": {**own, "observes": ["x"], **sender}, "a": {**own, "observes": ["y"], "acts": acts}},
        "channels": [{"from": "s", "to": "a", **channel}],
        "training": {"batch": 8, "steps": 40},
    }
    return Scenario.model_validate(document)


def by_hand(x: Tensor, p: dict[str, Tensor], port: str) -> Tensor:
    """An output of a network of one hidden layer."""
    hidden = torch.relu(x @ p["0.weight"].T + p["0.bias"])
    return hidden @ p[f"{port}.weight"].T + p[f"{port}.bias"]


@pytest.mark.parametrize("channel", [WORDS, GOAL, {**GOAL, "norm": "unit"}])
@pytest.mark.parametrize("acts", [False, True])
def test_log_probability_and_entropy_are_those_of_the_messages_and_actions(
    channel: Document, acts: bool
) -> None:
    game = Game(space="choice", parts=("one", "other"), share=0.2)
    sender = {"acts": "one"} if acts else {}
    scenario = scene(channel, game, "a2c", **sender)
    simulation = Simulation(scenario, seed=2, dtype=torch.float64)
    before = {n: p.detach().clone() for n, p in simulation._system.agents["s"].learner.parameters.items()}
    for _ in range(3):
        simulation._advance(watch=True)
    policies = [update.window_loss.policies for update in simulation.learned.stacks.updates]
    window = next(found["s"] for found in policies if "s" in found)
    assert len(window.parts) == 3
    entropies = []
    for t, part in enumerate(window.parts):
        port, sent = by_hand(part.step_signals.signals["x"], before, "to_a"), part.sampled["s->a"]
        if channel is WORDS:
            known: Any = Independent(Categorical(logits=port.view(8, 2, 3)), 1)
            log_prob = known.log_prob(sent.view(8, 2, 3).argmax(-1))
        else:
            mean = port / port.norm(dim=1, keepdim=True) if channel["norm"] == "unit" else port
            known = Independent(Normal(mean, torch.full_like(mean, 0.4)), 1)
            log_prob = known.log_prob(sent)
        entropy = known.entropy()
        if acts:
            action = Categorical(logits=by_hand(part.step_signals.signals["x"], before, OBJECTIVE))
            assert part.action is not None
            log_prob, entropy = log_prob + action.log_prob(part.action), entropy + action.entropy()
        torch.testing.assert_close(window.first.log_prob[t], log_prob)
        entropies.append(entropy[window.advantages.valid[t]])
    torch.testing.assert_close(window.first.figures["entropy"], torch.cat(entropies).mean().unsqueeze(0))


def test_a_policy_over_messages_alone_has_values_and_no_output() -> None:
    simulation = Simulation(scene(WORDS))
    assert list(simulation._system.agents["s"].learner.network.heads) == [VALUE, "to_a"]
    module = simulation.compose()
    steps = torch.zeros(1, 8, 4), torch.zeros(1, 8, 3)
    assert list(module(x=steps[0], y=steps[1])[0]) == ["a"]
    with pytest.raises(ScenarioError, match="'s' has a policy over its messages alone, so it has no output"):
        simulation.compose(["s"])
    assert OBJECTIVE in simulation._system.agents["a"].learner.network.heads


@pytest.mark.parametrize("channel", [WORDS, GOAL])
def test_channels_of_one_port_send_one_message_that_counts_once(channel: Document) -> None:
    """Three senders, stacked, each to two actors."""
    pairs = [(f"s{i}", f"a{(i + k) % 3}") for i in range(3) for k in range(2)]
    network = {"kind": "mlp", "hidden": [6], "norm": "none"}
    own = {"network": network, "clock": {"unroll": 3}, "objective": {"kind": "ppo", "minibatches": 2}}
    agents = {f"s{i}": {**own, "observes": ["x"]} for i in range(3)}
    agents |= {f"a{i}": {**own, "observes": ["y"], "acts": f"part{i}"} for i in range(3)}
    channels = [{"from": s, "to": a, "port": "out", **channel} for s, a in pairs]
    game = Game(space="choice", parts=("part0", "part1", "part2"), share=0.2)
    training = {"batch": 8, "steps": 20, "optimiser": {"kind": "sgd", "lr": 0.05}}
    hold({"scenario": "s", "env": game, "agents": agents, "channels": channels, "training": training}, 7)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("channel", [WORDS, GOAL])
def test_a_window_goes_on_after_a_fork_and_a_checkpoint(
    channel: Document, backend: str, tmp_path: Path
) -> None:
    scenario = scene({**channel, "link": {"delay": 2}})
    whole = Simulation(scenario, seed=3, backend=backend)
    whole.run(4)  # in the middle of a window
    fork = whole.fork()
    read = Simulation.load(whole.save(tmp_path / "saved"), scenario, backend=backend)
    for one in (whole, fork, read):
        one.run(7)
    assert_same_state(fork, whole)
    assert_same_state(read, kept(whole._state_dict()))


def test_a_rollout_samples_messages_where_it_samples_actions() -> None:
    simulation = Simulation(scene(GOAL), seed=3)

    def sent(**how: Any) -> Tensor:
        rollout = Rollout(simulation._system, 64, Links(), 5, **how)
        parts = rollout.tick(0, StepSignals(0, {"x": torch.zeros(64, 4), "y": torch.zeros(64, 3)}))
        return next(part.sampled["s->a"] for part in parts if part.agent == "s")

    greedy, sampled = sent(), sent(sampled=True)
    assert torch.equal(greedy, greedy[:1].expand(64, -1))
    assert (sampled - greedy).std().item() == pytest.approx(0.4, rel=0.2)
    assert torch.equal(sampled, sent(sampled=True))


def test_many_seeds_at_once_send_what_each_would_send_alone() -> None:
    scenario = scene(WORDS)
    together = Seeds(scenario, [0, 1])
    assert together.sequential_reason is None
    together.run(10)
    for seed, one in enumerate(together.simulations):
        alone = Simulation(scenario, seed=seed)
        alone.run(10)
        ours, theirs = (s._system.agents["s"].learner.parameters for s in (one, alone))
        torch.testing.assert_close(ours["to_a.weight"], theirs["to_a.weight"])


@pytest.mark.parametrize(
    "channel",
    [
        {"symbols": {"vocabulary": 3, "by": "reinforce"}},
        {"size": 3, "norm": "none", "sample": {"deviation": 0.3}},
    ],
)
def test_a_sender_learns_to_name_what_only_it_sees(channel: Document) -> None:
    """The actor sees nothing: by chance it is right in a third of the games."""
    network = {"kind": "mlp", "hidden": [16], "norm": "none", "activation": "tanh"}
    own = {
        "network": network,
        "clock": {"unroll": 2},
        "objective": {"kind": "a2c", "entropy": 0.0, "discount": 0.0},
    }
    scenario = Scenario.model_validate(
        {
            "scenario": "naming",
            "env": Naming(),
            "agents": {
                "s": {**own, "observes": ["thing"]},
                "a": {**own, "observes": ["nothing"], "acts": True},
            },
            "channels": [{"from": "s", "to": "a", **channel}],
            "training": {"batch": 64, "steps": 200, "optimiser": {"kind": "adam", "lr": 0.05}},
        }
    )
    simulation = Simulation(scenario, seed=1)
    simulation.run(180)
    rewards = []
    for _ in range(20):
        simulation.step()
        assert simulation.world.episodes is not None
        rewards.append(simulation.world.figures()["episode_return"])
    assert sum(rewards) / len(rewards) > 0.9
