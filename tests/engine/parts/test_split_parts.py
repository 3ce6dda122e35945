"""Split models in parts: the sweep goes on within a part."""

from __future__ import annotations

from typing import Any

import pytest

from antiphon import Simulation
from antiphon.scenarios import Scenario
from tests.contracts.twins import differences, facts
from tests.engine.split.parts import gpt, split_gpt

LINEAR = {"kind": "linear", "sites": True}
AUGMENTED = {"kind": "aug_local", "layers": 1}


def split(gradient: Any, delay: int, *, sweep: bool = True, drop: float = 0.1) -> Scenario:
    """A transformer of four blocks as three agents, the second of two blocks."""
    cuts = ["blocks.1", "blocks.3"]
    return split_gpt(gpt(dropout=drop), gradient, cuts, delay=delay, advanced={"sweep": sweep})


@pytest.mark.parametrize(
    ("gradient", "delay"), [pytest.param("local", 1, marks=pytest.mark.long), (AUGMENTED, 1), (LINEAR, 2)]
)
def test_swept_parts_compute_the_bits_of_one_process(gradient: Any, delay: int) -> None:
    """With the sweep or without, and again from a state that they have handed over."""
    scenario = split(gradient, delay)
    placement = {"part0": 0, "part1": 1, "part2": 1}
    with (
        Simulation(scenario) as whole,
        Simulation(scenario, parts={"placement": placement, "every": delay}) as divided,
        Simulation(split(gradient, delay, sweep=False), parts=3) as unswept,
    ):
        for steps in (7, 4):
            for one in (whole, divided, unswept):
                one.run(steps)
            for one in (divided, unswept):
                assert not list(differences(facts(whole), facts(one), tolerance=0.0))
