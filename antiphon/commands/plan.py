"""The command `plan`: how a scenario is run, and on a cluster the time that its variants take to a target."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from rich.text import Text

from antiphon.base.errors import ScenarioError
from antiphon.base.files import finite
from antiphon.commands import options
from antiphon.commands.arguments import scenario_template, values_of
from antiphon.engine.virtual.profile import ClusterProfile, find_profile
from antiphon.terminal.output import print_json, remarks, show_table, write_line

if TYPE_CHECKING:
    from antiphon.engine.planning.cluster_plan import ClusterPlan

_UNITS = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "us"))


def plan(
    name_or_file: options.Scenario,
    variant: options.Variant = None,
    settings: options.Settings = None,
    cluster: options.Cluster = None,
    target: Annotated[
        float | None,
        options.real(
            "X", "Target score of the readouts on the test split; accuracy in percent (default: 95)."
        ),
    ] = None,
    seeds: Annotated[int | None, options.count("K", "Runs of each variant (default: 2).")] = None,
    steps: Annotated[
        int | None, options.count("N", "Maximum steps of a run (default: the scenario's).")
    ] = None,
    parts: Annotated[
        int | None, options.count("N", "Maximum machines (default: one per agent, at most 16).")
    ] = None,
    budget: Annotated[
        float | None,
        options.real(
            "SECONDS",
            "Wall-clock seconds after which training stops and the results so far are printed (default: 120).",
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Print how a scenario is run, or with a cluster the time that its variants take there to a target.

    Raises:
        ScenarioError: There is no such scenario or profile, or the scenario cannot be run in virtual time.
        DataError: The scenario's data are missing or broken.
    """
    template, values = scenario_template(name_or_file), values_of(settings or ())
    if cluster is None:
        given = {"target": target, "seeds": seeds, "steps": steps, "parts": parts, "budget": budget}
        for option in (option for option, value in given.items() if value is not None):
            raise ScenarioError(f"--{option}: has no effect without a cluster; add --cluster PROFILE")
        from antiphon.engine.planning.plan import plan as plan_of
        from antiphon.terminal.scenario_tables import show_plan

        found = plan_of(template.resolve(variant, values))
        print_json(finite(found.as_dict())) if json else show_plan(found)
        return
    from antiphon.engine.planning.cluster_plan import plan_on_cluster, variants_of

    profile = find_profile(cluster)
    with remarks().status("") as shown:
        times = plan_on_cluster(
            variants_of(template, variant, values),
            profile,
            target=target,
            seeds=seeds or 2,
            steps=steps,
            parts=parts or 16,
            budget=120.0 if budget is None else budget,
            watch=lambda line: shown.update(Text(line)),
        )
    if json:
        print_json(finite({"cluster": profile.cluster, **asdict(times)}))
    else:
        _print(times, profile)


def _print(plan: ClusterPlan, profile: ClusterProfile) -> None:
    seeds = "1 seed" if plan.seeds == 1 else f"mean of {plan.seeds} seeds"
    heading = f"{plan.scenario} on {profile.cluster}: {plan.target} on the test split, {seeds}"
    columns = ["", "machines", "steps to target", "time to target", ""]
    for title, first, rows in (
        (heading, "in virtual time", plan.variants),
        ("", "by formula", plan.formulas),
    ):
        if not rows:
            continue
        cells = [
            [
                row.name,
                str(row.machines or "–"),
                "–" if row.steps is None else _spread(*map(_count, row.steps)),
                "–" if row.seconds is None else _spread(*map(in_time, row.seconds)),
                row.note,
            ]
            for row in rows
        ]
        show_table([first, *columns[1:]], cells, title=title)
    if profile.about:
        write_line(f"{profile.cluster}: {profile.about}", "dim")


def _count(mean: float) -> str:
    return f"{mean:,.0f}" if mean >= 100 else f"{mean:.3g}"


def _spread(mean: str, deviation: str) -> str:
    return mean if deviation in ("0", "0 us") else f"{mean} ± {deviation}"


def in_time(seconds: float) -> str:
    """Format a time with three digits, in the largest unit of which it is one or more: `4.37 s`, `12.1 ms`."""
    size, unit = next((one for one in _UNITS if seconds >= one[0]), _UNITS[-1])
    return f"{seconds / size:.3g} {unit}"
