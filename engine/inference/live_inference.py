"""What a running scenario is used for beside training: its scores, the composed system, files, a policy."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from antiphon.base.files import given_path
from antiphon.base.problems import checked_seed
from antiphon.engine.inference.evaluation import Evaluation, Evaluator
from antiphon.engine.inference.exporting import (
    ComposedExamples,
    ComposedRound,
    composed_system,
    with_output,
    write_system,
)
from antiphon.engine.inference.policy import Policy
from antiphon.engine.inference.rollout import Links
from antiphon.engine.live_system import LiveSystem
from antiphon.envs import registry
from antiphon.envs.base import TorchVectorEnv
from antiphon.envs.native import native_of


def environment_of(running: LiveSystem, batch: int, split: str | None) -> TorchVectorEnv:
    """Return an environment like the run's to run forward in."""
    how: dict[str, Any] = {"device": running.settings.device, "dtype": running.settings.dtype, "split": split}
    return registry.make(running.scenario.env, batch=batch, **how)


def evaluation_of(
    running: LiveSystem,
    split: str = "test",
    links: Links | str = "perfect",
    *,
    episodes: int | None = None,
    sampled: bool = False,
) -> Evaluation:
    """Score the system on a split: see `Simulation.evaluate`.

    Args:
        running: No bit of it changes.
    """
    running.synchronize()
    readouts, make = running.scenario.readouts, partial(environment_of, running)
    stacked = running.evaluated
    links = Links.given(links, stacked.single_system)
    evaluator = Evaluator(stacked, running.env, readouts, split, links, running.seed, make)
    return evaluator.evaluate(episodes=episodes, sampled=sampled)


def composed(running: LiveSystem, agents: Sequence[str] | None = None) -> ComposedExamples | ComposedRound:
    """Return the composed system as one torch module: see `Simulation.compose`."""
    running.synchronize()
    names = with_output(running.system, running.scenario.readouts) if agents is None else agents
    return composed_system(running.system, names, native_of(running.env).conversions)


def exported(running: LiveSystem, path: str | Path, agents: Sequence[str] | None = None) -> Path:
    """Write the composed system or weights to a file, and return its path: see `Simulation.export`."""
    running.synchronize()
    readouts = with_output(running.system, running.scenario.readouts)
    return write_system(running.system, native_of(running.env), given_path(path), agents, readouts)


def policy_of(running: LiveSystem, *, greedy: bool = True, seed: int | None = None) -> Policy:
    """Return the present agents as a policy for an environment's own loop: see `Simulation.policy`."""
    running.synchronize()
    return Policy(
        running.system,
        running.env,
        greedy=greedy,
        seed=running.seed if seed is None else checked_seed(seed, "policy: "),
    )
