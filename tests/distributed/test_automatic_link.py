"""Links that are `auto`: as if they were not there in one process; in parts the most bits and fewest steps for the line."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import antiphon
from antiphon import ScenarioError, Simulation
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


@pytest.mark.long
@pytest.mark.parametrize("placement", [None, {"part0": 0, "part1": 0, "part2": 1, "part3": 2}])
def test_parts_are_pipelined(placement: dict[str, int] | None, tmp_path: Path) -> None:
    """Channels within a part keep none, and a run goes on with what was chosen."""
    parts: Any = {"count": 4} if placement is None else {"placement": placement, "delay": 3}
    steps = (
        {"part1": 1, "part2": 1, "part3": 1} if placement is None else {"part1": 0, "part2": 3, "part3": 3}
    )
    with Simulation(split(), parts=parts, logdir=tmp_path / "run") as divided:
        assert delays(divided.scenario) == steps
        assert aligned(divided.scenario) == (
            ["part1", "part2", "part3"] if placement is None else ["part2", "part3"]
        )
        divided.run(6)
    with Simulation(split(), logdir=tmp_path / "run", exist="resume") as resumed:
        assert resumed.now == 6
        assert delays(resumed.scenario) == steps
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


def test_a_checkpoint_is_loaded_with_the_delays_of_its_run(tmp_path: Path) -> None:
    """Also one whose scenario is plain data."""
    link = {"delay": "auto"}
    document: Any = {
        "scenario": "plain",
        "env": {"id": "antiphon/Digits-v0"},
        "agents": {
            "eye": {"observes": ["image"]},
            "mind": {"objective": {"kind": "classification", "target": "label"}},
        },
        "channels": [{"from": "eye", "to": "mind", "size": 4, "link": link}],
    }
    scenario = Scenario.model_validate(document)
    for parts, delay in ((None, 0), ({"count": 2, "delay": 2}, 2)):
        settings: Any = parts
        with Simulation(scenario, parts=settings) as simulation:
            simulation.run(4)
            folder = simulation.save(tmp_path / str(delay))
            with Simulation.load(folder, scenario) as given, Simulation.load(folder) as read:
                for loaded in (given, read):
                    assert delays(loaded.scenario) == {"mind": delay}
                    assert aligned(loaded.scenario) == (["mind"] if delay else [])
                    loaded.run(4)
                simulation.run(4)
                assert not different(learned(simulation), learned(given))


def bits_of(scenario: Scenario) -> list[int | None]:
    return [channel.link.bits for channel in scenario.channels]


@pytest.mark.long
def test_bits_are_of_channels_between_parts_and_a_run_goes_on_with_them(tmp_path: Path) -> None:
    """To the bits of one process with as many."""
    parts: Any = {"placement": {"part0": 0, "part1": 0, "part2": 1, "part3": 2}, "delay": 2, "bits": 4}
    with Simulation(split(), parts=parts, logdir=tmp_path / "run") as divided:
        assert bits_of(divided.scenario) == [None, 4, 4]
        divided.run(6)
    with Simulation(split(), logdir=tmp_path / "run", exist="resume") as resumed:
        assert bits_of(resumed.scenario) == [None, 4, 4]
        assert json.loads((tmp_path / "run" / "run.json").read_text())["parts"]["bits"] == 4
        resumed.run(4)
    with Simulation.load(tmp_path / "run", split()) as again, Simulation(divided.scenario) as whole:
        whole.run(10)
        assert not different(learned(again), learned(whole))
