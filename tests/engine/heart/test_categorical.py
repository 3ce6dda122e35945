"""Categorical observations enter networks one-hot or by index: a run is that of the same observations given as floats."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from antiphon import Scenario, Simulation
from antiphon.envs import from_tensors
from tests.engine.scenes import CLASSIFY, scenario_of

COUNT, CLASSES = 60, 5
DRAW = torch.Generator().manual_seed(0)
WORD = torch.randint(CLASSES, (COUNT,), generator=DRAW)
GRID = torch.randint(CLASSES, (COUNT, 4, 6), generator=DRAW)
LABEL = (WORD + GRID[:, 0, 0]) % 3
WORD[0], GRID[0, 0, 0], LABEL[0] = CLASSES - 1, CLASSES - 1, 2

CODES: dict[str, Tensor] = {"word": WORD, "grid": GRID}
FLOATS: dict[str, dict[str, Tensor]] = {
    "one_hot": {
        "word": one_hot(WORD, CLASSES).float(),
        "grid": one_hot(GRID, CLASSES).movedim(-1, 1).float(),
    },
    "index": {"word": WORD.float(), "grid": GRID.float()},
}
BOTH: dict[str, Any] = {"observes": ["word", "grid"], "objective": CLASSIFY}
CONV: dict[str, Any] = {"kind": "conv", "hidden": [2], "size": 3}
SCENES: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "mlp": ({"a": BOTH}, []),
    "conv": ({"a": {"observes": ["grid"], "network": CONV, "objective": CLASSIFY}}, []),
    "stacks": ({**{f"n{i}": BOTH for i in range(2)}, "m": {**BOTH, "observes": ["grid"]}}, []),
    "aligned": (
        {"a": {"observes": ["word"]}, "b": {**BOTH, "align": True}},
        [{"from": "a", "to": "b", "size": 3, "link": {"delay": 2}, "gradient": "linear"}],
    ),
}


def scene(name: str, categories: str, *, categorical: bool = True, **options: Any) -> Scenario:
    agents, channels = SCENES[name]
    common = {"network": {"kind": "mlp", "hidden": [6]}, "categories": categories}
    signals = CODES if categorical else FLOATS[categories]
    source = from_tensors(**signals, label=LABEL, training_only=["label"], **options)
    return scenario_of({k: {**common, **v} for k, v in agents.items()}, channels, source)


CASES = [(name, how) for name in SCENES for how in FLOATS if (name, how) != ("conv", "index")]


@pytest.mark.cases(2)
@pytest.mark.parametrize(("name", "categories"), CASES)
def test_a_run_is_that_of_floats(name: str, categories: str) -> None:
    found = []
    for categorical in (True, False):
        made = scene(name, categories, categorical=categorical, hold=2)
        with Simulation(made, dtype=torch.float64) as simulation:
            simulation.run(8)
            found.append(
                ({n: a.parameters for n, a in simulation.agents.items()}, simulation.evaluate().agents)
            )
    for agent, mine in found[0][0].items():
        for key, value in mine.items():
            torch.testing.assert_close(
                value, found[1][0][agent][key], atol=1e-8, rtol=0, msg=f"{agent}: {key}"
            )
    for agent, metrics in found[0][1].items():
        assert metrics == pytest.approx(found[1][1][agent], rel=1e-6), agent


@pytest.mark.parametrize("categories", FLOATS)
def test_a_composed_module_takes_the_classes_themselves(categories: str) -> None:
    with Simulation(scene("mlp", categories, episode="example")) as simulation:
        simulation.run(5)
        batch = next(iter(simulation.world.env.batches("test", COUNT)))
        right = simulation.compose()({name: batch[name] for name in CODES})["a"].argmax(1) == batch["label"]
        assert simulation.evaluate().agents["a"]["accuracy"] == pytest.approx(right.double().mean().item())
