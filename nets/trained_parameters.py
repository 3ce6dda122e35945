"""Named parameters with running statistics and an optimiser of their own: of one network or predictor, or stacked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from antiphon.nets.memory import give_back
from antiphon.nets.native.mlp import fused_step
from antiphon.nets.optimisers import Optimiser, Skip, StackedOptimiser, padded_zeros
from antiphon.nets.schedules import Rate
from antiphon.nets.step_numbers import learning_rate
from antiphon.nets.torch_optimisers import StackedTorchOptimiser, TorchOptimiser

__all__ = ["StackedParameters", "TrainedParameters"]

AnyOptimiser = Optimiser | TorchOptimiser


def _optimiser(parameters: Sequence[Tensor], **settings: Any) -> AnyOptimiser:
    """An optimiser of antiphon's kinds, or where there are `options` one of torch's or a user's."""
    if "options" in settings:
        return TorchOptimiser(parameters, **settings)
    return Optimiser(parameters=parameters, **settings)


def _stacked(
    members: Sequence[AnyOptimiser], stacks: Sequence[Tensor]
) -> StackedOptimiser | StackedTorchOptimiser:
    own = [one for one in members if isinstance(one, TorchOptimiser)]
    if own:
        return StackedTorchOptimiser(own)
    return StackedOptimiser.from_members([one for one in members if isinstance(one, Optimiser)], stacks)


class TrainedParameters:
    """Named parameters with running statistics and an optimiser of their own.

    Args:
        parameters: Initial parameters, by name.
        buffers: Initial running statistics, by name.
        optimiser: Kind and settings, as `Optimiser` takes them, or with `options`, as `TorchOptimiser` does.
        rate: The learning rate over the run.
        frozen: Whether the parameters are constant; gradients still pass through.
        device: Of all tensors.
        dtype: Of parameters and float buffers.

    Attributes:
        trainable: The parameters that the optimiser changes.
        updates: Optimiser steps taken.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        buffers: Mapping[str, Tensor],
        *,
        optimiser: dict[str, Any],
        rate: Rate,
        frozen: bool = False,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.rate = rate
        self.frozen = frozen
        self.updates = 0
        self.parameters: dict[str, Tensor] = {
            name: p.to(device=device, dtype=dtype).requires_grad_(not frozen)
            for name, p in parameters.items()
        }
        self.buffers: dict[str, Tensor] = {
            name: b.to(device=device, dtype=dtype if b.is_floating_point() else b.dtype)
            for name, b in buffers.items()
        }
        self.trainable = [] if frozen else list(self.parameters.values())
        self.optimiser = _optimiser(self.trainable, **optimiser)

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a fork or checkpoint, without copying."""
        return {
            "parameters": dict(self.parameters),
            "buffers": dict(self.buffers),
            "optimiser": {name: list(tensors) for name, tensors in self.optimiser.state.items()},
            "updates": self.updates,
        }

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a copy of the state from `state_dict`."""
        for name, p in self.parameters.items():
            p.copy_(state["parameters"][name])
        for name, b in self.buffers.items():
            saved = state["buffers"][name]
            if saved is not b:  # its own state is loaded where a reference shares it
                self.buffers[name] = saved.to(b).clone()
        self.optimiser.load(state["optimiser"])
        self.updates = state["updates"]

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor | None], now: int, *, skip: Skip | None = None) -> None:
        """Take one optimiser step, unless it is to `skip`; a parameter without a gradient (None) gets zeros."""
        full = [
            torch.zeros_like(p) if g is None else g for p, g in zip(self.trainable, gradients, strict=True)
        ]
        self.updates += 1
        rate = learning_rate(self.rate, now, self.trainable[0].device) if self.trainable else self.rate.base
        self.optimiser.step(full, rate, skip=skip)


class StackedParameters:
    """N `TrainedParameters` of one kind, stacked [N, …]; the members' own parameters become views.

    Running statistics and counts of updates are values: the stack has its own until `write_members`. Members correspond
    by the order of their parameters and statistics; names are those of the first.

    Attributes:
        parameters: To be changed in place only.
        taken: [N]: optimiser steps taken since the members' own counts were written.
    """

    def __init__(self, members: Sequence[TrainedParameters]) -> None:
        first = members[0]
        self.members = list(members)
        self.rate, self.frozen = first.rate, first.frozen
        self.parameters: dict[str, Tensor] = {}
        each = [list(member.parameters.values()) for member in members]
        for name, *own in zip(first.parameters, *each, strict=True):
            with torch.no_grad():
                stack = torch.stack(own, out=padded_zeros((len(own), *own[0].shape), own[0].data))
            for p, view in zip(own, stack.unbind(), strict=True):
                p.data = view
            self.parameters[name] = stack.requires_grad_(own[0].requires_grad)
            give_back(stack.numel() * stack.element_size())  # the next stack needs it
        self.trainable = [] if first.frozen else list(self.parameters.values())
        self.optimiser = _stacked([one.optimiser for one in members], self.trainable)
        self.taken = torch.zeros(len(members), dtype=torch.int64)
        self.buffers: dict[str, Tensor] = {}
        self.read_members()

    def step(
        self, gradients: Sequence[Tensor], now: int, members: Tensor | None, *, skip: Skip | None = None
    ) -> None:
        """Take one optimiser step of `members`, [N] bool or None for all.

        Args:
            gradients: [N, …] each, in the order of `trainable`.
            now: The step, for the learning rate.
            members: Those that are updated.
            skip: Whether none is; None: all are.
        """
        rate = learning_rate(self.rate, now, self.trainable[0].device) if self.trainable else self.rate(now)
        own = self.optimiser
        if not isinstance(own, StackedOptimiser) or not fused_step(gradients, own, rate, members, skip):
            own.step(gradients, rate, members, skip=skip)
        self.taken += 1 if members is None else members.long()

    def read_members(self) -> None:
        """Stack the running statistics and counts of the members again, after a state was loaded into them."""
        each = [list(member.buffers.values()) for member in self.members]
        names = self.members[0].buffers
        self.buffers = {name: torch.stack(own) for name, *own in zip(names, *each, strict=True)}
        self.taken.zero_()
        self.optimiser.refresh()

    def write_members(self) -> None:
        """Write running statistics and counts of updates to the members; their parameters are views."""
        split = [self.buffers[name].unbind() for name in self.members[0].buffers]
        for n, (member, taken) in enumerate(zip(self.members, self.taken.tolist(), strict=True)):
            member.buffers = {name: own[n] for name, own in zip(member.buffers, split, strict=True)}
            member.updates += taken
        self.taken.zero_()

    def restore_buffers(self, members: Tensor, buffers: Mapping[str, Tensor]) -> None:
        """Set the running statistics of `members`, [N] bool, back to `buffers`."""
        self.buffers = {
            name: torch.where(members.view(-1, *[1] * (stack.dim() - 1)), buffers[name], stack)
            for name, stack in self.buffers.items()
        }
