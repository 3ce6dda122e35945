"""How learning signal enters a network and leaves it: one backward pass over one closed window.

semantics: the sender follows the gradient of  sum_t objective(t) + sum_j scale_j <m_j, stopgrad(SG_j)> / B,
and the same surrogate with `discount` for `scale` gives the deltas at its leaves (Jaderberg et al. 2017, §2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Injection", "backward"]


@dataclass(frozen=True, slots=True)
class Injection:
    """A predicted (or returned) gradient to be put on a message."""

    message: Tensor
    """The live message, [B, size]."""
    gradient: Tensor
    """Per sample, [B, size]: B times dL/dmessage."""
    scale: float = 1.0
    """What enters the sender's parameter gradients."""
    discount: float = 1.0
    """What enters the deltas at the sender's own leaves."""


def backward(
    objective: Tensor | None,
    injections: Sequence[Injection],
    parameters: Sequence[Tensor],
    leaves: Sequence[Tensor],
    batch: int,
) -> tuple[list[Tensor | None], list[Tensor | None]]:
    """Return the gradients of the parameters and the per-sample deltas of the leaves.

    Args:
        objective: The window's summed loss (already divided by the batch), or None.
        injections: What is put on the messages sent within the window.
        parameters: Tensors to differentiate; may be empty (a frozen agent).
        leaves: Received messages, [B, size] each.
        batch: B; deltas are B times dL/dleaf.

    Returns:
        Gradients in the order of `parameters` and deltas in the order of `leaves`; None where nothing
        depends on them.
    """
    apart = bool(leaves) and any(i.scale != i.discount for i in injections)
    if not apart:
        gradients = _pull(objective, injections, [*parameters, *leaves], batch, False, discount=False)
        count = len(parameters)
        return gradients[:count], _per_sample(gradients[count:], batch)
    own = _pull(objective, injections, parameters, batch, True, discount=False)
    back = _pull(objective, injections, leaves, batch, False, discount=True)
    return own, _per_sample(back, batch)


def _per_sample(gradients: Sequence[Tensor | None], batch: int) -> list[Tensor | None]:
    return [None if g is None else g * batch for g in gradients]


def _pull(
    objective: Tensor | None,
    injections: Sequence[Injection],
    inputs: Sequence[Tensor],
    batch: int,
    retain: bool,
    *,
    discount: bool,
) -> list[Tensor | None]:
    outputs: list[Tensor] = []
    weights: list[Tensor | None] = []
    if objective is not None and objective.requires_grad:
        outputs.append(objective)
        weights.append(None)
    totals: dict[int, tuple[Tensor, Tensor]] = {}  # channels that share a port add their injections
    for injection in injections:
        factor = injection.discount if discount else injection.scale
        if factor and injection.message.requires_grad:
            weight = injection.gradient if factor == 1 else injection.gradient * factor
            known = totals.get(id(injection.message))
            totals[id(injection.message)] = (
                injection.message,
                weight if known is None else known[1] + weight,
            )
    for message, weight in totals.values():
        outputs.append(message)
        weights.append(weight.reshape(message.shape) / batch)
    if not outputs or not inputs:
        return [None] * len(inputs)
    found = torch.autograd.grad(outputs, inputs, weights, retain_graph=retain, allow_unused=True)
    return list(found)
