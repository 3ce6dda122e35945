"""Studies and populations in the terminal: what varies in them, and what is trained."""

from __future__ import annotations

from math import prod

from rich.text import Text

from antiphon.base.problems import show_value
from antiphon.scenarios.population_spec import PopulationSpec, RangeSpec
from antiphon.scenarios.study_spec import StudySpec
from antiphon.terminal.output import console, remark, show_table, write_line


def show_study(name_or_file: str, spec: StudySpec) -> None:
    """Print the lines and axes of a study, its budgets with their cells and runs, and where its scenario is described."""
    from antiphon.jobs.studies.plan import StudyOptions, plan  # loads torch

    _heading(spec.study, spec.description)
    planned = {name: plan(spec, StudyOptions(budget=name)) for name in spec.budgets}
    of_budgets = list(planned.values())
    names = list(dict.fromkeys(line.variant for line in of_budgets[0].lines))
    rows = [["variant", "", ", ".join(names)]]
    for key, axes in {"grid": spec.grid, "tune": spec.tune}.items():
        rows += [[key, name, _listed(values)] for name, values in axes.items()]
    rows += [["set", name, show_value(value)] for name, value in spec.set.items()]
    rows.append(["metric", "", ", ".join(spec.metric) or "that of the readouts' objective"])
    show_table(["compares", "parameter", "values"], rows, names=3)
    budgets = []
    for name, budget in planned.items():
        tried = prod(map(len, budget.tuned.values()))
        steps = " to ".join(f"{count:,}" for count in dict.fromkeys((budget.steps[0], budget.steps[-1])))
        runs = len(budget.runs) * budget.seeds
        budgets.append([name, steps, str(budget.seeds), str(len(budget.lines)), str(tried), f"{runs:,}"])
    show_table(["budget", "steps", "seeds", "lines", "tuned values of each", "runs"], budgets, right=5)
    remark(
        f"antiphon show {spec.scenario} describes the scenario, antiphon study {name_or_file} runs the study"
    )


def _heading(name: str, description: str) -> None:
    out = console()
    out.print(Text(name, style="bold"))
    if description:
        out.print(Text(" ".join(description.split())))
    out.print()


def _listed(values: object) -> str:
    return show_value(values).strip("[]") if isinstance(values, tuple) else show_value(values)


def show_population(name_or_file: str, spec: PopulationSpec) -> None:
    """Print what varies in a population, how it is selected, and where its scenario is described."""
    variant = f", variant {spec.variant}" if spec.variant else ""
    _heading(spec.population, spec.description)
    rows = []
    for name, choices in spec.vary.items():
        ranged = f"{choices.low:g} to {choices.high:g}" if isinstance(choices, RangeSpec) else ""
        beginning = (
            "uniform in the logarithm" if isinstance(choices, RangeSpec) and choices.log else "uniform"
        )
        rows.append([name, ranged or ", ".join(f"{value:g}" for value in choices), beginning])
    show_table(["varies", "values", "at the beginning"], rows, names=3)
    fixed = ", ".join(f"{name}={show_value(value)}" for name, value in spec.set.items())
    if fixed:
        write_line(f"set: {fixed}")
    steps = f"{spec.steps:,} steps" if spec.steps else "the scenario's steps"
    write_line(f"{spec.members:,} members of {spec.scenario}{variant} · {steps} · seeds from {spec.seed}")
    if (select := spec.select) is None:
        write_line("without selection: a random search")
    else:
        factors = " or ".join(f"{factor:g}" for factor in select.factors)
        write_line(
            f"every {select.every:,} steps the worst {select.copy_share:.0%} become copies of the best by "
            f"{select.by or 'the metric of the readouts'}, with values times {factors} (of a list: a neighbour)"
        )
    remark(
        f"antiphon show {spec.scenario} describes the scenario, antiphon run {name_or_file} trains the population"
    )
