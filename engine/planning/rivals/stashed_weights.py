"""Learning of an asynchronous pipeline with stashed weights, on the agents of a locked scenario."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

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
        staleness: By agent: updates between a minibatch's passes and its update; of agents with shared parameters, the
            largest counts.
        window: Steps from one update to the next.
    """

    def __init__(self, simulation: Simulation, staleness: Mapping[str, int], window: int = 1) -> None:
        self.simulation, self.window = simulation, window
        self._versions: dict[int, deque[list[Tensor]]] = {}
        self._parameters: dict[int, list[Tensor]] = {}
        lengths: dict[int, int] = {}
        for name, agent in simulation.system.agents.items():
            key = id(agent.learner)
            lengths[key] = max(lengths.get(key, 0), staleness[name])
            self._parameters[key] = agent.learner.trainable
        for key, length in lengths.items():
            if length:
                newest = [parameter.clone() for parameter in self._parameters[key]]
                self._versions[key] = deque([newest], maxlen=length + 1)

    @torch.no_grad()
    def step(self) -> None:
        """Take one step of the environment; raises as `Simulation.step`. Between windows the agents have their newest weights."""
        begins = self.simulation.now % self.window == 0
        ends = (self.simulation.now + 1) % self.window == 0
        for key, versions in self._versions.items() if begins else ():
            for parameter, older in zip(self._parameters[key], versions[0], strict=True):
                parameter.copy_(older)
        with torch.enable_grad():
            self.simulation.step()
        for key, versions in self._versions.items() if ends else ():
            updated = []
            pairs = zip(self._parameters[key], versions[0], versions[-1], strict=True)
            for parameter, older, present in pairs:
                parameter.copy_(present + (parameter - older))
                updated.append(parameter.clone())
            versions.append(updated)
