"""torch's optimisers with the settings of antiphon's own, with which these are compared."""

from __future__ import annotations

from typing import Any

import torch

from antiphon.nets.optimisers import BETAS, EPSILON, Adam, Optimiser


def plain_optimiser(built: Optimiser, lr: float) -> torch.optim.Optimizer | None:
    """Return torch's optimiser with the same settings, in its initial state; None if there are no parameters."""
    if not built.parameters:
        return None
    settings: dict[str, Any] = {
        "lr": lr,
        "weight_decay": built.weight_decay,
        "foreach": False,
        "fused": False,
    }
    if not isinstance(built.rule, Adam):
        return torch.optim.SGD(built.parameters, momentum=built.momentum, **settings)
    kind = torch.optim.AdamW if built.rule.decoupled else torch.optim.Adam
    return kind(built.parameters, betas=BETAS, eps=EPSILON, **settings)
