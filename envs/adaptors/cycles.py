"""PettingZoo's environments whose agents all move in a step, one after the other (`aec_to_parallel`): MPE, SISL, Butterfly."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

_CONVERSION = "pettingzoo.utils.conversions", "aec_to_parallel_wrapper"
_WRAPPERS = {"AssertOutOfBoundsWrapper", "ClipOutOfBoundsWrapper", "OrderEnforcingWrapper"}
"""Classes of `pettingzoo.utils.wrappers` that pass on what is read of the environment below."""
_READ = ("agents", "agent_selection", "rewards", "terminations", "truncations", "infos")


class Cycle:
    """An environment of turns that PettingZoo has converted to its parallel interface, stepped by the same calls.

    In a step of MPE the conversion reads 44 attributes through two wrappers, which takes a fourth of the step's time; here they
    are read of the environment itself.
    """

    def __init__(self, env: Any) -> None:
        self.env, self._turns, self._base = env, env.aec_env, env.unwrapped

    @staticmethod
    def taken_in(env: Any) -> bool:
        """Whether an environment is such a conversion, with no wrapper below that holds or changes what is read of it."""
        if (type(env).__module__, type(env).__name__) != _CONVERSION:
            return False
        below = env.aec_env
        while type(below).__name__ in _WRAPPERS and type(below).__module__.startswith("pettingzoo.utils."):
            if any(name in vars(below) or hasattr(type(below), name) for name in _READ):
                return False
            below = below.env
        return below is not env.aec_env and below is env.unwrapped

    def __getattr__(self, name: str) -> Any:
        if name == "env":  # of a copy that has nothing yet
            raise AttributeError(name)
        return getattr(self.env, name)

    @property
    def agents(self) -> list[str]:
        return self.env.agents  # type: ignore[no-any-return]

    def step(self, actions: Mapping[str, Any]) -> tuple[Any, ...]:
        """Let all agents move; return observations, rewards, terminations, truncations and facts, by agent."""
        turns, base = self._turns, self._base
        rewards: dict[str, Any] = defaultdict(int)
        for agent in base.agents:
            if agent != base.agent_selection:
                order = f"it is the turn of '{base.agent_selection}', not of '{agent}'"
                raise AssertionError(f"{order}; let agents move in a cycle, and die at its end")
            turns.observe(agent)  # as the conversion does: random numbers may be drawn
            turns.step(actions[agent])
            for rewarded in base.agents:
                rewards[rewarded] += base.rewards[rewarded]
        outcomes = dict(base.terminations), dict(base.truncations), dict(base.infos)
        shown = {agent: turns.observe(agent) for agent in base.agents}
        while base.agents and (
            base.terminations[base.agent_selection] or base.truncations[base.agent_selection]
        ):
            turns.step(None)
        self.env.agents = base.agents
        return shown, rewards, *outcomes
