"""Studies as documents: scenarios, variants, values, seeds and budgets compared in one table.

A document begins with `study: NAME`. A scenario alone is a study too: all its variants, over three seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, PlainValidator, model_validator

from antiphon.errors import ScenarioError, suggest
from antiphon.scenarios.problems import DocumentError, kind_of, show_value
from antiphon.scenarios.spec import (
    Count,
    Flag,
    FrozenMap,
    IsReal,
    Name,
    Real,
    Sequence,
    Spec,
    Text,
    frozen_data,
    name_problem,
)
from antiphon.scenarios.training import OF_TRAINING, Bounds, Metrics, on_validation
from antiphon.scenarios.yaml_text import read, read_file

__all__ = [
    "DEFAULT",
    "BudgetSpec",
    "EvaluateSpec",
    "FigureSpec",
    "PaperSpec",
    "RowSpec",
    "StudySpec",
    "VariantSpec",
    "find_study",
    "study_names",
]

DEFAULT = "default"
"""Name of the runs of a template without variants."""
_LIBRARY = Path(__file__).with_name("studies")
_SUFFIXES = (".yaml", ".yml")
_SEEDS = 3


def _values(value: object) -> FrozenMap[Any]:
    """Values of parameters by name."""
    if not isinstance(value, Mapping):
        raise DocumentError((), f"must be a mapping of parameters, not {kind_of(value)}")
    found: FrozenMap[Any] = frozen_data(value)
    return found


def _axes(value: object) -> FrozenMap[tuple[Any, ...]]:
    """Lists of values of parameters by name."""
    axes = _values(value)
    for name, values in axes.items():
        if values == ():
            raise DocumentError((name,), "is empty; give values, or leave it out")
        if not isinstance(values, tuple):
            raise DocumentError((name,), f"must be a list of values, not {kind_of(values)}; write [{values}]")
        if len(set(values)) < len(values):
            raise DocumentError((name,), f"names a value twice: {show_value(values)}")
    return axes


def _variants(value: object) -> object:
    """Read variants; a list of words means variants of these names without changes."""
    if isinstance(value, list | tuple):
        if not value:
            raise DocumentError((), "is an empty list; leave it out for all of the scenario's variants")
        names: dict[str, dict[str, Any]] = {}
        for index, name in enumerate(value):
            problem = name_problem(name)
            if problem is None and name in names:
                problem = f"names {name!r} twice"
            if problem is not None:
                raise DocumentError((index,), problem)
            names[name] = {}
        value = names
    if not isinstance(value, Mapping):
        raise DocumentError((), f"must be a list of names or a mapping, not {kind_of(value)}")
    for name in value:
        problem = name_problem(name)
        if problem is not None:
            raise DocumentError((str(name),), problem)
    return {name: {} if item is None else item for name, item in value.items()}


Values = Annotated[Mapping[str, Any], PlainValidator(_values)]
Axes = Annotated[Mapping[str, tuple[Any, ...]], PlainValidator(_axes)]
Share = Annotated[float, Field(ge=0, le=1), IsReal]


class EvaluateSpec(Spec):
    """Evaluation of the finished system.

    Attributes:
        links: `perfect` (nothing is lost, noisy or rounded), or `as_run`: as in the training.
        drop: `as_run` only: the probability that a message is lost, in place of every link's own.
    """

    links: Literal["perfect", "as_run"] = "perfect"
    drop: Share | None = None

    bare: ClassVar[str | None] = "links"

    @model_validator(mode="after")
    def _drop_needs_links(self) -> Self:
        if self.drop is not None and self.links == "perfect":
            raise DocumentError(("drop",), "nothing is lost on perfect links; add links: as_run")
        return self


class VariantSpec(Spec):
    """A line of the table beside others that differ from it in this alone.

    Attributes:
        variant: Of the scenario; None: the one of the same name as here.
        set: Values of parameters; they override those of the grid.
        evaluate: In place of the study's.
    """

    variant: Name | None = None
    set: Values = FrozenMap()
    evaluate: EvaluateSpec | None = None

    bare: ClassVar[str | None] = "variant"


Variants = Annotated[dict[str, VariantSpec], BeforeValidator(_variants)]


class PaperSpec(Spec):
    """A paper's figures for lines of the table, in the study's first metric (shares, not per cent).

    Attributes:
        variant: Of the lines.
        value: The figure, where there is one.
        over: Or the axis of the grid along which there are several,
        values: and the figures by the axis's value.
        sure: `verbatim` (read in the paper), `derived`, or `unverified` (from memory).
        source: The place in the paper.
    """

    variant: Name
    value: Real | None = None
    over: Name | None = None
    values: Annotated[dict[str, Real], Field(min_length=1)] | None = None
    sure: Literal["verbatim", "derived", "unverified"]
    source: Text

    @model_validator(mode="after")
    def _one_or_several(self) -> Self:
        several = self.over is not None and self.values is not None
        if (self.value is None) != several or (self.over is None) != (self.values is None):
            raise DocumentError((), "needs either a value, or over (an axis) and values")
        return self

    def at(self, point: Mapping[str, Any]) -> float | None:
        """Return the figure at a point of the grid, if there is one."""
        if self.over is None or self.values is None:
            return self.value
        return self.values.get(str(point[self.over])) if self.over in point else None


class BudgetSpec(Spec):
    """Budget: steps, seeds and grid.

    Attributes:
        steps: Of every run; None: the scenario's.
        seeds: Every line runs with 0 … seeds - 1.
        set: Values of parameters, which are then not tuned.
        grid: Axes in place of those of the same name.
    """

    steps: Count | None = None
    seeds: Count = _SEEDS
    set: Values = FrozenMap()
    grid: Axes = FrozenMap()


class FigureSpec(Spec):
    """Settings of figure.svg.

    Attributes:
        x: The axis of the grid it runs along; there is a line for every variant.
    """

    x: Name


class RowSpec(Spec):
    """Lines of the table: one scenario, at every point of a grid, in several variants.

    Attributes:
        scenario: A library scenario, or a file (its path relative to the study's).
        name: In the table; None: the scenario's.
        variants: By name; None: the study's.
        set: Values of parameters, beside the study's.
        grid: Lists of values by parameter; None: the study's.
        tune: Lists of values by parameter, of which each line takes the one that is best on the validation
            split; None: the study's.
        paper: Figures of papers.
        budgets: Those with these lines; empty: all.
    """

    scenario: Text
    name: Name | None = None
    variants: Variants | None = None
    set: Values = FrozenMap()
    grid: Axes | None = None
    tune: Axes | None = None
    paper: Annotated[tuple[PaperSpec, ...], Sequence] = ()
    budgets: Annotated[tuple[Name, ...], Sequence] = ()

    bare: ClassVar[str | None] = "scenario"


class StudySpec(Spec):
    """A study. *Recovered* is taken between its variants called `locked` and `detached`, at every point of the grid.

    Attributes:
        study: Its name.
        description: Its question.
        rows: Scenarios, each with its own settings.
        variants: Of every row that names none; None: all of its scenario's.
        set: Values of parameters in every run.
        grid: Of every row that names none.
        tune: Of every row that names none.
        metric: The tabulated metrics, a table each; empty: the metric of the readouts' objective. `accuracy`, `error` (its
            complement; of a regression: the squared error), `bits` or `loss` of the readouts on the test split;
            `A.accuracy` likewise of an agent; `train_loss`: that of the readouts on the training split, or
            `excess_loss`: that less the least that a linear model can have; any other word is a figure of the
            environment. Lines are tuned by the first, and papers' figures are of it.
        bound: By metric (a number alone: of the only one) the bound within which seeds are counted.
        curves: Metrics in training that are plotted against steps and seconds, in curves.csv and .svg.
        evaluate: How finished runs are scored.
        seed_as: A parameter that has the seed of the run as its value, such as a data set's own.
        representations: Whether the agents' representations of examples are compared too, in representations.csv and .svg.
        figure: Settings of figure.svg; None: along the only axis of the grid, or the lines one under the other.
        budgets: By name; the first is the default.
    """

    study: Name
    description: Text = ""
    rows: Annotated[tuple[RowSpec, ...], Field(min_length=1), Sequence]
    variants: Variants | None = None
    set: Values = FrozenMap()
    grid: Axes = FrozenMap()
    tune: Axes = FrozenMap()
    metric: Metrics = ()
    bound: Bounds = FrozenMap()
    curves: Metrics = ()
    evaluate: EvaluateSpec = EvaluateSpec()
    seed_as: Name | None = None
    representations: Flag = False
    figure: FigureSpec | None = None
    budgets: Annotated[dict[Name, BudgetSpec], Field(min_length=1)]

    @classmethod
    def of_scenario(cls, name: str, description: str, **keys: Any) -> Self:
        """Return the study of a scenario alone: its variants, over three seeds; `keys` are further ones of the document."""
        return cls(
            study=name,
            description=description,
            rows=(RowSpec(scenario=name),),
            budgets={DEFAULT: BudgetSpec()},
            **keys,
        )

    @classmethod
    def from_yaml(cls, text: str, source: str = "study") -> Self:
        """Read a document.

        Raises:
            ScenarioError: Something that is not accepted; the line begins `source:line: `.
        """
        document = read(text, source)
        try:
            return cls.model_validate(dict(document.data))
        except DocumentError as error:
            raise error.located(source, document.lines) from None

    @model_validator(mode="after")
    def _axes_are_there(self) -> Self:
        for index, row in enumerate(self.rows):
            for budget in row.budgets:
                if budget not in self.budgets:
                    known = suggest(budget, self.budgets)
                    raise DocumentError(("rows", index, "budgets"), f"no budget {budget!r}{known}")
            for axis in self.tune_of(row):
                if axis in self.grid_of(row):
                    raise DocumentError(
                        ("rows", index), f"{axis!r} is on the grid and tuned; it can be only one of them"
                    )
                if self.metric and not on_validation(self.metric[0]):
                    raise DocumentError(
                        ("tune",),
                        f"is chosen on the validation split; {self.metric[0]} is not, so leave it out",
                    )
            self._paper_fits(index, row)
        axes = {axis for row in self.rows for axis in self.grid_of(row)}
        for name, budget_spec in self.budgets.items():
            for axis in budget_spec.grid:
                if axis not in axes:
                    raise DocumentError(
                        ("budgets", name, "grid", axis), f"is no axis of the grid{suggest(axis, axes)}"
                    )
        if self.figure is not None and self.figure.x not in axes:
            raise DocumentError(
                ("figure", "x"), f"{self.figure.x!r} is no axis of the grid{suggest(self.figure.x, axes)}"
            )
        return self

    @model_validator(mode="after")
    def _metrics_fit(self) -> Self:
        for metric in self.bound:
            if metric and metric not in self.metric:
                known = suggest(metric, self.metric)
                raise DocumentError(("bound", metric), f"is no metric of the study{known}")
            if not metric and len(self.metric) > 1:
                raise DocumentError(
                    ("bound",), f"of which metric? write {{{self.metric[0]}: {self.bound[metric]}}}"
                )
        for metric in self.curves:
            if metric in OF_TRAINING:
                raise DocumentError(("curves",), f"{metric} is known at the end alone; name loss")
        return self

    def bound_of(self, metric: str) -> float | None:
        """Return the bound of a metric, if it has one."""
        return self.bound.get(metric, self.bound.get(""))

    def _paper_fits(self, index: int, row: RowSpec) -> None:
        variants = self.variants_of(row)
        for at, paper in enumerate(row.paper):
            path = ("rows", index, "paper", at)
            if variants is not None and paper.variant not in variants:
                raise DocumentError(
                    (*path, "variant"), f"no variant {paper.variant!r}{suggest(paper.variant, variants)}"
                )
            if paper.over is not None and paper.over not in self.grid_of(row):
                raise DocumentError(
                    (*path, "over"), f"no axis {paper.over!r}{suggest(paper.over, self.grid_of(row))}"
                )

    def variants_of(self, row: RowSpec) -> Mapping[str, VariantSpec] | None:
        """Return the variants of a row; None: all of its scenario's."""
        return self.variants if row.variants is None else row.variants

    def grid_of(self, row: RowSpec) -> Mapping[str, tuple[Any, ...]]:
        """Return the grid of a row."""
        return self.grid if row.grid is None else row.grid

    def tune_of(self, row: RowSpec) -> Mapping[str, tuple[Any, ...]]:
        """Return the tuned parameters of a row."""
        return self.tune if row.tune is None else row.tune


def study_names() -> tuple[str, ...]:
    """Return the names of the library's studies, sorted."""
    return tuple(sorted(path.stem for path in _LIBRARY.glob("*.yaml")))


def find_study(name_or_path: str | Path) -> StudySpec | None:
    """Return a study of the library, or read one from a file; None where it is neither.

    Args:
        name_or_path: A name of the library, or the path of a YAML file.

    Raises:
        ScenarioError: It is a study that is not accepted.
    """
    path = Path(name_or_path)
    if str(name_or_path) in study_names():
        path = _LIBRARY / f"{name_or_path}.yaml"
    elif not _is_study(path):
        return None
    shown = path.name if path.parent == _LIBRARY else str(path)
    study = StudySpec.from_yaml(read_file(path), shown)
    return study.model_copy(update={"rows": tuple(_relative_to_here(row, path.parent) for row in study.rows)})


def _is_study(path: Path) -> bool:
    """Whether a file holds a study; other problems of it are raised by its reader."""
    try:
        text = read_file(path)
    except ScenarioError:
        return False
    return any(line.startswith("study:") for line in text.splitlines())


def _relative_to_here(row: RowSpec, folder: Path) -> RowSpec:
    """Return a row with the path of its file relative to the working directory, not to the study's folder."""
    if not row.scenario.endswith(_SUFFIXES):
        return row
    return row.model_copy(update={"scenario": str(folder / row.scenario)})
