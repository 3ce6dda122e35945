"""An environment's own observations as signals, and actions in its own format, for one environment or a batch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space, iterate
from torch import Tensor

from antiphon.base.errors import ScenarioError, named, require
from antiphon.envs.base import TorchVectorEnv
from antiphon.envs.gymnasium import VectorAdaptor
from antiphon.envs.pettingzoo import ParallelAdaptor, legal_choices
from antiphon.envs.signal import Signal
from antiphon.envs.spaces import ActionSpace, Conversion, Observations, Path, mapped, part_at


@dataclass(frozen=True)
class Native:
    observations: Mapping[str | None, Observations]
    """Observations by agent of a parallel environment, or one under None."""
    actions: ActionSpace
    """Actions of the environment; for a parallel environment of each agent."""
    ids: Mapping[str, Signal] = field(default_factory=dict)
    """The numbers of the agents of a parallel environment, which no observation has."""

    @property
    def signals(self) -> dict[str, Signal]:
        every = self.observations.values()
        return {name: signal for one in every for name, signal in one.signals.items()} | dict(self.ids)

    @property
    def conversions(self) -> dict[str, Conversion]:
        """From the native values of the signals that are observed."""
        every, of_ids = self.observations.values(), dict.fromkeys(self.ids, Conversion(np.dtype(np.int64)))
        return {name: kind for one in every for name, kind in one.conversions.items()} | of_ids

    def example(self, name: str, axes: tuple[int, ...]) -> Tensor:
        """Return valid native values of a signal, the smallest choices or zeros, [*axes, *shape]."""
        conversion = self.conversions[name]
        values = torch.from_numpy(np.zeros((*axes, *self.signals[name].shape), conversion.dtype))
        return values if conversion.start is None else values + conversion.start.to(values)

    def read(
        self, observation: Any, names: Collection[str], device: torch.device, dtype: torch.dtype
    ) -> tuple[dict[str, Tensor], bool]:
        """Return some signals of an observation, [batch, …], and whether it is from a single environment.

        A missing agent of a parallel environment observes zeros.
        """
        values: dict[str, Tensor] = {}
        shown = {
            name: (agent, observations)
            for agent, observations in self.observations.items()
            if agent is None or not isinstance(observation, Mapping) or agent in observation
            for name in observations.signals
        }
        # of agents that no agent observes, one signal has the size of the batch
        for name in [name for name in shown if name in names] or [*shown][:1]:
            agent, observations = shown[name]
            with named(f"policy, '{name}' of the observation"):
                native = observations.part(name, observation if agent is None else observation[agent])
                value = observations.value(name, native, device, dtype)
            shape = observations.signals[name].shape
            alone = value.ndim == len(shape)
            value = value.unsqueeze(0) if alone else value
            batch = len(next(iter(values.values()), value))
            found_shape = f"'{name}' is {list(value.shape[1:] if alone else value.shape)}"
            fix = f"use {list(shape)}, or with a first axis for several environments"
            require(value.shape == (batch, *shape), "policy", f"{found_shape}; {fix}", ScenarioError)
            values[name] = value
        nothing = f"the observation has no {', '.join(sorted(names))}"
        require(bool(values), "policy", nothing, ScenarioError)
        values = {name: value for name, value in values.items() if name in names}
        for name in (name for name in names if name not in values):
            signal = self.signals[name]
            kind = dtype if signal.classes is None else torch.int64
            values[name] = torch.zeros(batch, *signal.shape, dtype=kind, device=device)
        for index, name in enumerate(self.ids):
            if name in values:
                values[name] += index
        return values, alone

    def write(self, action: Any, sample: Callable[[], Any], batch: int, *, alone: bool) -> Any:
        """Return actions (see `ActionSpace.translated`; None: from `sample`) as the environment takes them, or of a single one.

        Numbers are arrays; random parts of other kinds, such as a Text, are as they were sampled.
        """
        chosen = sample() if action is None else self.actions.translated(action, sample, arrays=True)
        space = self.space(batch)

        def typed(path: Path, leaf: gymnasium.Space[Any]) -> Any:
            part = part_at(chosen, path)
            return part if leaf.shape is None else np.asarray(part, leaf.dtype)

        native = mapped(space, typed)
        return next(iter(iterate(space, native))) if alone else native

    def random(self, space: gymnasium.Space[Any], observation: Any) -> Any:
        """Return random actions from the space of a batch, legal where an agent of a parallel environment observes an `action_mask`."""
        if None in self.observations or not isinstance(observation, Mapping):
            return space.sample()
        masks = {}
        for name in self.observations:
            legal = legal_choices(observation.get(name), self.actions.native[name])  # type: ignore[index]
            masks[name] = None if legal is None else tuple(np.atleast_2d(legal))
        return space.sample(mask=masks)

    def space(self, batch: int) -> gymnasium.Space[Any]:
        return batch_space(self.actions.native, batch)


def native_of(env: TorchVectorEnv) -> Native:
    if isinstance(env, VectorAdaptor):
        return Native({None: env.observations}, env.actions)
    if isinstance(env, ParallelAdaptor):
        return Native(dict(env.observations), env.actions, env.ids)
    floats = str(env.dtype).removeprefix("torch.")
    observed = {name: env.signals[name].space(floats) for name in env.description.observations}
    return Native({None: Observations(spaces.Dict(observed))}, ActionSpace(env.single_action_space))
