"""The timeline of a scenario: who ticks when, what it reads, how far back its learning reaches."""

from __future__ import annotations

from rich.text import Text

from antiphon.commands.explain import built
from antiphon.commands.output import console, print_json
from antiphon.engine.metrics.timeline import span, timeline
from antiphon.scenarios import Scenario
from antiphon.telemetry.raster_text import raster_lines

__all__ = ["show_timeline"]


def show_timeline(scenario: Scenario, steps: int | None, *, json: bool) -> None:
    """Print what happens in the first steps of a scenario; nothing is run.

    Args:
        scenario: Resolved.
        steps: How many; None: as many as show the longest windows twice, 32 at most.
        json: As one line of JSON.

    Raises:
        ScenarioError: It cannot be built.
    """
    system = built(scenario)
    found = timeline(system, 0, span(system) if steps is None else steps)
    if json:
        print_json({"scenario": scenario.scenario, **found.plain()})
        return
    out = console()
    for line in raster_lines(found, out.width):
        out.print(Text(line), soft_wrap=True)
