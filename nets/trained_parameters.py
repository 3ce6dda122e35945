"""Named parameters with running statistics and an optimiser, for one network or predictor, or stacked."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from antiphon.base.errors import named
from antiphon.base.tools import copy_with
from antiphon.nets.mask import ALL, Mask, Members
from antiphon.nets.native.mlp import fused_step
from antiphon.nets.optimisers import Numbers, Optimiser, UpdateCall, clipped
from antiphon.nets.schedules import Rate
from antiphon.nets.stacked_optimiser import StackedOptimiser
from antiphon.nets.step_numbers import learning_rate
from antiphon.nets.torch_optimisers import TorchOptimiser
from antiphon.nets.whole_lines import padded_zeros

AnyOptimiser = Optimiser | TorchOptimiser
Evaluated = TypeVar("Evaluated")


def _placed(tensor: Tensor, device: torch.device | str, dtype: torch.dtype) -> Tensor:
    """A tensor on a device, floats in a type; zeros of one without memory, where the device has some. A parameter is moved itself."""
    if isinstance(tensor, nn.Parameter) and "meta" not in (tensor.device.type, torch.device(device).type):
        tensor.data = _placed(tensor.data, device, dtype)
        return tensor
    dtype = dtype if tensor.is_floating_point() else tensor.dtype
    if tensor.is_meta and torch.device(device).type != "meta":
        return torch.zeros_like(tensor, device=device, dtype=dtype)
    return tensor.data.to(device=device, dtype=dtype)


class TrainedParameters:
    """Named parameters with running statistics and an optimiser, or N members stacked [N, …].

    The members' parameters are views of their stack's. Running statistics and update counts are not: the stack keeps its
    own until `write_members`.

    Args:
        parameters: Initial parameters, by name; of those without memory (torch's meta device), zeros until a state is loaded.
        optimiser: Kind and settings, see `Optimiser`; with `options`, see `TorchOptimiser`.
        frozen: Whether the parameters are constant; gradients still pass through.
        user_prefixes: Beginnings of the names of parameters that a user's module has.

    Attributes:
        clips: Whether a step clips its gradients; False: they have been clipped, with those of others.
        bf16: Whether it is evaluated under autocast to bfloat16; parameters, results and gradients have type `dtype`.
        steps_taken: In a stack, [N]: optimiser steps taken since the members' own counts were written.
    """

    bf16 = False
    clips = True
    steps_taken = torch.zeros(0, dtype=torch.int64)

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
        owner: str = "",
        seed: int = 0,
        user_prefixes: tuple[str, ...] = (),
    ) -> None:
        self.rate = rate
        self.frozen = frozen
        self.owner, self.seed = owner, seed
        self.updates = 0
        self.members: tuple[TrainedParameters, ...] = ()
        self.parameters: dict[str, Tensor] = {
            name: _placed(p, device, dtype).requires_grad_(not frozen) for name, p in parameters.items()
        }
        self.buffers: dict[str, Tensor] = {name: _placed(b, device, dtype) for name, b in buffers.items()}
        self.trainable = [] if frozen else list(self.parameters.values())
        self._stays = [name.startswith(user_prefixes) for name in self.parameters]
        self.optimiser: AnyOptimiser = (
            TorchOptimiser(self.trainable, owner=owner, seed=seed, **optimiser)
            if "options" in optimiser
            else Optimiser(parameters=self.trainable, **optimiser)
        )

    @classmethod
    def stacked(cls, members: Sequence[Self]) -> Self:
        """Stack N of one kind; all other settings and the names are the first member's.

        Members correspond by the order of their parameters and statistics.
        """
        parameters: dict[str, Tensor] = {}
        parameters_by_member = [list(member.parameters.values()) for member in members]
        for name, *tensors in zip(members[0].parameters, *parameters_by_member, strict=True):
            with torch.no_grad():
                rows = padded_zeros((len(tensors), *tensors[0].shape), tensors[0].data)
                stack = torch.stack(tensors, out=rows)
            for p, view in zip(tensors, stack.unbind(), strict=True):
                p.data = view
            parameters[name] = stack.requires_grad_(tensors[0].requires_grad)
        trainable = [] if members[0].frozen else list(parameters.values())
        optimisers: list[Any] = [member.optimiser for member in members]
        stacked_parameters = copy_with(
            members[0],
            members=tuple(members),
            parameters=parameters,
            trainable=trainable,
            optimiser=copy_with(optimisers[0], members=tuple(optimisers))
            if isinstance(optimisers[0], TorchOptimiser)
            else StackedOptimiser.of(optimisers, trainable),
            updates=0,
            steps_taken=torch.zeros(len(members), dtype=torch.int64),
        )
        stacked_parameters.read_members()
        return stacked_parameters

    def with_tensors(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor] | None = None) -> Self:
        """Return one that is evaluated with other parameters and running statistics (None: its own), and not trained."""
        return copy_with(
            self,
            parameters=parameters,
            trainable=[],
            buffers=self.buffers if buffers is None else buffers,
        )

    def put_statistics(self, statistics: Mapping[str, Tensor]) -> None:
        """Put running statistics in place of those of the same names, in a new dictionary: what is noted of a step keeps the old."""
        self.buffers = {**self.buffers, **statistics}

    def evaluated(self, function: Callable[..., Evaluated], *inputs: Any, **settings: Any) -> Evaluated:
        """Return the result of a function of an input, the parameters and the statistics, in this object's precision.

        Running statistics, which a function returns second as it takes them second, keep their types. What a user's module
        raises is noted to be this owner's.
        """
        if not self.bf16:
            return self._named(function, *inputs, **settings)
        device = next(iter(self.parameters.values())).device
        with torch.autocast(device.type, torch.bfloat16):
            result: Any = self._named(function, *inputs, **settings)
        values, *statistics = result if isinstance(result, tuple) else (result,)
        full: Any = tree_map_only(Tensor, lambda t: t.float() if t.is_floating_point() else t, values)
        if not statistics:
            return full  # type: ignore[no-any-return]
        (after,), before = statistics, inputs[1]
        return full, {name: b.to(before[name].dtype) for name, b in after.items()}  # type: ignore[return-value]

    def _named(self, function: Callable[..., Evaluated], *inputs: Any, **settings: Any) -> Evaluated:
        if not any(self._stays):
            return function(*inputs, **settings)
        with named(self.owner):
            return function(*inputs, **settings)

    def counts(self) -> list[int]:
        if not self.members:
            return [self.updates]
        return [member.updates + n for member, n in zip(self.members, self.steps_taken.tolist(), strict=True)]

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a fork or checkpoint, without copying; for a stack use its members."""
        return {
            "parameters": dict(self.parameters),
            "buffers": dict(self.buffers),
            "optimiser": {name: list(tensors) for name, tensors in self.optimiser.state.items()},
            "updates": self.updates,
        }

    def filled(self, gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Return gradients, in the order of `trainable`, with zeros where none reaches a network of antiphon's own.

        All of its heads are used at every tick, and whether a gradient is missing or zero depends on the backend. A parameter of a
        user's module without a gradient (None) stays as it is, as with torch's optimisers.
        """
        return [
            torch.zeros_like(p) if gradient is None and not stays else gradient
            for p, gradient, stays in zip(self.trainable, gradients, self._stays, strict=False)
        ]

    def moves_by(self, gradients: Sequence[Tensor | None], *, further: bool) -> bool:
        """Return whether a step by these gradients moves a parameter: one has a gradient, or is given zeros (`filled`)."""
        return any(g is not None for g in gradients) or not (further or all(self._stays))

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, p in self.parameters.items():
            p.copy_(state["parameters"][name])
        for name, b in self.buffers.items():
            saved = state["buffers"][name]
            if saved is not b:  # its own state is loaded where a reference shares it
                self.buffers[name] = saved.to(b).clone()
        self.optimiser.load(state["optimiser"])
        self.updates = state["updates"]

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor | None], now: int, member_mask: Mask[Members] = ALL) -> None:
        """Take one optimiser step along gradients in the order of `trainable`; where one is None, see `filled`."""
        take_optimiser_steps([(self, gradients, member_mask)], now)

    def begin_step(
        self,
        gradients: Sequence[Tensor | None],
        now: int,
        member_mask: Mask[Members],
        *,
        further: bool,
    ) -> list[tuple[UpdateCall, Numbers]]:
        """Count a step, and return the kernel's calls that take it, which others may share; empty where it is taken."""
        self.updates += 1
        if not further and any(gradient is None for gradient in gradients):
            gradients = self.filled(gradients)
        optimiser = self.optimiser
        if self.clips and optimiser.clip is not None:
            gradients = clipped(gradients, optimiser.clip, by_member=bool(self.members))
        moving = (
            None if member_mask is ALL else member_mask.tensor(len(self.members), self.steps_taken.device)
        )
        if self.members:
            self.steps_taken += 1 if moving is None else moving.long()
        if self.rate.constant or not self.trainable:
            rate: Any = self.rate.base
        elif isinstance(self.rate.base, Tensor):
            rate = self.rate(now)
        else:
            rate = learning_rate(self.rate, now, self.trainable[0].device)
        if not isinstance(optimiser, Optimiser):
            optimiser.step(gradients, rate, moving, self.counts())
            return []
        if isinstance(optimiser, StackedOptimiser) and fused_step(gradients, optimiser, rate, moving):
            return []
        return optimiser.calls(gradients, rate, moving)

    def read_members(self) -> None:
        """Stack the members' running statistics and counts again, after a state was loaded into them."""
        buffers_by_member = [list(member.buffers.values()) for member in self.members]
        names = self.members[0].buffers
        self.buffers = {
            name: torch.stack(tensors) for name, *tensors in zip(names, *buffers_by_member, strict=True)
        }
        self.steps_taken.zero_()
        if isinstance(self.optimiser, StackedOptimiser):
            self.optimiser.refresh()

    def write_members(self) -> None:
        """Write running statistics and counts of updates to the members; their parameters are views."""
        split = [self.buffers[name].unbind() for name in self.members[0].buffers]
        for n, (member, steps_taken) in enumerate(zip(self.members, self.steps_taken.tolist(), strict=True)):
            member.buffers = {name: stack[n] for name, stack in zip(member.buffers, split, strict=True)}
            member.updates += steps_taken
        self.steps_taken.zero_()

    def restore_buffers(self, member_mask: Tensor, buffers: Mapping[str, Tensor]) -> None:
        """Set the running statistics of members, `member_mask` [N] bool, back to `buffers`."""
        self.buffers = {
            name: torch.where(member_mask.view(-1, *[1] * (stack.dim() - 1)), buffers[name], stack)
            for name, stack in self.buffers.items()
        }


@torch.no_grad()
def take_optimiser_steps(
    steps: Sequence[tuple[TrainedParameters, Sequence[Tensor | None], Mask[Members]]],
    now: int,
    *,
    further: bool = False,
) -> None:
    """Take the steps of several, each with its gradients and members; equal settings and numbers share one kernel call.

    Args:
        further: Whether every parameter without a gradient stays, as in a further pass; else see `TrainedParameters.filled`.
    """
    calls: dict[Hashable, list[tuple[Any, UpdateCall, Numbers]]] = {}
    for position, (owner, gradients, member_mask) in enumerate(steps):
        for call, numbers in owner.begin_step(gradients, now, member_mask, further=further):
            optimiser: Any = owner.optimiser
            key = ("apart", position) if isinstance(numbers[0], Tensor) else (optimiser.key, numbers)
            calls.setdefault(key, []).append((optimiser, call, numbers))
    for calls_together in calls.values():
        optimiser, _, numbers = calls_together[0]
        optimiser.run([call for _, call, _ in calls_together], numbers)
