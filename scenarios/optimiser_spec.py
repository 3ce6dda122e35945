"""Optimisers and their schedules in a scenario: kinds, rates and clips, and the defaults of each."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field

from antiphon.base.extensions import Catalogue, is_built_in
from antiphon.base.kinds import Kind, KindSpec
from antiphon.base.spec import Sequence, fail


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


class _OptimiserKeys(KindSpec):
    """A section with the keys of an optimiser."""

    point = "optimiser"

    @property
    def is_users(self) -> bool:
        return not (self.built_in or f"{getattr(self.source, '__module__', '')}.".startswith("torch.optim."))


class GroupSpec(_OptimiserKeys):
    """A group of an agent's or predictor's parameters with an optimiser of its own.

    Attributes:
        axes: The number of axes of its parameters: 1 of biases and norms, 2 of matrices, 4 of filters of images.
        kind: As of the optimiser; with keys of its own.
        lr: The learning rate, which follows the optimiser's schedule; None: the optimiser's.
    """

    axes: Annotated[int, Field(ge=0)]
    kind: Kind
    lr: Annotated[float, Field(gt=0)] | None = None


def _one_group_each(groups: tuple[GroupSpec, ...]) -> tuple[GroupSpec, ...]:
    axes = [group.axes for group in groups]
    for index, number in enumerate(axes):
        if number in axes[:index]:
            fail(f"has two groups with axes: {number}; leave one out")
    return groups


class OptimiserSpec(_OptimiserKeys, sections=("optimiser", "predictor")):
    """An optimiser of an agent or of a channel's predictor: the keys of every kind.

    Attributes:
        kind: `sgd`, `adam` or `adamw`; the name of a class of `torch.optim` such as `RMSprop`; a registered name, or
            from Python a class or factory of the parameters and `lr`.
        lr: The learning rate.
        clip: Maximum joint norm of the gradients of agents that learn together (joined by locked channels), as torch's
            `clip_grad_norm_`; larger ones are clipped. None: no limit.
        schedule: Schedule of `lr` over the training; None: constant.
        groups: Parameters with another optimiser, by their number of axes: `[{axes: 1, kind: AdamW, weight_decay: 0}]`.
    """

    kind: Kind = "adam"
    lr: Annotated[float, Field(gt=0)] = 0.001
    clip: Annotated[float, Field(gt=0)] | None = None
    schedule: ScheduleSpec | None = None
    groups: Annotated[tuple[GroupSpec, ...], Sequence, AfterValidator(_one_group_each)] = ()

    written: ClassVar[frozenset[str]] = frozenset({"kind", "lr"})

    @property
    def is_torchs(self) -> bool:
        """Whether an optimiser of torch's, or a user's, takes its steps: all but the built-in kinds, and these too with groups."""
        return bool(self.groups) or not self.built_in

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Kind and settings as `TrainedParameters` takes them."""
        clip = {"clip": self.clip}
        if not self.is_torchs:
            return {"kind": self.kind, **clip, **self.options}
        groups = {
            group.axes: (_torch_kind(group.kind), group.options, group.lr or self.lr) for group in self.groups
        }
        kind = _torch_kind(self.kind) if self.groups else self.kind
        return {"kind": kind, **clip, "options": self.options, "lr": self.lr, "groups": groups}


def _torch_kind(kind: Any) -> Any:
    """Return the class of `torch.optim` of the same name as one of antiphon's own kinds; other kinds as they are."""
    if not is_built_in("optimiser", kind):
        return kind
    return next((name for name in Catalogue("optimiser") if name != kind and name.lower() == kind), kind)
