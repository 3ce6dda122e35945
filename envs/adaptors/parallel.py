"""Adaptor of PettingZoo's environments: copies stepped in a loop, agents that die or take turns, resets in the same step."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from inspect import signature
from itertools import product
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space, iterate
from numpy.typing import NDArray
from torch import Tensor

from antiphon.base.errors import RunError, ScenarioError, ScenarioWarning, require, with_article
from antiphon.base.imports import imported_by_name
from antiphon.envs.adaptors.checked import (
    Adaptor,
    arguments_of,
    checked,
    has_state,
    load_random_state,
    making,
    random_state,
)
from antiphon.envs.adaptors.final_observation import reward_of
from antiphon.envs.adaptors.spaces import ActionSpace, Observations, ids_of, masks_in
from antiphon.envs.adaptors.wrappers import LayersOfBatch
from antiphon.envs.base import StepResult, Values
from antiphon.envs.signal import ALIVE, OUTCOMES, TURN, Signal
from antiphon.nets.isolation.own_context import in_own_context
from antiphon.nets.random import sampled_seeds

_STATE = "state"
_SPACES = "observation_space", "action_space"
_MASK = "action_mask"
"""The part of an agent's observation that says which of its choices are legal, in PettingZoo's own games."""
_RESET = (
    "write reset(self, seed=None, options=None), which returns (observations, infos), a dict by agent each"
)
_STEP = "return (observations, rewards, terminations, truncations, infos), a dict by agent each"
"""What environments of earlier versions of PettingZoo lack."""


def legal_choices(shown: Any, space: spaces.Space[Any]) -> NDArray[np.int8] | None:
    """Return which choices of a Discrete are legal in what an agent observes, [..., n]; None: it has no mask of them."""
    if isinstance(shown, np.ndarray) or not isinstance(shown, Mapping) or _MASK not in shown:
        return None
    mask = np.array(shown[_MASK]).astype(np.int8)
    return mask if isinstance(space, spaces.Discrete) and mask.shape[-1:] == (space.n,) else None


def open_copies(name: str, batch: int, options: Mapping[str, Any]) -> list[Any]:
    """Make copies of a module's environment with `options`, the parallel one if it has both; it must be allowed (`allow_import`).

    Raises:
        ScenarioError: There is no such module, it has no environment, or the options do not fit.
    """
    module: Any = imported_by_name(name, "env.id")
    factory: Any = getattr(module, "parallel_env", None) or getattr(module, "env", None)
    fix = f"name the module of an environment, such as mpe2.simple_speaker_listener_v4, or a class: id: {name}:CLASS"
    require(callable(factory), "env.id", f"{name} has no parallel_env or env; {fix}", ScenarioError)
    make = partial(factory, **options)
    accepted = arguments_of(getattr(module, "raw_env", factory))
    with making(name, keys=options, make=factory, accepted=accepted):
        return [make() for _ in range(batch)]


def parallel(world: Any) -> Any:
    """Return an environment of PettingZoo in its parallel interface; where agents take turns (AEC), a step is one move."""
    if not hasattr(world, "agent_iter"):
        return world
    from pettingzoo.utils import turn_based_aec_to_parallel  # type: ignore[import-untyped]

    return turn_based_aec_to_parallel(world)


def _on_turn(world: Any) -> str:
    """Return the agent that moves next in an environment of turns; empty after the end."""
    return str(world.aec_env.agent_selection) if world.agents else ""


def _space(name: str, world: Any, kind: str, agent: str) -> Any:
    """Return a space of an agent; ScenarioError where the environment has none."""
    try:
        space = getattr(world, kind)(agent)
        _ = deepcopy(space) == space  # fails for a class of its own that lacks what Gymnasium's have
    except Exception as error:  # noqa: BLE001  (anything somebody's environment may raise)
        line = f"{kind}('{agent}') failed: {type(error).__name__}: {' '.join(str(error).split())}"
        raise ScenarioError(f"env: '{name}': {line}; return a space of each of possible_agents") from None
    problem = f"{kind}('{agent}') is {with_article(type(space).__name__)} of {type(space).__module__}; return one of gymnasium.spaces"
    require(isinstance(space, spaces.Space), "env", f"'{name}': {problem}", ScenarioError)
    return space


def _not_taken(reset: Callable[..., Any]) -> list[str]:
    """Return which of a seed and options a reset does not take, as far as is known."""
    try:
        parameters = signature(reset).parameters
    except (TypeError, ValueError):  # it has no signature
        return []
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return []
    return [name for name in ("seed", "options") if name not in parameters]


class ParallelAdaptor(Adaptor):
    """Adaptor of copies of a PettingZoo environment, parallel or turn-based (AEC), to `TorchVectorEnv`.

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

    Raises:
        ScenarioError: Objects that are not environments of PettingZoo, or spaces that are not supported.
    """

    interface = "PettingZoo's parallel interface", "parallel_api_test(env) of pettingzoo.test"
    signatures = ""

    def __init__(self, worlds: Sequence[Any], **settings: Any) -> None:
        require(len(worlds) > 0, "env", "is an empty list; pass an environment or its id", ScenarioError)
        members = ("possible_agents", "observation_space", "action_space", "reset", "step")
        name = str(getattr(worlds[0], "metadata", {}).get("name", type(worlds[0]).__name__))
        problem = f"{name} is not an environment of PettingZoo; pass its parallel_env or env"
        require(all(hasattr(worlds[0], member) for member in members), "env", problem, ScenarioError)
        missing = _not_taken(worlds[0].reset)
        problem = f"'{name}': reset() takes no {' and no '.join(missing)}; {_RESET}"
        require(not missing, "env", problem, ScenarioError)
        turn_based = hasattr(worlds[0], "agent_iter")
        layers = LayersOfBatch(None, worlds)
        worlds = [parallel(world) for world in worlds]
        first = worlds[0]
        if turn_based:
            self.interface = "PettingZoo's interface of turns", "api_test(env) of pettingzoo.test"
        agents = self._agents = tuple(first.possible_agents)
        empty = f"'{name}': possible_agents is empty; name in it all agents that may take part"
        require(len(agents) > 0, "env", empty, ScenarioError)
        twice = f"{name}: possible_agents has one name for two agents; give each its own"
        require(len({str(agent) for agent in agents}) == len(agents), "env", twice, ScenarioError)
        shown, chosen = ({agent: _space(name, first, kind, agent) for agent in agents} for kind in _SPACES)
        self.observations = {agent: Observations(space, f"{agent}.") for agent, space in shown.items()}
        for world in worlds[1:]:
            for kind in _SPACES:
                problem = f"the {kind.replace('_', ' ')}s of its copies differ; let every call make the same environment"
                alike = all(getattr(world, kind)(agent) == getattr(first, kind)(agent) for agent in agents)
                require(alike, "env", f"{name}: {problem}", ScenarioError)
        native = spaces.Dict(chosen)
        self._native = batch_space(native, len(worlds))
        self._single = deepcopy(native)  # its random numbers are the adaptor's
        self._legal: list[dict[str, Any]] = []
        """By copy and agent: which choices are legal, of what it observes."""
        self._over: list[set[str]] = [set() for _ in worlds]
        """By copy: the agents whose episodes the newest step has ended, and which stay."""
        self._warned = False
        signals = {
            name: signal
            for observations in self.observations.values()
            for name, signal in observations.signals.items()
        }
        space = getattr(first, "state_space", None)
        state_space = spaces.Dict({_STATE: space} if isinstance(space, spaces.Space) else {})
        self._state = Observations(state_space, training_only=True)
        signals |= self._state.signals
        self.ids = ids_of(agents)
        signals |= self.ids
        signals |= {f"{ALIVE}.{agent}": Signal(training_only=True, low=0.0, high=1.0) for agent in agents}
        signals |= {f"{name}.{agent}": signal for agent in agents for name, signal in OUTCOMES.items()}
        if turn_based:
            signals |= {f"{TURN}.{agent}": Signal(training_only=True, low=0.0, high=1.0) for agent in agents}
        self._stateful = [getattr(world, "unwrapped", world) for world in worlds]
        saved = has_state(self._stateful[0])
        every = [*self.observations.values(), self._state]
        reasons = {name: why for observations in every for name, why in observations.unreadable.items()}
        settings |= {"layers": layers, "unreadable": reasons}
        acted = ActionSpace(native)
        super().__init__(worlds, worlds, name, len(worlds), signals, acted, can_be_saved=saved, **settings)

    @in_own_context
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Values:
        """Reset all copies; the seeds of each, and of random actions, are sampled from the seed."""
        seeds: list[Any] = [None] * self.num_envs
        if seed is not None:
            actions, *seeds = sampled_seeds(seed, 1 + self.num_envs)
            self._native.seed(actions)
            self._single.seed(actions)
            self._numbers.seed(actions)
        with self._calling("reset"):
            first = [
                self._first(w, seed=s, options=options) for w, s in zip(self._worlds, seeds, strict=True)
            ]
        observed, infos = [shown for shown, _ in first], first[0][1]
        masks = [f"{agent}.{key}" for agent in self._agents for key in masks_in(infos.get(agent))]
        self.masks_in_info = [name for name in masks if name not in self.signals]
        self._remember()
        self._legal = [*map(self._legal_in, observed)]
        self._over = [set() for _ in observed]
        return self._divide(self._observe(observed))

    @in_own_context
    def step(self, actions: Any = None) -> StepResult:
        """Take a step in every copy; actions are a mapping of parts, see `ActionSpace`. Missing parts are random, and legal if masked."""
        choices = {} if actions is None else actions
        native = iterate(self._native, self.actions.translated(choices, self._native.sample, arrays=True))
        observed, outcomes = [], np.zeros((len(OUTCOMES), 1 + len(self._agents), self.num_envs))
        takes_part = np.zeros((1 + len(self._agents), self.num_envs), bool)
        with self._calling("step"):
            for row, (world, action) in enumerate(zip(self._worlds, native, strict=True)):
                present = world.agents  # read once: wrappers look it up in one another
                alive = [agent for agent in self._agents if agent in present]
                legal = {agent: mask for agent, mask in self._legal[row].items() if agent not in choices}
                random = {
                    agent: self._single[agent].sample(legal[agent]) for agent in alive if agent in legal
                }
                result = world.step({agent: action[agent] for agent in alive} | random)
                remaining = world.agents
                self._check_form("step", result, 5, _STEP)
                over = self._check_complete(remaining, alive, result)
                self._warn_of_lives_of_a_step(row, over)
                observed.append(result[0])
                columns: Any = slice(None)
                if len(alive) < len(self._agents):
                    columns = [0, *(1 + self._agents.index(agent) for agent in alive)]
                takes_part[columns, row] = True
                outcomes[:, columns, row] = self._outcomes(remaining, alive, result[1:4])
        return self._result(
            observed, *(torch.from_numpy(array).to(self.device) for array in (outcomes, takes_part))
        )

    def _first(self, world: Any, **how: Any) -> tuple[Any, Mapping[str, Any]]:
        """Reset a copy and return its observations, and what it tells beside them; RunError where an observation is missing."""
        result: Any = world.reset(**how)
        self._check_form("reset", result, 2, _RESET)
        observed = result[0]
        self._check_observed("reset", world.agents, observed)
        return observed, result[1] if isinstance(result[1], Mapping) else {}

    def _check_form(self, call: str, result: Any, count: int, fix: str) -> None:
        """Raise RunError where a call did not return so many values, as environments of earlier versions of PettingZoo do not."""
        if not isinstance(result, tuple | list) or len(result) != count:
            returned = f"{len(result)} values" if isinstance(result, tuple | list) else type(result).__name__
            raise RunError(f"env: '{self._name}': {call}() returned {returned}; {fix}")

    def _check_complete(
        self, remaining: Sequence[str], alive: Sequence[str], result: Sequence[Any]
    ) -> set[str]:
        """Raise RunError where a step returned nothing for an agent that is `remaining`, alive after it, which a loop could not read.

        Return those of them whose episodes the step has ended.
        """
        observed, *outcomes = result[:4]
        _, terminated, truncated = outcomes
        stayed = [agent for agent in remaining if agent in alive]
        for outcome, values in zip(("reward", "termination", "truncation"), outcomes, strict=True):
            self._check_given("step", outcome, stayed, values)
        over = {agent for agent in stayed if terminated[agent] or truncated[agent]}
        self._check_observed("step", [agent for agent in remaining if agent not in over], observed)
        return over

    def _warn_of_lives_of_a_step(self, row: int, over: set[str]) -> None:
        """Warn once of an agent of a copy that stays in `agents` with its end, which is a life of one step at every step."""
        if again := sorted(over & self._over[row]) if not self._warned else []:
            self._warned = True
            line = f"'{again[0]}' ends and stays in agents, so each step is a life of its own; take it out of agents when it is dead"
            warnings.warn(f"env: '{self._name}': {line}", ScenarioWarning, stacklevel=2)
        self._over[row] = over

    def _check_observed(self, call: str, agents: Sequence[str], observed: Mapping[str, Any]) -> None:
        self._check_given(call, "observation", agents, observed)
        for agent in observed:
            if agent not in self._agents:
                fault = f"an observation of '{agent}' from {call}(), which is not in possible_agents; name it there"
                raise RunError(f"env: '{self._name}' returned {fault}")

    def _check_given(self, call: str, outcome: str, agents: Sequence[str], values: Mapping[str, Any]) -> None:
        for agent in agents:
            if agent not in values:
                fault = f"no {outcome} of '{agent}' from {call}(), which is alive; return one, or take it out of agents"
                raise RunError(f"env: '{self._name}' returned {fault}")

    @staticmethod
    def _outcomes(
        remaining: Sequence[str], alive: Sequence[str], outcomes: Sequence[Mapping[str, Any]]
    ) -> list[list[float]]:
        """Return reward, terminated and truncated: of the whole world, and of each agent that was alive; `remaining`: those that still are."""
        rewards, *flags = outcomes
        own_rewards = [reward_of(rewards.get(agent, 0.0), agent) for agent in alive]
        ends = [[float(flag.get(agent, 0.0)) for agent in alive] for flag in flags]
        # the second: an environment that leaves in `agents` those whose episodes it has ended
        over = bool(alive) and (
            not remaining or (all(map(any, zip(*ends, strict=True))) and set(remaining) <= set(alive))
        )
        gone = [
            over or agent not in remaining for agent in alive
        ]  # without an end of its own it is terminated
        if any(gone):
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
        endings = "", *(f".{agent}" for agent in self._agents)
        if not math.isfinite(typed.sum().item()):
            own_first = *range(1, len(endings)), 0  # the mean is of what all agents got
            for index, (kind, name) in product(own_first, enumerate(OUTCOMES)):
                full_name = name + endings[index]
                if name in self.requested or full_name in self.requested:
                    native = outcomes[kind, index]
                    checked(full_name, OUTCOMES[name], typed[kind, index], self.num_envs, native)
        for index, ending in enumerate(endings):
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
            with self._calling("reset"):
                for row in ended.nonzero().flatten().tolist():
                    observed[row], self._over[row] = self._first(self._worlds[row])[0], set()
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
                alive = [agent in world.agents for world in self._worlds]
                values[f"{ALIVE}.{agent}"] = torch.tensor(alive, dtype=self.dtype, device=self.device)
            if (name := f"{TURN}.{agent}") in self.requested:
                moves = [_on_turn(world) == agent for world in self._worlds]
                values[name] = torch.tensor(moves, dtype=self.dtype, device=self.device)
        for index, name in enumerate(self.ids):
            if name in self.requested:
                values[name] = torch.full((self.num_envs,), index, device=self.device)
        if states := [name for name in self._state.signals if name in self.requested]:
            with self._calling("state"):
                world_states = [{_STATE: world.state()} for world in self._worlds]
            values |= {name: self._read(self._state, name, world_states) for name in states}
        return values

    def _read(self, observations: Observations, name: str, observed: Sequence[Any]) -> Tensor:
        """Return a signal of the native observations of some copies, [copies, …]."""
        with self._failing("step"):
            parts = np.stack([np.asarray(observations.part(name, observation)) for observation in observed])
        value = observations.value(name, parts, self.device, self.dtype)
        return checked(name, observations.signals[name], value, len(observed), parts, batched=False)

    def state_dict(self) -> dict[str, Any]:
        self._require_state()
        with self._calling("state_dict"):
            worlds = [world.state_dict() for world in self._stateful]
        saved = {"worlds": worlds, "wrappers": self._layers.state_dict()}
        legal = [{agent: torch.from_numpy(mask) for agent, mask in masks.items()} for masks in self._legal]
        return {
            **saved,
            "random": random_state(self._native),
            "choices": random_state(self._single),
            "legal": legal,
            "numbers": self._numbers.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._require_state()
        self.reset()  # many worlds are initialised only by a reset
        self._layers.load_state_dict(state["wrappers"])
        with self._calling("load_state_dict"):
            for world, world_state in zip(self._stateful, state["worlds"], strict=True):
                world.load_state_dict(world_state)
        for world in self._worlds:
            if hasattr(
                world, "aec_env"
            ):  # PettingZoo's conversion, which keeps the agents of its newest step
                world.agents = list(world.aec_env.agents)
        load_random_state(self._native, state["random"])
        load_random_state(self._single, state["choices"])
        self._legal = [{agent: mask.numpy() for agent, mask in masks.items()} for masks in state["legal"]]
        self._numbers.load_state_dict(state["numbers"])
