"""What crosses a channel backwards: gradient cuts, and the backward pass over one closed window with predicted
gradients injected on sent messages. The only module that detaches tensors: elsewhere values are copied (initial
parameters, checkpoints), but no gradient path is cut.

semantics: the sender follows the gradient of  sum_t objective(t) + sum_j scale_j <m_j, stopgrad(SG_j)> / B,
and the same surrogate with `discount` for `scale` gives the gradients of what it has read (Jaderberg et al. 2017, §2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import torch
from torch import Tensor

from antiphon.nets.per_member import PerMember, nonzero, scaled


def value_of(message: Tensor) -> Tensor:
    """Return the values of a message, flat [B, size], without the sender's graph."""
    return message.detach().flatten(1)


def as_leaf(message: Tensor) -> Tensor:
    """Return a copy-free leaf of `message` that the receiver can differentiate without reaching the sender."""
    return message.detach().requires_grad_()


def constant(tensor: Tensor) -> Tensor:
    """Return `tensor` without its graph: a loss to be logged, or credit that is dropped on purpose."""
    return tensor.detach()


@dataclass(frozen=True, slots=True)
class Injection:
    """Predicted (or returned) gradient to be injected at an output, a message with its sender's graph."""

    output: Tensor
    """[B, size], with its graph."""
    gradient: Tensor
    """Per sample, [B, size]: B times dL/doutput."""
    scale: PerMember = 1.0
    """Factor in the sender's parameter gradients."""
    discount: PerMember = 1.0
    """Factor in the gradients of what the sender has read."""


Slopes = Sequence[tuple[Tensor, Tensor]]
"""A loss that is known by its gradients: tensors with their graph, each with the gradient of what is learned there."""


@dataclass(slots=True, kw_only=True)
class BackwardRequest:
    """Inputs of the backward pass of one ended window."""

    losses: Sequence[Tensor] = ()
    """Per sample, [rows] each, or the mean over the batch, a scalar: their sum is what the window learns."""
    injections: Sequence[Injection] = ()
    parameters: Mapping[str, Sequence[Tensor]]
    """By learner: tensors to differentiate; may be empty (a frozen agent)."""
    values_read: Sequence[Tensor] = ()
    """Leaves of autograd, [B, size] each: the values of the reads whose gradients return."""
    auxiliary_loss: Tensor | None = None
    """Loss (already divided by the batch) in the parameters' gradients alone, not in those of `values_read`."""
    slopes: Slopes = ()
    """What the window learns beside the losses."""

    @property
    def two_passes(self) -> bool:
        """Whether parameters and values read need a backward pass each."""
        if not self.values_read:
            return False
        return self.auxiliary_loss is not None or any(
            isinstance(i.scale, Tensor) or isinstance(i.discount, Tensor) or i.scale != i.discount
            for i in self.injections
        )


Gradients = list[Tensor | None]
"""In the order of the tensors that were differentiated; None where nothing depends on one."""


def backward_all(
    requests: Sequence[BackwardRequest], batch: int
) -> list[tuple[dict[str, Gradients], Gradients]]:
    """Go back through many windows with disjoint graphs, in one pass where possible.

    Args:
        batch: B; the gradient of a value read is B times dL/dvalue.

    Returns:
        For each window the gradients by learner, and per sample those of the values that it read; None where nothing depends
        on a tensor.
    """
    apart = [request.two_passes for request in requests]
    single_pass = [request for request, two in zip(requests, apart, strict=True) if not two]
    inputs = [
        tensor
        for request in single_pass
        for tensor in chain(*request.parameters.values(), request.values_read)
    ]
    shared = iter(gradients_of(_roots(single_pass, batch, discount=False), inputs))
    gradients: list[dict[str, Gradients]] = []
    returned: Gradients = []
    for request, two in zip(requests, apart, strict=True):
        of_parameters = of_values_read = shared
        if two:
            roots = _roots([request], batch, discount=False)
            of_parameters = iter(gradients_of(roots, [*chain(*request.parameters.values())], retain=True))
            of_values_read = iter(gradients_of(_roots([request], batch, discount=True), request.values_read))
        gradients.append(
            {name: list(islice(of_parameters, len(tensors))) for name, tensors in request.parameters.items()}
        )
        returned += islice(of_values_read, len(request.values_read))
    per_sample = iter(_foreach_present(torch._foreach_mul, returned, batch))
    return [
        (by_learner, list(islice(per_sample, len(request.values_read))))
        for request, by_learner in zip(requests, gradients, strict=True)
    ]


def _foreach_present(
    operation: Callable[..., Sequence[Tensor]], tensors: Sequence[Tensor | None], number: int
) -> list[Tensor | None]:
    """Return the results of an operation on each tensor and a number, in one call."""
    present = [tensor for tensor in tensors if tensor is not None]
    results = iter(operation(present, number) if present else ())
    return [None if tensor is None else next(results) for tensor in tensors]


def _roots(
    requests: Sequence[BackwardRequest], batch: int, *, discount: bool
) -> list[tuple[Tensor, Tensor | None]]:
    """The roots of a backward pass: losses, and outputs with the gradients injected at them; each tensor with its gradient."""
    ends: list[tuple[Tensor, Tensor | None]] = []
    for request in requests:
        auxiliary_losses = [] if discount or request.auxiliary_loss is None else [request.auxiliary_loss]
        for loss in (*request.losses, *auxiliary_losses):
            if loss.requires_grad:
                ends.append((loss, torch.ones_like(loss) if loss.dim() else None))
        # tensors hash by identity; channels that share a port add their injections
        totals: dict[Tensor, Tensor] = {}
        for injection in request.injections:
            factor = injection.discount if discount else injection.scale
            if nonzero(factor) and injection.output.requires_grad:
                weight = scaled(injection.gradient, factor)
                total = totals.get(injection.output)
                totals[injection.output] = weight if total is None else total + weight
        ends += [(output, weight.reshape(output.shape)) for output, weight in totals.items()]
    weights = _foreach_present(torch._foreach_div, [weight for _, weight in ends], batch)
    roots = [(end, weight) for (end, _), weight in zip(ends, weights, strict=True)]
    return roots + [root for request in requests for root in request.slopes if root[0].requires_grad]


_run_backward: Callable[..., Sequence[Tensor | None]] = getattr(
    torch.autograd.graph,
    "_engine_run_backward",
    lambda ends, weights, retain, create, inputs, **_: torch.autograd.grad(
        ends, inputs, weights, retain, create, allow_unused=True
    ),
)
"""What `torch.autograd.grad` calls: its checks in Python take two fifths of the time of a small network's pass. It is private, so another
version of torch may not have it."""


def gradients_of(
    ends: Sequence[tuple[Tensor, Tensor | None]], inputs: Sequence[Tensor], *, retain: bool = False
) -> Gradients:
    """Return the gradient of each input, in order; None where nothing depends on it.

    Args:
        ends: Roots of the backward pass: tensors, each with its gradient; None for a loss.
    """
    if not ends or not inputs:
        return [None] * len(inputs)
    outputs = tuple(output for output, _ in ends)
    weights = tuple(torch.ones_like(output) if weight is None else weight for output, weight in ends)
    return list(
        _run_backward(
            outputs, weights, retain, False, tuple(inputs), allow_unreachable=True, accumulate_grad=False
        )
    )
