"""A system as a policy: observations of an environment in, actions out, with state and messages kept between calls."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from antiphon.base.errors import ScenarioError
from antiphon.comms.backward_requests import constant
from antiphon.engine.heart.agent import AGE
from antiphon.engine.heart.signals import EpisodeEnds, StepSignals
from antiphon.engine.heart.system import System
from antiphon.engine.inference.rollout import Links, Rollout, rewired
from antiphon.envs.base import TorchVectorEnv
from antiphon.envs.native import native_of
from antiphon.envs.signal import ALIVE
from antiphon.nets.mask import Mask

Flags = NDArray[np.bool_] | Tensor | bool
"""[batch] bool; of a single environment also one bool."""
_SEEDS = 2**128
"""Spaces take no seed below 0, which runs do."""


class Policy:
    """A system that acts in an environment with its own loop, over perfect links, without learning.

    Its parameters are the system's when the policy is created. States, and messages on their way, are kept between calls:
    call it once per step, for the same environments.

    Args:
        system: The agents; no bit of it changes.
        env: The system's environment, with any batch, for the spaces of observations and actions.
        greedy: Whether to take the most likely action instead of a sample.
        seed: Seed of the samples, and of parts of the action that no agent chooses, which are random.

    Raises:
        ScenarioError: No agent acts.
    """

    def __init__(
        self,
        system: System,
        env: TorchVectorEnv,
        *,
        greedy: bool = True,
        seed: int = 0,
    ) -> None:
        if not any(agent.acts for agent in system.agents.values()):
            raise ScenarioError("policy: no agent acts; give one `acts: true`")
        self.greedy, self.seed = greedy, seed
        self._native = native_of(env)
        self._names = self._signals_read(system) & self._native.signals.keys()
        deployed = Rollout(system, system.batch, Links(), seed, sampled=not greedy).system
        learners = {}
        for learner in dict.fromkeys(agent.learner for agent in deployed.agents.values()):
            parameters = {name: constant(p).clone() for name, p in learner.parameters.items()}
            buffers = {name: b.clone() for name, b in learner.buffers.items()}
            learners[learner] = learner.with_tensors(parameters, buffers)
        self._system = rewired(deployed, deployed.channels, learners)
        self._rollout: Rollout | None = None
        self._step = self._batch = 0

    def _signals_read(self, system: System) -> set[str]:
        """What agents observe, and the masks of channels."""
        names: set[str] = set()
        for agent in system.agents.values():
            names.update(name for name in agent.inputs.observed.signal_names if name != AGE)
        for channel in system.channels.values():
            for mask in channel.mask_signal_names:
                if mask not in self._native.signals:
                    raise ScenarioError(
                        f"policy: '{mask}', the mask of {channel.name}, is not in what the environment returns; use evaluate(), or "
                        "return it as an observation"
                    )
                names.add(mask)
        return names

    def __repr__(self) -> str:
        actions = "greedy" if self.greedy else f"sampled with seed {self.seed}"
        return f"<Policy of {', '.join(self._system.agents)}: {actions}>"

    def act(self, observation: Any) -> Any:
        """Return the action for an observation, in the environment's form, in numpy.

        Args:
            observation: As the environment returns it, of one environment or of a vector of them, in arrays or tensors; of
                a parallel environment by agent.

        Raises:
            ScenarioError: A part that is observed is missing or has another shape, or the number of environments differs
                from the call before.
            RunError: The observation is not finite.
        """
        system = self._system
        signals, alone = self._native.read(observation, self._names, system.device, system.dtype)
        batch = len(next(iter(signals.values())))
        if self._rollout is None:
            self._batch, self._space = batch, self._native.space(batch)
            self._space.seed(self.seed % _SEEDS)
            self._rollout = Rollout(self._system, batch, Links(), self.seed, sampled=not self.greedy)
        elif batch != self._batch:
            raise ScenarioError(
                f"policy: {batch} environments, but {self._batch} at the step before; call reset() first"
            )
        signals |= self._living(observation, batch)
        self._rollout.tick(self._step, StepSignals(self._step, signals))
        self._step += 1
        sample = partial(self._native.random, self._space, observation)
        action = self._native.write(self._rollout.action, sample, batch, alone=alone)
        # of a parallel world: of the agents that are there
        if alone and None not in self._native.observations:
            return {agent: action[agent] for agent in observation if agent in action}
        return action

    def _living(self, observation: Any, batch: int) -> dict[str, Tensor]:
        """Which agents of a parallel environment live: those that observe something."""
        agents = self._native.observations.keys() - {None}
        if not agents or not isinstance(observation, Mapping):
            return {}
        ones = torch.ones(batch, dtype=self._system.dtype, device=self._system.device)
        return {f"{ALIVE}.{name}": ones * float(name in observation) for name in agents}

    def reset(self, mask: Flags | None = None) -> None:
        """Begin new episodes: states are reset, and messages on their way are dropped.

        Args:
            mask: [batch] bool: the environments whose episode has ended; the others, and the agents' clocks, continue. None: all,
                and clocks, random numbers and the number of environments are reset too.

        Raises:
            ScenarioError: The mask has another number of environments.
        """
        if mask is None:
            self._rollout, self._step = None, 0
            return
        if self._rollout is None:
            return
        ends = EpisodeEnds(self._ended(mask))  # no `terminated`, which learning alone asks for
        self._rollout.end_episodes(self._step - 1, ends)

    def _ended(self, mask: Flags) -> Mask:
        ended = torch.as_tensor(mask, dtype=torch.bool, device=self._system.device).reshape(-1)
        if len(ended) != self._batch:
            raise ScenarioError(
                f"policy: the mask has {len(ended)} entries; give {self._batch}, one per environment"
            )
        return Mask.of(ended)
