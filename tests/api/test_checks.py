"""Checks from Python: the lines of `antiphon check`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from gymnasium.spaces import Discrete
from torch import Tensor

import antiphon
from antiphon.envs import Description, Signal, World
from tests.engine.numbers import one_line
from tests.engine.scenes import CLASSIFY, scenario_of
from tests.kit.commands import Commands

BLIND = scenario_of(
    {"a": {"observes": ["image"]}, "b": {"objective": CLASSIFY}},
    [{"from": "a", "to": "b", "size": 4, "gradient": "linear"}],
)
WRONG = """\
scenario: wrong
env: {id: antiphon/Digits-v0}
agents:
  a: {observes: [imge], objective: {kind: classification, target: label}}
training: {batch: 0}
"""


class Cells(World):
    """A line of cells; of seven, a step fails, and of six it observes what is not described."""

    class Options(World.Options):
        """Its number of cells."""

        cells: int = 5

    @staticmethod
    def describe(options: Cells.Options) -> Description:  # type: ignore[override]
        return Description(signals={"place": Signal(classes=options.cells)}, action_space=Discrete(2))

    def __init__(self, num_envs: int, options: Cells.Options, **settings: Any) -> None:
        super().__init__(num_envs, options, **settings)
        self.cells = options.cells

    def start(self, uniforms: Tensor) -> dict[str, Tensor]:
        return {"place": torch.zeros(len(uniforms), dtype=torch.int64)}

    def transition(
        self, state: dict[str, Tensor], actions: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        if self.cells == 7:
            raise ValueError("seven cells")
        place = (state["place"] + actions["action"]).clamp(max=self.cells - 1)
        arrived = place == self.cells - 1
        return {"place": place}, arrived.to(self.dtype), arrived

    def observe(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"plaec" if self.cells == 6 else "place": state["place"]}


@pytest.mark.parametrize(
    ("cells", "problem"),
    [
        (5, None),
        (6, "env: AssertionError: obs has [], not ['place']; return each requested observation"),
        (7, "env: ValueError: seven cells"),
    ],
)
def test_a_world_of_ones_own_that_fails_in_its_first_steps_is_a_problem(
    cells: int, problem: str | None
) -> None:
    antiphon.environment("my/Cells-v0")(Cells)
    agent = {"observes": ["place"], "acts": True, "objective": {"kind": "a2c"}}
    document = {"scenario": "cells", "env": {"id": "my/Cells-v0", "cells": cells}, "agents": {"a": agent}}
    found = antiphon.check(antiphon.Scenario.model_validate(document))
    assert list(found.problems) == ([] if problem is None else [problem])


@pytest.mark.parametrize("name", ["digits-mlp", "toy", "blind.yaml", "wrong.yaml"])
def test_it_finds_what_the_command_prints(name: str, here: Path, cli: Commands) -> None:
    Path("blind.yaml").write_text(BLIND.to_yaml())
    Path("wrong.yaml").write_text(WRONG)
    found = antiphon.check(name)
    assert cli.code("check", name) == (0 if found.ok else 2)
    assert str(found).splitlines() == [*cli.err.splitlines(), *cli.out.splitlines()]
    assert found.ok == (name != "wrong.yaml")


def test_an_object_a_variant_and_values_are_checked() -> None:
    found = antiphon.check(BLIND)
    assert found.ok
    assert "give gradient.context [label]" in next(iter(found.warnings))
    assert repr(antiphon.check("digits-mlp", variant="locked")).endswith("digits-mlp.yaml: ok")
    assert "'lr': must be greater than 0" in str(antiphon.check("digits-mlp", values={"lr": 0.0}))
    with one_line(r"no scenario 'nothing'; .*; a file is given with its ending, \.yaml$"):
        antiphon.check("nothing")
