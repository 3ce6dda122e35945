"""What crosses a channel backwards: gradient cuts, and the backward pass over one closed window with predicted
gradients injected on sent messages. The only module that detaches tensors: elsewhere values are copied (initial
parameters, checkpoints), but no gradient path is cut.

semantics: the sender follows the gradient of  sum_t objective(t) + sum_j scale_j <m_j, stopgrad(SG_j)> / B,
and the same surrogate with `discount` for `scale` gives the deltas at its leaves (Jaderberg et al. 2017, §2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "BackwardRequest",
    "BackwardResult",
    "Injection",
    "as_leaf",
    "backward",
    "backward_all",
    "clipped",
    "constant",
    "value_of",
]


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
    """Predicted (or returned) gradient to be injected on a message."""

    message: Tensor
    """The message with its sender's graph, [B, size]."""
    gradient: Tensor
    """Per sample, [B, size]: B times dL/dmessage."""
    scale: float = 1.0
    """Factor in the sender's parameter gradients."""
    discount: float = 1.0
    """Factor in the deltas at the sender's own leaves."""


@dataclass(slots=True)
class BackwardRequest:
    """Inputs of the backward pass of one closed window."""

    objective: Tensor | None
    """The window's summed loss (already divided by the batch), or None."""
    injections: Sequence[Injection]
    """Gradients injected on the messages sent within the window."""
    parameters: Mapping[str, Sequence[Tensor]]
    """By learner: tensors to differentiate; may be empty (a frozen agent)."""
    leaves: Sequence[Tensor]
    """Received messages, [B, size] each."""
    auxiliary: Tensor | None = None
    """Loss (already divided by the batch) in the parameters' gradients and in no delta, or None."""

    @property
    def all_parameters(self) -> list[Tensor]:
        """The parameters of all learners."""
        return [p for some in self.parameters.values() for p in some]

    @property
    def two_passes(self) -> bool:
        """Whether parameters and leaves need a backward pass each."""
        differ = self.auxiliary is not None or any(i.scale != i.discount for i in self.injections)
        return bool(self.leaves) and differ


Gradients = list[Tensor | None]
"""In the order of the tensors that were differentiated; None where nothing depends on one."""


@dataclass(slots=True)
class BackwardResult:
    """Gradients of one closed window."""

    parameters: dict[str, Gradients]
    """By learner."""
    deltas: Gradients
    """Per sample, of each leaf."""


def clipped(gradient: Tensor, norm: float) -> Tensor:
    """Clip per-sample gradients [B, size] to `norm`."""
    length = gradient.norm(dim=1, keepdim=True)
    return torch.where(length > norm, gradient * (norm / length.clamp_min(norm)), gradient)


def backward(
    objective: Tensor | None,
    injections: Sequence[Injection],
    parameters: Sequence[Tensor],
    leaves: Sequence[Tensor],
    batch: int,
) -> tuple[Gradients, Gradients]:
    """Return the gradients of the parameters and the per-sample deltas of the leaves of one window.

    Args:
        objective: As of `BackwardRequest`, like `injections` and `leaves`.
        parameters: Of one learner.
        batch: B; deltas are B times dL/dleaf.

    Returns:
        Gradients in the order of `parameters` and deltas in the order of `leaves`; None where nothing
        depends on them.
    """
    (result,) = backward_all([BackwardRequest(objective, injections, {"": parameters}, leaves)], batch)
    return result.parameters[""], result.deltas


def backward_all(requests: Sequence[BackwardRequest], batch: int) -> list[BackwardResult]:
    """Run `backward` for many windows with disjoint graphs, in one pass where possible."""
    single_pass = [request for request in requests if not request.two_passes]
    inputs = [t for request in single_pass for t in (*request.all_parameters, *request.leaves)]
    ends = [_ends(request, batch, discount=False) for request in single_pass]
    shared = _gradients([end for some in ends for end in some], inputs, retain=False)
    results = []
    for request in requests:
        own = back = shared
        if request.two_passes:
            own = _gradients(_ends(request, batch, discount=False), request.all_parameters, retain=True)
            back = _gradients(_ends(request, batch, discount=True), request.leaves, retain=False)
        gradients = {name: [own[id(p)] for p in some] for name, some in request.parameters.items()}
        deltas = [None if (g := back[id(leaf)]) is None else g * batch for leaf in request.leaves]
        results.append(BackwardResult(gradients, deltas))
    return results


def _ends(request: BackwardRequest, batch: int, *, discount: bool) -> list[tuple[Tensor, Tensor | None]]:
    """Roots of a backward pass: tensors and the gradients injected on them."""
    ends: list[tuple[Tensor, Tensor | None]] = []
    for loss in (request.objective, None if discount else request.auxiliary):
        if loss is not None and loss.requires_grad:
            ends.append((loss, None))
    totals: dict[int, tuple[Tensor, Tensor]] = {}  # channels that share a port add their injections
    for injection in request.injections:
        factor = injection.discount if discount else injection.scale
        if factor and injection.message.requires_grad:
            weight = injection.gradient if factor == 1 else injection.gradient * factor
            known = totals.get(id(injection.message))
            totals[id(injection.message)] = (
                injection.message,
                weight if known is None else known[1] + weight,
            )
    ends.extend((message, weight.reshape(message.shape) / batch) for message, weight in totals.values())
    return ends


def _gradients(
    ends: Sequence[tuple[Tensor, Tensor | None]], inputs: Sequence[Tensor], *, retain: bool
) -> dict[int, Tensor | None]:
    """The gradient of each input, by the identity of the tensor."""
    names = [id(tensor) for tensor in inputs]
    if not ends or not inputs:
        return dict.fromkeys(names)
    outputs, weights = [end for end, _ in ends], [weight for _, weight in ends]
    found = torch.autograd.grad(outputs, inputs, weights, retain_graph=retain, allow_unused=True)
    return dict(zip(names, found, strict=True))
