"""Turn-based environments of PettingZoo (AEC) in its parallel interface: at each step the agent on turn moves alone."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from gymnasium import Space

from antiphon.envs.adaptors.final_observation import close_world


class Turns:
    """A turn-based environment (AEC) with the parallel interface.

    A step is one move. An agent is rewarded in the step before its next turn, by the sum of what it has got since its last move,
    and at the end of its life. The agents whose lives a move has ended leave in the same step.

    Attributes:
        possible_agents: All that may take part.
        state_space: Of the state that all agents share; None: there is none.
    """

    turn_based = True

    def __init__(self, env: Any) -> None:
        self.env = env
        self.possible_agents = tuple(env.possible_agents)
        self.metadata: Mapping[str, Any] = getattr(env, "metadata", {})
        self.state_space: Space[Any] | None = getattr(env, "state_space", None)
        self.render_mode = getattr(env, "render_mode", None)

    @staticmethod
    def taken_in(env: Any) -> bool:
        """Whether the agents of an environment take turns."""
        return hasattr(env, "agent_iter")

    @property
    def unwrapped(self) -> Any:
        """The environment without its wrappers."""
        return getattr(self.env, "unwrapped", self.env)

    @property
    def agents(self) -> list[str]:
        return list(self.env.agents)

    @property
    def on_turn(self) -> str:
        """The agent that moves next; empty after the end."""
        return str(self.env.agent_selection) if self.env.agents else ""

    def observation_space(self, agent: str) -> Space[Any]:
        return self.env.observation_space(agent)  # type: ignore[no-any-return]

    def action_space(self, agent: str) -> Space[Any]:
        return self.env.action_space(agent)  # type: ignore[no-any-return]

    def reset(self, **how: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode; return what each agent observes, and the facts of each."""
        self.env.reset(**how)
        return self._observed(), getattr(self.env, "infos", {})

    def step(self, actions: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
        """Let the agent on turn move; return observations, rewards, terminations and truncations of the agents, and no facts."""
        env = self.env
        env.step(actions[env.agent_selection])
        shown = self._observed()  # an agent that leaves sees the end of its life
        rewards = dict.fromkeys(shown, 0.0)
        ends: tuple[dict[str, bool], dict[str, bool]] = (
            dict.fromkeys(shown, False),
            dict.fromkeys(shown, False),
        )
        while env.agents:
            agent = env.agent_selection
            _, reward, *over, _ = env.last(observe=False)
            rewards[agent] = rewards.get(agent, 0.0) + float(reward)
            if not any(over):
                break
            for end, happened in zip(ends, over, strict=True):
                end[agent] = bool(happened)
            env.step(None)
        return shown, rewards, *ends, {}

    def state(self) -> Any:
        return self.env.state()

    def render(self) -> Any:
        return self.env.render()

    def close(self, **how: Any) -> None:
        close_world(self.env, **how)

    def _observed(self) -> dict[str, Any]:
        # copies: an environment may show one array to all agents, in turn
        return {agent: deepcopy(self.env.observe(agent)) for agent in self.env.agents}
