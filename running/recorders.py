"""Calls of a run's recorders, which may be a user's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from antiphon.base.errors import named
from antiphon.telemetry.metrics import Recorder


def call_each(recorders: Iterable[Recorder], method: str, *arguments: Any) -> None:
    for recorder in recorders:
        with named(f"telemetry.recorders, {type(recorder).__qualname__}.{method}"):
            getattr(recorder, method)(*arguments)
