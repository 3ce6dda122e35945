"""Learning rates over a run: built-in and user-defined schedules."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from antiphon.base import kinds
from antiphon.base.extensions import schedule
from antiphon.base.problems import DocumentError, show_value
from antiphon.base.spec import Sequence as IsSequence
from antiphon.nets.per_member import PerMember

Share = Annotated[float, Field(ge=0, le=1)]


@schedule("constant")
@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A constant rate after the warm-up."""

    Options: ClassVar[type[kinds.Options]] = kinds.Options

    warmup: float = 0.0
    """Fraction of the run over which the rate rises linearly from zero."""

    def at_step(self, step: int, run_steps: int) -> float:
        return self(step / max(run_steps, 1))

    def __call__(self, progress: float) -> float:
        """Return the factor at `progress`, the fraction of the run done; beyond 1 the last value holds."""
        progress = min(max(progress, 0.0), 1.0)
        rise = min(1.0, progress / self.warmup) if self.warmup > 0 else 1.0
        return rise * self.after_rise(progress)

    def after_rise(self, progress: float) -> float:
        """Return the factor at `progress`, from 0 to 1, without the warm-up."""
        del progress
        return 1.0


@schedule("steps")
@dataclass(frozen=True, kw_only=True)
class StepsSchedule(Schedule):
    """The rate is multiplied by `scale` at each of `at`."""

    class Options(kinds.Options):
        """Keys of a schedule of steps.

        Attributes:
            at: Increasing fractions of `training.steps`, between 0 and 1, at which the rate changes.
            scale: Factor of the rate at each of them.
        """

        at: Annotated[tuple[float, ...], IsSequence]
        scale: Share = 0.1

        @model_validator(mode="after")
        def _in_order(self) -> Self:
            marks = (0.0, *self.at, 1.0)
            if not self.at or any(not early < late for early, late in pairwise(marks)):
                raise DocumentError(("at",), f"must rise between 0 and 1, not {show_value(self.at)}")
            return self

    at: tuple[float, ...]
    scale: float = 0.1

    def after_rise(self, progress: float) -> float:
        return self.scale ** sum(progress >= at for at in self.at)


@schedule("cosine")
@dataclass(frozen=True, kw_only=True)
class CosineSchedule(Schedule):
    """The rate falls along a cosine to `scale` of itself after the last step."""

    class Options(kinds.Options):
        """Keys of a decaying schedule.

        Attributes:
            scale: Factor of the rate after the last step.
        """

        scale: Share = 0.1

    scale: float = 0.1

    def after_rise(self, progress: float) -> float:
        return self.scale + (1 - self.scale) * 0.5 * (1 + math.cos(math.pi * progress))


@schedule("linear")
@dataclass(frozen=True, kw_only=True)
class LinearSchedule(CosineSchedule):
    """The rate falls linearly to `scale` of itself after the last step."""

    def after_rise(self, progress: float) -> float:
        return 1 + (self.scale - 1) * progress


@dataclass(frozen=True, kw_only=True)
class OwnSchedule(Schedule):
    """A user's schedule.

    Attributes:
        key: A key that is equal for schedules that are the same function.
        function: Function of the environment step alone that returns the factor of the learning rate, finite and not below 0,
            like the `lr_lambda` of torch's LambdaLR; any step may be asked for, any often.
    """

    key: Hashable
    function: Callable[[int], float] = field(compare=False)

    def at_step(self, step: int, run_steps: int) -> float:
        return float(self.function(step))


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A learning rate over a run of `run_steps` steps; of a stack one for each member, where they differ."""

    base: PerMember
    run_steps: int
    schedule: Schedule = Schedule()

    @cached_property
    def constant(self) -> bool:
        return type(self.schedule) is Schedule and self.schedule.warmup == 0

    def __call__(self, step: int) -> PerMember:
        """Return the rate used at `step`; where it is 0, that of all members."""
        if self.constant:
            return self.base
        factor = self.schedule.at_step(step, self.run_steps)
        return self.base * factor if factor else 0.0
