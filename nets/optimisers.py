"""Optimisers as functions of (parameters, gradients, state), equal to torch's; of many of one kind on stacked
parameters, one fused kernel call for any subset.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

__all__ = ["Members", "Optimiser", "StackedOptimiser", "Stepping", "clipped", "step_all"]


def clipped(gradients: Sequence[Tensor], largest: float) -> Sequence[Tensor]:
    """Clip gradients to a joint norm of `largest`, without synchronising host and device.

    It is torch.nn.utils.clip_grad_norm_ without the 1e-6 that it adds to the norm: a larger norm becomes
    `largest`, and other gradients are unchanged to the bit.
    """
    norm = torch.stack(torch._foreach_norm(list(gradients))).norm()
    return torch._foreach_mul(list(gradients), (largest / norm).clamp(max=1.0))


def _laid_out(parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> list[Tensor]:
    """Return `gradients` with the strides of the parameters: fused kernels read memory in order."""
    return [
        g if g.stride() == p.stride() else torch.empty_like(p).copy_(g)
        for p, g in zip(parameters, gradients, strict=True)
    ]


_MOMENTS = {"sgd": ("momentum",), "adam": ("mean", "square"), "adamw": ("mean", "square")}


_CallKey = tuple[str, float, tuple[float, float], float, float, torch.device, torch.dtype]
"""Kind, momentum, betas, weight decay, rate, device and type: the key of a call."""


@dataclass(slots=True)
class _Call:
    """Arguments of one kernel call: lists with one entry for each tensor that is updated."""

    parameters: list[Tensor]
    gradients: list[Tensor]
    moments: list[list[Tensor]]
    """For each kind of moment, in the order of `_MOMENTS`."""
    steps: list[Tensor]
    """Counts, float32 [], this step included."""
    copies: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)
    """Tensors to be written when the kernel has run, with the tensor and the places in it that are copied to each."""

    def join(self, other: _Call) -> None:
        self.parameters += other.parameters
        self.gradients += other.gradients
        self.steps += other.steps
        for mine, theirs in zip(self.moments, other.moments, strict=True):
            mine += theirs


class _Settings:
    """Kind and settings of an optimiser, and its tensors.

    Args:
        kind: `sgd`, `adam` or `adamw`.
        betas: Adam's decay rates of the first and second moment.
        weight_decay: L2 (`sgd`, `adam`) or decoupled (`adamw`).
        clip: The largest joint norm of the gradients; None: no limit.

    Attributes:
        state: The moments by name, a tensor for each parameter, and the `steps` taken.
    """

    EPSILON = 1e-8

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
        self.moments = _MOMENTS[kind] if kind != "sgd" or momentum else ()
        self.state: dict[str, list[Tensor]] = {}

    def settings(self) -> dict[str, Any]:
        """Return all but the parameters, as arguments of another optimiser."""
        names = ("kind", "momentum", "betas", "weight_decay", "clip")
        return {name: getattr(self, name) for name in names}

    def tensors(self) -> Iterator[Tensor]:
        """Yield the tensors of its state."""
        for tensors in self.state.values():
            yield from tensors

    def _run(self, call: _Call, rate: float | Tensor, found_inf: Tensor | None = None) -> None:
        """Run the kernel on `call`, which may include other optimisers of the same settings."""
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
                found_inf=found_inf,
            )
            return
        adam = torch.ops.aten._fused_adamw_ if self.kind == "adamw" else torch.ops.aten._fused_adam_
        (adam.tensor_lr if isinstance(rate, Tensor) else adam.default)(
            call.parameters,
            call.gradients,
            *call.moments,
            [],
            call.steps,
            lr=rate,
            beta1=self.betas[0],
            beta2=self.betas[1],
            weight_decay=self.weight_decay,
            eps=self.EPSILON,
            amsgrad=False,
            maximize=False,
            found_inf=found_inf,
        )


class Stepping(Protocol):
    """What takes a step on gradients."""

    def step(self, gradients: Sequence[Tensor], rate: float) -> None:
        """Update parameters along `-gradients` at learning rate `rate`."""


@torch.no_grad()
def step_all(steps: Sequence[tuple[Stepping, Sequence[Tensor], float]]) -> None:
    """Take a step of many optimisers, those of the same settings and rate in one call of torch's fused kernel.

    Args:
        steps: Optimiser, gradients (one per parameter, in order) and learning rate.
    """
    calls: dict[_CallKey, tuple[Optimiser, float, _Call]] = {}
    for optimiser, gradients, rate in steps:
        if not isinstance(optimiser, Optimiser):
            optimiser.step(gradients, rate)
            continue
        call = optimiser._call(gradients)
        if call is None:
            continue
        first = optimiser.parameters[0]
        settings = optimiser.kind, optimiser.momentum, optimiser.betas, optimiser.weight_decay
        key = (*settings, rate, first.device, first.dtype)
        if key in calls:
            calls[key][2].join(call)
        else:
            calls[key] = optimiser, rate, call
    for optimiser, rate, call in calls.values():
        optimiser._run(call, rate)


class Optimiser(_Settings):
    """SGD, Adam or AdamW on a list of tensors; its state is data, so that a run can be forked and saved."""

    def __init__(self, kind: str, parameters: Sequence[Tensor], **settings: Any) -> None:
        super().__init__(kind, parameters, **settings)
        # Zeros without memory, for optimisers that are about to be stacked (`allocate`).
        self.state = {
            name: [p.new_zeros(()).expand(p.shape) for p in self.parameters] for name in self.moments
        }
        self.lazy = bool(self.moments)
        if kind != "sgd":  # one count for all: every step updates every parameter
            device = self.parameters[0].device if self.parameters else "cpu"
            self.state["steps"] = [torch.zeros((), dtype=torch.float32, device=device)]

    def initial_state(self) -> dict[str, list[Tensor]]:
        """Return its state as it was before the first step."""
        return {
            name: [torch.zeros_like(tensor) for tensor in tensors] for name, tensors in self.state.items()
        }

    def allocate(self) -> None:
        """Allocate the moments, if not done yet, before they are first written."""
        if self.lazy:
            for name in self.moments:
                self.state[name] = [torch.zeros_like(p) for p in self.parameters]
            self.lazy = False

    def load(self, state: Mapping[str, Sequence[Tensor]]) -> None:
        """Load a copy of a state."""
        self.allocate()
        for name, tensors in self.state.items():
            for own, saved in zip(tensors, state[name], strict=True):
                own.copy_(saved)

    def expected(self) -> Sequence[Tensor]:
        """Return tensors of the size that its state has."""
        return list(self.tensors())

    def step(self, gradients: Sequence[Tensor], rate: float) -> None:
        """Update the parameters along `-gradients` (one per parameter, in order) at learning rate `rate`."""
        step_all([(self, gradients, rate)])

    def _call(self, gradients: Sequence[Tensor]) -> _Call | None:
        """Count a step and return the kernel's arguments; None: nothing to update."""
        if not self.parameters:
            return None
        self.allocate()
        if self.clip is not None:
            gradients = clipped(gradients, self.clip)
        steps = []
        if "steps" in self.state:
            steps = [self.state["steps"][0].add_(1)] * len(self.parameters)
        moments = [list(self.state[name]) for name in self.moments]
        return _Call(list(self.parameters), _laid_out(self.parameters, gradients), moments, steps)

    def _run(self, call: _Call, rate: float | Tensor, found_inf: Tensor | None = None) -> None:
        if self.kind != "sgd":
            super()._run(call, rate, found_inf)
            return
        momentum = call.moments[0] if call.moments else call.gradients
        for p, g, m in zip(call.parameters, call.gradients, momentum, strict=True):
            if self.weight_decay:
                g = g.add(p, alpha=self.weight_decay)
            if self.momentum:
                g = m.mul_(self.momentum).add_(g)
            p.add_(g, alpha=-rate)  # type: ignore[arg-type]


Members = Sequence[bool] | Tensor | None
"""Mask of the members that take a step: a bool for each, on the host, or None: all of them."""


class StackedOptimiser(_Settings):
    """N optimisers (`Optimiser`) of the same settings on stacked parameters, each with its own count of steps.

    Its state is data like an optimiser's, with one more leading axis. The state of members given to `from_members` are views of
    it; after a member stepped alone or was loaded, call `refresh`.

    Args:
        kind: `sgd`, `adam` or `adamw`.
        parameters: Stacks [N, …], changed in place, dense and with the member axis outermost.
        settings: As of `Optimiser`; `clip` is for the gradients of each member.
    """

    def __init__(self, kind: str, parameters: Sequence[Tensor], **settings: Any) -> None:
        super().__init__(kind, parameters, **settings)
        self.size = len(parameters[0]) if parameters else 0
        for i, p in enumerate(self.parameters):
            if len(p) != self.size:
                raise ValueError(f"stack {i} holds {len(p)} members, stack 0 holds {self.size}")
            if not _dense(p):
                raise ValueError(f"stack {i}: its members are not dense, one after the other")
        self.state = {name: [torch.zeros_like(p) for p in self.parameters] for name in self.moments}
        if kind != "sgd" and self.parameters:
            counts = torch.zeros(self.size, dtype=torch.float32, device=self.parameters[0].device)
            self.state["steps"] = [counts]
        self._behind: list[_Behind] | None = None
        """For each parameter, in a part of a larger stack (`place_in`); None: in none."""
        self.refresh()

    @classmethod
    @torch.no_grad()
    def from_members(cls, optimisers: Sequence[Optimiser], stacks: Sequence[Tensor]) -> StackedOptimiser:
        """Stack N optimisers of equal settings; their state becomes views into the stacked one.

        Args:
            optimisers: The members, in the order of the stacks' first axis.
            stacks: Their parameters, stacked [N, …]; each member's own are views into them already.
        """
        first = optimisers[0]
        for i, stack in enumerate(stacks):
            if len(stack) != len(optimisers):
                raise ValueError(f"stack {i} holds {len(stack)} members, not {len(optimisers)}")
        views = [stack.unbind() for stack in stacks]
        for n, optimiser in enumerate(optimisers):
            if optimiser.settings() != first.settings():
                raise ValueError(f"member {n} is {optimiser.settings()}, member 0 is {first.settings()}")
            for i, (p, view) in enumerate(zip(optimiser.parameters, [own[n] for own in views], strict=True)):
                if p.data_ptr() != view.data_ptr() or p.shape != view.shape or p.stride() != view.stride():
                    raise ValueError(f"parameter {i} of member {n} is no view into its stack")
        stacked = cls(parameters=stacks, **first.settings())
        for name, tensors in stacked.state.items():
            for i, stack in enumerate(tensors):
                for optimiser, view in zip(optimisers, stack.unbind(0), strict=True):
                    own = optimiser.state[name][i]
                    if name == "steps" or not optimiser.lazy:  # else the stack is zero as it is
                        view.copy_(own)
                    own.data = view
        for optimiser in optimisers:
            optimiser.lazy = False
        stacked.refresh()
        return stacked

    @torch.no_grad()
    def step(
        self,
        gradients: Sequence[Tensor],
        rate: float | Tensor,
        members: Members = None,
        *,
        skip: Tensor | None = None,
    ) -> None:
        """Update the parameters of `members` along `-gradients`; those of the others and their state are unchanged.

        Args:
            gradients: One [N, …] per stack, in order; those of other members are not read into any result.
            rate: Learning rate; a tensor [] (float32 on a GPU) is read on the device.
            members: Mask of the members that take the step; None: all.
            skip: Tensor [] on the device of the parameters; if it is not 0, no parameter is updated and no step counted.
        """
        found_inf = None if skip is None else (skip != 0).to(torch.float32)  # the kernels test it for 1
        call = self._call(gradients, members, found_inf)
        if call is not None:
            self._run(call, rate, found_inf)
            for target, source, places in call.copies:
                target.copy_(source[places])

    def place_in(self, places: Sequence[int], size: int) -> None:
        """Round as the members at ascending `places` of a larger stack, of `size` members, do.

        On a CPU the kernels compute the elements behind the last whole vector of a tensor in another loop, which rounds in
        another way: so what an element comes to depends on its distance from the end of its stack.
        """
        if not self.parameters or self.parameters[0].device.type != "cpu":
            return
        self._behind = []
        for p in self.parameters:
            length = p[0].numel()
            behind = size * length % _vector(p)
            first = size * length - behind
            elements = [i for n in places for i in range(max(n * length, first), (n + 1) * length)]
            self._behind.append(_Behind(behind, torch.tensor(elements, dtype=torch.int64) - first))

    def refresh(self) -> None:
        """Read step counts and stacks again, after a state was loaded or a member stepped alone."""
        self._views: tuple[list[list[Tensor]], list[list[list[Tensor]]], list[Tensor]] | None = None
        self._offsets: list[int] | None = [0] * self.size
        """Steps of each member relative to some common count; None: known on the device only."""
        if "steps" in self.state:
            counts = self.state["steps"][0]
            self._count = counts[0]
            self._offsets = [int(count) for count in counts.tolist()]  # the host waits, here only
        self._equal_counts = self._uniform()

    def _call(self, gradients: Sequence[Tensor], members: Members, found_inf: Tensor | None) -> _Call | None:
        """Count a step of `members` and return the kernel's arguments; None: nothing to update."""
        if not self.parameters:
            return None
        if isinstance(members, Tensor):
            members = members.tolist()
        if members is not None and len(members) != self.size:
            raise ValueError(f"{len(members)} members are named, there are {self.size}")
        stepping = range(self.size) if members is None else [n for n, moves in enumerate(members) if moves]
        if not stepping:
            return None
        if len(stepping) < self.size:
            self._count_of(stepping, found_inf)
        elif self._equal_counts:
            return self._call_all(gradients, found_inf)
        return self._call_some(gradients, stepping, found_inf)

    def _count_of(self, stepping: Sequence[int], found_inf: Tensor | None) -> None:
        """Track relative step counts on the host, unless they depend on the device."""
        if found_inf is not None:
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

    def _call_all(self, gradients: Sequence[Tensor], found_inf: Tensor | None) -> _Call:
        """Call for all members with equal counts: the kernel's tensors are the stacks."""
        if self.clip is not None:
            gradients = _clipped_each(gradients, self.clip)
        steps = []
        if "steps" in self.state:
            self.state["steps"][0].add_(1 if found_inf is None else 1 - found_inf)
            steps = [self._count] * len(self.parameters)
        call = _Call(
            list(self.parameters),
            _laid_out(self.parameters, gradients),
            [list(self.state[name]) for name in self.moments],
            steps,
        )
        return call if self._behind is None else _divided(call, self._behind)

    def _call_some(
        self, gradients: Sequence[Tensor], stepping: Sequence[int], found_inf: Tensor | None
    ) -> _Call:
        """Call for some members, or for differing counts: every updated slice is a tensor with its own count."""
        parameters, moments, counts = self._slices()
        steps = []
        if "steps" in self.state:
            once = [counts[n] for n in stepping]
            if found_inf is None:
                torch._foreach_add_(once, 1)
            else:  # as a list: the value of a single tensor would be read on the host
                torch._foreach_add_(once, [1 - found_inf] * len(once))
            steps = once * len(self.parameters)
        return _Call(
            _picked(parameters, stepping),
            [g for row in self._gradients(gradients, stepping) for g in row],
            [_picked(slices, stepping) for slices in moments],
            steps,
        )

    def _gradients(self, gradients: Sequence[Tensor], stepping: Sequence[int]) -> list[list[Tensor]]:
        """Return the members' gradients for each parameter, clipped, with the strides of the parameter's slices."""
        few = 4 * len(stepping) < self.size  # one by one is slower by about that
        rows = [[g[n] for n in stepping] if few else _picked([g.unbind(0)], stepping) for g in gradients]
        if self.clip is not None:
            rows = [list(g.unbind(0)) for g in _clipped_each([torch.stack(row) for row in rows], self.clip)]
        return [
            row
            if row[0].stride() == p.stride()[1:]
            else list(_laid_out([p[: len(row)]], [torch.stack(row)])[0].unbind(0))
            for p, row in zip(self.parameters, rows, strict=True)
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


def _picked(slices: Sequence[Sequence[Tensor]], stepping: Sequence[int]) -> list[Tensor]:
    return [row[n] for row in slices for n in stepping]


def _dense(stack: Tensor) -> bool:
    """Whether the members of `stack` are contiguous in memory, one after the other."""
    if stack.numel() == 0:
        return True
    if torch.empty_like(stack, device="meta").stride() != stack.stride():  # it keeps strides that are dense
        return False
    return len(stack) == 1 or stack.stride(0) == stack.numel() // len(stack)


def _vector(tensor: Tensor) -> int:
    """Return the elements of the longest vector that kernels use: 64 bytes, a multiple of all others."""
    return 64 // tensor.element_size()


@dataclass(frozen=True)
class _Behind:
    """The elements of a larger stack that are behind its last whole vector.

    Attributes:
        count: How many there are.
        own: Which of them are those at the end of a part of that stack, [own] int64.
    """

    count: int
    own: Tensor


def _divided(call: _Call, behind: Sequence[_Behind]) -> _Call:
    """Divide the tensors of a call so that each element is computed as in the larger stack."""
    found = _Call([], [], [[] for _ in call.moments], [])
    each = zip(call.parameters, call.gradients, *call.moments, strict=True)
    for i, (last, tensors) in enumerate(zip(behind, each, strict=True)):
        count, own, vector = tensors[0].numel(), len(last.own), _vector(tensors[0])
        if own == count % vector and own in (0, last.count):
            pieces = [tensors]
        else:
            flat = [torch.as_strided(t, (count,), (1,)) for t in tensors]
            whole, first = (count - own) // vector * vector, count - own
            pieces = [tuple(t[:whole] for t in flat)] if whole else []
            rest = torch.arange(first - whole)
            for start, end, places, length in (
                (whole, first, rest, vector),
                (first, count, last.own, last.count),
            ):
                if start < end:
                    piece = tuple(t.new_zeros(length).index_copy_(0, places, t[start:end]) for t in flat)
                    pieces.append(piece)
                    changed = [k for k in range(len(flat)) if k != 1]  # the gradient is only read
                    found.copies += [(flat[k][start:end], piece[k], places) for k in changed]
        for parameter, gradient, *moments in pieces:
            steps = call.steps[i : i + 1]
            found.join(_Call([parameter], [gradient], [[moment] for moment in moments], steps))
    return found


def _clipped_each(gradients: Sequence[Tensor], largest: float) -> list[Tensor]:
    """Return gradients [N, …] of which each member's, taken together, have a norm of at most `largest`.

    As for one optimiser: larger norms become `largest`, other gradients are unchanged to the bit.
    """
    norms = [
        torch.linalg.vector_norm(g, dim=tuple(range(1, g.ndim))) if g.ndim > 1 else g.abs() for g in gradients
    ]
    factor = (largest / torch.stack(norms).norm(dim=0)).clamp(max=1.0)
    return [g * factor.view(-1, *[1] * (g.ndim - 1)) for g in gradients]
