"""Calls of a run's recorders, which may be a user's: each begins before its first metrics, and an error of one is a line."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from antiphon.base.call_errors import call_error
from antiphon.base.errors import ScenarioError
from antiphon.base.extensions import is_users
from antiphon.base.problems import show_refused
from antiphon.telemetry.metrics import Recorder, RunDescription


def call_each(recorders: Iterable[Recorder], method: str, *arguments: Any) -> None:
    """Call a method of each recorder.

    Raises:
        CallError: The method of a user's failed.
    """
    for recorder in recorders:
        try:
            getattr(recorder, method)(*arguments)
        except Exception as error:
            kind = type(recorder)
            line = call_error(
                error, "telemetry.recorders", f"{kind.__qualname__}.{method}" if is_users(kind) else ""
            )
            if line is None:
                raise
            raise line from error


class BegunRecorders:
    """The recorders of a run that have begun, in a list that a user may append to (`simulation.recorders`)."""

    def __init__(self) -> None:
        self._begun: list[Recorder] = []

    def note(self, recorders: Iterable[Recorder]) -> None:
        """Note recorders that have begun."""
        self._begun += recorders

    def begin_new(self, recorders: list[Recorder], describe: Callable[[], RunDescription]) -> None:
        """Begin the recorders that have been appended since the last call.

        Raises:
            ScenarioError: One is no `Recorder`; it is removed.
        """
        if recorders == self._begun:
            return
        new = [recorder for recorder in recorders if not any(recorder is begun for begun in self._begun)]
        for recorder in new:
            if not isinstance(recorder, Recorder):
                recorders[:] = [other for other in recorders if other is not recorder]
                line = f"{show_refused(recorder)} is no recorder; append an object of a subclass of antiphon.telemetry.Recorder"
                raise ScenarioError(f"simulation.recorders: {line}")
            call_each([recorder], "begin", describe())
        self._begun = [*recorders]
