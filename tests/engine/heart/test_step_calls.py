"""A step by its calls: the page at the head of engine/heart names the functions that run, in their order."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from antiphon import Simulation
from antiphon.scenarios import Scenario
from tests.engine.scenes import CLASSIFY

HEART = Path(__file__).parents[3] / "engine" / "heart"
LINEAR = {"kind": "mlp", "hidden": [], "norm": "none"}
Callers = tuple[str, ...]
"""The name of a function after those of its callers in the page, the outermost first."""


def written_paths() -> list[Callers]:
    """The functions of the page, in its order, each with its callers there; without the environment."""
    page = (
        ast.get_docstring(ast.parse((HEART / "__init__.py").read_text(encoding="utf-8")), clean=False) or ""
    )
    tree = page[page.index("    step_once ") :].partition("\n\n")[0]
    paths: list[Callers] = []
    callers: list[str] = []
    for line in tree.splitlines():
        name = re.match(r"\s*\[?([\w.]+)", line)
        assert name is not None
        depth = (len(line) - len(line.lstrip())) // 4 - 1
        callers[depth:] = [name[1]]
        if name[1] != "advance_environment":
            paths.append(tuple(callers))
    return paths


def run_paths(simulation: Simulation, written: Sequence[Callers]) -> list[Callers]:
    """The paths of the page that a step runs, in the order in which each is first called."""
    found: dict[Callers, None] = {}
    names = {name for path in written for name in path}
    callers: list[str | None] = []

    def note(frame: FrameType, event: str, arg: Any) -> None:
        if event == "call":
            name = frame.f_code.co_qualname
            if frame.f_code.co_filename.endswith("comms/couplings.py"):  # of whichever class
                name = "Coupling." + name.rpartition(".")[2]
            callers.append(name if name in names else None)
            if callers[-1] is not None:
                found.setdefault(tuple(filter(None, callers)))
        elif event == "return" and callers:
            callers.pop()

    sys.setprofile(note)
    try:
        simulation.step()
    finally:
        sys.setprofile(None)
    return [path for path in found if path in set(written)]


def simulation_of(channel: dict[str, Any], **training: Any) -> Simulation:
    """Two agents that learn, and a channel from one to the other, of messages that one step brings."""
    agent = {"observes": ["image"], "network": LINEAR, "clock": {"unroll": 2}}
    document = {
        "scenario": "pair",
        "env": {"id": "antiphon/Digits-v0", "hold": 4, "episode": "example"},
        "agents": {
            "a": {**agent, "objective": CLASSIFY},
            "b": {**agent, "clock": {"unroll": 1}, "objective": CLASSIFY},
        },
        "channels": [{"from": "a", "to": "b", "size": 2, **channel}],
        "training": {"batch": 4, "steps": 12, **training},
    }
    return Simulation(Scenario.model_validate(document))


def test_a_step_calls_what_the_page_names_in_its_order() -> None:
    written, run = written_paths(), set[Callers]()
    assert len(written) > 25
    for simulation in (
        simulation_of({"coupling": "delayed", "link": {"delay": 1}}),
        simulation_of({"input": {"kind": "linear"}, "link": {"drop": 0.5}}, sweep=True),
    ):
        with simulation:
            for _ in range(8):
                paths = run_paths(simulation, written)
                run.update(paths)
                for caller in {
                    path[:-1] for path in paths
                }:  # agents tick one after the other: those of one caller are in order
                    calls = [path for path in paths if path[:-1] == caller]
                    assert calls == [path for path in written if path in calls]
    assert [path for path in written if path not in run] == []
