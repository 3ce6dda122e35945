"""Optimisers and their schedules in a scenario: kinds, rates and clips, and the defaults of each."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, ClassVar

from pydantic import Field

from antiphon.base.kinds import Kind, KindSpec


class ScheduleSpec(KindSpec, sections=("schedule",)):
    """Schedule of a learning rate over `training.steps`: the keys of every kind.

    Attributes:
        kind: `constant`, `steps`, `cosine` or `linear`; a registered name, or from Python a function of the step.
        warmup: The fraction of `training.steps` over which the rate first rises from zero; built-in kinds only.
    """

    kind: Kind = "constant"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0

    point = "schedule"
    written: ClassVar[frozenset[str]] = frozenset({"kind"})


class OptimiserSpec(KindSpec, sections=("optimiser", "predictor")):
    """An optimiser of an agent or of a channel's predictor: the keys of every kind.

    Attributes:
        kind: `sgd`, `adam` or `adamw`; the name of a class of `torch.optim` such as `RMSprop`; a registered name, or
            from Python a class or factory of the parameters and `lr`.
        lr: The learning rate.
        clip: Maximum joint norm of the gradients of agents that learn together (joined by locked channels), as torch's
            `clip_grad_norm_`; larger ones are clipped. None: no limit.
        schedule: Schedule of `lr` over the training; None: constant.
    """

    kind: Kind = "adam"
    lr: Annotated[float, Field(gt=0)] = 0.001
    clip: Annotated[float, Field(gt=0)] | None = None
    schedule: ScheduleSpec | None = None

    point = "optimiser"
    written: ClassVar[frozenset[str]] = frozenset({"kind", "lr"})

    @property
    def is_users(self) -> bool:
        return not (self.built_in or f"{getattr(self.source, '__module__', '')}.".startswith("torch.optim."))

    @property
    def is_torchs(self) -> bool:
        """Whether an optimiser of torch's, or a user's, takes its steps: all but the built-in kinds."""
        return not self.built_in

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Kind and settings as `TrainedParameters` takes them."""
        settings = {"kind": self.kind, "clip": self.clip}
        if self.is_torchs:
            return {**settings, "options": self.options, "lr": self.lr}
        return {**settings, **self.options}
