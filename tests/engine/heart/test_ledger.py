"""What no document can set off in `engine/heart/ledger.py`: a check that its clocks never ask for, and who writes messages."""

from __future__ import annotations

import ast
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from antiphon.comms.links import Link
from antiphon.engine.heart.clock import Clock, StepWindows
from antiphon.engine.heart.ledger import Ledger
from antiphon.engine.heart.message import Fate, Message, Returned, StepSignals, Uses
from antiphon.errors import EngineError


def test_a_message_open_beyond_its_deadline_is_the_engines_fault() -> None:
    clock = Clock()
    windows, link = StepWindows.of_ticks(clock), Link(name="a->b")
    ledger = Ledger("a->b", clock, clock, windows, link, wants_gradient=True)
    ledger.send(0, torch.zeros(3, 2), StepSignals(0, {}))
    with pytest.raises(EngineError, match="a->b: the message of step 0 is still open at step 1"):
        ledger.send(1, torch.zeros(3, 2), StepSignals(1, {}))


FIELDS = {one.name for kind in (Message, Uses, Fate, Returned) for one in fields(kind)} - {"actions"}
PARTS = {"uses", "fate", "returned"}
LEDGERS = {"engine/heart/ledger.py", "distributed/parts/ledger.py"}


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
def test_messages_are_written_by_ledgers_alone() -> None:
    root = Path(__file__).parents[3]
    files = (path for folder in ("engine", "distributed") for path in (root / folder).rglob("*.py"))
    found = {path.relative_to(root).as_posix(): written(path.read_text()) for path in files}
    assert {name for name, attributes in found.items() if attributes} == LEDGERS
    assert len(found["engine/heart/ledger.py"]) > 10
