"""Runs for pages without a server, made up: their names are chosen, nothing was simulated."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import numpy as np

from antiphon.telemetry import Messages, RunData, Series
from antiphon.telemetry.report import ReportRun
from tests.kit.tab import FORMAT

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
    graph = {
        "format": FORMAT,
        "scenario": "s",
        "every": 10,
        "until": 30,
        "agents": named,
        "channels": channels,
    }
    graph |= {"explanations": {}}
    steps = 10 * np.arange(1, rows + 1)
    values = np.linspace(0, 1, 2 * rows, dtype=np.float32).reshape(rows, 2)
    samples = [np.array([[0, row, 1], [1, 2, 0]], np.float32) for row in range(rows)]
    return RunData(
        name=name,
        graph=graph,
        timeline={"lines": ["step  1 2 3"]},
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
        "facts": facts | changes.pop("facts", {}),
        "result": {"accuracy": accuracy, "loss": 0.5},
        "document": "scenario: s\n",
        "data": data(name),
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
