"""What no document can set off in `engine/heart/ledger.py`: a check that its clocks never ask for, and what writes messages."""

from __future__ import annotations

import ast
from dataclasses import fields
from inspect import signature
from pathlib import Path

import pytest
import torch

from antiphon import Simulation
from antiphon.comms import Mask
from antiphon.comms.links import Link
from antiphon.comms.read_modes import ReadMean
from antiphon.engine.heart.clock import Clock, StepWindows
from antiphon.engine.heart.ledger import Ledger
from antiphon.engine.heart.message import Booked, Fate, Message
from antiphon.engine.heart.signals import StepSignals
from antiphon.engine.heart.timetable import ReadPlan, Timetable
from antiphon.errors import EngineError
from tests.engine.scenes import CLASSIFY, scenario_of


def test_a_message_open_beyond_its_deadline_is_the_engines_fault() -> None:
    clock = Clock()
    timetable = Timetable(clock, clock, StepWindows.of_ticks(clock))
    ledger = Ledger("a->b", timetable, Link(name="a->b"), returns_gradients=True)
    ledger.send(0, torch.zeros(3, 2), StepSignals(0, {}))
    with pytest.raises(EngineError, match="a->b: the message of step 1 is still open at step 2"):
        ledger.delete_spent(1)


LOST = {  # by stamp, in four environments
    0: (0, 0, 0, 0),
    1: (0, 0, 0, 1),
    2: (0, 1, 0, 1),
    3: (0, 0, 1, 1),
}
READ = {  # the stamps that the tick at step 3 reads side by side, by environment: stamp 0 was read by the tick at step 1
    0: (2, 3),
    1: (3,),
    2: (2,),
    3: (0,),
}


def test_each_of_several_messages_that_has_arrived_is_read_once_and_the_held_one_where_none_has() -> None:
    sender, receiver = Clock(), Clock(tick_period=2, phase=1)
    link = Link(name="a->b", drop=0.5)
    timetable = Timetable(sender, receiver, StepWindows.of_ticks(receiver), read_mode=ReadMean())
    ledger = Ledger("a->b", timetable, link, returns_gradients=False)
    for stamp, lost in LOST.items():
        message = ledger.send(stamp, torch.full((4, 1), 10.0 + stamp), StepSignals(stamp, {}))
        message.fate.lost = Mask.of(torch.tensor(lost, dtype=torch.bool))
        ledger.delete_spent(stamp)
        if stamp == 1:
            first = ledger.receive(1)
            assert [arrival.available.plain.tolist() for arrival in first] == [
                [True] * 4,
                [True] * 3 + [False],
            ]
            ledger.close_reader_window(0, step=1)
    arrivals = ledger.receive(3)
    for row, stamps in READ.items():
        read = [arrival.value[row].item() for arrival in arrivals if arrival.available.plain[row]]
        assert read == [10.0 + stamp for stamp in stamps]
        counted = [arrival.message.stamp for arrival in arrivals if arrival.may_count.plain[row]]
        assert counted == [stamp for stamp in stamps if stamp > 1]


FIELDS = {one.name for kind in (Message, ReadPlan, Fate, Booked) for one in fields(kind)}
PARTS = {"read_plan", "fate", "booked"}


def written(source: str) -> list[str]:
    """The fields of messages that a module writes: of what it calls a message, of a read's message, or of a part."""
    names = {"message", "known", "last", "due", "placeholder", "sent", "newest", *PARTS}
    stores = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)]
    return [
        node.attr
        for node in stores
        if isinstance(node.ctx, ast.Store)
        and node.attr in FIELDS
        and (
            (isinstance(node.value, ast.Name) and node.value.id in names)
            or (isinstance(node.value, ast.Attribute) and node.value.attr in {"message", *PARTS})
        )
    ]


@pytest.mark.long
def test_messages_change_themselves() -> None:
    assert set(written("message.read_plan.finish_by = read.message.sent_value = 1")) == {
        "finish_by",
        "sent_value",
    }
    root = Path(__file__).parents[3]
    files = (path for folder in ("engine", "distributed") for path in (root / folder).rglob("*.py"))
    found = {path.relative_to(root).as_posix(): written(path.read_text()) for path in files}
    assert {name for name, attributes in found.items() if attributes} == set()


def test_what_steps_change_in_a_ledger_is_what_a_saved_state_takes_over() -> None:
    """An attribute that a step changes, and `Ledger.load` does not take, would be lost in a resume."""
    agents = {"a": {"observes": ["image"]}, "b": {"objective": CLASSIFY}}
    channel = {"from": "a", "to": "b", "size": 4, "link": {"delay": [2, 1], "drop": 0.5}}
    channel |= {
        "input": {"kind": "linear", "context": ["held", "age"]},
        "gradient": {"context": ["returned"]},
    }
    taken = signature(Ledger.load).parameters.keys() - {"self"}
    with Simulation(scenario_of(agents, [channel], batch=4)) as simulation:
        ledger = simulation.running.system.channels["a->b"].ledger
        settings = {name: value for name, value in vars(ledger).items() if name not in taken}
        for _ in range(8):
            simulation.step()
        assert vars(ledger).keys() == settings.keys() | taken
        assert all(vars(ledger)[name] is value for name, value in settings.items())
        assert ledger.messages
