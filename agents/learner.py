"""The numbers of an agent and how they change: parameters, running statistics, optimiser."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from antiphon.agents.network import Network, Tensors
from antiphon.nets.optimisers import Optimiser, Rate, step_all

__all__ = ["Learner"]


class Learner:
    """Owns one network's numbers. Tied agents share one learner.

    Args:
        network: The function the numbers belong to.
        generator: Draws the initial parameters.
        optimiser: Kind and settings, as `Optimiser` takes them.
        rate: The learning rate over the run.
        frozen: A frozen learner passes gradients on but never changes.
        device: Where the numbers live.
        dtype: Of parameters and float buffers.
    """

    def __init__(
        self,
        network: Network,
        generator: torch.Generator,
        *,
        optimiser: dict[str, object],
        rate: Rate,
        frozen: bool,
        device: torch.device | str,
        dtype: torch.dtype,
    ) -> None:
        self.network = network
        self.rate = rate
        self.frozen = frozen
        self.updates = 0
        self.parameters: Tensors = {
            name: p.to(device=device, dtype=dtype).requires_grad_(not frozen)
            for name, p in network.parameters(generator).items()
        }
        self.buffers: Tensors = {
            name: b.to(device=device, dtype=dtype if b.is_floating_point() else b.dtype)
            for name, b in network.buffers().items()
        }
        self.trainable: list[Tensor] = [] if frozen else list(self.parameters.values())
        self.optimiser = Optimiser(parameters=self.trainable, **optimiser)  # type: ignore[arg-type]

    def planned(
        self, gradients: Sequence[Tensor | None], now: int
    ) -> tuple[Optimiser, Sequence[Tensor], float]:
        """Return the optimiser step that `gradients` ask for, and count it as taken.

        A parameter that nothing reached gets a zero gradient, as in torch's sum.
        """
        full = [
            torch.zeros_like(p) if g is None else g for p, g in zip(self.trainable, gradients, strict=True)
        ]
        self.updates += 1
        return self.optimiser, full, self.rate(now)

    def step(self, gradients: Sequence[Tensor | None], now: int) -> None:
        """Take one optimiser step."""
        step_all([self.planned(gradients, now)])

    def state_dict(self) -> dict[str, object]:
        """Return every number that a fork or checkpoint needs, without copying."""
        return {
            "parameters": dict(self.parameters),
            "buffers": dict(self.buffers),
            "optimiser": {name: list(tensors) for name, tensors in self.optimiser.state.items()},
            "updates": self.updates,
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, object]) -> None:
        """Take over the numbers of `state_dict`, copying."""
        parameters, buffers, optimiser = state["parameters"], state["buffers"], state["optimiser"]
        assert isinstance(parameters, dict)
        assert isinstance(buffers, dict)
        assert isinstance(optimiser, dict)
        for name, p in self.parameters.items():
            p.copy_(parameters[name])
        self.buffers = {name: buffers[name].to(b).clone() for name, b in self.buffers.items()}
        self.optimiser.wake()
        for name, tensors in self.optimiser.state.items():
            for own, saved in zip(tensors, optimiser[name], strict=True):
                own.copy_(saved)
        updates = state["updates"]
        assert isinstance(updates, int)
        self.updates = updates
