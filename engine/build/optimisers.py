"""Optimisers and rates as a scenario declares them."""

from __future__ import annotations

from antiphon.nets.optimisers import Rate
from antiphon.nets.optimisers import Schedule as RateSchedule
from antiphon.scenarios.document import Scenario
from antiphon.scenarios.training import OptimiserSpec, ScheduleSpec

__all__ = ["optimiser_of", "rate_of"]


def rate_of(base: float, schedule: ScheduleSpec | None, scenario: Scenario) -> Rate:
    """Return a number that moves over the training by a schedule; None: it stays."""
    moves = RateSchedule()
    if schedule is not None:
        moves = RateSchedule(
            kind=schedule.kind, at=schedule.at, factor=schedule.factor, warmup=schedule.warmup
        )
    return Rate(base=base, horizon=scenario.training.steps, schedule=moves)


def optimiser_of(spec: OptimiserSpec | None, scenario: Scenario) -> tuple[dict[str, object], Rate]:
    """Return the settings of an optimiser, as `Optimiser` takes them, and its learning rate.

    Args:
        spec: None: that of `training.optimiser`.
        scenario: Whose training it is.
    """
    spec = spec or scenario.training.optimiser
    settings: dict[str, object] = {
        "kind": spec.kind,
        "momentum": spec.momentum,
        "betas": spec.betas,
        "weight_decay": spec.weight_decay,
        "clip": spec.clip,
    }
    return settings, rate_of(spec.lr, spec.schedule, scenario)
