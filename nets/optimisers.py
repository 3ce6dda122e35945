"""Optimisers as functions of (parameters, gradients, state), equal to torch's: SGD, Adam and AdamW; clipping by a joint norm."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from antiphon.base import kinds
from antiphon.base.extensions import optimiser
from antiphon.nets.per_member import PerMember, to_rows
from antiphon.nets.whole_lines import Lines

_LITTLE = 1e-6
"""What torch.nn.utils.clip_grad_norm_ adds to a norm before it divides by it."""
BETAS = 0.9, 0.999
EPSILON = 1e-8


@dataclass(slots=True)
class UpdateCall:
    """Arguments of one kernel call: lists with one entry for each tensor that is updated."""

    parameters: list[Tensor]
    gradients: list[Tensor]
    moments: list[list[Tensor]]
    steps: list[Tensor]
    """Step counts, float32 [], one for each parameter, including this step."""
    counts: list[Tensor] = field(default_factory=list)
    """Counts that are incremented before the kernel runs; the other counts include this step already."""
    copied: list[Lines] = field(default_factory=list)
    """Tensors that the kernel gets as copies, which are written back."""

    def join(self, others: Sequence[UpdateCall]) -> None:
        for other in others:
            self.parameters += other.parameters
            self.gradients += other.gradients
            self.steps += other.steps
            self.copied += other.copied
            for moments, added in zip(self.moments, other.moments, strict=True):
                moments += added


Numbers = tuple[float | Tensor, float]
"""The learning rate of a kernel call (a tensor [] is read on the device), and its weight decay."""


class Rule:
    """How parameters follow their gradients: what is kept of these, and the kernel, equal to torch's optimiser."""

    counts_steps: ClassVar[bool] = True
    """Whether the size of a step depends on how many were taken."""
    moments: tuple[str, ...]

    def __init__(self, momentum: float) -> None:
        self.momentum = momentum

    def update(
        self, call: UpdateCall, numbers: Numbers, found_inf: Tensor | None, *, alone: bool, from_zero: bool
    ) -> None:
        """Update parameters.

        Args:
            found_inf: [] on the device, 1: nothing is updated; None: everything is.
            alone: Whether they are of no stack.
            from_zero: Whether the parameters, finite numbers, count as 0; then there is no weight decay.
        """
        raise NotImplementedError

    def decayed(
        self, gradients: list[Tensor], parameters: list[Tensor], rates: list[Tensor], decays: list[Tensor]
    ) -> list[Tensor]:
        """Return the gradients of stacks with an L2 penalty; `rates`, `decays`: of each member, as factors of the parameters."""
        return list(torch._foreach_addcmul(gradients, parameters, decays))


Decay = Annotated[float, Field(ge=0, lt=1)]


@optimiser("sgd")
class Sgd(Rule):
    """Stochastic gradient descent, with momentum."""

    counts_steps = False

    class Options(kinds.Options):
        """Keys of SGD.

        Attributes:
            momentum: Momentum: share of the previous update in the next one.
            weight_decay: L2 penalty: this factor times the parameter is added to the gradient.
        """

        momentum: Decay = 0.0
        weight_decay: Annotated[float, Field(ge=0)] = 0.0

    def __init__(self, momentum: float) -> None:
        super().__init__(momentum)
        self.moments = ("momentum",) if momentum else ()

    def update(
        self, call: UpdateCall, numbers: Numbers, found_inf: Tensor | None, *, alone: bool, from_zero: bool
    ) -> None:
        """Update parameters: alone without the kernel, where nothing is to be read on the device."""
        rate, weight_decay = numbers
        if alone and found_inf is None:
            momentum = call.moments[0] if call.moments else call.gradients
            for p, g, m in zip(call.parameters, call.gradients, momentum, strict=True):
                if weight_decay:
                    g = g.add(p, alpha=weight_decay)
                if self.momentum:
                    g = m.mul_(self.momentum).add_(g)
                p.add_(g, alpha=-rate)  # type: ignore[arg-type]
            return
        if from_zero:
            torch._foreach_zero_(call.parameters)
        torch._fused_sgd_(
            call.parameters,
            call.gradients,
            call.moments[0] if call.moments else [],
            weight_decay=weight_decay,
            momentum=self.momentum,
            lr=rate,
            dampening=0.0,
            nesterov=False,
            maximize=False,
            is_first_step=False,  # momentum starts at zero
            found_inf=found_inf,
        )


@optimiser("adam")
class Adam(Rule):
    """Adam (Kingma & Ba 2015)."""

    decoupled: ClassVar[bool] = False
    """Whether the decay by `weight_decay` stays out of the gradient."""

    class Options(kinds.Options):
        """Keys of Adam.

        Attributes:
            weight_decay: L2 penalty: this factor times the parameter is added to the gradient.
        """

        weight_decay: Annotated[float, Field(ge=0)] = 0.0

    moments = "mean", "square"

    def update(
        self, call: UpdateCall, numbers: Numbers, found_inf: Tensor | None, *, alone: bool, from_zero: bool
    ) -> None:
        rate, weight_decay = numbers
        if from_zero:  # a decoupled decay by rate x 1 leaves nothing, without another pass over memory
            weight_decay = 1.0
        kernel: Any = torch._fused_adamw_ if from_zero or self.decoupled else torch._fused_adam_
        kernel(
            call.parameters,
            call.gradients,
            *call.moments,
            [],
            call.steps,
            lr=rate,
            beta1=BETAS[0],
            beta2=BETAS[1],
            weight_decay=weight_decay,
            eps=EPSILON,
            amsgrad=False,
            maximize=False,
            found_inf=found_inf,
        )


@optimiser("adamw")
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019); without `weight_decay` it is `adam`."""

    class Options(kinds.Options):
        """Keys of AdamW.

        Attributes:
            weight_decay: Share of the parameter that each step subtracts, times the learning rate; the gradient stays as it is.
        """

        weight_decay: Annotated[float, Field(ge=0)] = 0.0

    decoupled = True

    def decayed(
        self, gradients: list[Tensor], parameters: list[Tensor], rates: list[Tensor], decays: list[Tensor]
    ) -> list[Tensor]:
        """Decay the parameters of all members, and return the gradients as they are."""
        torch._foreach_mul_(parameters, [1 - r * d for r, d in zip(rates, decays, strict=True)])
        return gradients


RULES: Mapping[str, type[Rule]] = {"sgd": Sgd, "adam": Adam, "adamw": AdamW}


def clipped(
    gradients: Sequence[Tensor | None], largest: PerMember, norm: Tensor | None = None, *, by_member: bool
) -> list[Tensor | None]:
    """Clip gradients as torch.nn.utils.clip_grad_norm_ does, bit-identical where shorter, without synchronising host and device.

    Args:
        norm: That of all gradients that are clipped together, [] or by member [N]; None: of these.
    """
    present = [g for g in gradients if g is not None]
    if not present:
        return [*gradients]
    norm = norms_of(present, by_member=by_member).norm(dim=0) if norm is None else norm
    factor = (to_rows(largest, norm) / (norm + _LITTLE)).clamp(max=1.0)
    if by_member:
        short = iter([g * factor.view(-1, *[1] * (g.ndim - 1)) for g in present])
    else:
        short = iter(torch._foreach_mul(present, factor))
    return [None if g is None else next(short) for g in gradients]


def norms_of(gradients: Sequence[Tensor], *, by_member: bool) -> Tensor:
    """Return the norm of each of P gradients, [P]; `by_member`: of gradients [N, …], [P, N]."""
    if not by_member:
        return torch.stack(torch._foreach_norm([*gradients]))
    rows = [g.unsqueeze(1) if g.ndim == 1 else g for g in gradients]
    return torch.stack([torch.linalg.vector_norm(g, dim=tuple(range(1, g.ndim))) for g in rows])


def laid_out(parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> list[Tensor]:
    """Return `gradients` with the strides of the parameters: fused kernels read memory in order."""
    return [
        g if g.stride() == p.stride() else torch.empty_like(p).copy_(g)
        for p, g in zip(parameters, gradients, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Skip:
    """Whether optimisers skip a step, on the device alone: `flag` is 1 where they do, else 0, and `count` is added to step counts."""

    flag: Tensor
    count: Tensor


MemberMask = Sequence[bool] | Tensor | None
"""Mask of the members that take a step: a bool for each, on the host; None: all."""


class Optimiser:
    """SGD, Adam or AdamW on a list of tensors.

    Its state is plain data, so that a run can be forked and saved. In a `StackedOptimiser` it becomes views of the stack's.

    A parameter without a gradient (None) stays as it is, as with torch's optimisers: it neither decays nor moves by its
    momentum. Steps are counted once, for all parameters.

    Attributes:
        key: Is equal for optimisers whose calls may run as one, where their numbers are equal: the kernel treats tensors independently.
        skip: Whether steps are skipped; None: all are taken.
    """

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
        self.moments, self.counts_steps = self.rule.moments, self.rule.counts_steps
        self.key: Hashable = kind, momentum, self.counts_steps

    @cached_property
    def state(self) -> dict[str, list[Tensor]]:
        """The moments by name, a tensor for each parameter, and the `steps` taken; created when first read."""
        state = {name: [self._zeros(p) for p in self.parameters] for name in self.moments}
        if self.counts_steps and (self.parameters or not self._shape):
            device = self.parameters[0].device if self.parameters else "cpu"
            state["steps"] = [torch.zeros(self._shape, dtype=torch.float32, device=device)]
        return state

    def _zeros(self, p: Tensor) -> Tensor:
        return torch.zeros_like(p)

    def join(self, stack: Optimiser, row: int) -> None:
        """Make the state views of a row of `stack`, zero until now, which takes its values."""
        views = {name: [tensor[row] for tensor in tensors] for name, tensors in stack.state.items()}
        for name, tensors in self.__dict__.get("state", {}).items():  # else it is zero too
            for view, tensor in zip(views[name], tensors, strict=True):
                view.copy_(tensor)
        self.state = views

    def load(self, state: Mapping[str, Sequence[Tensor]]) -> None:
        for name, tensors in self.state.items():
            for tensor, saved in zip(tensors, state[name], strict=True):
                tensor.copy_(saved)

    def calls(
        self, gradients: Sequence[Tensor | None], rate: float | Tensor, member_mask: MemberMask
    ) -> list[tuple[UpdateCall, Numbers]]:
        """Begin a step along `-gradients`, in a stack of some members, and return the kernel's arguments; empty: nothing to update.

        Args:
            gradients: One per parameter, in order; gradients of other members do not affect any result.
            rate: Learning rate; a tensor [] (float32 on a GPU) is read on the device; [N]: one for each member.
        """
        present = [gradient for gradient in gradients if gradient is not None]
        if not present:
            return []
        indices = [i for i, gradient in enumerate(gradients) if gradient is not None]
        assert not isinstance(self.weight_decay, Tensor)
        parameters, counts = [self.parameters[i] for i in indices], self.state.get("steps", [])
        moments = [[self.state[name][i] for i in indices] for name in self.moments]
        steps = counts * len(parameters)
        call = UpdateCall(parameters, laid_out(parameters, present), moments, steps, counts)
        return [(call, (rate, self.weight_decay))]

    def run(self, calls: Sequence[UpdateCall], numbers: Numbers) -> None:
        """Run the kernel on calls of optimisers with one `key` and `skip`."""
        self._count_once([count for call in calls for count in call.counts])
        joined = calls[0]
        joined.join(calls[1:])
        found_inf = None if self.skip is None else self.skip.flag
        self.rule.update(joined, numbers, found_inf, alone=not self._shape, from_zero=False)
        for copied in joined.copied:
            copied.write_back()

    def _count_once(self, counts: list[Tensor]) -> None:
        """Count a step in each of some counts; as a list: the value of a single tensor would be read on the host."""
        if self.skip is None and len(counts) == 1:
            counts[0].add_(1)
        elif counts:
            torch._foreach_add_(counts, 1 if self.skip is None else [self.skip.count] * len(counts))
