"""Populations as documents: members of one scenario that differ in parameters, and the selection among them.

A document begins with `population: NAME`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, Field, WrapValidator, model_validator

from antiphon.base.problems import DocumentError
from antiphon.base.spec import Count, FrozenMap, Name, Sequence, Spec
from antiphon.scenarios.study_spec import Values
from antiphon.scenarios.training import MetricName
from antiphon.scenarios.yaml_text import DocumentSpec


class RangeSpec(Spec):
    """The range of a parameter.

    Attributes:
        low: Its smallest value (`from` in files).
        high: Its largest value (`to` in files).
        log: Whether initial values are uniform in the logarithm.
    """

    low: Annotated[float, Field(validation_alias="from")]
    high: Annotated[float, Field(validation_alias="to")]
    log: bool = False

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.low < self.high:
            raise DocumentError(("to",), f"must be above `from` ({self.low:g}), not {self.high:g}")
        if self.log and self.low <= 0:
            raise DocumentError(("from",), f"must be above 0 with `log`, not {self.low:g}")
        return self


def _ranged(value: object, read: Callable[[object], Any]) -> Any:
    """Read a range, or a list of numbers."""
    return RangeSpec.model_validate(value) if isinstance(value, Mapping) else read(value)


Ranged = Annotated[tuple[float, ...], Field(min_length=2), Sequence, WrapValidator(_ranged)]
"""A range of a parameter, or a list of its values."""


class SelectionSpec(Spec):
    """Selection by truncation (Jaderberg et al. 2017, "Population Based Training of Neural Networks").

    Attributes:
        by: The metric: `return` of the readouts, over the newest episode of each environment of the training, the one in progress once it is
            longer than the newest finished one; else `loss` or the metric of their objective (such as `accuracy`) of the readouts,
            or of one agent (`A.accuracy`), on the validation split, or on the training split where there is no other; any other word is a
            metric of the environment. None: the metric of the readouts' objective.
        every: Steps between selections.
        copy_share: The fraction of members that is replaced: each of the worst by one of as many best, if their scores differ
            by more than twice the standard error (`copy` in files).
        factors: A copied member's parameters are multiplied by one of these, within their range; of a list of values it takes
            a neighbour.
    """

    by: MetricName | None = None
    every: Count
    copy_share: Annotated[float, Field(gt=0, le=0.5, validation_alias="copy")] = 0.2
    factors: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1), Sequence] = (0.8, 1.25)


class PopulationSpec(DocumentSpec):
    """A population: members that are trained together, as one stack where their agents can be stacked.

    Attributes:
        population: Its name.
        description: What it is for.
        scenario: A library scenario, or a file (its path relative to the population's).
        variant: A variant of the scenario.
        members: The number of members; the seed of member n is `seed` + n.
        seed: Seed of the first member, of the initial values and of the selection.
        steps: Training steps; None: the scenario's.
        set: Values of parameters of all members.
        vary: By parameter, the range of the members' values, or a list of values. They may change learning rates, weights of
            losses and rewards, probabilities and the like, not the structure.
        select: How the best members replace the worst; None: they do not (random search).
    """

    library: ClassVar[Path] = Path(__file__).with_name("populations")

    population: Name
    description: str = ""
    scenario: str
    variant: Name | None = None
    members: Annotated[int, Field(ge=2, le=10_000)] = 8
    seed: Annotated[int, Field(ge=0)] = 0
    steps: Count | None = None
    set: Values = FrozenMap()
    vary: Annotated[dict[str, Ranged], Field(min_length=1), AfterValidator(FrozenMap)]
    select: SelectionSpec | None = None

    @model_validator(mode="after")
    def _varies_what_is_not_set(self) -> Self:
        for name in self.vary:
            if name in self.set:
                raise DocumentError(("set", name), "varies; leave it out here or in `vary`")
        return self
