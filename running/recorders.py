"""Calls of a run's recorders, which may be a user's: an error of one is a line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from antiphon.base.call_errors import call_error
from antiphon.base.extensions import is_users
from antiphon.telemetry.metrics import Recorder


def call_each(recorders: Iterable[Recorder], method: str, *arguments: Any) -> None:
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
