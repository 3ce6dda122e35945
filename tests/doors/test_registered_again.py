"""A kind that a notebook's cell registers again while a simulation of it runs."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

import antiphon

CELL = '''
import antiphon
from torch import nn

class Net(nn.Module):
    """{about}"""
    def __init__(self, inputs, outputs):
        super().__init__()
        self.first, self.second, self.between = nn.Linear(inputs, 5), nn.Linear(5, outputs), nn.{layer}()

    def forward(self, x):
        return self.second(self.between(self.first(x)))

@antiphon.network("{name}")
def network(inputs, outputs):
    return Net(inputs, outputs)
'''
SCOPE: dict[str, Any] = {"__name__": "__main__"}
"""Names of the notebook."""


def run_cell(layer: str, name: str = "of a cell", *, lines_before: int = 0, about: str = "") -> None:
    text = "\n" * lines_before + CELL.format(layer=layer, name=name, about=about)
    exec(compile(text, f"cell {layer} {lines_before}", "exec"), SCOPE)  # noqa: S102  (as a notebook does)


def made(network: str) -> antiphon.Simulation:
    goal = {"kind": "classification", "target": "label"}
    agents: Any = {"a": {"observes": ["image"], "network": network, "objective": goal}}
    env: Any = {"id": "antiphon/Digits-v0"}
    training: Any = {"batch": 8, "steps": 9}
    return antiphon.Simulation(antiphon.Scenario(scenario="cell", env=env, agents=agents, training=training))


@pytest.fixture
def simulation() -> antiphon.Simulation:
    run_cell("ReLU")
    simulation = made("of a cell")
    simulation.step()
    return simulation


def warned(call: Callable[[], object]) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize("how", ["set", "fork", "load"])
def test_other_code_of_a_kind_is_told_where_a_simulation_goes_on_with_it(
    simulation: antiphon.Simulation, tmp_path: Path, how: str
) -> None:
    saved = simulation.save(tmp_path / "saved")
    run_cell("Tanh")
    ways: dict[str, Callable[[], object]] = {
        "set": lambda: simulation.set("a.learning_rate", 0.1),
        "fork": simulation.fork,
        "load": lambda: antiphon.Simulation.load(saved),
    }
    line = "network 'of a cell' was registered again with other code: the newer one is used from here on"
    assert warned(ways[how]) == [line]
    assert warned(ways[how]) == ([] if how == "set" else [line])  # what runs, or is saved, is the older one


@pytest.mark.parametrize(
    "cell",
    [
        lambda: run_cell("ReLU"),
        lambda: run_cell("ReLU", lines_before=40),
        lambda: run_cell("ReLU", about="Says what it is."),
        lambda: antiphon.register("network", "of another cell", lambda inputs, outputs: None),
        lambda: None,
    ],
    ids=["again", "moved", "described", "another kind", "none"],
)
def test_a_cell_that_registers_the_same_is_not_told(
    simulation: antiphon.Simulation, tmp_path: Path, cell: Callable[[], None]
) -> None:
    saved = simulation.save(tmp_path / "saved")
    cell()
    assert warned(lambda: antiphon.Simulation.load(saved)) == []
    assert warned(lambda: simulation.set("a.learning_rate", 0.1)) == []
    assert warned(simulation.fork) == []


def test_what_a_kind_counts_as_it_runs_is_no_other_code(tmp_path: Path) -> None:
    sizes, calls = list[int](), 0

    class Counted(nn.Linear):
        made = 0

        def forward(self, x: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            return super().forward(x)

    @antiphon.network("counted")
    def network(inputs: int, outputs: int) -> nn.Module:
        sizes.append(inputs)
        Counted.made += 1
        return Counted(inputs, outputs)

    with made("counted") as simulation:
        simulation.step()
        assert warned(simulation.fork) == []
        saved = simulation.save(tmp_path / "saved")
        simulation.step()
    assert warned(lambda: antiphon.Simulation.load(saved)) == []
    assert Counted.made == len(sizes) > 2
    assert calls > 2
