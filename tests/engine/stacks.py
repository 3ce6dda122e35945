"""Agents of one kind as single agents and as stacks."""

from __future__ import annotations

from typing import Any

from antiphon.engine.build.stacking import stack
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.system import System
from antiphon.engine.stacked import Stacked
from antiphon.scenarios import Scenario
from tests.contracts.builders import Document
from tests.contracts.twins import made


def system_of(document: Document | Scenario, **settings: Any) -> System:
    """The system of a document, one agent at a time."""
    return made(document, "cohort", stacked=False, **settings).running.system


def stacked_system(document: Document, **settings: Any) -> Stacked:
    """The system of a document as stacks."""
    base = system_of(document, **settings)
    return Stacked(base, stack(base))


def channel_stacks(found: Stacked) -> list[Channel]:
    """The channels between which and their stacks of agents rows are selected: all but those of lone agents."""
    agents, channels = found.system.agents, found.system.channels.values()
    return [c for c in channels if agents[c.sender].has_member_axis or agents[c.receiver].has_member_axis]
