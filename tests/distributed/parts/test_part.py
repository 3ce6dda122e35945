"""Parts in lockstep compute the bits of the uncut run, and those that do not wait do so where nothing is late (semantics 43).

tests/contracts cuts every document in two. Here are cuts through rows of aligned agents, and larger ones.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from antiphon import Scenario, Simulation, load
from tests.contracts.twins import differences, facts
from tests.distributed.parts.rings import document, ring
from tests.distributed.parts.stages import different, learned, stages
from tests.engine.numbers import one_line
from tests.kit.running import bytes_sent


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


def bytes_of_signals(
    steps: int, count: int, row: Callable[[Scenario], Scenario] = lambda row: row, **keys: Any
) -> int:
    """The bytes that an aligned row, each agent in a part of its own, sends beyond those of one that is not aligned."""
    sent = []
    for one in (stages(count, **keys), stages(count, aligned=False, env={"hold": 50}, **keys)):
        with Simulation(row(one), parts=in_order(one, count)) as simulation:
            simulation.run(steps)
            sent.append(bytes_sent(simulation))
    return sent[0] - sent[1]


@pytest.mark.long
def test_signals_that_the_receiver_has_seen_do_not_cross() -> None:
    """Those of an aligned sender do where messages are lost, as they are of several steps then."""
    assert bytes_of_signals(8, 4) == 0
    assert bytes_of_signals(24, 4, paced) == 0
    lossy = {"link": {"delay": 1, "drop": 0.3}}
    first, second = (bytes_of_signals(steps, 3, channel=lossy) for steps in (3, 8))
    assert second == 6 * first > 0  # with each message of one channel but the first


LOSSY = {"link": {"delay": 1, "drop": 0.3, "noise": 0.1}, "input": {"kind": "linear", "context": ["image"]}}
UNLOCKED = {"coupling": "unlocked", "input": {"kind": "linear", "context": ["image"]}}
IN_TIME = {
    "sobolev": stages(),
    "unlocked": stages(channel=UNLOCKED, aligned=False, env={"hold": 4}),
    "delayed": stages(channel={"coupling": "delayed"}),
    "lossy": stages(channel=LOSSY),
    "critic": stages(4, "critic"),
    "local": stages(2, "local"),
}


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.long if n in ("critic", "local") else ()) for n in IN_TIME]
)
def test_where_nothing_is_late_parts_that_do_not_wait_learn_the_bits_of_delay_1(name: str) -> None:
    """From the state of a whole, and from that of other parts that do not wait."""
    scenario = IN_TIME[name]
    free = {"placement": in_turn(scenario, len(scenario.agents)), "mode": "free"}
    with Simulation(scenario) as whole, Simulation(scenario, parts=free) as divided:
        for _ in range(5):
            whole.step()
            divided.step()
        for steps in (6, 5):
            whole.run(steps)
            divided.run(steps)
            assert not different(learned(whole), learned(divided))
        assert not list(differences(whole.train_means.means(), divided.train_means.means(), tolerance=1e-6))


def test_parts_that_do_not_wait_take_weights_before_they_begin_and_then_no_more(tmp_path: Path) -> None:
    scenario = stages(2)
    with Simulation(scenario, seed=5, logdir=tmp_path / "run") as source:
        source.run(3)
    free = {"placement": in_turn(scenario, 2), "mode": "free"}
    with Simulation(scenario) as whole, Simulation(scenario, parts=free) as divided:
        for one in (whole, divided):
            one.load_weights(tmp_path / "run")
            one.run(4)
        assert not different(learned(whole), learned(divided))
        with one_line(
            "load_weights: parts in free mode have started and hold the parameters; call it before"
        ):
            divided.load_weights(tmp_path / "run")
