"""Learning of an asynchronous pipeline with stashed weights, on the agents of a locked scenario."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from antiphon.engine.simulation import Simulation

__all__ = ["StashedWeights"]


class StashedWeights:
    """Steps a locked simulation whose agents compute with older weights than their newest (PipeDream's weight stashing).

    Both passes of a minibatch use the weights that its agent had `staleness` updates before the minibatch's own, and the
    update is added to the newest ones: that of SGD and Adam does not depend on the weights it is for, and weight decay is
    that of the older ones. Staleness 0 gives the bits of the locked simulation.

    Args:
        simulation: Of the locked scenario, at step 0 and unstacked.
        staleness: By agent and minibatch: updates of the agent between the minibatch's passes and its update; of
            minibatches beyond, as of the last. Agents with shared parameters have those of their first.
        window: Steps of a minibatch: from one update to the next.
    """

    def __init__(
        self, simulation: Simulation, staleness: Mapping[str, Sequence[int]], window: int = 1
    ) -> None:
        self.simulation, self.window = simulation, window
        self._stashes: list[_Stash] = []
        for name, agent in simulation.system.owners().items():
            if any(staleness[name]):
                self._stashes.append(_Stash(agent.learner.trainable, staleness[name]))

    @torch.no_grad()
    def step(self) -> None:
        """Take one step of the environment; raises as `Simulation.step`. Between windows the agents have their newest weights."""
        minibatch, place = divmod(self.simulation.now, self.window)
        for stash in self._stashes if place == 0 else ():
            stash.load(minibatch)
        with torch.enable_grad():
            self.simulation.step()
        for stash in self._stashes if place == self.window - 1 else ():
            stash.update()


class _Stash:
    """The newest versions of an agent's weights."""

    def __init__(self, parameters: Sequence[Tensor], staleness: Sequence[int]) -> None:
        self.parameters, self.staleness = parameters, staleness
        self._older = [parameter.clone() for parameter in parameters]
        self._versions = deque([self._older], maxlen=max(staleness) + 1)

    def load(self, minibatch: int) -> None:
        """Load the weights of a minibatch's passes."""
        back = self.staleness[min(minibatch, len(self.staleness) - 1)]
        self._older = self._versions[-1 - min(back, len(self._versions) - 1)]
        for parameter, older in zip(self.parameters, self._older, strict=True):
            parameter.copy_(older)

    def update(self) -> None:
        """Add what the weights have learned since `load` to the newest ones, and load these."""
        for parameter, older, newest in zip(self.parameters, self._older, self._versions[-1], strict=True):
            parameter.copy_(newest + (parameter - older))
        self._versions.append([parameter.clone() for parameter in self.parameters])
