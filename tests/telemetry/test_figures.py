"""What recorders are handed, and several recorders as one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import networkx as nx
import pytest

from antiphon.telemetry.figures import Figure, Recorders, RunDescription

DESCRIPTION = RunDescription(
    yaml="", hparams={}, graph=nx.MultiDiGraph(), names={"agents": (), "channels": ()}
)


class Log:
    """A recorder that remembers its calls."""

    def __init__(self, calls: list[tuple[Any, ...]], name: str, *, fails_to_close: bool = False) -> None:
        self.calls, self.name, self.fails_to_close = calls, name, fails_to_close

    def __getattr__(self, method: str) -> Callable[..., None]:
        def called(*arguments: Any) -> None:
            self.calls.append((self.name, method, *arguments))
            if method == "close" and self.fails_to_close:
                raise OSError("disk full")

        return called


def test_every_recorder_hears_everything_in_order_and_all_are_closed_although_one_fails() -> None:
    calls: list[tuple[Any, ...]] = []
    both = Recorders([Log(calls, "a", fails_to_close=True), Log(calls, "b")])
    told: list[tuple[Any, ...]] = [
        ("begin", DESCRIPTION),
        ("figures", 3, [Figure("run", "", "loss", 1.0)]),
        ("histograms", 3, []),
        ("end", {"steps": 3}),
    ]
    for method, *arguments in told:
        getattr(both, method)(*arguments)
    with pytest.raises(OSError, match="disk full"):
        both.close()
    assert calls == [(name, *call) for call in [*told, ("close",)] for name in "ab"]
