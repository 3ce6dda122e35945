"""One HTML file with the results of runs, and their timeline as plain text: what they hold, and what the page may do."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from antiphon.telemetry.report import ReportRun, report
from antiphon.telemetry.tab.series import Messages, RunData, Series
from antiphon.telemetry.timeline_text import AgentTimes, ChannelTimes, Timeline, raster_lines
from tests.kit.some import some
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


def rows(text: str) -> list[list[str]]:
    """Return the cells of the table of results."""
    table = some(re.search(r"<tbody>(.*?)</tbody>", text, re.DOTALL))[1]
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in table.split("</tr>")[:-1]]


def embedded(text: str) -> list[dict[str, Any]]:
    """Return the runs that a page holds for its front end."""
    found = re.search(r'<script type="application/json" id="antiphon-data">(.*?)</script>', text, re.DOTALL)
    runs: list[dict[str, Any]] = json.loads(some(found)[1])["runs"]
    return runs


def test_each_run_has_a_row() -> None:
    other = run("wide", facts={"exit": "stopped"}, result={})
    found = rows(report([run("r-s0", 0, accuracy=0.9), other]))
    assert found[0] == ["r-s0", "s", "", "0", "30", "done", "90.00 %", "0.5"]
    assert (found[1][0], found[1][-3:]) == ("wide", ["stopped", "–", "–"])


def test_the_page_holds_the_runs_as_the_front_end_reads_them() -> None:
    text = report([run("first"), run("second")])
    assert [one["run"] for one in embedded(text)] == ["first", "second"]
    assert embedded(text)[0] == json.loads(json.dumps(data("first").embedded()))
    assert "scenario: s" in Elements(text).text


def test_only_the_scripts_of_the_page_may_run_and_nothing_may_be_fetched() -> None:
    text = report([run()])
    policy = some(re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text))[1]
    assert policy.startswith("default-src 'none'; script-src &#39;sha256-")
    assert "connect-src" not in policy
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert len(scripts) == 3
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"sha256-{digest}" in policy
    assert Elements(text).addresses == []


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_text_wherever_they_stand(name: str) -> None:
    tame = Elements(report([run("run")])).found
    hostile: ReportRun = run(name, facts={"scenario": name, "variant": name}, document=name)
    text = report([replace(hostile, data=data(name, (name, "b")))])
    assert Elements(text).found == tame
    assert embedded(text)[0]["run"] == name


# --- the timeline as text --------------------------------------------------------------------------------


FAST = AgentTimes(
    name="fast",
    ticks=np.ones(4, bool),
    ends=np.array([False, True, False, True]),
)
SLOW = AgentTimes(
    name="slow",
    ticks=np.array([False, True, False, True]),
    ends=np.array([False, False, True, True]),
)
UP = ChannelTimes(
    name="fast->slow",
    sender="fast",
    receiver="slow",
    coupling="locked",
    state=False,
    sent=np.ones(4, bool),
    stamps=((), (0, 1), (), (1,)),
    ages=np.array([-1, 0, -1, 2]),
    due=np.array([False, True, False, True]),
    unread=np.array([False, False, True, True]),
    cut=np.array([False, False, False, True]),
    back=np.array([1, 1, -1, -1]),
)
MADE = Timeline(
    start=0,
    steps=4,
    agents=(FAST, SLOW),
    channels=(UP,),
    episode_ends=np.array([False, True, False, False]),
)


def test_the_text_is_a_row_per_agent_and_channel() -> None:
    assert str(MADE).splitlines() == raster_lines(MADE)
    assert raster_lines(MADE)[:5] == [
        "step                 1   2  |3   4",
        "fast                 o   #  |o   #",
        "slow                 .   o  |:   #",
        "fast->slow (locked)  .   0–1|x   2!x",
        "",
    ]


def test_the_text_explains_the_signs() -> None:
    agents, channels = raster_lines(MADE)[5:]
    assert agents.startswith("agents:   o ticks · # ticks, and its window ends")
    assert "! sent before the window; no gradient returns" in channels


def test_many_steps_go_into_blocks_of_equal_length() -> None:
    lines = raster_lines(MADE, width=33)
    assert [line.split()[1:] for line in lines if line.startswith("step")] == [["1", "2", "|"], ["3", "4"]]
    assert max(map(len, lines[:-2])) <= 33
    narrow = raster_lines(MADE, width=1)
    assert len([line for line in narrow if line.startswith("step")]) == 4
