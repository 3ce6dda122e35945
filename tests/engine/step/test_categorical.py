"""Categorical observations enter networks one-hot: a run is that of the same observations given one-hot as floats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from antiphon.engine.simulation import Simulation
from antiphon.envs import from_tensors
from antiphon.errors import ScenarioError
from antiphon.scenarios import Scenario
from tests.engine.scenes import CLASSIFY, scenario_of

COUNT, CLASSES = 60, 5
DRAW = torch.Generator().manual_seed(0)
WORD = torch.randint(CLASSES, (COUNT,), generator=DRAW)
GRID = torch.randint(CLASSES, (COUNT, 4, 6), generator=DRAW)
LABEL = (WORD + GRID[:, 0, 0]) % 3
WORD[0], GRID[0, 0, 0], LABEL[0] = CLASSES - 1, CLASSES - 1, 2

ONE_HOT = {"word": one_hot(WORD, CLASSES).float(), "grid": one_hot(GRID, CLASSES).movedim(-1, 1).float()}
RING = [{"from": "a", "to": "b", "size": 3, "link": {"delay": 1}}, {"from": "b", "to": "a", "size": 3}]
SCENES: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "mlp": ({"a": {"observes": ["word", "grid"], "objective": CLASSIFY}}, []),
    "conv": (
        {
            "a": {
                "observes": ["grid"],
                "network": {"kind": "conv", "hidden": [2], "filter": 3},
                "objective": CLASSIFY,
            }
        },
        [],
    ),
    "lstm": (
        {"a": {"observes": ["word"], "network": {"kind": "lstm", "size": 3}, "objective": CLASSIFY}},
        [],
    ),
    "stacks": (
        {
            **{f"n{i}": {"observes": ["word"], "objective": CLASSIFY} for i in range(2)},
            **{f"m{i}": {"observes": ["grid"], "objective": CLASSIFY} for i in range(2)},
        },
        [],
    ),
    "aligned": (
        {
            "a": {"observes": ["word"]},
            "b": {"observes": ["word", "grid"], "align": True, "objective": CLASSIFY},
        },
        [{"from": "a", "to": "b", "size": 3, "link": {"delay": 2}}],
    ),
}


def scene(name: str, *, categorical: bool, **options: Any) -> Scenario:
    agents, channels = SCENES[name]
    network = {"kind": "mlp", "hidden": [6]}
    signals: dict[str, Tensor] = {"word": WORD, "grid": GRID} if categorical else ONE_HOT
    source = from_tensors(**signals, label=LABEL, training_only=["label"], **options)
    return scenario_of({k: {"network": network, **v} for k, v in agents.items()}, channels, source)


@pytest.mark.parametrize("backend", ["cohort", "reference"])
@pytest.mark.parametrize("name", SCENES)
def test_a_run_is_that_of_one_hot_floats(name: str, backend: str) -> None:
    found = []
    for categorical in (True, False):
        with Simulation(scene(name, categorical=categorical, hold=2), backend=backend) as simulation:
            simulation.run(8)
            learners = {n: a.learner.parameters for n, a in simulation.system.agents.items()}
            found.append((learners, simulation.evaluate()))
    for (agent, mine), theirs in zip(found[0][0].items(), found[1][0].values(), strict=True):
        assert all(torch.equal(mine[key], theirs[key]) for key in mine), agent
    assert found[0][1] == found[1][1]


def test_an_agent_of_either_kind_is_in_the_stack_of_its_kind() -> None:
    with Simulation(scene("stacks", categorical=True)) as simulation:
        assert sorted(sorted(stack.names) for stack in simulation.backend.stacked.system.agents.values()) == [
            ["m0", "m1"],
            ["n0", "n1"],
        ]


@pytest.mark.parametrize("episode", ["stream", "example"])
def test_an_exported_module_takes_the_classes_themselves(episode: str, tmp_path: Path) -> None:
    with Simulation(scene("mlp", categorical=True, episode=episode)) as simulation:
        simulation.run(5)
        batch = next(iter(simulation.world.env.batches("test", 7)))
        observed = {name: batch[name] for name in ("word", "grid")}
        module = simulation.compose()
        loaded = torch.export.load(simulation.export(tmp_path / "system.pt2")).module()
    assert module(**observed)["a"].shape == (7, 3)
    assert torch.equal(loaded(**observed)["a"], module(**observed)["a"])


def test_images_of_classes_are_no_feature_map() -> None:
    source = from_tensors(image=torch.randint(9, (20, 1, 4, 4)), label=torch.arange(20) % 2)
    agent = {"observes": ["image"], "network": {"kind": "conv", "hidden": [2]}, "objective": CLASSIFY}
    with pytest.raises(
        ScenarioError, match=r"a conv network needs \[channels, height, width\] .* got \[9, 1"
    ):
        Simulation(scenario_of({"a": agent}, env=source))
