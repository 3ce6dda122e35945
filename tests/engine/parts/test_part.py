"""Parts compute the bits of the uncut run, and their states make up its state (semantics 43)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from antiphon.engine.parts.part import Part, merge_states
from antiphon.engine.simulation import Simulation
from antiphon.errors import EngineError
from antiphon.scenarios import Scenario, load
from tests.contracts.twins import facts
from tests.engine.parts.lockstep import equal, parts_of, run
from tests.engine.parts.rings import ring
from tests.engine.parts.stages import stages


def differences(a: Simulation, b: Simulation) -> list[str]:
    """The places at which two simulations differ by a bit."""
    ours, theirs = facts(a), facts(b)
    return [place for place in ours.keys() | theirs.keys() if not equal(ours.get(place), theirs.get(place))]


def check_cut(scenario: Scenario, placement: Mapping[str, int], *, steps: int = 15, **settings: Any) -> None:
    """Check that parts have learned what the uncut run has, and that this goes on from their joined state."""
    whole = Simulation(scenario, **settings)
    for _ in range(steps):
        whole.step()
    parts = parts_of(scenario, placement, **settings)
    run(parts, steps)
    joined = Simulation(scenario, **settings)
    joined._load_state_dict(merge_states([part.state_dict() for part in parts]))
    assert differences(whole, joined) == []
    for _ in range(4):
        whole.step()
        joined.step()
    assert differences(whole, joined) == []
    for one in (whole, joined, *parts):
        one.close()


def in_order(scenario: Scenario, parts: int) -> dict[str, int]:
    """Agents in order, in parts of about equal size."""
    names = list(scenario.agents)
    return {name: i * parts // len(names) for i, name in enumerate(names)}


def test_parts_of_a_stack_compute_the_bits_of_the_uncut_run() -> None:
    scenario = ring(delay=3, drop=0.2, noise=0.1)
    check_cut(scenario, {name: i % 3 for i, name in enumerate(scenario.agents)})


@pytest.mark.long
def test_a_stack_of_which_one_member_is_here_sums_what_comes_back_as_the_whole() -> None:
    """In the whole its messages are rows of a port; alone, they would be the port itself."""
    scenario = load("corporation").resolve()
    place = dict.fromkeys(scenario.agents, 1) | dict.fromkeys(("n00", "n28"), 0)
    check_cut(scenario, place, steps=11)


def test_parts_go_on_from_the_state_of_a_whole_run_and_of_other_parts() -> None:
    scenario = ring(delay=3, drop=0.2)
    whole = Simulation(scenario, stacked=False)
    for _ in range(7):
        whole.step()
    state = whole._state_dict()
    for count in (2, 3, 4):
        parts = parts_of(scenario, in_order(scenario, count), stacked=False)
        for part in parts:
            part.load_state_dict(state)
        run(parts, 6)
        state = merge_states([part.state_dict() for part in parts])
        joined = Simulation(scenario, stacked=False)
        joined._load_state_dict(state)
        for _ in range(6):
            whole.step()
        assert differences(whole, joined) == []


def test_a_part_does_not_go_on_without_what_it_reads() -> None:
    scenario = ring(delay=2)
    part = Part(scenario, in_order(scenario, 2), 0)
    assert part.ready
    part.step()
    part.step()
    assert not part.ready
    assert part.waits_for() == (1,)
    with pytest.raises(EngineError, match="read at 2, not arrived"):
        part.step()


def test_an_exchange_is_taken_once_and_in_order() -> None:
    scenario = ring(delay=2)
    first, second = parts_of(scenario, in_order(scenario, 2))
    second.step()
    exchange = second.collect(0)
    assert (exchange.first, exchange.end, exchange.sender) == (0, 1, 1)
    assert exchange.nbytes == 8 * 4 * 4
    first.deliver(exchange)
    with pytest.raises(EngineError, match="from 0 on, not from 1"):
        first.deliver(exchange)


@pytest.mark.parametrize("stacked", [False, True])
def test_aligned_agents_in_a_row_of_parts_work_on_the_example_of_the_message_they_read(stacked: bool) -> None:
    scenario = stages(4, "linear")
    check_cut(scenario, in_order(scenario, 4), steps=10, stacked=stacked)


def test_a_synthetic_input_knows_the_example_that_an_aligned_sender_worked_on() -> None:
    way = {"link": {"delay": 2, "drop": 0.3}, "input": {"context": ["image"]}}
    check_cut(stages(3, "linear", channel=way), {"s0": 0, "s1": 1, "s2": 2}, steps=10, stacked=False)
