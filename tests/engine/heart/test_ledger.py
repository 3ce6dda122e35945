"""The check of `engine/heart/ledger.py` that no document can set off, for its clocks never ask for it (semantics 17)."""

from __future__ import annotations

import pytest
import torch

from antiphon.comms.links import Link
from antiphon.engine.heart.clock import Clock, Sends, TickWindows
from antiphon.engine.heart.ledger import Ledger
from antiphon.engine.heart.message import StepSignals
from antiphon.errors import EngineError


def test_a_message_open_beyond_its_deadline_is_the_engines_fault() -> None:
    clock = Clock()
    windows, link = TickWindows(clock, 1), Link(name="a->b")
    ledger = Ledger("a->b", Sends(clock), clock, windows, link, wants_gradient=True)
    ledger.send(0, torch.zeros(3, 2), StepSignals(0, {}))
    with pytest.raises(EngineError, match="a->b: the message of step 0 is still open at step 1"):
        ledger.send(1, torch.zeros(3, 2), StepSignals(1, {}))
