"""Learning rates over a run: antiphon's schedules and users'."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from antiphon.errors import ScenarioError

__all__ = ["OwnSchedule", "Rate", "Schedule", "StepSchedule"]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Schedule of a learning rate over a run, as a factor of its base value."""

    kind: str = "constant"
    at: tuple[float, ...] = ()
    """Fractions of the run after which the rate is multiplied by `factor` (`steps`)."""
    factor: float = 0.1
    """The multiplier (`steps`), or the factor reached at the end (`cosine`, `linear`)."""
    warmup: float = 0.0
    """Fraction of the run over which the rate rises linearly from zero."""

    @property
    def constant(self) -> bool:
        """Whether the factor is the same throughout."""
        return self.kind == "constant" and self.warmup == 0

    def at_step(self, step: int, horizon: int) -> float:
        """Return the factor at a step of a run of `horizon` steps."""
        return self(step / max(horizon, 1))

    def __call__(self, progress: float) -> float:
        """Return the factor at `progress`, the fraction of the run done; beyond 1 the last value holds."""
        progress = min(max(progress, 0.0), 1.0)
        rise = min(1.0, progress / self.warmup) if self.warmup > 0 else 1.0
        if self.kind == "steps":
            return rise * self.factor ** sum(progress >= at for at in self.at)
        if self.kind == "cosine":
            return rise * (self.factor + (1 - self.factor) * 0.5 * (1 + math.cos(math.pi * progress)))
        if self.kind == "linear":
            return rise * (1 + (self.factor - 1) * progress)
        return rise


class StepSchedule(Protocol):
    """A schedule of a user's, such as the `lr_lambda` of torch's LambdaLR: a function of the step."""

    def __call__(self, step: int, /) -> float:
        """Return the factor of the learning rate at an environment step, from 0: finite, and not below 0."""


@dataclass(frozen=True, kw_only=True)
class OwnSchedule:
    """A user's schedule.

    Attributes:
        name: For errors.
        key: Equal for schedules that are the same function.
        function: The schedule.
    """

    name: str
    key: Hashable
    function: StepSchedule = field(compare=False)

    def at_step(self, step: int, horizon: int) -> float:
        """Return the factor at a step; ScenarioError where it is no number of 0 or more."""
        del horizon
        try:
            factor = float(self.function(step))
        except Exception as error:  # noqa: BLE001  (anything a user's function may raise)
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise ScenarioError(f"schedule {self.name}: it fails at step {step}: {reason}") from None
        if not (math.isfinite(factor) and factor >= 0):
            raise ScenarioError(
                f"schedule {self.name}: it returns {factor} at step {step}; return a finite factor of 0 or more"
            )
        return factor


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A learning rate over a run of `horizon` steps."""

    base: float
    horizon: int
    schedule: Schedule | OwnSchedule = Schedule()

    @cached_property
    def constant(self) -> bool:
        """Whether it is the same at every step."""
        return isinstance(self.schedule, Schedule) and self.schedule.constant

    def __call__(self, step: int) -> float:
        """Return the rate used at `step`."""
        return self.base if self.constant else self.base * self.schedule.at_step(step, self.horizon)
