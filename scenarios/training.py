"""Training and telemetry of a scenario: optimisers, schedules, batch, steps."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from antiphon.scenarios.fields import Count, Flag, IsReal, Reals
from antiphon.scenarios.problems import DocumentError, show_value
from antiphon.scenarios.spec import Spec

__all__ = ["OptimiserSpec", "ScheduleSpec", "TelemetrySpec", "TrainingSpec", "ValueSpec"]

Decay = Annotated[float, Field(ge=0, lt=1), IsReal]


class ScheduleSpec(Spec):
    """Schedule of a learning rate over `training.steps`.

    Attributes:
        kind: `constant`, `steps` (times `factor` at each of `at`), `cosine` or `linear` (down to `factor`
            of the rate at the last step).
        at: Where a `steps` schedule steps, as rising fractions of `training.steps` between 0 and 1.
        factor: Of the rate: at each step, or at the end.
        warmup: The fraction of `training.steps` over which the rate first rises from zero.
    """

    kind: Literal["constant", "steps", "cosine", "linear"] = "constant"
    at: Reals = ()
    factor: Annotated[float, Field(ge=0, le=1), IsReal] = 0.1
    warmup: Decay = 0.0

    written: ClassVar[frozenset[str]] = frozenset({"kind"})

    @model_validator(mode="after")
    def _steps_in_order(self) -> Self:
        if self.kind == "steps" and not self.at:
            raise DocumentError(("at",), "a schedule of steps needs the fractions at which it steps")
        marks = (0.0, *self.at, 1.0)
        if any(not early < late for early, late in pairwise(marks)):
            raise DocumentError(("at",), f"must rise between 0 and 1, not {show_value(self.at)}")
        return self


class OptimiserSpec(Spec):
    """An optimiser of an agent or of a channel's predictor.

    Attributes:
        kind: `sgd`, `adam` or `adamw`.
        lr: The learning rate.
        momentum: Of `sgd` only.
        betas: Of `adam` and `adamw` only.
        weight_decay: Added to the gradient (`sgd`, `adam`) or decoupled from it (`adamw`).
        clip: The largest joint norm of its gradients; longer ones are clipped. None: no limit.
        schedule: Of `lr` over the training; None: constant.
    """

    kind: Literal["sgd", "adam", "adamw"] = "adam"
    lr: Annotated[float, Field(gt=0), IsReal] = 0.001
    momentum: Decay = 0.0
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    weight_decay: Annotated[float, Field(ge=0), IsReal] = 0.0
    clip: Annotated[float, Field(gt=0), IsReal] | None = None
    schedule: ScheduleSpec | None = None

    written: ClassVar[frozenset[str]] = frozenset({"kind", "lr"})


class TrainingSpec(Spec):
    """Settings of the whole training.

    Attributes:
        batch: Number of parallel environments.
        steps: How many environment steps a run takes; the horizon of all schedules.
        optimiser: Of every agent that names none.
        predictor: Of every channel's predictor that names none; None: as `optimiser`.
        window_limit: The most steps that a locked group's window may have, and ticks that of an agent that learns alone.
        on_divergence: Consequence of a gradient that is not finite, or longer than `bound`: `stop` ends the run,
            `quarantine` disables the agent or channel for good and the others go on.
        bound: The largest norm of an agent's or a predictor's gradients that is not a divergence; None: any finite.
    """

    batch: Annotated[Count, Field(le=2**20)] = 64
    steps: Count = 1000
    optimiser: OptimiserSpec = OptimiserSpec()
    predictor: OptimiserSpec | None = None
    window_limit: Count = 1024
    on_divergence: Literal["stop", "quarantine"] = "stop"
    bound: Annotated[float, Field(gt=0), IsReal] | None = None

    written: ClassVar[frozenset[str]] = frozenset({"batch", "steps", "optimiser"})


class ValueSpec(Spec):
    """Measurement of the value of every channel during a run.

    Attributes:
        every: Steps from one measurement to the next.
        horizon: Steps of learning over which it is measured.
    """

    every: Count
    horizon: Count = 50


class TelemetrySpec(Spec):
    """Telemetry of a run.

    Attributes:
        every: Steps from one row of figures to the next.
        histograms: Whether histograms are recorded too.
        top: How many agents and channels have scalars of their own; the others are in the aggregates.
        value: Measurement of the value of every channel's learning signal, in forks; None: not during the run.
    """

    every: Count = 100
    histograms: Flag = False
    top: Count = 32
    value: ValueSpec | None = None
