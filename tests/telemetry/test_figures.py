"""What recorders are handed, and several recorders as one."""

from __future__ import annotations

from typing import Any

import networkx as nx
import pytest

from antiphon.telemetry import Figure, Recorders, RunDescription

DESCRIPTION = RunDescription(
    yaml="", hparams={}, graph=nx.MultiDiGraph(), names={"agents": (), "channels": ()}
)


class Log:
    """A recorder that remembers its calls."""

    def __init__(self, calls: list[tuple[Any, ...]], name: str, *, fails_to_close: bool = False) -> None:
        self.calls, self.name, self.fails_to_close = calls, name, fails_to_close

    def begin(self, description: RunDescription) -> None:
        self.calls.append((self.name, "begin", description))

    def figures(self, step: int, rows: Any) -> None:
        self.calls.append((self.name, "figures", step, rows))

    def histograms(self, step: int, rows: Any) -> None:
        self.calls.append((self.name, "histograms", step, rows))

    def end(self, result: Any) -> None:
        self.calls.append((self.name, "end", result))

    def close(self) -> None:
        self.calls.append((self.name, "close"))
        if self.fails_to_close:
            raise OSError("disk full")


def test_every_recorder_hears_everything_in_order() -> None:
    calls: list[tuple[Any, ...]] = []
    both = Recorders([Log(calls, "a"), Log(calls, "b")])
    rows = [Figure("run", "", "loss", 1.0)]
    both.begin(DESCRIPTION)
    both.figures(3, rows)
    both.histograms(3, [])
    both.end({"steps": 3})
    both.close()
    told: list[tuple[Any, ...]] = [
        ("begin", DESCRIPTION),
        ("figures", 3, rows),
        ("histograms", 3, []),
        ("end", {"steps": 3}),
        ("close",),
    ]
    assert calls == [(name, *call) for call in told for name in "ab"]


def test_all_are_closed_although_one_fails() -> None:
    calls: list[tuple[Any, ...]] = []
    with pytest.raises(OSError, match="disk full"):
        Recorders([Log(calls, "a", fails_to_close=True), Log(calls, "b")]).close()
    assert calls == [("a", "close"), ("b", "close")]
