"""Optimum of a linear model: the lower bound of the loss of linear networks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["optimum"]

_ROUNDS = 50
_STEPS = 200
_SLOPE = 1e-8
"""Largest component of the gradient at convergence."""


def optimum(x: Tensor, targets: Tensor, loss: str) -> float:
    """Return the least mean loss of a linear map with a bias from `x` to `targets`.

    A deep linear network can have no lower one, and reaches it unless a layer is narrower than the output.

    Args:
        x: [N, inputs].
        targets: Classes [N] or [N, …] (`classification`, averaged over sites), or floats [N, …] (`regression`).
        loss: `classification`: cross-entropy, whose infimum is 0 for linearly separable classes; `regression`:
            squared error averaged over components, in closed form.

    Raises:
        RuntimeError: The cross-entropy's minimum was not found to a slope of 1e-8.
    """
    features = torch.cat([x.double(), torch.ones(len(x), 1, dtype=torch.float64, device=x.device)], 1)
    if loss == "regression":
        wanted = targets.double().reshape(len(x), -1)
        solution = torch.linalg.lstsq(features, wanted).solution
        return float((features @ solution - wanted).square().mean())
    sites = targets.reshape(len(x), -1).unbind(1)  # each has outputs of its own
    return sum(_least_cross_entropy(features, classes) for classes in sites) / len(sites)


def _least_cross_entropy(features: Tensor, classes: Tensor) -> float:
    """Minimise by L-BFGS; the problem is convex, so a small gradient bounds the distance to the minimum."""
    weight = torch.zeros(
        int(classes.max()) + 1, features.shape[1], dtype=torch.float64, device=features.device
    )
    weight.requires_grad_()
    solver = torch.optim.LBFGS(
        [weight],
        max_iter=_STEPS,
        history_size=50,
        tolerance_grad=_SLOPE / 10,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        solver.zero_grad()
        loss = F.cross_entropy(features @ weight.T, classes)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    for _ in range(_ROUNDS):
        solver.step(closure)  # type: ignore[no-untyped-call]
        loss = closure()
        if _separable(features @ weight.data.T, classes):
            return 0.0
        assert weight.grad is not None
        if float(weight.grad.abs().max()) < _SLOPE:
            return loss.item()
    raise RuntimeError("the minimum of the cross-entropy was not found; standardise the inputs")


def _separable(logits: Tensor, classes: Tensor) -> bool:
    """Whether every example's own logit exceeds all others: scaling the map then drives the loss to zero."""
    own = logits.gather(1, classes.unsqueeze(1))
    others = logits.scatter(1, classes.unsqueeze(1), -torch.inf)
    return bool((own > others.max(1, keepdim=True).values).all())
