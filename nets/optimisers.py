"""Optimisers as functions of (parameters, gradients, state), equal to torch's."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from antiphon.nets.clipping import clipped
from antiphon.nets.optimiser_kinds import RULES, Numbers, UpdateCall
from antiphon.nets.per_member import PerMember


def laid_out(parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> list[Tensor]:
    """Return `gradients` with the strides of the parameters: fused kernels read memory in order."""
    return [
        g if g.stride() == p.stride() else torch.empty_like(p).copy_(g)
        for p, g in zip(parameters, gradients, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Skip:
    """Whether optimisers skip a step, stored only on the device of their parameters: two float32 [].

    Attributes:
        flag: 1: no parameter is updated and no step is counted; else 0.
        count: Increment of the step counts: 0 if the step is skipped, else 1.
    """

    flag: Tensor
    count: Tensor


MemberMask = Sequence[bool] | Tensor | None
"""Mask of the members that take a step: a bool for each, on the host; None: all."""


class Optimiser:
    """SGD, Adam or AdamW on a list of tensors.

    Its state is plain data, so that a run can be forked and saved. In a `StackedOptimiser` it becomes views of the stack's.

    A parameter without a gradient (None) stays as it is, as with torch's optimisers: it neither decays nor moves by its
    momentum. Steps are counted once, for all parameters.

    Args:
        kind: `sgd`, `adam` or `adamw`.
        parameters: The parameters, changed in place.
        weight_decay: L2 (`sgd`, `adam`) or decoupled (`adamw`).
        clip: The largest joint norm of the gradients; None: no limit.

    Attributes:
        moments: Names of what is kept of each parameter's gradients.
        key: Is equal for optimisers whose calls may run as one, where their numbers are equal: the kernel treats tensors independently.
        skip: Whether steps are skipped; None: all are taken.
        clips: Whether it clips what it is given; False: that has been clipped, with the gradients of others.
    """

    clips = True
    _shape: tuple[int, ...] = ()
    """A count's shape: [], of a stack [N]."""

    def __init__(
        self,
        kind: str,
        parameters: Sequence[Tensor],
        *,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        clip: float | None = None,
    ) -> None:
        self.kind = kind
        self.parameters = list(parameters)
        self.momentum = momentum
        self.weight_decay: PerMember = weight_decay
        self.clip: PerMember | None = clip
        self.skip: Skip | None = None
        self.rule = RULES[kind](momentum)
        self.moments = self.rule.moments
        self.key: Hashable = kind, momentum, self.rule.counts_steps
        self._row: tuple[Optimiser, int] | None = None

    @property
    def counts_steps(self) -> bool:
        """Whether the size of a step depends on how many were taken: not with SGD."""
        return self.rule.counts_steps

    @cached_property
    def state(self) -> dict[str, list[Tensor]]:
        """The moments by name, a tensor for each parameter, and the `steps` taken; created when first read."""
        if self._row is not None:
            stack, row = self._row
            return {name: [tensor[row] for tensor in tensors] for name, tensors in stack.state.items()}
        state = {name: [self._zeros(p) for p in self.parameters] for name in self.moments}
        if self.counts_steps and (self.parameters or not self._shape):
            device = self.parameters[0].device if self.parameters else "cpu"
            state["steps"] = [torch.zeros(self._shape, dtype=torch.float32, device=device)]
        return state

    def _zeros(self, p: Tensor) -> Tensor:
        """Return a moment of a parameter before the first step."""
        return torch.zeros_like(p)

    @property
    def held(self) -> dict[str, list[Tensor]]:
        """The state as far as it exists."""
        held: dict[str, list[Tensor]] = self.__dict__.get("state", {})
        return held

    def join(self, stack: Optimiser, row: int) -> None:
        """Make the state views of a row of `stack`, zero until now, which takes its values."""
        if self._row is not None or self.held:  # else it is zero too
            for name, tensors in self.state.items():
                for tensor, stacked in zip(tensors, stack.state[name], strict=True):
                    view = stacked[row]
                    view.copy_(tensor)
                    tensor.data = view
        self._row = stack, row

    def initial_state(self) -> dict[str, list[Tensor]]:
        """Return the state before the first step."""
        return {
            name: [torch.zeros_like(tensor) for tensor in tensors] for name, tensors in self.state.items()
        }

    def load(self, state: Mapping[str, Sequence[Tensor]]) -> None:
        for name, tensors in self.state.items():
            for tensor, saved in zip(tensors, state[name], strict=True):
                tensor.copy_(saved)

    def expected(self) -> Sequence[Tensor]:
        """Return tensors of the size of its state, which may not exist yet."""
        return [*self.parameters * len(self.moments), *([torch.zeros(())] if self.counts_steps else [])]

    def settings(self) -> dict[str, Any]:
        """Return all arguments except the parameters, for another optimiser."""
        names = ("kind", "momentum", "weight_decay", "clip")
        return {name: getattr(self, name) for name in names}

    def tensors(self) -> Iterator[Tensor]:
        for tensors in self.state.values():
            yield from tensors

    def _run(self, call: UpdateCall, numbers: Numbers, *, from_zero: bool = False) -> None:
        """Update the parameters of `call` (`Rule.update`)."""
        found_inf = None if self.skip is None else self.skip.flag
        self.rule.update(call, numbers, found_inf, alone=not self._shape, from_zero=from_zero)

    @torch.no_grad()
    def step(
        self, gradients: Sequence[Tensor | None], rate: float | Tensor, member_mask: MemberMask = None
    ) -> None:
        """Update the parameters along `-gradients`, in a stack only members in `member_mask`: others and their state are unchanged.

        Args:
            gradients: One per parameter, in order; None: the parameter stays; gradients of other members do not affect any result.
            rate: Learning rate; a tensor [] (float32 on a GPU) is read on the device; [N]: one for each member.
            member_mask: Mask of the members that take the step; None: all.
        """
        for call, numbers in self.calls(gradients, rate, member_mask):
            self.run([call], numbers)

    def calls(
        self, gradients: Sequence[Tensor | None], rate: float | Tensor, member_mask: MemberMask
    ) -> list[tuple[UpdateCall, Numbers]]:
        """Begin a step and return the kernel's arguments; empty: nothing to update. Arguments: see `step`."""
        present = [gradient for gradient in gradients if gradient is not None]
        if not present:
            return []
        every = len(present) == len(self.parameters)
        indices: Sequence[int] = range(len(present))
        if not every:
            indices = [i for i, gradient in enumerate(gradients) if gradient is not None]
        assert not isinstance(self.weight_decay, Tensor)
        if self.clip is not None and self.clips:
            assert not isinstance(self.clip, Tensor)
            present = [*clipped(present, self.clip)]
        state = self.state
        parameters = list(self.parameters) if every else [self.parameters[i] for i in indices]
        counts = state.get("steps", [])
        state_tensors = [state[name] for name in self.moments]
        moments = [list(tensors) if every else [tensors[i] for i in indices] for tensors in state_tensors]
        call = UpdateCall(
            parameters, laid_out(parameters, present), moments, counts * len(parameters), counts
        )
        return [(call, (rate, self.weight_decay))]

    def run(self, calls: Sequence[UpdateCall], numbers: Numbers) -> None:
        """Run the kernel on calls of optimisers with one `key` and `skip`."""
        self._count_once([count for call in calls for count in call.counts])
        joined = calls[0]
        joined.join(calls[1:])
        self._run(joined, numbers)
        for copied in joined.copied:
            copied.write_back()

    def _count_once(self, counts: list[Tensor]) -> None:
        """Count a step in each of some counts; as a list: the value of a single tensor would be read on the host."""
        if self.skip is None and len(counts) == 1:
            counts[0].add_(1)
        elif counts:
            torch._foreach_add_(counts, 1 if self.skip is None else [self.skip.count] * len(counts))
