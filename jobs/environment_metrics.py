"""Metrics of the environment that a run will have, as far as they are known before it begins."""

from __future__ import annotations

from contextlib import closing

from antiphon.engine.episodes import REWARD
from antiphon.engine.heart.system import System
from antiphon.envs.base import TorchVectorEnv
from antiphon.envs.registry import make
from antiphon.scenarios import Scenario
from antiphon.scenarios.document import EnvSpec


def metrics_of_environment(scenario: Scenario, system: System) -> frozenset[str] | None:
    """Return their names; None: the environment has metrics of its own for episodes, which show when one has ended."""
    description = system.description
    if not isinstance(scenario.env, EnvSpec):
        return None
    with closing(make(scenario.env, batch=1)) as env:
        if not description.is_stream and type(env).figures is not TorchVectorEnv.figures:
            return None
        names = {*env.figures()} if description.is_stream else set[str]()
    if not description.is_stream or any(goal.policy is not None for goal in system.goals().values()):
        rewards = [name for name in description.all_signals if name.partition(".")[0] == REWARD]
        names |= {f"episode_return{name.removeprefix(REWARD)}" for name in rewards}
        names |= {"episode_length", "episodes"}
    return frozenset(names)
