"""Draws the pictures of the documents: `python docs/pictures/make.py`."""

from pathlib import Path

import couplings
import worlds

import antiphon
from antiphon.telemetry import draw_graph

HERE = Path(__file__).parent


def main() -> None:
    """Draw the corporation of `make run`, the couplings' truth table and the worlds."""
    scenario = antiphon.load("corporation").resolve(values={"agents": 16, "readouts": 2})
    with antiphon.Simulation(scenario) as simulation:
        draw_graph(simulation.graph, HERE / "corporation.png")
    couplings.draw(HERE / "couplings.png")
    worlds.draw(HERE / "worlds.png")


if __name__ == "__main__":
    main()
