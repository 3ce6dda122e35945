"""The page of worlds by kind: each scenario is a few lines, and trains where its package is installed."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

import antiphon
from antiphon import Scenario, Simulation
from tests.envs.adaptors.test_frame_stack import Counter

PAGE = Path(__file__).resolve().parents[2] / "docs/howto/worlds.md"
SCENARIOS = {
    text.split()[1]: text for text in re.findall(r"```yaml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
}
"""By the scenario's name."""
NEEDS = {
    "lander": "Box2D", "racing": "Box2D", "rooms": "minigrid", "pong": "ale_py", "spread": "mpe2",
    "noughts": "pettingzoo",
}  # fmt: skip


def test_each_has_at_most_six_lines() -> None:
    assert len(SCENARIOS) == 9
    assert {name: text.count("\n") for name, text in SCENARIOS.items() if text.count("\n") > 6} == {}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SCENARIOS)
def test_each_trains(name: str) -> None:
    if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
        pytest.skip(f"{NEEDS[name]} is not installed")
    for package in ("minigrid", "ale_py"):
        if NEEDS.get(name) == package:
            importlib.import_module(package)
    if name == "mine" and "my/World-v0" not in antiphon.envs.ids():
        antiphon.envs.register("my/World-v0", Counter)
    scenario = Scenario.from_yaml(SCENARIOS[name])
    batch = {"batch": 2}
    with Simulation(
        scenario.model_copy(update={"training": scenario.training.model_copy(update=batch)})
    ) as simulation:
        simulation.run(steps=16, progress=False)
        assert all(agent.updates for agent in simulation.agents.values())
