"""The delay of a run in parts: the fewest steps that hide the line between them, measured before the run begins."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING, cast

from antiphon.base.errors import DivergenceError, ScenarioError
from antiphon.base.spec import LONGEST_DELAY
from antiphon.distributed.opening import open_parts
from antiphon.distributed.parts.placement import placement_for
from antiphon.distributed.settings import PartsSettings
from antiphon.engine.live_system import LiveSystem, Settings
from antiphon.scenarios import Scenario

if TYPE_CHECKING:
    from antiphon.distributed.ray.ray_parts import RayParts

_WARM, _MEASURED = 4, 8
"""Steps of the parts before those that are timed, and these."""
_UNHIDDEN = 0.05
"""Share of a step by which the line may stay unhidden."""


def with_chosen_delay(
    scenario: Scenario, division: PartsSettings, settings: Settings
) -> tuple[Scenario, PartsSettings, RayParts | None]:
    """Return a scenario with steps in place of delays that are `auto`, its division with placement and steps, and open parts.

    Where parts wait for one another across a line, it is measured: the parts take steps with delays of 1, and the fewest steps are
    chosen in which an exchange crosses while both its ends compute; elsewhere 1. The parts that were opened to measure it stay open
    (`open_parts`).

    Args:
        scenario: Resolved.
        division: The division.
        settings: Of the run.

    Raises:
        ScenarioError: It cannot be divided like this.
        RunError: A part cannot be started.
    """
    if division.delay is not None and not scenario.has_automatic_delays:
        raise ScenarioError(
            f"parts: delay is {division.delay}, and no channel has link: {{delay: auto}}; leave out delay, or write auto"
        )
    if division.one_process or division.cluster is not None or not scenario.has_automatic_delays:
        return scenario, division, None
    with LiveSystem(scenario.with_delay(1), settings) as trial:
        placement = placement_for(trial.system, trial.scenario, division.count, division.placement)
        division, opened = replace(division, placement=placement), None
        delay = division.delay or 1
        if division.delay is None and division.ray is not None and division.mode != "free":
            opened = cast("RayParts", open_parts(trial, division))
            try:
                with suppress(DivergenceError):  # the run itself says so, at its step
                    delay = _measured(opened)
            except BaseException:
                opened.close()
                raise
    return scenario.with_delay(delay, placement), replace(division, delay=delay), opened


def hiding_delay(line: float, step: float) -> int:
    """Return the fewest steps from part to part that hide a line: what leaves after a step is there before it is waited for.

    Args:
        line: Seconds that an exchange takes one way.
        step: Seconds that the slowest part computes a step.
    """
    return min(LONGEST_DELAY, 1 + max(0, ceil(line / step - _UNHIDDEN)))


def _measured(parts: RayParts) -> int:
    parts.advance(_WARM)
    before = parts.statistics()
    parts.advance(_WARM + _MEASURED)
    both = zip(before, parts.statistics(), strict=True)
    step = max(after.computing - one.computing for one, after in both) / _MEASURED
    return hiding_delay(parts.line_seconds(), step)
