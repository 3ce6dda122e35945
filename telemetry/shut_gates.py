"""Gates that were shut during a whole run: then `decoupled` is `detached`, which its scores do not show."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from antiphon.telemetry.history import History


def shut_gates(directory: Path, result: Mapping[str, Any]) -> list[str]:
    """Return the channels of a run whose gate was 0 at every log entry (semantics 9a), in the order of the result.

    Raises:
        RunError: metrics.csv of the run directory cannot be read.
    """
    names = [name for name, metrics in result.get("channels", {}).items() if metrics.get("gate") == 0]
    if not names:
        return []
    table = History.read(directory / "metrics.csv")
    return [name for name in names if not table.of(name, "gate")[1].any()]


def of_shut_gates(count: int) -> str:
    """Return what it means that the gates of so many channels were shut."""
    whose = "its sender took no step by it" if count == 1 else "their senders took no step by them"
    return f"gate 0 at every log entry: {whose}, as with detached; train longer, or set coupling: locked or gate: none"
