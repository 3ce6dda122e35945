"""Fourteen small problems that nobody tuned a channel to: what a channel learns by default, between `detached` and `locked`.

Each problem is trained with its channels `detached`, `locked`, with the control `local` (a model of the target at the
sender; not where a receiver acts), and with no setting at all (`default`). A score is larger where it is better:
accuracy or return in per cent, or less an error. The share is (score - detached) / (locked - detached), of the means over the seeds of
these two.
Run: `python benchmarks/default_signal.py --save` (five seeds), `--quick` for one seed of shorter trainings, `--graphs` for
twenty graphs by chance.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean, pstdev
from types import MappingProxyType
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

import antiphon

METHODS = ("detached", "locked", "local", "default")
MLP = {"kind": "mlp", "hidden": [32]}
LABELS = {"kind": "classification", "target": "label"}
Score = Callable[[Mapping[str, Mapping[str, float]]], float]


class Problem(NamedTuple):
    env: Any
    agents: dict[str, dict[str, Any]]
    channels: list[dict[str, Any]]
    steps: int
    score: Score
    target: str = ""
    """What the control models; empty: there is no control."""
    batch: int = 64
    locked_agents: Mapping[str, dict[str, Any]] = MappingProxyType({})
    """Keys of agents that another coupling needs to learn the same."""


def _accuracy(agent: str) -> Score:
    return lambda agents: 100 * agents[agent]["accuracy"]


def _teacher(rng: np.random.Generator, count: int, size: int, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return inputs, the classes of a random network, and its outputs."""
    x = rng.normal(size=(count, size))
    hidden = np.tanh(2 * x @ (rng.normal(size=(size, 24)) / size**0.5))
    outputs = hidden @ (rng.normal(size=(24, classes)) / 24**0.5)
    outputs = (outputs - outputs.mean(0)) / outputs.std(0)
    return torch.tensor(x).float(), torch.tensor(outputs.argmax(1)), torch.tensor(outputs).float()


def chain(depth: int, *, width: int, classes: int, hidden_target: bool = False) -> Problem:
    """Networks in a row; the last one classifies what the first one sees."""
    x, label, _ = _teacher(np.random.default_rng(depth), 6000, 12, classes)
    names = [f"a{number}" for number in range(depth)]
    agents: dict[str, dict[str, Any]] = {
        name: {"network": {"kind": "mlp", "hidden": [width]}} for name in names
    }
    agents["a0"]["observes"] = ["x"]
    agents[names[-1]]["objective"] = LABELS
    channels: list[dict[str, Any]] = [
        {"from": first, "to": second, "size": width} for first, second in itertools.pairwise(names)
    ]
    if hidden_target:
        for channel in channels:
            channel["gradient"] = {"context": agents[channel["from"]].get("observes", [])}
    env = antiphon.envs.from_tensors(x=x, label=label, test=0.2)
    return Problem(env, agents, channels, 800, _accuracy(names[-1]), "label")


def _halves(
    data: dict[str, Tensor], objective: dict[str, Any], steps: int, score: Score, **more: Any
) -> Problem:
    """Two senders that see half of an input each."""
    x = data.pop("x")
    halves = {"l": x[:, :6].contiguous(), "r": x[:, 6:].contiguous()}
    env = antiphon.envs.from_tensors(**halves, **data, test=0.2, training_only=list(data))
    agents = {
        "left": {"observes": ["l"], "network": MLP},
        "right": {"observes": ["r"], "network": MLP},
        "mind": {"network": MLP, "objective": objective},
    }
    channels = [{"from": name, "to": "mind", "size": 6} for name in ("left", "right")]
    return Problem(env, agents, channels, steps, score, **more)


def halves_blind() -> Problem:
    """Predictors see no target."""
    x, label, _ = _teacher(np.random.default_rng(7), 6000, 12, 4)
    problem = _halves({"x": x, "label": label}, LABELS, 1000, _accuracy("mind"), target="label")
    for channel, signal in zip(problem.channels, "lr", strict=True):
        channel["gradient"] = {"context": [signal]}
    return problem


def scales() -> Problem:
    """Targets of scale 30, 3 and 0.1."""
    x, _, outputs = _teacher(np.random.default_rng(4), 6000, 12, 3)
    y = outputs * torch.tensor([30.0, 3.0, 0.1])
    objective = {"kind": "regression", "target": "y"}
    return _halves({"x": x, "y": y}, objective, 1200, lambda agents: -agents["mind"]["error"], target="y")


def two_rates(count: int) -> Problem:
    """The place of a step in its reader's window decides its sign in the label of the sequence."""
    x = np.random.default_rng(2).normal(size=(count, 6, 8)).astype("float32")
    signs = np.array([1, -1, 1, 1, -1, 1.0])[None, :, None]
    label = (np.tanh(1.5 * x[:, :, :3]) * signs).sum(1).argmax(1)
    clock = {"period": 3, "phase": -1, "unroll": 2}
    agents = {
        "ear": {"observes": ["x"], "network": MLP},
        "slow": {"network": {"kind": "gru", "size": 32}, "clock": clock, "objective": LABELS},
    }
    channels = [{"from": "ear", "to": "slow", "size": 6, "read": "concat"}]
    return Problem(_sequences(x, label), agents, channels, 2400, _accuracy("slow"), "label")


def _sequences(x: np.ndarray[Any, Any], label: np.ndarray[Any, Any]) -> Any:
    return antiphon.envs.from_sequences(x=list(torch.tensor(x)), label=torch.tensor(label), test=0.2)


def three_rates() -> Problem:
    """Periods of 1, 2 and 4; the label of the sequence is at the top alone."""
    x = np.random.default_rng(3).normal(size=(5000, 8, 8)).astype("float32")
    score = np.maximum(x[:, :, 0], x[:, :, 1]).sum(1) - np.maximum(x[:, :, 2], x[:, :, 3]).sum(1)
    gru = {"kind": "gru", "size": 16}
    agents = {
        "low": {"observes": ["x"], "network": MLP},
        "mid": {"network": gru, "clock": {"period": 2, "phase": -1, "unroll": 2}},
        "top": {"network": gru, "clock": {"period": 4, "phase": -1, "unroll": 2}, "objective": LABELS},
    }
    channels = [
        {"from": "low", "to": "mid", "size": 8, "read": "mean"},
        {"from": "mid", "to": "top", "size": 8, "read": "concat"},
    ]
    return Problem(
        _sequences(x, (score > 0).astype("int64")), agents, channels, 2400, _accuracy("top"), "label"
    )


def fan_out() -> Problem:
    """One port to a classifier and to a regression of weight 10."""
    rng = np.random.default_rng(5)
    x, label, _ = _teacher(rng, 6000, 12, 4)
    z = torch.tensor(np.tanh(x.numpy() @ rng.normal(size=(12, 2)))).float()
    agents = {
        "eye": {"observes": ["x"], "network": MLP},
        "who": {"network": MLP, "objective": LABELS},
        "where": {"network": MLP, "objective": {"kind": "regression", "target": "z", "scale": 10.0}},
    }
    channels = [{"from": "eye", "to": name, "size": 6, "port": "m"} for name in ("who", "where")]
    env = antiphon.envs.from_tensors(x=x, label=label, z=z, test=0.2, training_only=["label", "z"])
    return Problem(
        env,
        agents,
        channels,
        800,
        lambda agents: 50 * (agents["who"]["accuracy"] - agents["where"]["error"]),
        "label",
    )


def _pair(channel: dict[str, Any], network: Any = MLP, **mind: Any) -> Problem:
    x, label, _ = _teacher(np.random.default_rng(6), 6000, 12, 5)
    agents: dict[str, dict[str, Any]] = {
        "eye": {"observes": ["x"], "network": network},
        "mind": {"network": MLP, "objective": LABELS, **mind},
    }
    env = antiphon.envs.from_tensors(x=x, label=label, test=0.2)
    channels = [{"from": "eye", "to": "mind", "size": 6, **channel}]
    return Problem(env, agents, channels, 900, _accuracy("mind"), "label")


def late() -> Problem:
    """A delay of 3, a quarter of the messages lost, and noise."""
    problem = _pair({"link": {"delay": 3, "drop": 0.25, "noise": 0.1}}, align=True)
    return problem._replace(locked_agents={"mind": {"align": None}})


class Loud(nn.Module):
    """A sender whose messages have a norm of about 100."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(inputs, 32), nn.Linear(32, outputs)

    def forward(self, x: Tensor) -> Tensor:
        message = self.last(torch.relu(self.first(x)))
        return 100 * message / (message.detach().square().sum(1).mean().sqrt() + 1e-3)


def memory() -> Problem:
    """A recurrent network with windows of two steps must recall what it saw seven steps before."""
    rng = np.random.default_rng(8)
    label = rng.integers(4, size=5000)
    x = rng.normal(size=(5000, 8, 5)).astype("float32") * 0.5
    x[:, 0, :4] += 2 * np.eye(4)[label]
    x[:, 0, 4] = 3.0
    network = {"kind": "gru", "size": 24}
    agents = {"reader": {"observes": ["x"], "network": network, "clock": {"unroll": 2}, "objective": LABELS}}
    channels = [{"from": "reader", "to": "reader", "key": "state"}]
    problem = Problem(_sequences(x, label), agents, channels, 3200, _accuracy("reader"), "label")
    return problem._replace(locked_agents={"reader": {"clock": {"unroll": "episode"}}})


class _Told(gymnasium.Env[dict[str, Any], int]):
    """What a walker should do is known to a guide alone."""

    length: int

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        self.draw()
        return self.observations(), {}

    def step(self, action: int) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        reward = self.reward(int(action))
        self.steps += 1
        return self.observations(), reward, False, self.steps >= self.length, {}


class Plane(_Told):
    """The walker comes near a goal that the guide sees."""

    length = 5
    moves = 0.3 * np.array([(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)], "float32")

    def __init__(self) -> None:
        box = spaces.Box(-2, 2, (2,), np.float32)
        self.observation_space, self.action_space = spaces.Dict(guide=box, walker=box), spaces.Discrete(5)

    def draw(self) -> None:
        self.goal, self.at = (self.np_random.uniform(-1, 1, 2).astype("float32") for _ in range(2))

    def observations(self) -> dict[str, Any]:
        return {"guide": self.goal.copy(), "walker": self.at.copy()}

    def reward(self, action: int) -> float:
        before = np.abs(self.goal - self.at).sum()
        self.at = np.clip(self.at + self.moves[action], -2, 2).astype("float32")
        return float(before - np.abs(self.goal - self.at).sum())


class Match(_Told):
    """The right choice depends on a colour that the guide sees and on a shape that the walker sees."""

    length = 4

    def __init__(self) -> None:
        self.observation_space = spaces.Dict(guide=spaces.Discrete(4), walker=spaces.Discrete(2))
        self.action_space = spaces.Discrete(4)

    def draw(self) -> None:
        self.colour, self.shape = int(self.np_random.integers(4)), int(self.np_random.integers(2))

    def observations(self) -> dict[str, Any]:
        return {"guide": self.colour, "walker": self.shape}

    def reward(self, action: int) -> float:
        matches = action == (self.colour + self.shape) % 4
        self.draw()
        return float(matches)


antiphon.envs.register("suite/Plane-v0", Plane)
antiphon.envs.register("suite/Match-v0", Match)


def acting(env: str, channel: dict[str, Any], steps: int) -> Problem:
    """A guide speaks to a walker, which learns from rewards."""
    walker = {"acts": True, "objective": {"kind": "ppo", "entropy": 0.03}}
    agents = {
        "guide": {"observes": ["guide"], "clock": {"unroll": 10}},
        "walker": {"observes": ["walker"], "clock": {"unroll": 10}, **walker},
    }
    channels = [{"from": "guide", "to": "walker", **channel}]
    return Problem({"id": env}, agents, channels, steps, lambda agents: agents["walker"]["return"], batch=32)


def drawn(number: int) -> Problem:
    """A graph by chance: 3 to 8 agents of periods 1 to 4, delays 0 to 3, one to four objectives, some targets hidden.

    All inputs are noisy views of what a sequence is about, so that no delay makes a message worthless.
    """
    rng = np.random.default_rng(1000 + number)
    count, goals = int(rng.integers(3, 9)), int(rng.integers(1, 4))
    topic = rng.normal(size=(1500, 6))
    data: dict[str, Any] = {
        f"x{view}": list(
            torch.tensor(
                topic[:, None, 3 * view : 3 * view + 3] + 0.5 * rng.normal(size=(1500, 12, 3))
            ).float()
        )
        for view in range(2)
    }
    names = [f"a{place}" for place in range(count)]
    agents: dict[str, dict[str, Any]] = {}
    channels: list[dict[str, Any]] = []
    for place, name in enumerate(names):
        period = int(rng.integers(1, 5))
        network = {"kind": "gru", "size": 16} if rng.random() < 0.5 else {"kind": "mlp", "hidden": [16]}
        agents[name] = {"network": network, "clock": {"period": period, "phase": -1}}
        if place < 2:
            agents[name]["observes"] = [f"x{place}"]
        for sender in rng.permutation(place)[: 1 + int(rng.random() < 0.4)] if place >= 2 else []:
            channel = {"from": names[sender], "to": name, "size": 6, "link": {"delay": int(rng.integers(4))}}
            if rng.random() < 0.3:
                channel["gradient"] = {"context": agents[names[sender]].get("observes", [])}
            channels.append(channel)
    ends = [name for name in names if not any(channel["from"] == name for channel in channels)]
    learners = list(dict.fromkeys([*ends, *names[:1:-1]]))[: max(goals, len(ends))]
    for place, name in enumerate(learners):
        outputs = np.tanh(2 * topic @ rng.normal(size=(6, 12))) @ rng.normal(size=(12, 3))
        label = torch.tensor((outputs - outputs.mean(0)).argmax(1))
        data[f"label{place}"] = [one.expand(12).clone() for one in label]
        agents[name]["objective"] = {"kind": "classification", "target": f"label{place}"}
    labels = [name for name in data if name.startswith("label")]
    env = antiphon.envs.from_sequences(**data, test=0.2, training_only=labels)
    return Problem(
        env, agents, channels, 600, lambda found: 100 * mean(found[name]["accuracy"] for name in learners)
    )


GRAPHS: dict[str, Callable[[], Problem]] = {f"graph{n}": functools.partial(drawn, n) for n in range(20)}
PROBLEMS: dict[str, Callable[[], Problem]] = {
    "chain2": lambda: chain(2, width=6, classes=6),
    "chain4": lambda: chain(4, width=16, classes=5),
    "chain3_blind": lambda: chain(3, width=12, classes=4, hidden_target=True),
    "halves_blind": halves_blind,
    "two_rates": lambda: two_rates(5000),
    "two_rates_few": lambda: two_rates(1500),
    "three_rates": three_rates,
    "scales": scales,
    "fan_out": fan_out,
    "late": late,
    "memory": memory,
    "loud": lambda: _pair({"norm": "none"}, Loud),
    "act_plane": lambda: acting("suite/Plane-v0", {"size": 4}, 1200),
    "act_match": lambda: acting("suite/Match-v0", {"sample": {"kind": "gumbel", "vocabulary": 6}}, 1600),
}


def scenario(problem: Problem, method: str, steps: int) -> antiphon.Scenario:
    agents, channels = problem.agents, []
    for channel in problem.channels:
        new = dict(channel)
        if method in ("detached", "locked"):
            new = {key: value for key, value in channel.items() if key != "gradient"} | {"coupling": method}
        if method == "locked":
            new.pop("link", None)
        if method == "local":
            new["gradient"] = {"kind": "local", "target": problem.target}
        channels.append(new)
    if method == "locked":
        agents = {name: {**agent, **problem.locked_agents.get(name, {})} for name, agent in agents.items()}
    training = {
        "batch": problem.batch,
        "steps": steps,
        "optimiser": {"kind": "adam", "lr": 2e-3},
    }
    return antiphon.Scenario(
        scenario="default-signal", env=problem.env, agents=agents, channels=channels, training=training
    )


def trained(name: str, method: str, seeds: Sequence[int], *, quick: bool = False) -> list[float]:
    problem = (PROBLEMS | GRAPHS)[name]()
    steps = problem.steps // 2 if quick else problem.steps
    episodes = 200 if problem.batch == 32 else None
    with antiphon.Population(scenario(problem, method, steps), seeds) as population:
        population.run()
        results = [simulation.evaluate(episodes=episodes) for simulation in population.simulations]
    return [problem.score(result.agents) for result in results]


def summary(scores: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Return the means of the references, and the share of each other method: its mean, least and greatest over seeds."""
    low, high = mean(scores["detached"]), mean(scores["locked"])
    found: dict[str, Any] = {
        "detached": low,
        "locked": high,
        "deviation": [pstdev(scores[name]) / abs(high - low) for name in ("detached", "locked")],
    }
    for method, values in scores.items():
        if method not in found:
            shares = [(value - low) / (high - low) for value in values]
            found[method] = [mean(shares), min(shares), max(shares)]
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--problems", help="names, by commas; all")
    parser.add_argument("--methods", default=",".join(METHODS), help="names, by commas")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--graphs", action="store_true", help="twenty drawn graphs, in place of the problems")
    parser.add_argument("--quick", action="store_true", help="one seed, half the steps")
    parser.add_argument(
        "--save", action="store_true", help="write results/default_signal.json, or of graphs another"
    )
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    scores: dict[str, dict[str, list[float]]] = {}
    everything = GRAPHS if given.graphs else PROBLEMS
    for name in given.problems.split(",") if given.problems else everything:
        for method in given.methods.split(","):
            if method == "local" and not everything[name]().target:
                continue
            began, seeds = time.process_time(), range(1 if given.quick else given.seeds)
            values = trained(name, method, seeds, quick=given.quick)
            scores.setdefault(name, {})[method] = values
            print(f"{name} {method} {values} {time.process_time() - began:.1f} s", flush=True)
        if {"detached", "locked"} <= scores[name].keys():
            print(f"{name} {json.dumps(summary(scores[name]))}", flush=True)
    if given.save:
        path = Path(__file__).parent / "results" / f"default_signal{'_graphs' if given.graphs else ''}.json"
        path.write_text(json.dumps(scores, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
