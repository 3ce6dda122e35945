"""Whole episodes: the returns of policies in a new environment, from the first step to each episode's end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from antiphon.engine.heart.agent import Goal
from antiphon.engine.heart.system import System
from antiphon.engine.inference.rollout import EnvironmentRollout
from antiphon.engine.metrics.episodes import REWARD
from antiphon.engine.metrics.progress import Progress
from antiphon.errors import RunError

__all__ = ["ActionMode", "Episodes", "play", "policies", "reward_of"]

ActionMode = Literal["greedy", "sampled"]
"""How policies act: the most likely action, or one sampled as in training."""

LONGEST = 100_000
"""Steps within which every environment has to finish an episode."""


@dataclass(frozen=True)
class Episodes:
    """Mean return and length of whole episodes.

    Attributes:
        count: The number of episodes.
        length: Their mean length in steps.
        returns: By reward, the mean sum of an episode's rewards, undiscounted.
        actions: `greedy` or `sampled`.
    """

    count: int
    length: float
    returns: dict[str, float]
    actions: ActionMode


def policies(system: System) -> dict[str, Goal]:
    """Return the goals of the agents that learn from rewards, by name."""
    return {name: goal for name, goal in system.goals().items() if goal.policy is not None}


def reward_of(goal: Goal) -> str:
    """Return the reward whose return is a policy's own: the only one of the environment that it learns from, else `reward`."""
    rewards = () if goal.rewards is None else goal.rewards.names
    names = [name for name in rewards if name.partition(".")[0] == REWARD]
    return names[0] if len(names) == 1 else REWARD


def play(rollout: EnvironmentRollout, episodes: int, actions: ActionMode) -> Episodes:
    """Run a system until every environment has finished so many episodes, and return the first ones of each.

    Args:
        rollout: At its first step.
        episodes: Of each environment; those that one finishes while others continue do not count.
        actions: How the rollout's policies act.

    Raises:
        RunError: An environment has not finished an episode within 100,000 steps.
    """
    found = rollout.world.episodes
    assert found is not None  # policies read rewards
    counted, length = torch.zeros_like(found.finished), torch.zeros_like(found.lengths)
    sums = {name: torch.zeros_like(last) for name, last in found.returns.items()}
    with Progress("evaluating", episodes * len(counted)) as bar:
        steps = since = 0
        while bool((counted < episodes).any()):
            if steps - since == LONGEST:
                late = int((counted < episodes).sum())
                raise RunError(
                    f"evaluate: {late} of {len(counted)} environments finished no episode within {LONGEST:,} steps; "
                    "limit the length of episodes (max_episode_steps in Gymnasium)"
                )
            before = found.finished
            rollout.step()
            steps += 1
            new = (found.finished > before) & (counted < episodes)
            if bool(new.any()):
                since = steps
                counted, length = counted + new, length + found.lengths.where(new, 0.0)
                sums = {name: sums[name] + last.where(new, 0.0) for name, last in found.returns.items()}
                bar.advance(int(new.sum()))
    count = episodes * len(counted)
    returns = {name: total.sum().item() / count for name, total in sums.items()}
    return Episodes(count, length.sum().item() / count, returns, actions)
