"""Steps per second of the worlds, many copies in one thread, beside other libraries' in the same process.

Each world is stepped with actions sampled beforehand, 1,024 copies at once, all signals computed. Beside it stands the fastest
way that the other library offers: Gymnasium's vector environment of CartPole, of as many copies; single environments of mpe2
(simple_speaker_listener_v4) and MiniGrid (DoorKey-8x8: another task than ours, with a partial view), reset at the end of their
episodes; these need `pip install mpe2 pettingzoo minigrid` and are left out where they are missing. Blocks alternate; a rate is
the median over blocks by CPU time, a ratio the median over pairs of blocks with a bootstrap interval.
Run: `python benchmarks/worlds.py --json`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch

from antiphon.envs import World, make

sys.path.insert(0, str(Path(__file__).parent))
from machine import machine

Block = Callable[[], int]
"""Takes steps and returns how many, over all copies."""


def ours(name: str, copies: int, steps: int) -> Block:
    """Return a block of one of the worlds."""
    env = make({"id": f"antiphon/{name}"}, batch=copies)
    assert isinstance(env, World)
    env.reset(seed=0)
    env.action_space.seed(0)
    samples = [as_tensors(env.action_space.sample()) for _ in range(16)]

    def block() -> int:
        for step in range(steps):
            env.step(samples[step % len(samples)])
        return steps * copies

    return block


def as_tensors(actions: Any) -> Any:
    """Return sampled actions as tensors."""
    if isinstance(actions, dict):
        return {name: torch.from_numpy(part) for name, part in actions.items()}
    return torch.from_numpy(actions)


def gymnasium_cartpole(copies: int, steps: int) -> Block:
    """Return a block of Gymnasium's vector environment."""
    env = gymnasium.make_vec("CartPole-v1", copies, vectorization_mode="vector_entry_point")
    env.reset(seed=0)
    env.action_space.seed(0)
    samples = [env.action_space.sample() for _ in range(16)]

    def block() -> int:
        for step in range(steps):
            env.step(samples[step % len(samples)])
        return steps * copies

    return block


def mpe2_speaker_listener(copies: int, steps: int) -> Block:
    """Return a block of one environment of mpe2, without the wrappers that check its use."""
    module = importlib.import_module("mpe2.simple_speaker_listener_v4")
    env = module.parallel_env()
    env.reset(seed=0)
    samples = [{agent: env.action_space(agent).sample() for agent in env.agents} for _ in range(16)]

    def block() -> int:
        for step in range(steps):
            if not env.agents:
                env.reset()
            env.step(samples[step % len(samples)])
        return steps

    return block


def minigrid_doorkey(copies: int, steps: int) -> Block:
    """Return a block of one environment of MiniGrid."""
    importlib.import_module("minigrid")
    env = gymnasium.make("MiniGrid-DoorKey-8x8-v0", disable_env_checker=True).unwrapped
    env.reset(seed=0)
    samples = [int(env.action_space.sample()) for _ in range(16)]

    def block() -> int:
        for step in range(steps):
            _, _, terminated, truncated, _ = env.step(samples[step % len(samples)])
            if terminated or truncated:
                env.reset()
        return steps

    return block


BESIDE: dict[str, tuple[str, Callable[[int, int], Block]]] = {
    "CartPole-v0": ("gymnasium", gymnasium_cartpole),
    "SpeakerListener-v0": ("mpe2", mpe2_speaker_listener),
    "KeyDoor-v0": ("minigrid", minigrid_doorkey),
}
"""By world, a library and the block of its environment."""


def rate(block: Block) -> float:
    """Return steps per second of CPU time of a block."""
    start = time.process_time()
    steps = block()
    return steps / (time.process_time() - start)


def compared(one: Block, other: Block, blocks: int) -> dict[str, Any]:
    """Return the rates of two in turn, and their ratio."""
    one()
    other()
    pairs = np.array([(rate(one), rate(other)) for _ in range(blocks)])
    ratios = pairs[:, 0] / pairs[:, 1]
    medians = np.median(np.random.default_rng(0).choice(ratios, (10_000, blocks)), axis=1)
    return {
        "steps_per_second": round(float(np.median(pairs[:, 0]))),
        "theirs": round(float(np.median(pairs[:, 1]))),
        "ratio": round(float(np.median(ratios)), 2),
        "interval_95": [round(float(value), 2) for value in np.quantile(medians, [0.025, 0.975])],
    }


def measure(copies: int, blocks: int, steps: int) -> dict[str, Any]:
    """Return the figures of every world."""
    torch.set_num_threads(1)
    worlds: dict[str, Any] = {}
    for name, (library, make_theirs) in BESIDE.items():
        block = ours(name, copies, steps)
        try:
            theirs = make_theirs(copies, steps)
        except ImportError:
            block()
            median = np.median([rate(block) for _ in range(blocks)])
            worlds[name] = {"steps_per_second": round(float(median)), "missing": library}
            continue
        worlds[name] = {**compared(block, theirs, blocks), "beside": library}
    return {"benchmark": "worlds", "copies": copies, "blocks": blocks, "worlds": worlds, "machine": machine()}


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--copies", type=int, default=1024)
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--steps", type=int, default=100, help="steps per block")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # other libraries' deprecations
    result = measure(arguments.copies, arguments.blocks, arguments.steps)
    if arguments.json:
        print(json.dumps(result))
        return
    for name, found in result["worlds"].items():
        if "missing" in found:
            beside = f"{found['missing']} is not installed"
        else:
            low, high = found["interval_95"]
            beside = f"{found['beside']} {found['theirs']:,}, ratio {found['ratio']} ({low} to {high})"
        print(f"{name}: {found['steps_per_second']:,} steps/s; {beside}")


if __name__ == "__main__":
    main()
