"""Environments of PettingZoo: copies stepped in a loop, agents that die or take turns, resets in the same step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space, iterate
from numpy.typing import NDArray
from torch import Tensor

from antiphon.base.errors import ScenarioError, require
from antiphon.base.imports import named_module
from antiphon.envs.base import StepResult, TorchVectorEnv, Values, may_draw_globally
from antiphon.envs.gymnasium import has_state
from antiphon.envs.signal import ALIVE, ID, OUTCOMES, TURN, Description, Signal
from antiphon.envs.spaces import ActionSpace, Observations, load_random_state, random_state
from antiphon.nets.random import sampled_seeds

_STATE = "state"
_MASK = "action_mask"
"""The part of an agent's observation that says which of its choices are legal, in PettingZoo's own games."""


def legal_choices(shown: Any, space: spaces.Space[Any]) -> NDArray[np.int8] | None:
    """Return which choices of a Discrete are legal in what an agent observes, [..., n]; None: it has no mask of them."""
    if isinstance(shown, np.ndarray) or not isinstance(shown, Mapping) or _MASK not in shown:
        return None
    mask = np.array(shown[_MASK]).astype(np.int8)
    return mask if isinstance(space, spaces.Discrete) and mask.shape[-1:] == (space.n,) else None


def open_copies(name: str, batch: int, options: Mapping[str, Any]) -> list[Any]:
    """Make copies of a module's environment with `options`, the parallel one if it has both; it must be imported, or of PettingZoo or mpe2."""
    module: Any = named_module(name, "env.id")
    factory: Any = getattr(module, "parallel_env", None) or getattr(module, "env", None)
    fix = f"name the module of an environment, such as mpe2.simple_speaker_listener_v4, or a class: id: {name}:CLASS"
    require(callable(factory), "env.id", f"{name} has no parallel_env or env; {fix}", ScenarioError)
    return [factory(**options) for _ in range(batch)]


class ParallelAdaptor(TorchVectorEnv):
    """Adaptor of copies of a PettingZoo environment, parallel or turn-based (AEC), to `TorchVectorEnv`; closing this
    closes them.

    An agent's observation is the signal `AGENT.observation`, or one signal per key of a Dict (`AGENT.key`). The actions are a
    Dict with a part per agent (`AGENT`, or `AGENT.key` if its own space is a Dict); agents without an actor act at random, by
    legal choices where they observe an `action_mask`.
    Training-only signals are `reward.AGENT` of each agent, `reward` (the mean over the agents that are alive), `terminated`
    and `truncated` of the whole episode, `alive.AGENT`, `terminated.AGENT` and `truncated.AGENT` of each agent, and `state` if
    the environment has a `state_space`. Where agents take turns, a step is one move, and `turn.AGENT` is 1 where it is the
    agent's. `id.AGENT` is the agent's number, a constant.

    An agent that is dead or not yet present observes zeros and gets the reward 0; its mask `_reward.AGENT` is False. In the
    step after its death it observes the last observation of its life. It may return, also in the step in which it dies. An agent
    that leaves without an end of its own is terminated. An episode ends in the step after which no agent is left of those that
    were there: truncated if one of the last agents was truncated and did not terminate with it, else
    terminated.
    """

    def __init__(self, worlds: Sequence[Any], **settings: Any) -> None:
        if turn_based := hasattr(worlds[0], "agent_iter"):
            from pettingzoo.utils import turn_based_aec_to_parallel  # type: ignore[import-untyped]

            worlds = [*map(turn_based_aec_to_parallel, worlds)]
        self.given = self.worlds = worlds
        self._stateful = [
            world if has_state(world) else getattr(world, "unwrapped", world) for world in worlds
        ]
        first = worlds[0]
        self.name = str(getattr(first, "metadata", {}).get("name", type(first).__name__))
        self._agents = agents = tuple(first.possible_agents)
        shown = {agent: first.observation_space(agent) for agent in agents}
        self.observations = {agent: Observations(space, f"{agent}.") for agent, space in shown.items()}
        native = spaces.Dict({agent: first.action_space(agent) for agent in agents})
        self.actions, self._native = ActionSpace(native), batch_space(native, len(worlds))
        self._single = deepcopy(native)  # its random numbers are the adaptor's
        self._legal: list[dict[str, Any]] = []
        """By copy and agent: which choices are legal, of what it observes."""
        space = getattr(first, "state_space", None)
        state_space = spaces.Dict({_STATE: space} if isinstance(space, spaces.Space) else {})
        self._state = Observations(state_space, training_only=True)
        self.ids = {f"{ID}.{agent}": Signal(classes=len(agents)) for agent in agents}
        flag = Signal(training_only=True, low=0.0, high=1.0)
        every = [*self.observations.values(), self._state]
        signals = {name: signal for observed in every for name, signal in observed.signals.items()}
        signals |= self.ids | {f"{ALIVE}.{agent}": flag for agent in agents}
        signals |= {f"{name}.{agent}": signal for agent in agents for name, signal in OUTCOMES.items()}
        signals |= {f"{TURN}.{agent}": flag for agent in agents} if turn_based else {}
        description = Description(
            signals={**signals, **OUTCOMES},
            action_space=self.actions.space,
            can_be_saved=has_state(self._stateful[0]),
        )
        super().__init__(len(worlds), description, self.actions.space, **settings)
        self.draws_globally = may_draw_globally(getattr(first, "unwrapped", first))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Values:
        """Reset all copies; the seeds of each, and of random actions, are sampled from the seed."""
        seeds: list[Any] = [None] * self.num_envs
        if seed is not None:
            actions, *seeds = sampled_seeds(seed, 1 + self.num_envs)
            self._native.seed(actions)
            self._single.seed(actions)
        observed = [
            world.reset(seed=own, options=options)[0] for world, own in zip(self.worlds, seeds, strict=True)
        ]
        self._legal = [*map(self._legal_in, observed)]
        return self._divide(self._observe(observed))

    def step(self, actions: Any = None) -> StepResult:
        """Take a step in every copy; actions are a mapping of parts, see `ActionSpace`. Missing parts are random, and legal if masked."""
        choices = {} if actions is None else actions
        native = iterate(self._native, self.actions.translated(choices, self._native.sample, arrays=True))
        observed, outcomes = [], np.zeros((len(OUTCOMES), 1 + len(self._agents), self.num_envs))
        takes_part = np.zeros((1 + len(self._agents), self.num_envs), bool)
        for row, (world, action) in enumerate(zip(self.worlds, native, strict=True)):
            present = world.agents  # read once: wrappers look it up in one another
            alive = [agent for agent in self._agents if agent in present]
            legal = {agent: mask for agent, mask in self._legal[row].items() if agent not in choices}
            random = {agent: self._single[agent].sample(legal[agent]) for agent in alive if agent in legal}
            shown, *outcomes_by_agent, _ = world.step({agent: action[agent] for agent in alive} | random)
            observed.append(shown)
            columns: Any = slice(None)
            if len(alive) < len(self._agents):
                columns = [0, *(1 + self._agents.index(agent) for agent in alive)]
            takes_part[columns, row] = True
            outcomes[:, columns, row] = self._outcomes(world.agents, alive, outcomes_by_agent)
        facts = (torch.from_numpy(array).to(self.device) for array in (outcomes, takes_part))
        return self._result(observed, *facts)

    @staticmethod
    def _outcomes(
        remaining: Sequence[str], alive: Sequence[str], outcomes: Sequence[Mapping[str, Any]]
    ) -> list[list[float]]:
        """Return reward, terminated and truncated: of the whole world, and of each agent that was alive; `remaining`: those that still are."""
        rewards, *flags = outcomes
        own_rewards = [float(rewards.get(agent, 0.0)) for agent in alive]
        ends = [[float(flag.get(agent, 0.0)) for agent in alive] for flag in flags]
        # the second: an environment that leaves in `agents` those whose episodes it has ended
        over = bool(alive) and (
            not remaining or (all(map(any, zip(*ends, strict=True))) and set(remaining) <= set(alive))
        )
        gone = [over or agent not in remaining for agent in alive]
        if any(gone):  # without an end of its own it is terminated
            ends[0] = [max(end, away - cut) for end, cut, away in zip(*ends, gone, strict=True)]
        cut_off = float(over and any(cut and not end for end, cut in zip(*ends, strict=True)))
        mean = sum(own_rewards) / len(own_rewards) if own_rewards else 0.0
        return [[mean, *own_rewards], [float(over) - cut_off, *ends[0]], [cut_off, *ends[1]]]

    def _result(self, observed: list[Any], outcomes: Tensor, takes_part: Tensor) -> StepResult:
        """Return the result of a step, with copies reset whose episode it ended.

        Outcomes [reward, terminated and truncated; the whole world and each agent; batch] are where `takes_part` is true.
        """
        values = self._observe(observed)
        facts: dict[str, Any] = {}
        typed = outcomes.to(self.dtype)
        for index, ending in enumerate(["", *(f".{agent}" for agent in self._agents)]):
            for kind, name in enumerate(OUTCOMES):
                if name + ending in self.requested:
                    facts[name + ending] = typed[kind, index]
            if index and f"reward{ending}" in self.requested:
                facts[f"_reward{ending}"] = takes_part[index]
        terminated, truncated = outcomes[1:, 0].bool()
        ended = terminated | truncated
        if bool(ended.any()):
            last, facts_then = self._divide(values)
            facts.update(final_obs=last, _final_obs=ended, final_info=facts_then, _final_info=ended)
            for row in ended.nonzero().flatten().tolist():
                observed[row] = self.worlds[row].reset()[0]
            values = self._observe(observed)
        self._legal = [*map(self._legal_in, observed)]
        observations, info = self._divide(values)
        return observations, typed[0, 0], terminated, truncated, {**facts, **info}

    def _legal_in(self, observed: Mapping[str, Any]) -> dict[str, Any]:
        """Return which choices are legal in what the agents of a copy observe, by agent; those without a mask are left out."""
        legal = {agent: legal_choices(shown, self._single[agent]) for agent, shown in observed.items()}
        return {agent: mask for agent, mask in legal.items() if mask is not None and mask.ndim == 1}

    def _observe(self, observed: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Return the requested signals that are known at the tick; zeros for agents that are not there."""
        values: dict[str, Tensor] = {}
        for agent, observations in self.observations.items():
            rows = [row for row, observation in enumerate(observed) if agent in observation]
            for name, signal in observations.signals.items():
                if name not in self.requested:
                    continue
                shown = [observed[row][agent] for row in rows]
                if len(rows) == self.num_envs:
                    values[name] = self._read(observations, name, shown)
                    continue
                full = torch.zeros(self.num_envs, *signal.shape, dtype=self.dtype, device=self.device)
                full = full if signal.classes is None else full.long()
                if rows:
                    full[rows] = self._read(observations, name, shown)
                values[name] = full
            if f"{ALIVE}.{agent}" in self.requested:
                alive = [agent in world.agents for world in self.worlds]
                values[f"{ALIVE}.{agent}"] = torch.tensor(alive, dtype=self.dtype, device=self.device)
            if (name := f"{TURN}.{agent}") in self.requested:
                moves = [world.agents and world.aec_env.agent_selection == agent for world in self.worlds]
                moves = [*map(bool, moves)]
                values[name] = torch.tensor(moves, dtype=self.dtype, device=self.device)
        for index, name in enumerate(self.ids):
            if name in self.requested:
                values[name] = torch.full((self.num_envs,), index, device=self.device)
        if states := [name for name in self._state.signals if name in self.requested]:
            world_states = [{_STATE: world.state()} for world in self.worlds]
            values |= {name: self._read(self._state, name, world_states) for name in states}
        return values

    def _read(self, observations: Observations, name: str, observed: Sequence[Any]) -> Tensor:
        """Return a signal of the native observations of some copies, [copies, …]."""
        parts = np.stack([np.asarray(observations.part(name, observation)) for observation in observed])
        return observations.value(name, parts, self.device, self.dtype)

    def state_dict(self) -> dict[str, Any]:
        self._require_state()
        legal = [{agent: torch.from_numpy(mask) for agent, mask in masks.items()} for masks in self._legal]
        return {
            "worlds": [world.state_dict() for world in self._stateful],
            "random": random_state(self._native),
            "choices": random_state(self._single),
            "legal": legal,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._require_state()
        self.reset()  # many worlds are initialised only by a reset
        for world, world_state in zip(self._stateful, state["worlds"], strict=True):
            world.load_state_dict(world_state)
        for world in self.worlds:
            if hasattr(world, "aec_env"):  # PettingZoo's conversion keeps the agents of its newest step
                world.agents = list(world.aec_env.agents)
        load_random_state(self._native, state["random"])
        load_random_state(self._single, state["choices"])
        self._legal = [{agent: mask.numpy() for agent, mask in masks.items()} for masks in state["legal"]]

    def close_extras(self, **kwargs: Any) -> None:
        for world in self.worlds:
            world.close(**kwargs)
