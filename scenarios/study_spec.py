"""Studies as documents: variants of a scenario, values, seeds and budgets compared in one table.

A document begins with `study: NAME`. A scenario alone is a study too: all its variants, over three seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from antiphon.base.errors import suggest
from antiphon.base.problems import DocumentError
from antiphon.base.spec import Count, FrozenMap, Name, Sequence, Spec, frozen_data
from antiphon.scenarios.training import MetricNames, is_of_env
from antiphon.scenarios.yaml_text import DocumentSpec

DEFAULT = "default"
"""The variant that is a scenario as it is, and the budget of a scenario alone."""


def _variants(value: object) -> object:
    """Parse variants; a list of names means variants of these names without changes."""
    if isinstance(value, list | tuple):
        return {str(name): {} for name in value}
    return {name: variant or {} for name, variant in value.items()} if isinstance(value, Mapping) else value


Values = Annotated[dict[str, Any], AfterValidator(frozen_data)]
_Axis = Annotated[tuple[Any, ...], Field(min_length=1), Sequence]
Axes = Annotated[dict[str, _Axis], AfterValidator(frozen_data)]
Links = Literal["perfect", "as_run"]


class VariantSpec(Spec):
    """A line of the table: a variant of the scenario, with values of parameters.

    Attributes:
        variant: A variant of the scenario, or `default`, the scenario as it is; None: the variant with the name of this line.
        set: Values of parameters; they override values of the grid.
        evaluate: Replaces `evaluate` of the study.
    """

    variant: Name | None = None
    set: Values = FrozenMap()
    evaluate: Links | None = None


Variants = Annotated[dict[Name, VariantSpec], Field(min_length=1), BeforeValidator(_variants)]


class BudgetSpec(Spec):
    """Budget: steps, seeds and grid.

    Attributes:
        steps: Training steps of every run, in place of an axis `steps` of the grid and of a tuned one; None: the scenario's.
        seeds: Every line runs with seeds 0 … seeds - 1.
        set: Values of parameters; these parameters are not tuned.
        grid: Axes that replace the study's axes of the same name.
    """

    steps: Count | None = None
    seeds: Count = 3
    set: Values = FrozenMap()
    grid: Axes = FrozenMap()


class StudySpec(DocumentSpec):
    """A study. *Recovered* is computed between its variants `locked` and `detached`, at every point of the grid.

    Attributes:
        study: Its name.
        description: The question of the study.
        scenario: A library scenario, or a file (its path relative to the study's).
        variants: Variants by name; None: all variants of the scenario.
        set: Values of parameters in every run.
        grid: Lists of values by parameter: all variants run at every point; the first is the x-axis of the figure.
        tune: Lists of values by parameter; each line uses the value that is best on the validation split.
        metric: The metrics in the table; empty: the metric of the readouts' objective. `accuracy`, `error` (its complement;
            for a regression the squared error), `bits`, `return` or `loss` of the readouts on the test split; `A.accuracy`
            is the accuracy of agent A; any other word is a metric of the environment. Tuning uses the first metric.
        evaluate: The links over which finished runs are scored: `perfect` (no loss, noise or quantisation), or `as_run`
            (as in the training).
        budgets: Budgets by name; the first is the default. Without: the scenario's steps, three seeds.
    """

    library: ClassVar[FilePath] = FilePath(__file__).with_name("studies")

    study: Name
    description: str = ""
    scenario: str
    variants: Variants | None = None
    set: Values = FrozenMap()
    grid: Axes = FrozenMap()
    tune: Axes = FrozenMap()
    metric: MetricNames = ()
    evaluate: Links = "perfect"
    budgets: Annotated[dict[Name, BudgetSpec], Field(min_length=1)] = FrozenMap({DEFAULT: BudgetSpec()})

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for name, budget in self.budgets.items():
            for axis in budget.grid:
                if axis not in self.grid:
                    line = f"is not an axis of the grid{suggest(axis, self.grid)}"
                    raise DocumentError(("budgets", name, "grid", axis), line)
        for one, other in (("set", "grid"), ("set", "tune"), ("tune", "grid")):
            for name in getattr(self, one):
                if name in getattr(self, other):
                    raise DocumentError((one, name), f"is in `{other}` too; leave it out of one of the two")
        if self.tune and self.metric and is_of_env(self.metric[0]):
            names = "accuracy, error, bits or loss, or leave out tune"
            line = f"`tune` compares on the validation split, which has no {self.metric[0]!r}; write {names}"
            raise DocumentError(("metric",), line)
        return self
