"""Kinds of optimisers: SGD, Adam and AdamW as functions of (parameters, gradients, moments)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from antiphon.base import kinds
from antiphon.base.extensions import optimiser
from antiphon.nets.whole_lines import Lines

BETAS = 0.9, 0.999
"""Adam's decay rates of the first and second moment."""
EPSILON = 1e-8
"""What Adam adds to the root of the second moment."""


@dataclass(slots=True)
class UpdateCall:
    """Arguments of one kernel call: lists with one entry for each tensor that is updated."""

    parameters: list[Tensor]
    gradients: list[Tensor]
    moments: list[list[Tensor]]
    """Moments by kind, in the order of the rule's."""
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


class Rule(ABC):
    """How parameters follow their gradients: what is kept of these, and the kernel, equal to torch's optimiser."""

    counts_steps: ClassVar[bool] = True
    """Whether the size of a step depends on how many were taken."""

    def __init__(self, momentum: float) -> None:
        self.momentum = momentum

    @property
    @abstractmethod
    def moments(self) -> tuple[str, ...]:
        """Names of what is kept of each parameter's gradients."""

    @abstractmethod
    def update(
        self, call: UpdateCall, numbers: Numbers, found_inf: Tensor | None, *, alone: bool, from_zero: bool
    ) -> None:
        """Update parameters.

        Args:
            call: The parameters, their gradients, moments and counts.
            numbers: The learning rate and the weight decay.
            found_inf: [] on the device, 1: nothing is updated; None: everything is.
            alone: Whether they are of no stack.
            from_zero: Whether the parameters, finite numbers, count as 0; then there is no weight decay.
        """

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

    @property
    def moments(self) -> tuple[str, ...]:
        return ("momentum",) if self.momentum else ()

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

    @property
    def moments(self) -> tuple[str, ...]:
        return "mean", "square"

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
