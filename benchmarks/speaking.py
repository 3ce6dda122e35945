"""Messages learned from reward in MPE: simple_speaker_listener, beside noise, with symbols, and simple_reference, where both speak.

    python benchmarks/speaking.py [--task listener|noise|symbols|reference] [--seeds 5] [--steps 2400] [--gradient KEYS] [CASE …]

A case is a coupling, `local`, or `first`: a decoupled channel whose speaker learns in the first pass of the listener alone, by an
mlp; by default it learns in all, but for symbols and speakers with rewards. In `world` agents say one of three words by their
actions, as in MPE, without a channel, and each learns alone; `loop` is locked in a bare loop. `noise` puts 16
numbers of noise beside the colour of the goal, so that a code that is not learned fails; `symbols` sends one of three (Gumbel),
and its case `reinforce` samples it from the speaker's own policy. In `reference` each of two agents knows where the other has
to go, and reads the message of the step before. KEYS of `decoupled`: `"rescale: none, gate: none"`. The seeds of a case are trained together (PPO, 64 environments,
windows of an episode, ten passes, discount 0.95); returns are greedy, over 640 episodes a seed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from gymnasium.spaces import Dict, Discrete
from torch import Tensor
from torch.nn.functional import one_hot

import antiphon
from antiphon import Scenario
from antiphon.envs import Description, Signal, World
from antiphon.jobs.populations.population import Population

sys.path.insert(0, str(Path(__file__).parent))
from baselines.speaking_loop import TICKS, SpeakingLoop

CASES = {
    "listener": ("locked", "loop", "local", "decoupled", "first", "detached", "world"),
    "noise": ("locked", "loop", "local", "decoupled", "first", "detached", "world"),
    "symbols": ("locked", "local", "first", "reinforce", "detached"),
    "reference": ("locked", "loop", "local", "first", "detached", "world"),
}
NOISE, WORDS = 16, 3
PUSHES = torch.tensor([[0.0, 0.0], [-0.5, 0.0], [0.5, 0.0], [0.0, -0.5], [0.0, 0.5]])


class Reference(World):
    """The simple_reference_v3 of mpe2 without its messages, and with `noise` numbers beside the colour; one shared reward."""

    randoms = 12 + 2 * NOISE
    agents = ("a", "b")

    class Options(World.Options):
        """Options of the task."""

        limit: int = 25
        squared: bool = False
        """Whether rewards are squared distances, as simple_speaker_listener has them."""
        noise: int = 0
        """Numbers of noise, from -1 to 1, beside each colour."""
        listeners: int = 2
        """Agents that move; with one, `a` speaks and `b` listens."""
        words: bool = False
        """Whether actions say a word, `heard` by the other at the next step; of one that moves, it is the remainder."""

    @staticmethod
    def describe(options: Reference.Options) -> Description:
        """Return signals and action space."""
        movers = Reference.agents[-options.listeners :]
        signals = {f"body.{name}": Signal(shape=(8,)) for name in movers}
        signals |= {f"goal.{name}": Signal(shape=(3 + options.noise,)) for name in movers}
        space = {name: Discrete(5 * WORDS if options.words and "a" in movers else 5) for name in movers}
        if options.words:
            space.setdefault("a", Discrete(WORDS))
            signals |= {f"heard.{name}": Signal(shape=(WORDS,)) for name in movers}
        return Description(signals=signals, episode_steps=options.limit, action_space=Dict(space))

    def __init__(self, num_envs: int, options: Reference.Options, **settings: Any) -> None:
        super().__init__(num_envs, options, **settings)
        self._options, self._movers = options, self.agents[-options.listeners :]

    def start(self, uniforms: Tensor) -> dict[str, Tensor]:
        """Return random places, goals and noise."""
        places = (uniforms * 2 - 1).to(self.dtype)
        state = {"landmarks": places[:, :6].view(-1, 3, 2)}
        for k, name in enumerate(self._movers):
            state[f"position.{name}"] = places[:, 6 + 2 * k : 8 + 2 * k]
            state[f"velocity.{name}"] = torch.zeros_like(places[:, :2])
            state[f"goal.{name}"] = (uniforms[:, 10 + k] * 3).long().clamp(max=2)
            state[f"noise.{name}"] = places[:, 12 + k * NOISE :][:, : self._options.noise]
            state[f"heard.{name}"] = torch.zeros(len(places), WORDS, dtype=self.dtype)
        return state

    def transition(
        self, state: dict[str, Tensor], actions: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Move everybody; the reward is minus the mean distance to the goals."""
        reached, distances = dict(state), []
        if self._options.words:
            for name, other in (("b", "a"), ("a", "b"))[: len(self._movers)]:
                reached[f"heard.{name}"] = one_hot(actions[other] % WORDS, WORDS).to(self.dtype)
            if "a" in self._movers:
                actions = {name: action // WORDS for name, action in actions.items()}
        for name in self._movers:
            place = state[f"position.{name}"] + 0.1 * state[f"velocity.{name}"]
            reached[f"position.{name}"] = place
            push = PUSHES.to(self.dtype)[actions[name]]
            reached[f"velocity.{name}"] = 0.75 * state[f"velocity.{name}"] + push
            goals = state["landmarks"][torch.arange(len(place)), state[f"goal.{name}"]]
            square = (place - goals).square().sum(1)
            distances.append(square if self._options.squared else square.sqrt())
        reward = -torch.stack(distances).mean(0)
        return reached, reward, torch.zeros_like(reward, dtype=torch.bool)

    def observe(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return bodies, and the colour of each goal, which the other agent observes."""
        values = {}
        for name in self._movers:
            away = (state["landmarks"] - state[f"position.{name}"].unsqueeze(1)).flatten(1)
            values[f"body.{name}"] = torch.cat([state[f"velocity.{name}"], away], 1)
            colour = one_hot(state[f"goal.{name}"], 3).to(self.dtype) * 0.5 + 0.15
            values[f"goal.{name}"] = torch.cat([colour, state[f"noise.{name}"]], 1)
            if self._options.words:
                values[f"heard.{name}"] = state[f"heard.{name}"]
        return values


def scenario_of(task: str, case: str, steps: int, gradient: str = "") -> Scenario:
    """Return a task over one kind of channel."""
    network = {"kind": "mlp", "hidden": [64, 64], "norm": "none", "activation": "tanh"}
    shared = {"network": network, "clock": {"unroll": 25}}
    both, words = task == "reference", case == "world"
    policy = {"objective": {"kind": "ppo", "epochs": 10, "discount": 0.95}, **shared}
    other = {"a": "b", "b": "a"}
    agents: dict[str, Any] = {"a": {"observes": ["goal.b"], **shared}}
    if words:
        agents["a"] |= {"acts": "a", **policy}
    for name in "ab" if both else "b":
        seen = [f"body.{name}", *([f"goal.{other[name]}"] if both else [])]
        seen += [f"heard.{name}"] if words else []
        agents[name] = {"observes": seen, "acts": name, **policy}
    channels = []
    for sender in "" if words else "ab" if both else "a":
        goal = f"goal.{other[sender]}"
        options: dict[str, Any] = {
            "decoupled": {"gradient": yaml.safe_load(f"{{{gradient}}}")},
            "first": {"gradient": {"kind": "mlp", "context": [goal], "passes": "first"}},
            "local": {"gradient": {"kind": "local", "target": goal}},
            "loop": {"coupling": "locked"},
        }
        channel = {"from": sender, "to": other[sender], "size": 3, **options.get(case, {"coupling": case})}
        if task == "symbols":
            del channel["size"]
            channel["sample"] = {"kind": "gumbel", "vocabulary": 3}
            if case == "reinforce":
                channel |= {"coupling": "detached", "sample": {"kind": "reinforce", "vocabulary": 3}}
                agents["a"]["objective"] = policy["objective"]
        if both:
            channel["link"] = {"delay": 1}
        channels.append(channel)
    env = {
        "id": "benchmark/Reference-v0",
        "listeners": 1 + both,
        "squared": not both,
        "noise": NOISE if task == "noise" else 0,
        "words": words,
    }
    training = {"batch": 64, "steps": steps, "optimiser": {"kind": "adam", "lr": 3e-3, "clip": 0.5}}
    document = {"scenario": task, "env": env, "agents": agents, "channels": channels, "readout": "b"}
    return Scenario.model_validate(document | {"training": training})


def trained(scenario: Scenario, seeds: int) -> list[float]:
    """Return the return of each seed."""
    runs = Population(scenario, range(seeds))
    try:
        runs.run()
        return [simulation.evaluate(episodes=10).return_ for simulation in runs.simulations]
    finally:
        runs.close()


def looped(scenario: Scenario, seeds: int) -> list[float]:
    """Return the return of each seed of the bare loop in the environment of a scenario."""
    settings = Reference.Options(**scenario.env.model_extra or {})
    found = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        env = Reference(scenario.training.batch, settings, device="cpu", dtype=torch.float32)
        loop = SpeakingLoop(env, env.reset(seed=seed)[0])
        for _ in range(scenario.training.steps // TICKS):
            loop.update()
        episodes = [torch.stack(loop.episode(greedy=True)[2]).sum(0).mean() for _ in range(10)]
        found.append(float(torch.stack(episodes).mean()))
    return found


def main() -> None:
    """Measure and print the returns of each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE")
    parser.add_argument("--task", choices=CASES, default="listener")
    for name, number in (("seeds", 5), ("steps", 2400)):
        parser.add_argument(f"--{name}", type=int, default=number)
    parser.add_argument("--gradient", default="", metavar="KEYS")
    options = parser.parse_args()
    antiphon.environment("benchmark/Reference-v0")(Reference)
    for case in options.cases or CASES[options.task]:
        began, one = time.process_time(), scenario_of(options.task, case, options.steps, options.gradient)
        each = looped(one, options.seeds) if case == "loop" else trained(one, options.seeds)
        seconds = (time.process_time() - began) / options.seeds
        line = " ".join(f"{value:.1f}" for value in each)
        mean, deviation = statistics.mean(each), statistics.pstdev(each)
        print(
            f"{options.task} {case}: {mean:.1f} ± {deviation:.1f} ({line}), {seconds:.0f} CPU s a seed",
            flush=True,
        )


if __name__ == "__main__":
    main()
