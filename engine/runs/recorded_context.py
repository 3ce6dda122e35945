"""The context that a run's numbers are computed in, as its run.json records it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from antiphon.base.files import fitting
from antiphon.engine.runs.directory import RunDirectory
from antiphon.nets.isolation.own_context import own_context


@contextmanager
def recorded_context(directory: RunDirectory) -> Iterator[None]:
    """Compute with the precision of matrix products that a run began with; a simulation that is built here keeps it.

    Raises:
        RunError: run.json has one that there is not.
    """
    with ExitStack() as inside:
        with fitting(directory.path / "run.json"):
            precision = directory.facts.get("matmul_precision") or "highest"
            inside.enter_context(own_context(precision=precision))
        yield
