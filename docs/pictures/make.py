"""Draws the pictures of the documents: `python docs/pictures/make.py`."""

from pathlib import Path

import couplings
import worlds

import antiphon
from antiphon.engine.metrics.timeline import span, timeline
from antiphon.telemetry import draw_graph, draw_timeline

HERE = Path(__file__).parent


def main() -> None:
    """Draw the corporation of `make run`, the couplings' truth table, the worlds, and the raster of two timescales."""
    scenario = antiphon.load("corporation").resolve(values={"agents": 16, "readouts": 2})
    with antiphon.Simulation(scenario) as simulation:
        draw_graph(simulation.graph, HERE / "corporation.png")
    couplings.draw(HERE / "couplings.png")
    worlds.draw(HERE / "worlds.png")
    for variant in ("decoupled", "locked"):
        scenario = antiphon.load("two-timescales").resolve(variant)
        with antiphon.Simulation(scenario) as simulation:
            found = timeline(simulation.system, 0, span(simulation.system))
        draw_timeline(found, HERE / f"two-timescales-{variant}.png", f"two-timescales, {variant}")


if __name__ == "__main__":
    main()
