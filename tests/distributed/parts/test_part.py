"""Parts in lockstep compute the bits of the uncut run (semantics 43), those of split models too; levels of messages on a line."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch

from antiphon import Scenario, Simulation, load
from antiphon.distributed.parts.cut import pack, packed_bits, unpack
from antiphon.distributed.parts.part import Part
from antiphon.distributed.parts.share import Share, merge_states, scenario_of_part
from antiphon.engine.state.packing import from_bytes, to_bytes
from tests.contracts.twins import differences, facts
from tests.distributed.parts.rings import document, ring
from tests.distributed.parts.stages import stages
from tests.splitting.parts import gpt, split_gpt


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
    "name", [pytest.param(n, marks=pytest.mark.nightly if "one member" in n else ()) for n in CUT]
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


# --- split models ----------------------------------------------------------------------------------------


LINEAR = {"kind": "linear", "sites": True}
AUGMENTED = {"kind": "aug_local", "layers": 1}


def split(gradient: Any, delay: int, *, sweep: bool = True, drop: float = 0.1) -> Scenario:
    """A transformer of four blocks as three agents, the second of two blocks."""
    cuts = ["blocks.1", "blocks.3"]
    return split_gpt(gpt(dropout=drop), gradient, cuts, delay=delay, sweep=sweep)


@pytest.mark.long
@pytest.mark.parametrize(
    ("gradient", "delay"),
    [
        ("local", 2),
        pytest.param(LINEAR, 1, marks=pytest.mark.nightly),
        pytest.param(AUGMENTED, 2, marks=pytest.mark.nightly),
    ],
)
def test_swept_parts_compute_the_bits_of_one_process(gradient: Any, delay: int) -> None:
    """With the sweep or without, and again from a state that they have handed over."""
    scenario = split(gradient, delay)
    placement = {"part0": 0, "part1": 1, "part2": 1}
    with (
        Simulation(scenario) as whole,
        Simulation(scenario, parts=placement) as divided,
        Simulation(split(gradient, delay, sweep=False), parts=3) as unswept,
    ):
        for steps in (5, 2):
            for one in (whole, divided, unswept):
                one.run(steps)
            for one in (divided, unswept):
                assert not list(differences(facts(whole), facts(one), tolerance=0.0))


@pytest.mark.long
def test_a_part_gets_and_keeps_the_parameters_of_its_own_agents_only() -> None:
    """It is built of what crosses a network, takes its share of a state, and goes on to the bits of one process."""
    scenario, placement = split(AUGMENTED, 1), {"part0": 0, "part1": 1, "part2": 1}
    parts = []
    with Simulation(scenario) as whole:
        for _ in range(3):
            whole.step()
        state, system = whole.running.state_dict(), whole.running.system
        for index in (0, 1):
            own = pickle.loads(pickle.dumps(scenario_of_part(scenario, placement, -1)))
            for agent in own.agents.values():
                assert {p.is_meta for p in agent.network.parameters()} == {True}
                assert not hasattr(agent.network, "origin")
            part = Part(own, placement, index)
            share = Share.of(system, placement, index).state(state)
            part.load_state_dict(from_bytes(to_bytes(share)))
            parts.append(part)
        for _ in range(3):
            whole.step()
            for part in parts:
                part.step()
            for part in parts:
                for neighbour in part.neighbours:
                    parts[neighbour].deliver(part.collect(neighbour))
        found = {
            **whole.running.state_dict(),
            "system": merge_states([p.state_dict() for p in parts], [p.share for p in parts])["system"],
        }
        with Simulation(scenario) as joined:
            joined.running.load_state_dict(found)
            assert not list(differences(facts(whole), facts(joined), tolerance=0.0))


# --- levels on a line ------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", range(1, 17))
@pytest.mark.parametrize("shape", [(3, 5), (1, 1), (4, 16)])
def test_levels_are_unpacked_as_they_were(bits: int, shape: tuple[int, int]) -> None:
    chance = torch.Generator().manual_seed(bits)
    level = torch.randint(2**bits, shape, generator=chance).double()
    level.view(-1)[-1] = 2**bits - 1
    content = pack(level, bits)
    assert content.dtype == torch.uint8
    assert len(content) == -(-level.numel() * packed_bits(bits) // 8)
    assert torch.equal(unpack(content, bits, torch.zeros(shape).double()), level)
