"""Optimisers as functions of (parameters, gradients, state), equal to torch's; many of one kind on stacked
parameters take one fused kernel call for any subset.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from antiphon.nets.kernel_calls import Call, Lines, Numbers, in_lines, left_over, unwritten_zeros, whole_lines
from antiphon.nets.optimiser_kinds import RULES
from antiphon.nets.per_member import PerMember, nonzero, to_rows

_LITTLE = 1e-6
"""What torch.nn.utils.clip_grad_norm_ adds to a norm before it divides by it."""


def norm_of(gradients: Sequence[Tensor]) -> Tensor:
    """Return the joint norm of gradients, []."""
    norm: Tensor = torch.stack(torch._foreach_norm(list(gradients))).norm()
    return norm


def clipped(
    gradients: Sequence[Tensor], largest: float | Tensor, norm: Tensor | None = None
) -> Sequence[Tensor]:
    """Clip gradients as torch.nn.utils.clip_grad_norm_ does, without synchronising host and device.

    Args:
        gradients: They stay bit-identical where their norm is smaller.
        largest: The largest joint norm.
        norm: That of all gradients that are clipped together, []; None: of these.
    """
    norm = norm_of(gradients) if norm is None else norm
    return torch._foreach_mul(list(gradients), (largest / (norm + _LITTLE)).clamp(max=1.0))


def _laid_out(parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> list[Tensor]:
    """Return `gradients` with the strides of the parameters: fused kernels read memory in order."""
    return [
        g if g.stride() == p.stride() else torch.empty_like(p).copy_(g)
        for p, g in zip(parameters, gradients, strict=True)
    ]


MISSED = "missed"
"""Name of the state of optimisers of which a parameter had no gradient at a step: float32 [P], or [N, P] in a stack."""


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
    """SGD, Adam or AdamW on a list of tensors, or N such optimisers on stacked tensors, each with its own step count.

    Its state is plain data, so that a run can be forked and saved. The state of members passed to `stacked` becomes views of
    the stack's; after a member has stepped alone or was loaded, call `refresh`.

    A parameter without a gradient (None) stays as it is, as with torch's optimisers: it neither decays nor moves by its
    momentum, and its step is not counted. The steps that it missed are part of the state once there are any.

    Args:
        kind: `sgd`, `adam` or `adamw`.
        parameters: The parameters, changed in place; stacks [N, …] are dense, with the member axis outermost.
        stacked: Whether the parameters are stacks.
        betas: Adam's decay rates of the first and second moment.
        weight_decay: L2 (`sgd`, `adam`) or decoupled (`adamw`).
        clip: The largest joint norm of the gradients, per member of a stack; None: no limit.

    Attributes:
        weight_decay: As given; of a stack one for each member, where they differ. So is `clip`.
        rule: How parameters follow their gradients.
        moments: Names of what is kept of each parameter's gradients.
        size: N; None: the parameters are not stacked.
        key: Is equal for optimisers whose calls may run as one, where their numbers are equal: the kernel treats tensors independently.
        skip: Whether steps are skipped; None: all are taken.
        clips: Whether it clips what it is given; False: that has been clipped, with the gradients of others.
        late: Places of the parameters of a stack that ever missed a step, whose count is not that of all.
    """

    clips = True

    def __init__(
        self,
        kind: str,
        parameters: Sequence[Tensor],
        *,
        stacked: bool = False,
        momentum: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        clip: float | None = None,
    ) -> None:
        self.kind = kind
        self.parameters = list(parameters)
        self.momentum = momentum
        self.betas = betas
        self.weight_decay: PerMember = weight_decay
        self.clip: PerMember | None = clip
        self.skip: Skip | None = None
        self.rule = RULES[kind](momentum, betas)
        self.moments = self.rule.moments
        self.size = (len(parameters[0]) if parameters else 0) if stacked else None
        self.key: Hashable = kind, momentum, betas, stacked or self.rule.counts_steps
        self._row: tuple[Optimiser, int] | None = None
        self._absent: tuple[tuple[int, ...], Tensor] | None = None
        if stacked:
            self.refresh()

    @classmethod
    @torch.no_grad()
    def stacked(cls, optimisers: Sequence[Optimiser], stacks: Sequence[Tensor]) -> Optimiser:
        """Stack N optimisers of equal settings; their state becomes views into the stacked one.

        Args:
            optimisers: The members, in the order of the stacks' first axis.
            stacks: Their parameters, stacked [N, …]; each member's parameters are already views of them.
        """
        stack = cls(parameters=stacks, stacked=True, **optimisers[0].settings())
        if stacks:
            if any(MISSED in _held(optimiser) for optimiser in optimisers):
                _missed_steps(stack)
            for n, optimiser in enumerate(optimisers):
                optimiser._join(stack, n)
        stack.refresh()
        return stack

    @property
    def counts_steps(self) -> bool:
        """Whether the size of a step depends on how many were taken: not with SGD."""
        return self.rule.counts_steps

    @property
    def state(self) -> dict[str, list[Tensor]]:
        """The moments by name, a tensor for each parameter, the `steps` taken and those `missed`; created when first read."""
        state = self._state
        if self._row is not None and MISSED not in state:
            stack, row = self._row
            if MISSED in _held(stack):
                state[MISSED] = [stack.state[MISSED][0][row]]
        return state

    @cached_property
    def _state(self) -> dict[str, list[Tensor]]:
        if self._row is not None:
            stack, row = self._row
            return {name: [tensor[row] for tensor in tensors] for name, tensors in stack.state.items()}

        def zeros(p: Tensor) -> Tensor:
            plain = self.size is None or not p.is_contiguous()
            return torch.zeros_like(p) if plain else unwritten_zeros(p.shape, p)

        state = {name: [zeros(p) for p in self.parameters] for name in self.moments}
        # one count for all: a step updates every parameter but those that miss it
        if self.counts_steps and (self.parameters or self.size is None):
            device = self.parameters[0].device if self.parameters else "cpu"
            shape = () if self.size is None else (self.size,)
            state["steps"] = [torch.zeros(shape, dtype=torch.float32, device=device)]
        return state

    def _join(self, stack: Optimiser, row: int) -> None:
        """Make the state views of a row of `stack`, zero until now, which takes its values."""
        if self._row is not None or _held(self):  # else it is zero too
            for name, tensors in self.state.items():
                for tensor, stacked in zip(tensors, stack.state[name], strict=True):
                    view = stacked[row]
                    view.copy_(tensor)
                    tensor.data = view
        self._row = stack, row

    def initial_state(self) -> dict[str, list[Tensor]]:
        """Return the state before the first step."""
        return {
            name: [torch.zeros_like(tensor) for tensor in tensors]
            for name, tensors in self.state.items()
            if name != MISSED
        }

    def load(self, state: Mapping[str, Sequence[Tensor]]) -> None:
        """Load a copy of a state."""
        if MISSED in state:
            _missed_steps(self)
        elif MISSED in self.state:
            self.state[MISSED][0].zero_()
        for name, tensors in self.state.items():
            if name == MISSED not in state:
                continue
            for tensor, saved in zip(tensors, state[name], strict=True):
                tensor.copy_(saved)

    def expected(self) -> Sequence[Tensor]:
        """Return tensors of the size of its state, which may not exist yet."""
        return [*self.parameters * len(self.moments), *([torch.zeros(())] if self.counts_steps else [])]

    def settings(self) -> dict[str, Any]:
        """Return all arguments except the parameters, for another optimiser."""
        names = ("kind", "momentum", "betas", "weight_decay", "clip")
        return {name: getattr(self, name) for name in names}

    def tensors(self) -> Iterator[Tensor]:
        """Yield the tensors of its state."""
        for tensors in self.state.values():
            yield from tensors

    def _run(self, call: Call, numbers: Numbers, *, from_zero: bool = False) -> None:
        """Update the parameters of `call` (`Rule.update`)."""
        found_inf = None if self.skip is None else self.skip.flag
        self.rule.update(call, numbers, found_inf, alone=self.size is None, from_zero=from_zero)

    # --- parameters without a gradient ---------------------------------------------------------------------

    def miss(self, missing: Sequence[int], members: Sequence[int] | None = None) -> None:
        """Count a step that some parameters miss.

        Args:
            missing: Their indices.
            members: Places of the members of a stack that take the step; None: all.
        """
        if not missing or not self.counts_steps:
            return
        missed, key = _missed_steps(self), tuple(missing)
        if self._absent is None or self._absent[0] != key:
            absent = [float(i in key) for i in range(len(self.parameters))]
            self._absent = key, torch.tensor(absent, device=missed.device)
        row = self._absent[1] if self.skip is None else self._absent[1] * self.skip.count
        if members is None:
            missed.add_(row)
        else:
            missed[list(members)] += row
        if self.size is not None:
            self.late.update(key)

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
    ) -> list[tuple[Call, Numbers]]:
        """Begin a step and return the kernel's arguments; empty: nothing to update. Arguments: see `step`."""
        present = [gradient for gradient in gradients if gradient is not None]
        if not present:
            return []
        every = len(present) == len(self.parameters)
        indices: Sequence[int] = range(len(present))
        if not every:
            indices = [i for i, gradient in enumerate(gradients) if gradient is not None]
        if self.size is not None:
            return self._calls(present, indices, rate, member_mask)
        assert not isinstance(self.weight_decay, Tensor)
        if self.clip is not None and self.clips:
            assert not isinstance(self.clip, Tensor)
            present = [*clipped(present, self.clip)]
        if not every:
            self.miss([i for i, gradient in enumerate(gradients) if gradient is None])
        state = self.state
        parameters = list(self.parameters) if every else [self.parameters[i] for i in indices]
        counts = state.get("steps", [])
        steps = counts * len(parameters)
        if counts and MISSED in state:
            once = 1 if self.skip is None else self.skip.count
            counts_by_parameter = _counts(state)
            steps = [counts_by_parameter[i] + once for i in indices]
        state_tensors = [state[name] for name in self.moments]
        moments = [list(tensors) if every else [tensors[i] for i in indices] for tensors in state_tensors]
        call = Call(parameters, _laid_out(parameters, present), moments, steps, counts)
        return [(call, (rate, self.weight_decay))]

    def run(self, calls: Sequence[Call], numbers: Numbers) -> None:
        """Run the kernel on calls of optimisers with one `key` and `skip`."""
        self._count_once([count for call in calls for count in call.counts])
        joined = calls[0]
        for more in calls[1:]:
            joined.join(more)
        self._run(joined, numbers)
        for copied in joined.copied:
            copied.write_back()

    def _count_once(self, counts: list[Tensor]) -> None:
        """Count a step in each of some counts; as a list: the value of a single tensor would be read on the host."""
        if self.skip is None and len(counts) == 1:
            counts[0].add_(1)
        elif counts:
            torch._foreach_add_(counts, 1 if self.skip is None else [self.skip.count] * len(counts))

    # --- stacks --------------------------------------------------------------------------------------------

    def count(self, member_mask: MemberMask) -> None:
        """Count on the host a step of some members that a kernel takes and counts in the state."""
        if member_mask is not None:
            stepping = [n for n, moves in enumerate(member_mask) if moves]
            if len(stepping) < len(member_mask):
                self._count_of(stepping)

    def refresh(self) -> None:
        """Read step counts and stacks again, after a state was loaded or a member has stepped alone."""
        self._views: tuple[list[list[Tensor]], list[list[list[Tensor]]], list[Tensor]] | None = None
        self._in_lines: tuple[list[Tensor], list[list[Tensor]], list[int]] | None = None
        self._moved: list[Tensor] | None = None
        self._rates: tuple[float | Tensor, list[Tensor]] | None = None
        self._offsets: list[int] | None = [0] * (self.size or 0)
        """Steps of each member relative to a common count; None: stored only on the device."""
        if "steps" in self.state:
            counts = self.state["steps"][0]
            self._count = counts[0]
            self._offsets = [int(count) for count in counts.tolist()]  # the host waits, here only
        self.late: set[int] = set()
        if MISSED in self.state:
            self.late.update(self.state[MISSED][0].any(0).nonzero().flatten().tolist())
        self._equal_counts = self._uniform()

    def _calls(
        self,
        gradients: Sequence[Tensor],
        indices: Sequence[int],
        rate: float | Tensor,
        member_mask: MemberMask,
    ) -> list[tuple[Call, Numbers]]:
        """Count a step of some members and return the kernel's arguments: a call for each run of members with equal numbers.

        `indices`: of the parameters that have a gradient.
        """
        if isinstance(member_mask, Tensor):
            member_mask = member_mask.tolist()
        count = len(self.parameters[0])
        stepping = (
            range(count) if member_mask is None else [n for n, moves in enumerate(member_mask) if moves]
        )
        if not stepping:
            return []
        if len(stepping) < count:
            self._count_of(stepping)
        if len(indices) < len(self.parameters):
            missing = [i for i in range(len(self.parameters)) if i not in indices]
            self.miss(missing, stepping if len(stepping) < count else None)
        every = len(stepping) == count and self._equal_counts and self.late.isdisjoint(indices)
        decay = self.weight_decay
        if not isinstance(decay, Tensor) and not (isinstance(rate, Tensor) and rate.dim()):
            all_or_some = (
                self._call_all(gradients, indices) if every else self._call_some(gradients, indices, stepping)
            )
            return [(all_or_some, (rate, decay))]
        if every and self.skip is None:  # which would have to hold for the weight decay too
            self._step_each(gradients, indices, rate)
            return []
        numbers = list(zip(_listed(rate, count), _listed(decay, count), strict=True))
        runs = [list(run) for _, run in groupby(stepping, key=numbers.__getitem__)]
        return [(self._call_some(gradients, indices, run), numbers[run[0]]) for run in runs]

    def _count_of(self, stepping: Sequence[int]) -> None:
        """Track relative step counts on the host, unless they depend on the device."""
        if self.skip is not None:
            self._offsets = None
        if self._offsets is not None:
            for n in stepping:
                self._offsets[n] += 1
        self._equal_counts = self._uniform()

    def _uniform(self) -> bool:
        """Whether all counts are known to be equal; SGD needs none."""
        if "steps" not in self.state:
            return True
        return self._offsets is not None and min(self._offsets) == max(self._offsets)

    def _call_all(self, gradients: Sequence[Tensor], indices: Sequence[int]) -> Call:
        """Call for all members with equal counts: the kernel's tensors are the stacks."""
        if self.clip is not None and self.clips:
            gradients = clipped_each(gradients, self.clip)
        steps = self._count_all(len(indices))
        parameters, moments, padded = self._lines()
        gradients_in_lines = _laid_out([self.parameters[i] for i in indices], gradients)
        if len(indices) < len(parameters):
            parameters = [parameters[i] for i in indices]
            moments = [[tensors[i] for i in indices] for tensors in moments]
            padded = [n for n, i in enumerate(indices) if i in padded]
        for n in padded:
            gradients_in_lines[n] = torch.cat(
                [gradients_in_lines[n].reshape(-1), parameters[n][gradients_in_lines[n].numel() :]]
            )  # padding stays zero
        return Call(list(parameters), gradients_in_lines, [list(tensors) for tensors in moments], steps)

    def _step_each(self, gradients: Sequence[Tensor], indices: Sequence[int], rate: float | Tensor) -> None:
        """Take the step of all members, each with its own numbers: the kernel's step from zero at rate 1, times the rates."""
        if self.clip is not None and self.clips:
            gradients = clipped_each(gradients, self.clip)
        parameters, steps = [self.parameters[i].data for i in indices], self._count_all(len(indices))
        rows = list(gradients)
        if self._moved is None:
            self._moved = [torch.zeros_like(p) for p in self.parameters]
        if self._rates is None or self._rates[0] is not rate:  # a constant rate is one tensor
            self._rates = rate, self._factors(rate)
        moved, rates = [self._moved[i] for i in indices], [self._rates[1][i] for i in indices]
        if nonzero(self.weight_decay):
            factors = self._factors(self.weight_decay)
            decays = [factors[i] for i in indices]
            rows = self.rule.decayed(rows, parameters, rates, decays)
        moments = [[self.state[name][i] for i in indices] for name in self.moments]
        self._run(Call(moved, _laid_out(parameters, rows), moments, steps), (1.0, 0.0), from_zero=True)
        torch._foreach_addcmul_(parameters, moved, rates)

    def _factors(self, number: float | Tensor) -> list[Tensor]:
        """A number per member, [N], or one of all, as a factor of each parameter."""
        first = self.parameters[0]
        factors = torch.as_tensor(number, dtype=first.dtype, device=first.device).expand(len(first))
        return [factors.view(-1, *[1] * (p.dim() - 1)) for p in self.parameters]

    def _count_all(self, parameters: int) -> list[Tensor]:
        """Count a step of all members, whose counts are equal, and return the count for each of some parameters."""
        if "steps" not in self.state:
            return []
        self.state["steps"][0].add_(1 if self.skip is None else self.skip.count)
        return [self._count] * parameters

    def _lines(self) -> tuple[list[Tensor], list[list[Tensor]], list[int]]:
        """Return the parameters and each kind of moment as the kernel takes them, and the places of padded ones; made once."""
        if self._in_lines is None:
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
            self._in_lines = parameters, moments, padded
        return self._in_lines

    def _call_some(
        self, gradients: Sequence[Tensor], indices: Sequence[int], stepping: Sequence[int]
    ) -> Call:
        """Call for some members, or for differing counts: every updated slice is a tensor with its own count."""
        parameters, moments, counts = self._slices()
        steps = []
        index = torch.tensor(list(stepping), device=self.parameters[0].device)
        if "steps" in self.state:
            once = [counts[n] for n in stepping]
            self._count_once(once)
            steps = once * len(indices)
            if not self.late.isdisjoint(indices):
                each_count = [count.unbind() for count in _counts(self.state)]
                steps = [each_count[i][n] for i in indices for n in stepping]
        call = Call([], [], [[] for _ in moments], steps)
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
        """Return the members' gradients for each of some parameters, clipped, with the strides of the parameter's slices."""
        few = 4 * len(stepping) < len(self.parameters[0])  # one by one is slower by about that
        views_by_parameter = gradients if few else [g.unbind(0) for g in gradients]
        rows = [[views[n] for n in stepping] for views in views_by_parameter]
        if self.clip is not None and self.clips:
            clip = self.clip[list(stepping)] if isinstance(self.clip, Tensor) else self.clip
            rows = [list(g.unbind(0)) for g in clipped_each([torch.stack(row) for row in rows], clip)]
        return [
            row
            if row[0].stride() == p.stride()[1:]
            else list(_laid_out([p[: len(row)]], [torch.stack(row)])[0].unbind(0))
            for p, row in zip((self.parameters[i] for i in indices), rows, strict=True)
        ]

    def _slices(self) -> tuple[list[list[Tensor]], list[list[list[Tensor]]], list[Tensor]]:
        """Return each member's view of the parameters, of each kind of moment, and of the counts; made once."""
        if self._views is None:
            self._views = (
                [list(p.unbind(0)) for p in self.parameters],
                [[list(m.unbind(0)) for m in self.state[name]] for name in self.moments],
                list(self.state["steps"][0].unbind(0)) if "steps" in self.state else [],
            )
        return self._views


def _held(optimiser: Optimiser) -> dict[str, list[Tensor]]:
    """An optimiser's state as far as it exists."""
    held: dict[str, list[Tensor]] = optimiser.__dict__.get("_state", {})
    return held


def _missed_steps(optimiser: Optimiser) -> Tensor:
    """The steps that an optimiser's parameters missed; created where no parameter has missed any."""
    if MISSED not in optimiser.state:
        if optimiser._row is not None:
            _missed_steps(optimiser._row[0])
            return optimiser.state[MISSED][0]
        count, first = len(optimiser.parameters), optimiser.parameters[0]
        shape = (count,) if optimiser.size is None else (optimiser.size, count)
        optimiser._state[MISSED] = [torch.zeros(shape, dtype=torch.float32, device=first.device)]
    return optimiser.state[MISSED][0]


def _counts(state: Mapping[str, Sequence[Tensor]]) -> Sequence[Tensor]:
    """The steps taken of each parameter, each [] or in a stack [N], where some were missed."""
    return (state["steps"][0].unsqueeze(-1) - state[MISSED][0]).unbind(-1)


def _listed(number: float | Tensor, count: int) -> list[float]:
    """A number for each member."""
    return number.tolist() if isinstance(number, Tensor) and number.dim() else [float(number)] * count


def norms_of_each(gradients: Sequence[Tensor]) -> Tensor:
    """Return the joint norm of each member's gradients, [N], of gradients [N, …]."""
    norms = [
        torch.linalg.vector_norm(g, dim=tuple(range(1, g.ndim))) if g.ndim > 1 else g.abs() for g in gradients
    ]
    norm_by_member: Tensor = torch.stack(norms).norm(dim=0)
    return norm_by_member


def clipped_each(gradients: Sequence[Tensor], largest: PerMember, norm: Tensor | None = None) -> list[Tensor]:
    """Return gradients [N, …] of which each member's are clipped to a joint norm, as by `clipped`; `norm`: [N] there."""
    norm = norms_of_each(gradients) if norm is None else norm
    factor = (to_rows(largest, norm) / (norm + _LITTLE)).clamp(max=1.0)
    return [g * factor.view(-1, *[1] * (g.ndim - 1)) for g in gradients]
