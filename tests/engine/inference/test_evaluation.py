"""Evaluation: the composed system on a split, or on whole episodes; no training-only signal has a say in it (semantics 24)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from gymnasium.spaces import Dict, Discrete
from torch import Tensor

from antiphon import Simulation
from antiphon.engine.inference.evaluation import example_batches
from antiphon.engine.inference.rollout import Links
from antiphon.envs import Description, Signal, Source, TorchVectorEnv, from_sequences, from_tensors
from antiphon.inspection.ablation import ablate
from antiphon.scenarios import Scenario
from tests.engine.scenes import CLASSIFY, scenario_of
from tests.kit import seams
from tests.kit.some import some

COUNT = 1300
GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(COUNT, 6, generator=GENERATOR)
LABEL = (X[:, 0] > 0).long() + (X[:, 1] > 0).long()
SCORE = X[:, :2].sum(1)


MLP: dict[str, Any] = {"kind": "mlp", "hidden": [8]}


def source(shuffled: bool = False, **options: Any) -> Source:
    order = (
        torch.randperm(COUNT, generator=torch.Generator().manual_seed(1)) if shuffled else torch.arange(COUNT)
    )
    return from_tensors(
        x=X, label=LABEL[order], score=SCORE[order], training_only=["label", "score"], **options
    )


def simulate(env: Any, net: Any = MLP) -> Simulation:
    agents = {
        "a": {"observes": ["x"], "network": MLP},
        "b": {"network": net, "objective": CLASSIFY},
        "c": {"network": MLP, "objective": {"kind": "regression", "target": "score"}},
    }
    channels = [{"from": "a", "to": to, "size": 4, "gradient": {"context": ["label"]}} for to in "bc"]
    adam = {"kind": "adam", "lr": 0.01}
    return Simulation(scenario_of(agents, channels, env, readout="b", batch=32, steps=200, optimiser=adam))


def test_every_example_counts_once_in_ragged_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    simulation = simulate(source(test=0.5))
    simulation.run(30)
    one = simulation.evaluate()
    assert (one.examples, one.split, one.readout) == (650, "test", ("b",))
    assert one.accuracy == one.agents["b"]["accuracy"]
    assert set(one.agents["c"]) == {"loss", "error"}
    two_messages_three_classes_and_a_score = 4 * (2 * (4 + 4) + 3 + 1)
    for limit, value in (("_ROWS", 7), ("_MEMORY", two_messages_three_classes_and_a_score * 100)):
        with monkeypatch.context() as patch:
            patch.setattr(seams.EVALUATION + limit, value)
            many = simulation.evaluate()
        assert many.examples == 650
        assert many.accuracy == one.accuracy
        assert many.loss == pytest.approx(one.loss, rel=1e-5)
    (batch,) = simulation.world.env.batches("test", 650)
    outputs, labels = simulation.compose()({"x": batch["x"]})["b"], batch["label"]
    assert one.accuracy == pytest.approx((outputs.argmax(1) == labels).float().mean().item())
    assert one.loss == pytest.approx(F.cross_entropy(outputs, labels).item(), rel=1e-5)


def test_with_every_message_lost_synthetic_inputs_are_alone() -> None:
    agents = {"a": {"observes": ["x"], "network": MLP}, "b": {"network": MLP, "objective": CLASSIFY}}
    channel = {"from": "a", "to": "b", "size": 3, "input": {"kind": "linear", "context": []}}
    simulation = Simulation(scenario_of(agents, [channel], source(test=0.5), batch=8))
    expected = torch.tensor([0.5, -1.0, 2.0])
    model = some(simulation.channels["a->b"].synthetic_input).parameters
    for key, parameter in model.items():
        parameter.data.copy_(expected if key.endswith("bias") else torch.zeros_like(parameter))
    (batch,) = simulation.world.env.batches("test", 650)
    found = simulation.evaluate("test", Links("as_run", drop=1.0))
    outputs = simulation.agents["b"].module(expected.expand(650, 3))["objective"]
    assert found.loss == pytest.approx(F.cross_entropy(outputs, batch["label"]).item(), rel=1e-5)


def test_a_link_that_loses_every_message_loses_them_in_an_evaluation_too() -> None:
    agents = {"a": {"observes": ["x"], "network": MLP}, "b": {"network": MLP, "objective": CLASSIFY}}
    channel = {"from": "a", "to": "b", "size": 3, "link": {"drop": 1.0}}
    simulation = Simulation(scenario_of(agents, [channel], source(test=0.5), batch=8))
    (batch,) = simulation.world.env.batches("test", 650)
    outputs = simulation.agents["b"].module(torch.zeros(650, 3))["objective"]
    expected = F.cross_entropy(outputs, batch["label"]).item()
    assert simulation.evaluate("test").loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.cases(2)
@pytest.mark.parametrize("links", ["perfect", Links("as_run")], ids=["perfect", "as_run"])
@pytest.mark.parametrize("endless", [False, True])
def test_stacks_are_scored_as_their_agents_one_by_one(endless: bool, links: Any) -> None:
    """Over paths that fill one after the other, with losses, noise, symbols and synthetic inputs of each channel."""
    env = {"id": "antiphon/CountDigits-v0", "window": 2} if endless else {}
    target = "odd" if endless else "label"
    goal = {"kind": "classification", "target": target}
    agents = {
        f"n{i}": {
            "observes": ["image"] if i == 0 else [],
            "objective": goal,
            "network": {**MLP, "norm": norm},
        }
        for i, norm in enumerate(["layer", "batch", "batch", "batch"])
    }
    link = {"delay": 2, "drop": 0.4, "noise": 0.1}
    told = {"size": 3, "input": {"kind": "linear", "context": []}, "link": link}
    sample = {"kind": "gumbel", "vocabulary": 3}
    channels = [{"from": f"n{i}", "to": f"n{i + 1}", **told} for i in range(3)]
    channels += [{"from": f"n{i}", "to": "n0", "key": "word", "sample": sample, "link": link} for i in (1, 2)]
    simulation = Simulation(scenario_of(agents, channels, env, readout="n3", batch=4), dtype=torch.float64)
    simulation.run(6)
    assert len(simulation.running.backend.system.agents) < 4
    one_by_one = simulation.fork(stacked=False)
    if not endless:
        ablations = [ablate(one, "resample", links=links, examples=60) for one in (simulation, one_by_one)]
        assert len({repr(ablation.channels) for ablation in ablations}) == 1
    stacks, alone = (one.evaluate("test", links) for one in (simulation, one_by_one))
    assert stacks.scored == alone.scored
    assert [*stacks.agents] == [*agents]
    for name in agents:
        assert stacks.agents[name] == pytest.approx(alone.agents[name], rel=1e-12)
        assert stacks.errors[name] == pytest.approx(alone.errors[name], rel=1e-9)


# --- environments to run forward in ------------------------------------------------------------------------


@pytest.mark.parametrize("delay", [0, 1, 3, 9])
def test_every_step_of_every_sequence_counts_in_any_order(delay: int) -> None:
    """Where an episode begins the paths are empty, in the first sequences as in the others."""
    lengths = [2, 5, 3, 6, 4, 1, 2, 4, 3]
    x = [torch.randn(n, 3, generator=torch.Generator().manual_seed(n + i)) for i, n in enumerate(lengths)]
    goal = [row.cumsum(0)[:, :1] for row in x]
    agents = {
        "a": {"observes": ["x"], "network": MLP},
        "b": {"observes": ["x"], "network": MLP, "objective": {"kind": "regression", "target": "goal"}},
    }
    channels = [{"from": "a", "to": "b", "size": 2, "coupling": "detached", "link": {"delay": delay}}]
    found = []
    for order in (range(9), (4, 8, 1, 0, 7, 3, 6, 5, 2)):
        test = {"x": [x[i] for i in order], "goal": [goal[i] for i in order]}
        env = from_sequences(x=x, goal=goal, test=test, validation=0, training_only=["goal"])
        with Simulation(scenario_of(agents, channels, env), dtype=torch.float64) as simulation:
            found.append(simulation.evaluate())
    assert [evaluation.examples for evaluation in found] == [sum(lengths)] * 2
    assert found[0].loss == pytest.approx(found[1].loss, rel=1e-9)


# --- which examples --------------------------------------------------------------------------------------


def test_a_limit_spreads_examples_evenly_over_the_split() -> None:
    with simulate(source(test=0.4)) as simulation:
        env = simulation.world.env
        whole, some_of_it = (
            torch.cat([batch["x"] for batch in example_batches(env, "test", limit, 100)])
            for limit in (None, 30)
        )
    assert torch.equal(some_of_it, whole[torch.arange(30) * len(whole) // 30])


# --- episodes --------------------------------------------------------------------------------------------


PPO: dict[str, Any] = {"kind": "ppo", "epochs": 2, "minibatches": 2}
MOTOR: dict[str, Any] = {
    "observes": ["observation"],
    "network": {"kind": "mlp", "hidden": [8]},
    "objective": PPO,
    "clock": {"unroll": 4},
    "acts": True,
}


def cart(**training: Any) -> Scenario:
    env = {"id": "antiphon/CartPole-v0", "limit": 60}
    return scenario_of({"motor": MOTOR}, env=env, **({"batch": 5, "steps": 40} | training))


@pytest.mark.long
def test_sampled_episodes_are_the_same_at_every_evaluation_and_not_those_of_other_splits() -> None:
    with Simulation(cart()) as simulation:
        simulation.run(8)
        sampled = simulation.evaluate(sampled=True, episodes=4)
        assert sampled == simulation.evaluate(sampled=True, episodes=4)
        assert sampled.return_ != simulation.evaluate(episodes=4).return_
        assert sampled.return_ != simulation.evaluate("validation", sampled=True, episodes=4).return_
        assert sampled.episodes is not None
        assert sampled.episodes.actions == "sampled"


class Shares(TorchVectorEnv):
    """Two agents with rewards of their own; episode lengths are 2, 3, …; actions do nothing."""

    def __init__(self, num_envs: int, endless: bool = False) -> None:
        own = Signal(training_only=True, known="after_step")
        signals = {"observation": Signal(shape=(1,)), "reward.left": own, "reward.right": own}
        space = Dict(left=Discrete(2), right=Discrete(2))
        description = Description(signals=signals, example_counts={}, action_space=space, endless=endless)
        super().__init__(num_envs, description, space)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self._begin_seed(seed)
        self.at = torch.zeros(self.num_envs)
        return {"observation": self.at.unsqueeze(1)}, {}

    def step(self, actions: Any) -> Any:
        self.at = self.at + 1
        ended = self.at >= torch.arange(self.num_envs) + 2
        if self.endless:
            ended = torch.zeros_like(ended)
        rewards = {"reward.left": self.at.clone(), "reward.right": -torch.ones(self.num_envs)}
        self.at = self.at.masked_fill(ended, 0)
        total: Tensor = sum(rewards.values())  # type: ignore[assignment]
        return {"observation": self.at.unsqueeze(1)}, total, ended, torch.zeros_like(ended), rewards

    def state_dict(self) -> dict[str, Any]:
        return {"at": self.at}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.at = state["at"]


def sharing(env: Any, **objective: Any) -> Scenario:
    agents = {name: {**MOTOR, "acts": name, "objective": {**PPO, **objective}} for name in ("left", "right")}
    return scenario_of(agents, env=env, batch=3, readout=None)


def test_returns_are_those_of_each_agents_own_reward() -> None:
    with Simulation(sharing(Shares)) as simulation:
        found = simulation.evaluate(episodes=2)
    left = (3 + 6 + 10) / 3
    assert found.agents == {"left": {"return": pytest.approx(left)}, "right": {"return": -3.0}}
    assert found.return_ == pytest.approx((left - 3) / 2)
    assert found.episodes is not None
    assert found.episodes.length == 3
    assert found.episodes.returns == {
        "reward": pytest.approx(left - 3),
        "reward.left": pytest.approx(left),
        "reward.right": -3.0,
    }
    with Simulation(sharing(Shares, reward={"reward": 1.0})) as simulation:
        found = simulation.evaluate()
        assert found.agents["left"] == found.agents["right"] == {"return": pytest.approx(left - 3)}


def test_games_over_examples_are_played_once_through_the_split_and_targets_scored_as_ever() -> None:
    env = {"id": "antiphon/Referential-v0", "candidates": 3}
    network = {"kind": "mlp", "hidden": [6]}
    speaker = {"observes": ["shown"], "network": network, "objective": {**CLASSIFY}}
    listener = {"observes": ["candidates"], "network": network, "acts": True}
    channels = [{"from": "speaker", "to": "listener", "size": 4, "coupling": "detached"}]
    found: dict[str, Any] = {}
    for kind in ("reinforce", "classification"):
        goal = {"kind": kind} if kind == "reinforce" else {"kind": kind, "target": "target"}
        agents = {"speaker": speaker, "listener": {**listener, "objective": goal}}
        with Simulation(scenario_of(agents, channels, env, readout="listener", batch=50)) as simulation:
            assert simulation.world.env.example_count("test") == 360
            found[kind] = simulation.evaluate()
            if kind == "reinforce":
                found["sampled"] = simulation.evaluate("validation", sampled=True)
    games = found["reinforce"]
    assert (games.episodes.count, games.episodes.length) == (400, 1)  # 8 games of each of 50 environments
    assert games.agents["speaker"] == found["classification"].agents["speaker"]
    assert 0.1 < games.return_ < 0.6  # a reward of 1 for one of 3
    assert games.episodes.returns["reward"] == games.return_
    assert 0.2 < found["sampled"].return_ < 0.5
