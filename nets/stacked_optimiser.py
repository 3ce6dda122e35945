"""Optimisers on stacked parameters: many of one kind take one fused kernel call for any subset of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import groupby
from typing import Any, Self

import torch
from torch import Tensor

from antiphon.nets.optimisers import MemberMask, Numbers, Optimiser, UpdateCall, laid_out
from antiphon.nets.per_member import nonzero
from antiphon.nets.whole_lines import Lines, in_lines, left_over, padded_zeros, whole_lines


class StackedOptimiser(Optimiser):
    """N optimisers of one kind on stacked tensors, [N, …], dense, each with its own step count.

    The state of members that are stacked (`of`) becomes views of the stack's; after a member has stepped alone or was loaded, call
    `refresh`. Weight decay and clip are one number, or one for each member, where they differ.
    """

    def __init__(self, kind: str, parameters: Sequence[Tensor], **settings: Any) -> None:
        super().__init__(kind, parameters, **settings)
        self.size = len(parameters[0]) if parameters else 0
        self._shape = (self.size,)
        self.key = kind, self.momentum, True
        self._offsets: list[int] | None = None
        """Steps of each member relative to a common count; None: stored only on the device."""
        self._equal_counts = True
        self._rates: tuple[float | Tensor | None, list[Tensor]] = None, []
        self.refresh()

    @classmethod
    @torch.no_grad()
    def of(cls, optimisers: Sequence[Optimiser], stacks: Sequence[Tensor]) -> Self:
        """Stack N optimisers of equal settings, whose parameters are views of `stacks` [N, …]; their state becomes views too."""
        first = optimisers[0]
        stack = cls(
            first.kind, stacks, momentum=first.momentum, weight_decay=first.weight_decay, clip=first.clip
        )
        if stacks:
            for n, optimiser in enumerate(optimisers):
                optimiser.join(stack, n)
        stack.refresh()
        return stack

    def _zeros(self, p: Tensor) -> Tensor:
        return padded_zeros(p.shape, p) if p.is_contiguous() else torch.zeros_like(p)

    def count(self, member_mask: MemberMask) -> Sequence[int]:
        """Return the members that take a step, and track relative step counts on the host, unless they depend on the device."""
        if member_mask is None:
            return range(self.size)
        moving = member_mask.tolist() if isinstance(member_mask, Tensor) else member_mask
        stepping = [n for n, moves in enumerate(moving) if moves]
        if 0 < len(stepping) < self.size:
            if self.skip is not None:
                self._offsets = None
            if self._offsets is not None:
                for n in stepping:
                    self._offsets[n] += 1
            self._equal_counts = self._uniform()
        return stepping

    def refresh(self) -> None:
        """Read step counts and stacks again, after a state was loaded or a member has stepped alone."""
        for made_once in ("_lines", "_slices", "_moved"):
            self.__dict__.pop(made_once, None)
        self._rates = None, []
        self._offsets = [0] * self.size
        if "steps" in self.state:
            counts = self.state["steps"][0]
            self._count = counts[0]
            self._offsets = [int(count) for count in counts.tolist()]  # the host waits, here only
        self._equal_counts = self._uniform()

    def calls(
        self, gradients: Sequence[Tensor | None], rate: float | Tensor, member_mask: MemberMask
    ) -> list[tuple[UpdateCall, Numbers]]:
        """Begin a step of some members and return the kernel's arguments: a call for each run of members with equal numbers.

        Where all members step, each with its own numbers, the step is taken and there is no call. Arguments: see `Optimiser.calls`.
        """
        indices = [i for i, gradient in enumerate(gradients) if gradient is not None]
        present = [gradient for gradient in gradients if gradient is not None]
        stepping = self.count(member_mask) if present else ()
        if not stepping:
            return []
        have_equal_counts = len(stepping) == self.size and self._equal_counts
        decay = self.weight_decay
        if not isinstance(decay, Tensor) and not (isinstance(rate, Tensor) and rate.dim()):
            if have_equal_counts:
                return [(self._call_all(present, indices), (rate, decay))]
            return [(self._call_some(present, indices, stepping), (rate, decay))]
        if have_equal_counts and self.skip is None:  # which would have to hold for the weight decay too
            self._step_each(present, indices, rate)
            return []
        numbers = list(zip(_listed(rate, self.size), _listed(decay, self.size), strict=True))
        runs = [list(run) for _, run in groupby(stepping, key=numbers.__getitem__)]
        return [(self._call_some(present, indices, run), numbers[run[0]]) for run in runs]

    def _uniform(self) -> bool:
        """Whether all counts are known to be equal; SGD needs none."""
        if "steps" not in self.state:
            return True
        return self._offsets is not None and min(self._offsets) == max(self._offsets)

    def _call_all(self, gradients: Sequence[Tensor], indices: Sequence[int]) -> UpdateCall:
        """Call for all members with equal counts: the kernel's tensors are the stacks."""
        steps = self._count_all(len(indices))
        parameters, moments, padded = self._lines
        gradients_in_lines = laid_out([self.parameters[i] for i in indices], gradients)
        if len(indices) < len(parameters):
            parameters = [parameters[i] for i in indices]
            moments = [[tensors[i] for i in indices] for tensors in moments]
            padded = [n for n, i in enumerate(indices) if i in padded]
        for n in padded:
            gradients_in_lines[n] = torch.cat(
                [gradients_in_lines[n].reshape(-1), parameters[n][gradients_in_lines[n].numel() :]]
            )  # padding stays zero
        return UpdateCall(list(parameters), gradients_in_lines, [list(tensors) for tensors in moments], steps)

    def _step_each(self, gradients: Sequence[Tensor], indices: Sequence[int], rate: float | Tensor) -> None:
        """Take the step of all members, each with its own numbers: the kernel's step from zero at rate 1, times the rates."""
        parameters, steps = [self.parameters[i].data for i in indices], self._count_all(len(indices))
        rows = list(gradients)
        if self._rates[0] is not rate:  # a constant rate is one tensor
            self._rates = rate, self._factors(rate)
        moved, rates = [self._moved[i] for i in indices], [self._rates[1][i] for i in indices]
        if nonzero(self.weight_decay):
            factors = self._factors(self.weight_decay)
            decays = [factors[i] for i in indices]
            rows = self.rule.decayed(rows, parameters, rates, decays)
        moments = [[self.state[name][i] for i in indices] for name in self.moments]
        call = UpdateCall(moved, laid_out(parameters, rows), moments, steps)
        self.rule.update(call, (1.0, 0.0), None, alone=False, from_zero=True)
        torch._foreach_addcmul_(parameters, moved, rates)

    @cached_property
    def _moved(self) -> list[Tensor]:
        """Zeros of each parameter, from which the kernel takes a step that is multiplied by the rates."""
        return [torch.zeros_like(p) for p in self.parameters]

    def _factors(self, number: float | Tensor) -> list[Tensor]:
        first = self.parameters[0]
        factors = torch.as_tensor(number, dtype=first.dtype, device=first.device).expand(len(first))
        return [factors.view(-1, *[1] * (p.dim() - 1)) for p in self.parameters]

    def _count_all(self, parameters: int) -> list[Tensor]:
        """Count a step of all members, whose counts are equal, and return the count for each of some parameters."""
        if "steps" not in self.state:
            return []
        self.state["steps"][0].add_(1 if self.skip is None else self.skip.count)
        return [self._count] * parameters

    @cached_property
    def _lines(self) -> tuple[list[Tensor], list[list[Tensor]], list[int]]:
        parameters = [whole_lines(p.data) for p in self.parameters]
        moments = [
            [
                m.data if p.numel() == m.numel() else whole_lines(m.data)
                for p, m in zip(parameters, self.state[name], strict=True)
            ]
            for name in self.moments
        ]
        pairs = enumerate(zip(self.parameters, parameters, strict=True))
        padded = [i for i, (p, lines) in pairs if lines.numel() > p.numel()]
        return parameters, moments, padded

    def _call_some(
        self, gradients: Sequence[Tensor], indices: Sequence[int], stepping: Sequence[int]
    ) -> UpdateCall:
        """Call for some members, or for differing counts: every updated slice is a tensor with its own count."""
        parameters, moments, counts = self._slices
        steps = []
        index = torch.tensor(list(stepping), device=self.parameters[0].device)
        if "steps" in self.state:
            once = [counts[n] for n in stepping]
            self._count_once(once)
            steps = once * len(indices)
        call = UpdateCall([], [], [[] for _ in moments], steps)
        for i, rows in zip(indices, self._gradients(gradients, indices, stepping), strict=True):
            stacks = [self.parameters[i], *(self.state[name][i] for name in self.moments)]
            slices = [parameters[i], *(slices_of_moment[i] for slices_of_moment in moments)]
            stepping_slices = [[slices_of_stack[n] for n in stepping] for slices_of_stack in slices]
            if left_over(stepping_slices[0][0]):
                lines = [Lines(stack, index) for stack in stacks]
                call.copied.extend(lines)
                stepping_slices = [lines_of_stack.rows() for lines_of_stack in lines]
                rows = list(in_lines(torch.stack(rows)).unbind(0))
            call.parameters.extend(stepping_slices[0])
            call.gradients.extend(rows)
            for tensors_of_call, added in zip(call.moments, stepping_slices[1:], strict=True):
                tensors_of_call += added
        return call

    def _gradients(
        self, gradients: Sequence[Tensor], indices: Sequence[int], stepping: Sequence[int]
    ) -> list[list[Tensor]]:
        """Return the members' gradients for each of some parameters, with the strides of the parameter's slices."""
        few = 4 * len(stepping) < len(self.parameters[0])  # one by one is slower by about that
        views_by_parameter = gradients if few else [g.unbind(0) for g in gradients]
        rows = [[views[n] for n in stepping] for views in views_by_parameter]
        return [
            row
            if row[0].stride() == p.stride()[1:]
            else list(laid_out([p[: len(row)]], [torch.stack(row)])[0].unbind(0))
            for p, row in zip((self.parameters[i] for i in indices), rows, strict=True)
        ]

    @cached_property
    def _slices(self) -> tuple[list[list[Tensor]], list[list[list[Tensor]]], list[Tensor]]:
        return (
            [list(p.unbind(0)) for p in self.parameters],
            [[list(m.unbind(0)) for m in self.state[name]] for name in self.moments],
            list(self.state["steps"][0].unbind(0)) if "steps" in self.state else [],
        )


def _listed(number: float | Tensor, count: int) -> list[float]:
    return number.tolist() if isinstance(number, Tensor) and number.dim() else [float(number)] * count
