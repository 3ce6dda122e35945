"""Metrics of the environment that a run will have, as far as they are known before it begins."""

from __future__ import annotations

from contextlib import closing

from antiphon.engine.episodes import REWARD
from antiphon.engine.heart.system import System
from antiphon.envs.registry import make
from antiphon.scenarios import Scenario
from antiphon.scenarios.env_spec import EnvSpec


def metrics_of_environment(scenario: Scenario, system: System) -> frozenset[str] | None:
    """Return their names; None: the environment has metrics of its own, which show when an episode has ended."""
    description = system.description
    if isinstance(scenario.env, EnvSpec):
        with closing(make(scenario.env, batch=1)) as env:
            env_metrics = frozenset(env.metrics()) if description.is_stream else _own_metrics(env)
    else:  # making the environments of a source may use up what it reads
        env_metrics = None
    if env_metrics is None:
        return None
    names = set(env_metrics)
    if not description.is_stream or any(goal.policy is not None for goal in system.goals().values()):
        rewards = [name for name in description.all_signals if name.partition(".")[0] == REWARD]
        names |= {f"episode_return{name.removeprefix(REWARD)}" for name in rewards}
        names |= {"episode_length", "episodes"}
    return frozenset(names)


def _own_metrics(env: object) -> frozenset[str] | None:
    """Return the names of an environment's own metrics; None: its class does not declare those that it has."""
    for base in type(env).__mro__:
        if "metric_names" in vars(base):
            return frozenset(vars(base)["metric_names"])
        if "metrics" in vars(base):
            return None
    return frozenset()  # an environment of Gymnasium
