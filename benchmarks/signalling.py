"""A code learned from reward: a speaker sees one of some goals beside noise, a listener names it and is rewarded if it is right.

    python benchmarks/signalling.py [--seeds 5] [--goals 8] [--noise 24] [--steps 3000] [--gradient KEYS] [CASE …]

A case is a coupling and a weight of the listener's entropy: `decoupled:0.1`. `first` is a decoupled channel whose speaker learns
in the first pass of the listener alone, by an mlp; by default it learns in all. KEYS of `decoupled`: `"rescale: none, gate: none"`. Episodes have one step, and the listener sees
nothing but the message of four numbers. The seeds of a case are trained together (PPO, 64 environments); the accuracy of the
greedy listener is over 1,024 episodes a seed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch
import yaml
from gymnasium.spaces import Discrete
from torch import Tensor

import antiphon
from antiphon import Scenario
from antiphon.envs import Description, Signal, World
from antiphon.jobs.populations.population import Population

COUPLINGS = ("locked", "decoupled", "first")
CASES = [f"{coupling}:{weight}" for coupling in COUPLINGS for weight in (0.01, 0.1)]
CASES.append("detached:0.1")


def register(goals: int, noise: int) -> None:
    """Register the environment."""

    class Signalling(World):
        randoms = 1 + noise

        @staticmethod
        def describe(options: object) -> Description:
            signals = {"shown": Signal(shape=(goals + noise,)), "goal": Signal(classes=goals)}
            return Description(
                signals=signals | {"nothing": Signal(shape=(1,))}, action_space=Discrete(goals)
            )

        def start(self, uniforms: Tensor) -> dict[str, Tensor]:
            goal = (uniforms[:, 0] * goals).long().clamp(max=goals - 1)
            return {"goal": goal, "noise": ((uniforms[:, 1:] - 0.5) * 6).to(self.dtype)}

        def transition(
            self, state: dict[str, Tensor], actions: dict[str, Tensor]
        ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
            right = actions["action"] == state["goal"]
            return state, right.to(self.dtype), torch.ones_like(right)

        def observe(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
            goal = torch.nn.functional.one_hot(state["goal"], goals).to(self.dtype)
            nothing = torch.zeros(len(goal), 1, dtype=self.dtype)
            return {
                "shown": torch.cat([goal, state["noise"]], 1),
                "nothing": nothing,
                "goal": state["goal"],
            }

    antiphon.environment("benchmark/Signalling-v0")(Signalling)


def scenario_of(coupling: str, entropy: float, steps: int, gradient: str = "") -> Scenario:
    """Return the game over one kind of channel."""
    network = {"kind": "mlp", "hidden": [64], "norm": "none", "activation": "tanh"}
    shared = {"network": network, "clock": {"unroll": 8}}
    goal = {"kind": "ppo", "discount": 0.0, "entropy": entropy}
    mlp = {"kind": "mlp", "context": ["shown"], "rescale": "rms"}
    given = yaml.safe_load(f"{{{gradient}}}")
    channels: dict[str, Any] = {
        "decoupled": {"gradient": given},
        "first": {"gradient": {**mlp, "passes": "first"}},
    }
    channel = channels.get(coupling, {"coupling": coupling})
    return Scenario.model_validate(
        {
            "scenario": "signalling",
            "env": {"id": "benchmark/Signalling-v0"},
            "agents": {
                "speaker": {"observes": ["shown"], **shared},
                "listener": {"observes": ["nothing"], "acts": True, "objective": goal, **shared},
            },
            "channels": [{"from": "speaker", "to": "listener", "size": 4, **channel}],
            "training": {"batch": 64, "steps": steps, "optimiser": {"kind": "adam", "lr": 3e-3, "clip": 0.5}},
        }
    )


def main() -> None:
    """Measure and print the accuracies of each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", default=CASES)
    for name, number in (("seeds", 5), ("goals", 8), ("noise", 24), ("steps", 3000)):
        parser.add_argument(f"--{name}", type=int, default=number)
    parser.add_argument("--gradient", default="", metavar="KEYS")
    options = parser.parse_args()
    register(options.goals, options.noise)
    for case in options.cases:
        coupling, weight = case.split(":")
        began = time.process_time()
        runs = Population(
            scenario_of(coupling, float(weight), options.steps, options.gradient), range(options.seeds)
        )
        try:
            runs.run()
            each = [simulation.evaluate(episodes=16).return_ for simulation in runs.simulations]
        finally:
            runs.close()
        seconds = (time.process_time() - began) / options.seeds
        line = " ".join(f"{accuracy:.3f}" for accuracy in each)
        print(f"{case}: {statistics.mean(each):.3f} ({line}), {seconds:.0f} CPU s a seed", flush=True)


if __name__ == "__main__":
    main()
