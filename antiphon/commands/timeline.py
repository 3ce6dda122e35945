"""The verb's timeline of a scenario: ticks, reads and windows of its agents."""

from __future__ import annotations

from rich.text import Text

from antiphon.commands.explain import built
from antiphon.commands.output import console, print_json
from antiphon.engine.metrics.timeline import span, timeline
from antiphon.scenarios import Scenario
from antiphon.telemetry.raster import raster_lines

__all__ = ["show_timeline"]


def show_timeline(scenario: Scenario, steps: int | None, *, json: bool) -> None:
    """Print the timeline of the first steps of a scenario, without running it.

    Args:
        scenario: Resolved.
        steps: Number of steps; None: twice the longest window, 32 at most.
        json: As one line of JSON.

    Raises:
        ScenarioError: The scenario cannot be built.
    """
    system = built(scenario)
    found = timeline(system, 0, span(system) if steps is None else steps)
    if json:
        print_json({"scenario": scenario.scenario, **found.plain()})
        return
    out = console()
    for line in raster_lines(found, out.width):
        out.print(Text(line), soft_wrap=True)
