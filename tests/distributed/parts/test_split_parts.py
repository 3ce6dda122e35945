"""Split models in parts: the sweep goes on within a part, which has no parameters of others."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from antiphon import Simulation
from antiphon.distributed.parts.part import Part, merge_states
from antiphon.distributed.parts.share import Share, scenario_of_part
from antiphon.engine.state.wire import from_bytes, to_bytes
from antiphon.scenarios import Scenario
from tests.contracts.twins import differences, facts
from tests.splitting.parts import gpt, split_gpt

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
        state = whole.running.state_dict()
        for index in (0, 1):
            own = pickle.loads(pickle.dumps(scenario_of_part(scenario, placement, -1)))
            for agent in own.agents.values():
                assert {p.is_meta for p in agent.network.parameters()} == {True}
                assert not hasattr(agent.network, "origin")
            part = Part(own, placement, index)
            share = Share.of(whole.running.system, placement, index).state(state)
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
            "system": merge_states([p.state_dict() for p in parts])["system"],
        }
        with Simulation(scenario) as joined:
            joined.running.load_state_dict(found)
            assert not list(differences(facts(whole), facts(joined), tolerance=0.0))
