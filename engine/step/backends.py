"""Backends: the stacked engine, which runs a scenario, and the reference, which is held against it."""

from __future__ import annotations

from antiphon.engine.core.system import System
from antiphon.engine.step.engine import Engine
from antiphon.errors import ScenarioError, suggest

__all__ = ["BACKENDS", "backend_of", "checked_backend"]

BACKENDS = ("cohort", "reference")


def backend_of(name: str, system: System, *, stacked: bool = True) -> Engine:
    """Return what runs a system.

    Args:
        name: `cohort`: agents of one kind are computed as one. `reference`: one agent at a time.
        system: As built.
        stacked: Whether `cohort` stacks anything.

    Raises:
        ScenarioError: There is none of this name.
    """
    return Engine(system, stacked=stacked and checked_backend(name) == "cohort")


def checked_backend(name: str) -> str:
    """Return the name of a backend.

    Raises:
        ScenarioError: There is none of this name.
    """
    if name not in BACKENDS:
        raise ScenarioError(f"backend: there is no '{name}'{suggest(name, BACKENDS)}")
    return name
