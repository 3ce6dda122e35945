"""Many optimisers of one kind on stacked parameters: one call of a fused kernel, whoever of them takes the step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from antiphon.nets.optimisers import Optimiser, fused_adam, laid_out_as

__all__ = ["Members", "StackedOptimiser", "step_stacks"]

Members = Sequence[bool] | Tensor | None
"""Who takes a step: a bool for each member, on the host, or None: all of them."""

_Settings = tuple[str, float, tuple[float, float], float, float | int, torch.device, torch.dtype]
"""Kind, momentum, betas, weight decay, rate (a tensor's identity), device and type: what one call has in common."""

_MOMENTS = {"sgd": ("momentum",), "adam": ("mean", "square"), "adamw": ("mean", "square")}


@dataclass
class _Call:
    """What one call of the kernel is handed: lists with one entry for each tensor that moves."""

    parameters: list[Tensor] = field(default_factory=list)
    gradients: list[Tensor] = field(default_factory=list)
    moments: list[list[Tensor]] = field(default_factory=list)
    """For each kind of moment, in the order of `_MOMENTS`."""
    steps: list[Tensor] = field(default_factory=list)

    def join(self, other: _Call) -> None:
        self.parameters += other.parameters
        self.gradients += other.gradients
        self.steps += other.steps
        for mine, theirs in zip(self.moments, other.moments, strict=True):
            mine += theirs


@torch.no_grad()
def step_stacks(
    steps: Sequence[tuple[StackedOptimiser, Sequence[Tensor], float | Tensor, Members]],
    *,
    skip: Tensor | None = None,
) -> None:
    """Let many stacked optimisers take a step, those of the same settings and rate in one call of the kernel.

    Args:
        steps: Optimiser, gradients [N, …] (one per stack, in order), learning rate and members; an optimiser may
            come again with other members, as where rates differ.
        skip: Tensor [] on the device of the parameters; if it is not 0, nobody moves and no step is counted.
    """
    refused = None if skip is None else (skip != 0).to(torch.float32)  # the kernels ask whether it is 1
    calls: dict[_Settings, tuple[StackedOptimiser, float | Tensor, _Call]] = {}
    for optimiser, gradients, rate, members in steps:
        call = optimiser._call(gradients, members, refused)
        if call is None:
            continue
        settings = (
            optimiser.kind,
            optimiser.momentum,
            optimiser.betas,
            optimiser.weight_decay,
            id(rate) if isinstance(rate, Tensor) else rate,
            optimiser.parameters[0].device,
            optimiser.parameters[0].dtype,
        )
        if settings in calls:
            calls[settings][2].join(call)
        else:
            calls[settings] = (optimiser, rate, call)
    for optimiser, rate, call in calls.values():
        optimiser._run(call, rate, refused)


class StackedOptimiser:
    """N optimisers (`Optimiser`) of the same settings on stacked parameters, each with its own count of steps.

    Its state is data like an optimiser's, with one more leading axis. Members made by `from_members` look into it and
    may step alone, too, or be given other numbers; `refresh` has to be called then.

    Args:
        kind: `sgd`, `adam` or `adamw`.
        parameters: Stacks [N, …] that it changes in place, dense and with the member axis outermost.
        momentum: SGD's.
        betas: Adam's decay rates of the first and second moment.
        weight_decay: L2 (`sgd`, `adam`) or decoupled (`adamw`).
        clip: The largest norm of all gradients of one member together; None: no limit.
    """

    def __init__(
        self,
        kind: str,
        parameters: Sequence[Tensor],
        *,
        momentum: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        clip: float | None = None,
    ) -> None:
        self.kind = kind
        self.parameters = list(parameters)
        self.momentum = momentum
        self.betas = betas
        self.weight_decay = weight_decay
        self.clip = clip
        self.size = len(parameters[0]) if parameters else 0
        for i, p in enumerate(self.parameters):
            if len(p) != self.size:
                raise ValueError(f"stack {i} holds {len(p)} members, stack 0 holds {self.size}")
            if not _dense(p):
                raise ValueError(f"stack {i}: its members are not dense, one after the other")
        names = _MOMENTS[kind] if kind != "sgd" or momentum else ()
        self.state: dict[str, list[Tensor]] = {
            name: [torch.zeros_like(p) for p in self.parameters] for name in names
        }
        self._moments = names
        if kind != "sgd" and self.parameters:
            counts = torch.zeros(self.size, dtype=torch.float32, device=self.parameters[0].device)
            self.state["steps"] = [counts]
        self.refresh()

    @classmethod
    @torch.no_grad()
    def from_members(cls, optimisers: Sequence[Optimiser], stacks: Sequence[Tensor]) -> StackedOptimiser:
        """Take over N optimisers of equal settings; their state becomes views into the stacked one.

        Args:
            optimisers: The members, in the order of the stacks' first axis.
            stacks: Their parameters, stacked [N, …]; each member's own are views into them already.
        """
        first = optimisers[0]
        for n, optimiser in enumerate(optimisers):
            if _settings(optimiser) != _settings(first):
                raise ValueError(f"member {n} is {_settings(optimiser)}, member 0 is {_settings(first)}")
            for i, (p, stack) in enumerate(zip(optimiser.parameters, stacks, strict=True)):
                if len(stack) != len(optimisers):
                    raise ValueError(f"stack {i} holds {len(stack)} members, not {len(optimisers)}")
                view = stack[n]
                if p.data_ptr() != view.data_ptr() or p.shape != view.shape or p.stride() != view.stride():
                    raise ValueError(f"parameter {i} of member {n} is no view into its stack")
        stacked = cls(
            first.kind,
            stacks,
            momentum=first.momentum,
            betas=first.betas,
            weight_decay=first.weight_decay,
            clip=first.clip,
        )
        for name, tensors in stacked.state.items():
            for i, stack in enumerate(tensors):
                for optimiser, view in zip(optimisers, stack.unbind(0), strict=True):
                    own = optimiser.state[name][i]
                    if name == "steps" or not optimiser.asleep:  # else the stack is zero as it is
                        view.copy_(own)
                    own.data = view
        for optimiser in optimisers:
            optimiser.asleep = False
        stacked.refresh()
        return stacked

    def step(
        self,
        gradients: Sequence[Tensor],
        rate: float | Tensor,
        members: Members = None,
        *,
        skip: Tensor | None = None,
    ) -> None:
        """Move the parameters of `members` against `gradients`; the others keep every bit, and so does their state.

        Args:
            gradients: One [N, …] per stack, in order; those of other members are not read into any result.
            rate: Learning rate; a tensor [] (float32 on a GPU) is read on the device.
            members: Who takes the step; None: all.
            skip: Tensor [] on the device of the parameters; if it is not 0, nobody moves and no step is counted.
        """
        step_stacks([(self, gradients, rate, members)], skip=skip)

    def refresh(self) -> None:
        """Look at the counts of steps again, and at the stacks: after numbers were loaded or a member stepped alone."""
        self._views: tuple[list[list[Tensor]], list[list[list[Tensor]]], list[Tensor]] | None = None
        self._ahead: list[int] | None = [0] * self.size
        """How many steps each member is ahead of some common count; None: only the device knows."""
        if "steps" in self.state:
            counts = self.state["steps"][0]
            self._count = counts[0]
            self._ahead = [int(count) for count in counts.tolist()]  # the host waits, here only
        self._even = self._alike()

    def _call(self, gradients: Sequence[Tensor], members: Members, refused: Tensor | None) -> _Call | None:
        """Count a step of `members` and return what the kernel is to be handed so that they move; None: nothing."""
        if not self.parameters:
            return None
        if isinstance(members, Tensor):
            members = members.tolist()
        if members is not None and len(members) != self.size:
            raise ValueError(f"{len(members)} members are named, there are {self.size}")
        who = range(self.size) if members is None else [n for n, moves in enumerate(members) if moves]
        if not who:
            return None
        if len(who) < self.size:
            self._count_of(who, refused)
        elif self._even:
            return self._call_all(gradients, refused)
        return self._call_some(gradients, who, refused)

    def _count_of(self, who: Sequence[int], refused: Tensor | None) -> None:
        """Keep up with who is ahead of whom, as far as the host can know."""
        if refused is not None:
            self._ahead = None
        if self._ahead is not None:
            for n in who:
                self._ahead[n] += 1
        self._even = self._alike()

    def _alike(self) -> bool:
        """Whether all counts are known to be the same; SGD needs none."""
        if "steps" not in self.state:
            return True
        return self._ahead is not None and min(self._ahead) == max(self._ahead)

    def _call_all(self, gradients: Sequence[Tensor], refused: Tensor | None) -> _Call:
        """All members, whose counts are the same: the stacks are the kernel's tensors."""
        if self.clip is not None:
            gradients = _clipped_each(gradients, self.clip)
        steps = []
        if "steps" in self.state:
            self.state["steps"][0].add_(1 if refused is None else 1 - refused)
            steps = [self._count] * len(self.parameters)
        return _Call(
            list(self.parameters),
            [laid_out_as(p, g) for p, g in zip(self.parameters, gradients, strict=True)],
            [list(self.state[name]) for name in self._moments],
            steps,
        )

    def _call_some(self, gradients: Sequence[Tensor], who: Sequence[int], refused: Tensor | None) -> _Call:
        """Some members, or all whose counts differ: every slice that moves is a tensor with a count of its own."""
        parameters, moments, counts = self._slices()
        steps = []
        if "steps" in self.state:
            once = [counts[n] for n in who]
            if refused is None:
                torch._foreach_add_(once, 1)
            else:  # as a list: of a single tensor the host would ask the value
                torch._foreach_add_(once, [1 - refused] * len(once))
            steps = once * len(self.parameters)
        return _Call(
            _picked(parameters, who),
            [g for row in self._gradients(gradients, who) for g in row],
            [_picked(slices, who) for slices in moments],
            steps,
        )

    def _gradients(self, gradients: Sequence[Tensor], who: Sequence[int]) -> list[list[Tensor]]:
        """Return the members' gradients for each parameter, clipped, with the strides of the parameter's slices."""
        few = 4 * len(who) < self.size  # one by one is slower by about that
        rows = [[g[n] for n in who] if few else _picked([g.unbind(0)], who) for g in gradients]
        if self.clip is not None:
            rows = [list(g.unbind(0)) for g in _clipped_each([torch.stack(row) for row in rows], self.clip)]
        return [
            row
            if row[0].stride() == p.stride()[1:]
            else list(laid_out_as(p[: len(row)], torch.stack(row)).unbind(0))
            for p, row in zip(self.parameters, rows, strict=True)
        ]

    def _slices(self) -> tuple[list[list[Tensor]], list[list[list[Tensor]]], list[Tensor]]:
        """Return each member's view of the parameters, of each kind of moment, and of the counts; made once."""
        if self._views is None:
            self._views = (
                [list(p.unbind(0)) for p in self.parameters],
                [[list(m.unbind(0)) for m in self.state[name]] for name in self._moments],
                list(self.state["steps"][0].unbind(0)) if "steps" in self.state else [],
            )
        return self._views

    def _run(self, call: _Call, rate: float | Tensor, refused: Tensor | None) -> None:
        """Hand `call`, which may have taken in those of others with the same settings, to the kernel."""
        if self.kind == "sgd":
            fused = torch.ops.aten._fused_sgd_
            (fused.tensor_lr if isinstance(rate, Tensor) else fused.default)(
                call.parameters,
                call.gradients,
                call.moments[0] if call.moments else [],
                weight_decay=self.weight_decay,
                momentum=self.momentum,
                lr=rate,
                dampening=0.0,
                nesterov=False,
                maximize=False,
                is_first_step=False,  # momentum starts at zero
                found_inf=refused,
            )
            return
        fused_adam(
            self.kind,
            call.parameters,
            call.gradients,
            call.moments[0],
            call.moments[1],
            call.steps,
            rate=rate,
            betas=self.betas,
            weight_decay=self.weight_decay,
            refused=refused,
        )


def _settings(optimiser: Optimiser) -> tuple[str, float, tuple[float, float], float, float | None]:
    return (
        optimiser.kind,
        optimiser.momentum,
        optimiser.betas,
        optimiser.weight_decay,
        optimiser.clip,
    )


def _picked(slices: Sequence[Sequence[Tensor]], who: Sequence[int]) -> list[Tensor]:
    return [row[n] for row in slices for n in who]


def _dense(stack: Tensor) -> bool:
    """Whether the members of `stack` lie in memory without a gap, one after the other."""
    if stack.numel() == 0:
        return True
    if torch.empty_like(stack, device="meta").stride() != stack.stride():  # it keeps strides that are dense
        return False
    return len(stack) == 1 or stack.stride(0) == stack.numel() // len(stack)


def _clipped_each(gradients: Sequence[Tensor], largest: float) -> list[Tensor]:
    """Return gradients [N, …] of which each member's, taken together, have a norm of at most `largest`.

    As for one optimiser: a longer gradient becomes as long as allowed, one that is not longer keeps its bits.
    """
    norms = [
        torch.linalg.vector_norm(g, dim=tuple(range(1, g.ndim))) if g.ndim > 1 else g.abs() for g in gradients
    ]
    factor = (largest / torch.stack(norms).norm(dim=0)).clamp(max=1.0)
    return [g * factor.view(-1, *[1] * (g.ndim - 1)) for g in gradients]
