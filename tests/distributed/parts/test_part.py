"""Parts in lockstep compute the bits of the uncut run (semantics 43).

tests/contracts cuts every document in two. Here are cuts through rows of aligned agents, and larger ones.
"""

from __future__ import annotations

import pytest

from antiphon import Scenario, Simulation, load
from antiphon.distributed.parts.part import Part
from tests.contracts.twins import differences, facts
from tests.distributed.parts.rings import document, ring
from tests.distributed.parts.stages import stages


def in_order(scenario: Scenario, parts: int) -> dict[str, int]:
    """Agents in order, in parts of about equal size."""
    names = list(scenario.agents)
    return {name: i * parts // len(names) for i, name in enumerate(names)}


def in_turn(scenario: Scenario, parts: int) -> dict[str, int]:
    return {name: i % parts for i, name in enumerate(scenario.agents)}


def paced(row: Scenario) -> Scenario:
    """A row of aligned agents, each with a slower clock than the one before: an example is many steps old where it is read."""
    agents = {
        name: agent.model_copy(update={"clock": agent.clock.model_copy(update={"period": period})})
        for (name, agent), period in zip(row.agents.items(), (1, 2, 3, 6), strict=True)
    }
    return row.model_copy(update={"agents": agents})


def circle() -> Scenario:
    """Agents each aligned to the one before it, which never have an example."""
    plain = document()
    return Scenario.model_validate(
        plain | {"agents": {name: agent | {"align": True} for name, agent in plain["agents"].items()}}
    )


RING = ring(delay=3, drop=0.2, noise=0.1)
BYTES, PACKED = ring(bits=7), ring(bits=4)
CIRCLE = circle()
ROW = stages(4, "linear")
LATE = stages(3, "linear", channel={"link": {"delay": 2, "drop": 0.3}, "input": {"context": ["image"]}})
CORPORATION = load("corporation").resolve()
CUT: dict[str, tuple[Scenario, dict[str, int]]] = {
    "a stack": (RING, in_turn(RING, 3)),
    "messages of one byte a component": (BYTES, in_turn(BYTES, 2)),
    "messages of half a byte a component": (PACKED, in_turn(PACKED, 2)),
    "aligned agents in a row": (ROW, in_order(ROW, 4)),
    "aligned agents in a row with clocks of their own": (paced(ROW), in_order(ROW, 4)),
    "aligned agents in a circle": (CIRCLE, in_order(CIRCLE, 2)),
    "synthetic inputs of an aligned sender's messages": (LATE, in_order(LATE, 3)),
    # in the whole its messages are rows of a port; alone, they would be the port itself
    "a stack of which one member is here": (
        CORPORATION,
        dict.fromkeys(CORPORATION.agents, 1) | dict.fromkeys(("n00", "n28"), 0),
    ),
}


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.long if "one member" in n else ()) for n in CUT]
)
def test_parts_compute_the_bits_of_the_uncut_run(name: str) -> None:
    """With exchanges as late as may be, and again from a state that they have handed over."""
    scenario, placement = CUT[name]
    with Simulation(scenario) as whole, Simulation(scenario, parts=placement) as divided:
        for steps in (8, 3, 4):
            whole.run(steps)
            divided.run(steps)
            assert not list(differences(facts(whole), facts(divided), tolerance=0.0))


def test_with_the_messages_of_aligned_agents_cross_the_signals_that_such_agents_need() -> None:
    """The label, which the last of a row learns, and not the image, which the first one sees."""
    row = stages(4, "linear")
    parts = [Part(row, in_order(row, 4), index, stacked=False) for index in range(4)]
    crossing: dict[int, list[str] | None] = {}
    for _ in range(3):
        for part in parts:
            part.step()
        for part, neighbour in [(one, n) for one in parts for n in one.neighbours]:
            exchange = part.collect(neighbour)
            parts[neighbour].deliver(exchange)
            for message in exchange.messages:
                crossing[part.index] = message.signals and [*message.signals]
    assert crossing == {0: None, 1: ["label"], 2: ["label"]}  # of its own step the receiver has them
