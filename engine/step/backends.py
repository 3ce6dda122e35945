"""Backends: what runs a scenario, and which one `auto` takes."""

from __future__ import annotations

from antiphon.engine.cohort.backend import Cohorts
from antiphon.engine.cohort.lift import groups
from antiphon.engine.core.system import System
from antiphon.engine.step.stepper import Reference
from antiphon.errors import ScenarioError, suggest

__all__ = ["BACKENDS", "FEWEST", "backend_of", "chosen_backend"]

BACKENDS = ("auto", "cohort", "reference")
FEWEST = 3
"""Agents to a cohort, on average, from which cohorts are worth their calls (`benchmarks/library_overhead.py`)."""


def chosen_backend(asked: str, system: System) -> str:
    """Return the backend that runs a system: by what it is made of, never by timing.

    Args:
        asked: `cohort`, `reference`, or `auto`: `cohort` where there are at least three agents to what is run at once.
        system: What is to run.

    Raises:
        ScenarioError: There is none of this name.
    """
    if asked not in BACKENDS:
        raise ScenarioError(f"backend: there is no '{asked}'{suggest(asked, BACKENDS)}")
    if asked != "auto":
        return asked
    found, _ = groups(system)
    return "cohort" if len(system.agents) >= FEWEST * len(found) else "reference"


def backend_of(asked: str, system: System) -> Reference:
    """Return what runs a system."""
    return Cohorts(system) if chosen_backend(asked, system) == "cohort" else Reference(system)
