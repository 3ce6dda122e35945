"""The verb `plan`: time to a target of every rival on a cluster, and whether decoupling pays there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.text import Text

from antiphon.commands.arguments import given_template, placement_of, values_of
from antiphon.commands.output import console, print_json, remark, show_table
from antiphon.commands.show import some
from antiphon.engine.planning.rivals.cluster_plan import ClusterPlan, plan_on_cluster
from antiphon.engine.planning.rivals.estimates import Estimate
from antiphon.engine.virtual.profile import find_profile

__all__ = ["in_time", "plan"]

_PARTS = 4
"""Most machines of a placement that are printed; --json has all."""
_UNITS = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "us"))


def plan(
    name: str | None,
    cluster: str,
    *,
    python: str | None,
    variant: str | None,
    settings: list[str],
    target: float | None,
    seeds: int,
    steps: int | None,
    parts: int | None,
    place: Sequence[str],
    json: bool,
) -> None:
    """Print the plan of a scenario on a cluster.

    Raises:
        ScenarioError: There is no such scenario or profile, or the scenario cannot be cut.
        DataError: The scenario's data are missing or broken.
    """
    profile = find_profile(cluster)
    scenario = given_template("plan", name, python).resolve(variant, values_of(settings))
    found = plan_on_cluster(
        scenario,
        profile,
        target=target,
        seeds=seeds,
        steps=steps,
        parts=parts,
        placement=placement_of(place, scenario.agents) if place else None,
        watch=remark,
    )
    if json:
        print_json(found.as_dict())
    else:
        _print(found)


def _print(plan: ClusterPlan) -> None:
    seeds = "1 seed" if plan.seeds == 1 else f"mean of {plan.seeds} seeds"
    heading = f"{plan.scenario} on {plan.cluster}: {plan.target} on the test split, {seeds}"
    rows = [_row(estimate) for estimate in plan.estimates]
    show_table(["rival", "to target", "steps", "a step", "goodput", "from", "with"], rows, title=heading)
    places = [["here", _placed(plan.machines, plan.placement), ""]]
    places += [
        [f"best for {one.rival}", _placed(one.machines, one.placement), in_time(one.step_seconds)]
        for one in plan.best
    ]
    show_table(["placement", "machines", "a step (formula)"], places, right=1)
    if plan.about:
        console().print(Text(f"{plan.cluster}: {plan.about}\n", style="dim"), soft_wrap=True)
    console().print(Text(plan.verdict, style="bold"), soft_wrap=True)


def _row(estimate: Estimate) -> list[str]:
    return [
        estimate.rival,
        in_time(estimate.seconds),
        "–" if estimate.steps is None else f"{estimate.steps:,.1f}".removesuffix(".0"),
        in_time(estimate.step_seconds),
        "–" if estimate.goodput is None else f"{100 * estimate.goodput:.3g} %",
        estimate.basis,
        estimate.setting
        if estimate.failure is None
        else "; ".join(filter(None, [estimate.setting, estimate.failure])),
    ]


def _placed(machines: Sequence[str], placement: Mapping[str, int]) -> str:
    """Format a placement: `n0, n1 on core-0; n2 on core-1`; without agents, copies of all."""
    if not placement:
        return f"a copy on each of {some(machines)}"
    agents = (
        [agent for agent, part in placement.items() if part == number] for number in range(len(machines))
    )
    parts = [f"{some(own)} on {machine}" for own, machine in zip(agents, machines, strict=True)]
    more = f"; … ({len(parts)} machines)" if len(parts) > _PARTS else ""
    return "; ".join(parts[:_PARTS]) + more


def in_time(seconds: float | None) -> str:
    """Format a time with three digits, in the largest unit of which it is one or more: `4.37 s`, `12.1 ms`."""
    if seconds is None:
        return "–"
    size, unit = next((one for one in _UNITS if seconds >= one[0]), _UNITS[-1])
    return f"{seconds / size:.3g} {unit}"
