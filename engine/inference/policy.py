"""A system as a policy: observations of a world in, actions out, with state and messages kept between calls."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from antiphon.comms.backward_requests import constant
from antiphon.engine.heart.agent import AGE
from antiphon.engine.heart.message import EpisodeEnds, StepSignals
from antiphon.engine.heart.system import System
from antiphon.engine.inference.links import Links
from antiphon.engine.inference.rollout import Rollout
from antiphon.envs.adaptors.native import native_of
from antiphon.envs.base import TorchVectorEnv
from antiphon.errors import ScenarioError

__all__ = ["Policy"]


class Policy:
    """A system that acts in a world stepped by somebody else, over perfect links, and does not learn.

    It acts with the parameters that the system has when the policy is made. States, and messages on their way, are kept
    from one call to the next: call it once a step, for the same environments.

    Args:
        system: The agents; no bit of it changes.
        env: The environment of the system, of any batch, for the forms of its observations and actions.
        greedy: Whether policies take their most likely action, instead of a sample.
        seed: Of samples, and of parts of the action that no agent chooses, which are random.

    Raises:
        ScenarioError: No agent acts.
    """

    def __init__(self, system: System, env: TorchVectorEnv, *, greedy: bool = True, seed: int = 0) -> None:
        actors = [agent for agent in system.agents.values() if agent.acts]
        if not actors:
            raise ScenarioError("policy: no agent acts; give one `acts: true`")
        self.greedy, self.seed = greedy, seed
        self._native = native_of(env)
        observed = {name for agent in system.agents.values() for name in agent.inputs.observes if name != AGE}
        self._names = observed & self._native.signals.keys()
        self._system = Rollout(system, system.batch, Links(), seed, sampled=not greedy).system
        for learner in dict.fromkeys(agent.learner for agent in self._system.agents.values()):
            learner.parameters = {name: constant(p).clone() for name, p in learner.parameters.items()}
            learner.buffers = {name: b.clone() for name, b in learner.buffers.items()}
        self._rollout: Rollout | None = None
        self._step = self._batch = 0

    def act(self, observation: Any) -> Any:
        """Return the action at an observation, as the world takes it, in numpy.

        Args:
            observation: As the world returns it, of one environment or of a vector of them, in arrays or tensors; of a
                parallel world by agent.

        Raises:
            ScenarioError: It has not the parts that are observed, or their shapes, or is of another number of environments
                than the one before.
            RunError: It is not finite.
        """
        system = self._system
        signals, alone = self._native.read(observation, self._names, system.device, system.dtype)
        batch = len(next(iter(signals.values())))
        if self._rollout is None:
            self._begin(batch)
        elif batch != self._batch:
            raise ScenarioError(
                f"policy: {batch} environments, after {self._batch}; call reset() between them"
            )
        assert self._rollout is not None
        self._rollout.tick(self._step, StepSignals(self._step, signals))
        self._step += 1
        action = self._native.write(self._rollout.action, self._space.sample, batch, alone=alone)
        if (
            alone and None not in self._native.observations
        ):  # of a parallel world: of the agents that are there
            return {agent: action[agent] for agent in observation if agent in action}
        return action

    def reset(self, mask: NDArray[np.bool_] | Tensor | bool | None = None) -> None:
        """Begin episodes: what agents remember, and messages on their way, are void.

        Args:
            mask: [batch] bool: the environments whose episode has ended; the others, and the clocks of the agents, go on. None:
                all, and everything begins anew: clocks, random numbers and the number of environments.

        Raises:
            ScenarioError: A mask of another number of environments.
        """
        if mask is None:
            self._rollout, self._step = None, 0
            return
        ended = torch.as_tensor(mask, dtype=torch.bool, device=self._system.device).reshape(-1)
        if self._rollout is None:
            return
        if len(ended) != self._batch:
            raise ScenarioError(
                f"policy: the mask is of {len(ended)} environments; give one of {self._batch}"
            )
        if bool(ended.any()):
            self._rollout.system.cut(self._step - 1, EpisodeEnds(ended))

    def _begin(self, batch: int) -> None:
        self._batch = batch
        self._space = self._native.space(batch)
        self._space.seed(self.seed)
        self._rollout = Rollout(self._system, batch, Links(), self.seed, sampled=not self.greedy)
