"""How a scenario will be run, in print: the last section of `show`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from antiphon.commands.output import show_table
from antiphon.commands.show import some
from antiphon.engine.core.system import System
from antiphon.engine.planning.memory_estimate import Memory, in_unit, in_units, unit_of
from antiphon.engine.planning.plan import BundlePlan, CohortPlan, Plan, plan
from antiphon.engine.planning.waves import Waves
from antiphon.scenarios import Scenario

__all__ = ["planned", "show_plan"]

_ROWS = 12
"""Cohorts with rows of their own."""


def planned(scenario: Scenario, system: System, facts: Mapping[str, Any], *, measure: bool) -> Plan:
    """Return how a scenario will be run, or a run goes on.

    Args:
        scenario: The scenario.
        system: What is built of it.
        facts: Of the run; none where there is none.
        measure: Whether a short run says what a step takes.
    """
    asked = {name: facts[name] for name in ("backend", "device") if name in facts}
    found = plan(scenario, system=system, **asked)
    if measure:
        from antiphon.engine.planning.stopwatch import measure as timed

        found = found.with_measured(timed(scenario, list(found.estimated_ms)))
    return found


def show_plan(plan: Plan) -> None:
    """Print how a scenario will be run."""
    rows = [
        ["backend", f"{plan.backend}: {plan.why}"],
        ["device", f"{plan.device.name}; {plan.device.why}"],
        ["waves", _waves(plan.waves)],
        ["memory", _memory(plan.memory, plan.installed)],
        ["time", _time(plan)],
    ]
    show_table(["runs on", ""], rows)
    _cohorts(plan.cohorts)
    _bundles(plan.bundles)
    _alone(plan)


def _cohorts(cohorts: Sequence[CohortPlan]) -> None:
    """The largest have a row each; what all have in common is said once."""
    ordered = sorted(cohorts, key=lambda cohort: -len(cohort.agents))
    words = [_in_common(cohort) for cohort in ordered]
    shared = [word for word in words[0] if all(word in own for own in words)] if len(words) > 1 else []
    rows = [
        [
            some(cohort.agents),
            ", ".join(word for word in own if word not in shared),
            f"{len(cohort.agents):,}",
            f"{cohort.parameters:,}",
        ]
        for cohort, own in list(zip(ordered, words, strict=True))[:_ROWS]
    ]
    rest = ordered[_ROWS:]
    if rest:
        more = "and 1 more cohort" if len(rest) == 1 else f"and {len(rest)} more cohorts"
        rows.append([more, "", f"{sum(len(cohort.agents) for cohort in rest):,}", ""])
    title = f"all cohorts: {', '.join(shared)}" if shared else ""
    if rows:
        show_table(["cohort", "in common", "agents", "parameters each"], rows, right=2, title=title)


def _in_common(cohort: CohortPlan) -> list[str]:
    learns = f"learns {cohort.learns} by {cohort.optimiser}" if cohort.optimiser else "frozen"
    return [cohort.network, cohort.ticks, learns, *([cohort.objective] if cohort.objective else [])]


def _bundles(bundles: Iterable[BundlePlan]) -> None:
    """Put together by what crosses them."""
    kinds: dict[tuple[str, str, str], list[BundlePlan]] = {}
    for bundle in bundles:
        key = bundle.coupling, bundle.gradient or "–", bundle.input or "–"
        kinds.setdefault(key, []).append(bundle)
    rows = [
        [coupling, gradient, given, f"{len(found):,}", f"{sum(len(b.channels) for b in found):,}"]
        for (coupling, gradient, given), found in kinds.items()
    ]
    if rows:
        show_table(["coupling", "gradient", "input", "bundles", "channels"], rows, right=2)


def _alone(plan: Plan) -> None:
    rows = [[some(alone.agents), alone.reason] for alone in plan.alone]
    if rows and plan.agents > 1:
        show_table(["alone", "why"], rows)


def _waves(waves: Waves) -> str:
    if waves.count == 1:
        return "1: all that are due tick at once"
    kind = f"{waves.count}, a chain" if waves.chain else f"{waves.count}"
    verb = "has" if len(waves.channels) == 1 else "have"
    line = f"{kind}: {some(waves.channels)} {verb} no delay"
    if waves.locked:
        line += "; with one, credit over locked channels would be lost at a window's end"
    return line + (f"; {waves.remedy}" if waves.remedy else "")


def _memory(memory: Memory, installed: int | None) -> str:
    """Parts that make no difference are left out."""
    unit = unit_of(memory.total)
    parts = [
        f"{Memory.word(name)} {in_unit(count, unit)}"
        for name, count in memory.parts().items()
        if count > memory.total / 200
    ]
    of = "" if installed is None else f" of {in_units(installed)}"
    line = f"{in_units(memory.total)}{of}: {', '.join(parts)}"
    return line if memory.fits(installed) else f"{line}; that is too much, and a run is refused"


def _time(plan: Plan) -> str:
    """The other backend's estimate is left out where it does the same."""
    said = [f"about {_each(plan.estimated_ms, plan.backend)} (estimated)"]
    if plan.measured_ms is not None:
        said.append(f"{_each(plan.measured_ms, plan.backend)} (measured)")
    return "; ".join(said)


def _each(times: Mapping[str, float], picked: str) -> str:
    others = [
        f"{_ms(ms)} with {name}" for name, ms in times.items() if name != picked and ms != times[picked]
    ]
    return ", ".join([f"{_ms(times[picked])} a step", *others])


def _ms(ms: float) -> str:
    if ms >= 10_000:
        return f"{ms / 1000:,.0f} s"
    return f"{ms:,.0f} ms" if ms >= 10 else f"{ms:.1f} ms" if ms >= 1 else f"{ms:.2g} ms"
