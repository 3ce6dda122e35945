"""Draws the pictures of the documents: `python docs/pictures/make.py`."""

from pathlib import Path

import antiphon
from antiphon.telemetry import draw_graph

HERE = Path(__file__).parent


def main() -> None:
    """Draw the corporation of `make run`."""
    scenario = antiphon.load("corporation").resolve(values={"agents": 16, "readouts": 2})
    with antiphon.Simulation(scenario) as simulation:
        draw_graph(simulation.graph, HERE / "corporation.png")


if __name__ == "__main__":
    main()
