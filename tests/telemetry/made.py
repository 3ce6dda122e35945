"""Runs for pages without a server, made up: their names are chosen, nothing was simulated."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import numpy as np

from antiphon.telemetry import Messages, RunData, Series
from antiphon.telemetry.html_report import ReportRun

HOSTILE = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    "\"' onload='alert(3)'",
    "</title></style><b>",
    "a&lt;b",
)


def data(name: str = "one", agents: tuple[str, ...] = ("a", "b"), rows: int = 3) -> RunData:
    """Return what the Channels tab shows of two agents that talk to each other, the second a readout."""
    named = [
        {
            "name": agent,
            "role": "readout" if place else "agent",
            "period": 1,
            "phase": 0,
            "x": place,
            "y": 0.5,
        }
        for place, agent in enumerate(agents)
    ]
    ends = [(0, 1), (1, 0)]
    channels = [
        {"name": f"{agents[a]}->{agents[b]}", "from": a, "to": b, "delay": a, "about": {}} for a, b in ends
    ]
    graph = {"format": 1, "scenario": "s", "every": 10, "agents": named, "channels": channels, "figures": {}}
    steps = 10 * np.arange(1, rows + 1)
    values = np.linspace(0, 1, 2 * rows, dtype=np.float32).reshape(rows, 2)
    samples = [np.array([[0, row, 1], [1, 2, 0]], np.float32) for row in range(rows)]
    timeline = {
        "start": 0,
        "steps": 4,
        "episode_ends": [3],
        "agents": [
            {"ticks": [0, 1, 2, 3], "ends": [1, 3], "since": [[0, 0], [1, 0], [2, 2], [3, 2]]},
            {"ticks": [1, 3], "ends": [3], "since": [[1, 1], [3, 1]]},
        ],
        "channels": [{"cells": [[0, "-x"], [1, "1"], [3, "2!"]]}, {"cells": [[1, "0"]]}],
    }
    return RunData(
        name=name,
        graph=graph,
        timeline=timeline,
        metrics={
            ("channel", "sg_loss"): Series(steps, values),
            ("channel", "cosine"): Series(steps[:1], values[:1]),
            ("agent", "loss"): Series(steps, values),
        },
        messages={0: Messages(steps, samples)},
    )


def run(name: str = "one", seed: int = 0, *, accuracy: float = 0.9, **changes: Any) -> ReportRun:
    """Return a run that ended well."""
    facts = {
        "scenario": "s",
        "variant": None,
        "values": {"width": 8},
        "seed": seed,
        "steps": 30,
        "step": 30,
        "seconds": 1.5,
        "exit": "done",
    }
    whole: dict[str, Any] = {
        "name": name,
        "path": f"runs/{name}",
        "facts": facts | changes.pop("facts", {}),
        "result": {"readout": "b", "accuracy": accuracy, "loss": 0.5, "env": {"solved": 3.0}},
        "document": "scenario: s\n",
        "data": data(name),
        "env": {"solved": {10: 1.0, 20: 2.0, 30: 3.0}},
    }
    return ReportRun(**(whole | changes))


class Elements(HTMLParser):
    """The elements of a page, in order, with the names of their attributes; what they would load; its text.

    Args:
        page: HTML.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []
        self.addresses: list[str] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, tuple(name for name, _ in attrs)))
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "data")]

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        """Everything that is read."""
        return "".join(self.texts)

    def count(self, tag: str) -> int:
        """Return how many elements of a kind there are."""
        return sum(found == tag for found, _ in self.found)
