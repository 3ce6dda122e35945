"""The live graph of a notebook: what it holds, when it is drawn again."""

from __future__ import annotations

import gc
import html
import json
import re
import sys
import weakref
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from antiphon.base.errors import RunError
from antiphon.engine.simulation import Simulation
from antiphon.telemetry.channels import live
from antiphon.telemetry.channels.live import LiveGraph
from antiphon.telemetry.channels.series import RunData


class Screen:
    """A notebook's display, which keeps what it is given."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def display(self, data: dict[str, str], **given: Any) -> Screen:
        assert given == {"raw": True, "display_id": True}
        self.shown.append(data["text/html"])
        return self

    def update(self, data: dict[str, str], *, raw: bool) -> None:
        assert raw
        self.shown.append(data["text/html"])


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Screen:
    screen = Screen()
    outer, inner = ModuleType("IPython"), ModuleType("IPython.display")
    outer.get_ipython = lambda: screen  # type: ignore[attr-defined]
    inner.display = screen.display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", outer)
    monkeypatch.setitem(sys.modules, "IPython.display", inner)
    return screen


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="antiphon-data">(.*?)</script>', page, re.DOTALL)
    assert found
    (run,) = json.loads(found[1])["runs"]
    assert isinstance(run, dict)
    return run


def page_of(frame: str) -> str:
    found = re.fullmatch(
        r'<iframe srcdoc="([^"]*)" sandbox="allow-scripts allow-downloads" style="[^"]*"></iframe>', frame
    )
    assert found
    return html.unescape(found[1])


def test_it_is_drawn_at_once_again_as_figures_come_and_at_the_end(
    notebook: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_EVERY", 0.0)
    with Simulation("digits-mlp") as simulation:
        simulation.show()
        assert len(notebook.shown) == 1
        simulation.run(steps=3)
        assert len(notebook.shown) == 4, "rows at steps 1 and 3, and when the run is over"
    assert len(notebook.shown) == 5
    first, last = (data_of(page_of(frame)) for frame in (notebook.shown[0], notebook.shown[-1]))
    assert first["catalog"]["channel"] == []
    assert "sg_loss" in last["catalog"]["channel"]
    assert last["run"] == "digits-mlp"
    assert len(last["graph"]["agents"]) == 4


def test_elsewhere_it_is_saved_as_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython", None)
    with Simulation("digits-mlp", seed=1) as simulation:
        view = simulation.show()
        simulation.run(steps=3)
        path = view.save(tmp_path / "graph.html")
        assert data_of(path.read_text(encoding="utf-8"))["catalog"]["agent"]
        with pytest.raises(RunError, match=r"graph.html: cannot be written "):
            view.save(tmp_path / "nowhere" / "graph.html")
    assert repr(view).startswith("<LiveGraph: in a notebook it draws itself")


def test_figures_in_memory_are_those_of_the_event_file(tmp_path: Path) -> None:
    shown = []
    for logdir in (None, tmp_path / "run"):
        with Simulation("digits-mlp", seed=1, logdir=logdir) as simulation:
            view = simulation.show()
            simulation.run(steps=3)
            shown.append(view.look())
    memory, disk = shown
    assert dict(memory.graph) == dict(disk.graph)
    assert memory.timeline == disk.timeline
    assert set(memory.figures) == set(disk.figures)
    for about, series in memory.figures.items():
        np.testing.assert_array_equal(series.steps, disk.figures[about].steps)
        np.testing.assert_array_equal(series.values, disk.figures[about].values)
    assert set(memory.messages) == set(disk.messages)
    for channel, messages in memory.messages.items():
        np.testing.assert_array_equal(messages.steps, disk.messages[channel].steps)
        for ours, theirs in zip(messages.samples, disk.messages[channel].samples, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_hostile_names_stay_inside_the_frame() -> None:
    name = '"></iframe><script>alert(1)</script>'
    graph = {"format": 1, "agents": [], "channels": [], "figures": {}, "by_timescale": False}
    frame = LiveGraph(lambda: RunData(name, graph))._repr_html_()
    assert page_of(frame).count("<script>alert") == 0
    assert data_of(page_of(frame))["run"] == name


def test_a_view_outlives_its_simulation_and_does_not_keep_it() -> None:
    with Simulation("digits-mlp") as simulation:
        view = simulation.show()
        simulation.run(steps=1)
    gone = weakref.ref(simulation)
    del simulation
    gc.collect()
    assert gone() is None
    assert view.look().messages
