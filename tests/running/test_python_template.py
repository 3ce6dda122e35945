"""Scenarios made in Python where a template may stand (`running/python_template.py`): parameters, variants, `--scenario`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from antiphon import Scenario, load
from antiphon.envs import from_tensors
from antiphon.running.python_template import PythonTemplate, load_python
from tests.engine.scenes import CLASSIFY, scenario_of

X = [[0.0, 1.0]] * 10


def build(lr: float = 0.1, *, batch: int = 4, env: Any = None) -> Scenario:
    """A function of parameters, of which one is a Python object."""
    env = env or from_tensors(x=X, label=[0, 1] * 5)
    agents = {"a": {"observes": ["x"], "objective": CLASSIFY}}
    return scenario_of(agents, env=env, batch=batch, optimiser={"kind": "sgd", "lr": lr})


def test_a_function_is_called_with_values_and_its_result_kept() -> None:
    template = PythonTemplate.of(build)
    scenario = template.resolve(None, {"lr": 0.5})
    assert scenario.training.optimiser.lr == 0.5
    assert template.resolve(None, {"lr": 0.5}) is scenario
    assert template.resolve() is not scenario
    words = "A function of parameters, of which one is a Python object."
    assert (template.name, template.description, template.text) == ("build", words, "")
    assert list(template.parameters) == ["lr", "batch", "env"]
    assert template.resolve_values(None, {"batch": 8}) == {"lr": 0.1, "batch": 8, "env": None}
    assert template.resolve_values(None, {"env": scenario.env}) == {"lr": 0.1, "batch": 4}  # plain data alone
    every = PythonTemplate.of(lambda **values: build(**values))
    assert every.resolve(None, {"batch": 3}).training.batch == 3


def test_a_function_makes_the_same_modules_at_every_call() -> None:
    def scenario() -> Scenario:
        agents = {"a": {"observes": ["x"], "network": torch.nn.Linear(2, 2), "objective": CLASSIFY}}
        return scenario_of(agents, env=from_tensors(x=X, label=[0, 1] * 5))

    before = torch.random.get_rng_state()
    one, other = (PythonTemplate.of(scenario).resolve().agents["a"].network for _ in range(2))
    assert isinstance(one, torch.nn.Linear)
    assert isinstance(other, torch.nn.Linear)
    assert one is not other
    assert torch.equal(one.weight, other.weight)
    assert torch.equal(before, torch.random.get_rng_state())


def test_variants_are_values_of_parameters_and_a_scenario_is_a_base_too() -> None:
    mine = PythonTemplate.of(build())
    assert mine.resolve() is mine.base
    assert (mine.name, mine.resolve_values(), dict(mine.parameters)) == ("scene", {}, {})
    template = replace(PythonTemplate.of(build), variants={"wide": {"batch": 16}})
    assert template.resolve("wide", {"lr": 0.2}).training.batch == 16
    assert template.resolve("wide", {"batch": 2}).training.batch == 2
    assert template.resolve_values("wide", {"lr": 0.2})["batch"] == 16


# --- MODULE:FUNCTION, and what is refused -----------------------------------------------------------------

MODULE = """
import antiphon

def build(width: int = 8):
    return antiphon.load("digits-mlp").resolve(None, {"width": width, "steps": 4})

build.variants = {"wide": {"width": 16}}
MADE = build()
NUMBER = 3

class Inner:
    make = staticmethod(build)

def broken():
    raise KeyError("oops")

def refused():
    return antiphon.load("digits-mlp").resolve(None, {"width": -1})
"""


@pytest.fixture
def module(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module in the working directory."""
    monkeypatch.setattr(sys, "path", sys.path[:])
    modules = {
        "of_test": MODULE,
        "no_import": "import nosuch_module",
        "no_syntax": "def f(:",
        "leaves": "exit(3)",
    }
    for name, text in modules.items():
        (here / f"mine_{name}.py").write_text(text)
    yield "mine_of_test"
    for name in [name for name in sys.modules if name.startswith("mine_")]:
        del sys.modules[name]


def test_a_function_or_scenario_of_a_module_beside_is_loaded(module: str) -> None:
    template = load_python(f"{module}:build")
    assert (template.importable, template.source) == (True, f"{module}:build")
    assert template.resolve("wide") == load("digits-mlp").resolve(None, {"width": 16, "steps": 4})
    assert load_python(f"{module}:Inner.make").resolve() == load_python(f"{module}:MADE").resolve()


"""What cannot be loaded; what a function lacks is said on the command line (tests/cli/test_python.py)."""
