"""Links that are `auto`: as if they were not there in one process; in parts the most bits and fewest steps for the line as it was measured."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import antiphon
from antiphon import ScenarioError, Simulation
from antiphon.distributed.automatic_link import LinkChoice
from antiphon.distributed.ray.worker import MeasuredLine
from antiphon.scenarios import Scenario
from tests.distributed.parts.stages import different, learned
from tests.splitting.models import UNet
from tests.splitting.parts import pictures


@cache
def split(**settings: Any) -> Scenario:
    """A chain of four layers in as many parts, which a run leaves as it is."""
    torch.manual_seed(0)
    layers = [
        nn.Sequential(nn.Flatten(), nn.Linear(64, 16)),
        nn.Linear(16, 16),
        nn.Linear(16, 16),
        nn.Linear(16, 10),
    ]
    given = {"env": {"id": "antiphon/Digits-v0"}, "gradient": "local", "batch": 16, "steps": 12}
    return antiphon.split(nn.Sequential(*layers), at=[1, 2, 3], **given | settings)


def delays(scenario: Scenario) -> dict[str, int]:
    return {channel.receiver: channel.link.delay for channel in scenario.channels}


def aligned(scenario: Scenario) -> list[str]:
    return [name for name, agent in scenario.agents.items() if agent.align]


def test_in_one_process_there_is_none() -> None:
    with Simulation(split()) as automatic, Simulation(split(delay=0)) as none:
        for simulation in (automatic, none):
            simulation.run(4)
        assert not different(learned(automatic), learned(none))
        assert not aligned(automatic.scenario)


def bits_of(scenario: Scenario) -> list[int | None]:
    return [channel.link.bits for channel in scenario.channels]


@pytest.mark.long
@pytest.mark.parametrize("placement", [None, {"part0": 0, "part1": 0, "part2": 1, "part3": 2}])
def test_parts_are_pipelined(placement: dict[str, int] | None, tmp_path: Path) -> None:
    """Channels within a part keep none, and a run goes on with what was chosen, to the bits of one process with as much."""
    parts: Any = {"count": 4} if placement is None else {"placement": placement, "delay": 3, "bits": 4}
    bits = [None] * 3 if placement is None else [None, 4, 4]
    steps = (
        {"part1": 1, "part2": 1, "part3": 1} if placement is None else {"part1": 0, "part2": 3, "part3": 3}
    )
    with Simulation(split(), parts=parts, logdir=tmp_path / "run") as divided:
        assert delays(divided.scenario) == steps
        assert bits_of(divided.scenario) == bits
        assert aligned(divided.scenario) == (
            ["part1", "part2", "part3"] if placement is None else ["part2", "part3"]
        )
        divided.run(6)
    with Simulation(split(), logdir=tmp_path / "run", exist="resume") as resumed:
        assert resumed.now == 6
        assert delays(resumed.scenario) == steps
        assert bits_of(resumed.scenario) == bits
        resumed.run(4)
    with Simulation.load(tmp_path / "run", split()) as again, Simulation(divided.scenario) as whole:
        assert delays(again.scenario) == steps
        whole.run(10)
        assert not different(learned(again), learned(whole))


def test_a_skip_waits_for_what_goes_through_the_parts_on_its_way() -> None:
    torch.manual_seed(0)
    scenario = antiphon.split(
        UNet(), ["bottom", "up2"], env=pictures(), gradient="local", batch=4
    ).with_delay(2)
    found = {(channel.sender, channel.receiver): channel.link.delay for channel in scenario.channels}
    assert found == {("part0", "part1"): 2, ("part0", "part2"): 4, ("part1", "part2"): 2}


def test_locked_channels_keep_their_parts_together() -> None:
    with pytest.raises(ScenarioError, match="locked: both ends learn as one"):
        Simulation(split(coupling="locked", gradient=None), parts=2)


# --- what is chosen --------------------------------------------------------------------------------------


def chosen(
    line: float,
    step: float,
    *,
    latency: float = 0.0,
    loses: bool = False,
    bits: Sequence[int] = (32, 16, 8, 4),
) -> LinkChoice:
    """What is chosen where exchanges of 320 bytes, 64 of them no components, take `line` seconds, and a step `step`."""
    lines = [MeasuredLine(0, 1, latency, 320, line, loses), MeasuredLine(1, 0, latency, 64, line / 5)]
    return LinkChoice.for_lines(lines, step, {one: [256 * (1 - one / 32), 0.0] for one in bits})


def test_the_fewest_steps_are_chosen_that_hide_an_exchange() -> None:
    """What leaves after step t is there when step t + delay begins, if the steps between take as long as the line."""
    for latency, step in ((0.0, 0.1), (0.1, 0.1), (0.1, 0.058), (0.135, 0.058), (1e-5, 1e-3), (10.0, 1e-4)):
        delay = chosen(0.0, step, latency=latency).delay
        assert (delay - 1 + 0.05) * step >= latency or delay == 1024
        assert delay == 1 or (delay - 2 + 0.05) * step < latency
    assert chosen(0.01, 0.07, latency=0.025).delay == 2
    assert chosen(0.01, 0.07, latency=0.025, loses=True).delay == 3, (
        "a lost packet is there after three latencies"
    )


def test_as_many_bits_are_chosen_as_the_line_carries_in_a_step() -> None:
    """Of 320 bytes, 64 stay whatever the bits are: 192 are left with 16 bits, 128 with 8, 96 with 4."""
    speeds = ((0.08, 32), (0.1, 16), (0.14, 16), (0.2, 8), (0.25, 4), (0.29, 4), (5.0, 4))
    assert [(line, chosen(line, 0.1).bits) for line, _ in speeds] == list(speeds)
    assert chosen(5.0, 0.1, bits=[32]).bits == 32
    assert chosen(1e-3, 1e-4).bits == 32  # a millisecond, which the processors take


def test_where_the_line_is_slower_than_a_step_the_delay_is_in_steps_of_the_line() -> None:
    """An exchange of 4 bits takes 1.5 s, in which no more than one step is taken."""
    assert chosen(5.0, 0.1, latency=0.2) == LinkChoice(delay=3, bits=4)


def test_without_a_line_nothing_is_waited_for() -> None:
    assert LinkChoice.for_lines([], 0.1, {32: []}) == LinkChoice(1, 32)
