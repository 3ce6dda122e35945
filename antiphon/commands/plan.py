"""Execution plan of a scenario, printed as the last section of `show`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from antiphon.commands.output import show_table
from antiphon.commands.show import some
from antiphon.engine.core.system import System
from antiphon.engine.planning.memory_estimate import MemoryEstimate, byte_unit, in_unit, in_units
from antiphon.engine.planning.plan import BundlePlan, CohortPlan, Plan, plan
from antiphon.engine.planning.waves import Waves
from antiphon.scenarios import Scenario

__all__ = ["planned", "show_plan"]

_ROWS = 12
"""Most cohorts with rows of their own."""
_BACKENDS = ("cohort", "reference")
_FLOP = {"TFLOP": 1e12, "GFLOP": 1e9, "MFLOP": 1e6}


def planned(scenario: Scenario, system: System, facts: Mapping[str, Any], *, measure: bool) -> Plan:
    """Return the execution plan of a scenario, or of a run's continuation.

    Args:
        scenario: The scenario.
        system: Built from it.
        facts: Of the run; none where there is none.
        measure: Whether a short run on both backends measures the time of a step.
    """
    asked = {name: facts[name] for name in ("backend", "device") if name in facts}
    found = plan(scenario, system=system, **asked)
    if measure:
        from antiphon.engine.planning.step_time import measure_step_time

        found = found.with_measured(measure_step_time(scenario, _BACKENDS))
    return found


def show_plan(plan: Plan) -> None:
    """Print the execution plan of a scenario."""
    rows = [
        ["backend", f"{plan.backend}: {plan.why}"],
        ["device", plan.device],
        ["waves", _waves(plan.waves)],
        ["memory", _memory(plan.memory, plan.installed)],
        ["work", f"{_flop(plan.flop)} a step in products of matrices"],
        ["time", _time(plan)],
    ]
    show_table(["runs on", ""], rows)
    _cohorts(plan.cohorts)
    _bundles(plan.bundles)
    _alone(plan)


def _cohorts(cohorts: Sequence[CohortPlan]) -> None:
    """Print the cohorts, the largest in a row each, and their common properties once."""
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
    """Print the channel stacks, grouped by coupling."""
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


def _memory(memory: MemoryEstimate, installed: int | None) -> str:
    """Format the memory estimate; negligible parts are left out."""
    unit = byte_unit(memory.total)
    parts = [
        f"{MemoryEstimate.word(name)} {in_unit(count, unit)}"
        for name, count in memory.parts().items()
        if count > memory.total / 200
    ]
    of = "" if installed is None else f" of {in_units(installed)}"
    line = f"{in_units(memory.total)}{of}: {', '.join(parts)}"
    return line if memory.fits(installed) else f"{line}; that is too much, and a run is refused"


def _flop(count: float) -> str:
    unit, size = next(((u, s) for u, s in _FLOP.items() if count >= s), ("MFLOP", 1e6))
    number = count / size
    return f"{number:,.0f} {unit}" if number >= 10 else f"{number:.2g} {unit}"


def _time(plan: Plan) -> str:
    if plan.measured_ms is None:
        return "not measured; --measure runs some steps on both backends"
    others = [f"{_ms(ms)} with {name}" for name, ms in plan.measured_ms.items() if name != plan.backend]
    return f"{', '.join([f'{_ms(plan.measured_ms[plan.backend])} a step', *others])} (measured here)"


def _ms(ms: float) -> str:
    if ms >= 10_000:
        return f"{ms / 1000:,.0f} s"
    return f"{ms:,.0f} ms" if ms >= 10 else f"{ms:.1f} ms" if ms >= 1 else f"{ms:.2g} ms"
