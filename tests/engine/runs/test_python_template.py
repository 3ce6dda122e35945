"""Scenarios made in Python where a template may stand: parameters, variants, what is refused, and `--scenario`."""

from __future__ import annotations

import functools
import pickle
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from antiphon import Scenario, load
from antiphon.engine.runs.python_template import PythonTemplate, load_python
from antiphon.envs import from_tensors
from tests.engine.numbers import one_line
from tests.engine.scenes import CLASSIFY, scenario_of
from tests.engine.walks import Walk, walking

X = [[0.0, 1.0]] * 10


def build(lr: float = 0.1, *, batch: int = 4, env: Any = None) -> Scenario:
    """A function of parameters, of which one is a Python object."""
    env = env or from_tensors(x=X, label=[0, 1] * 5)
    agents = {"a": {"observes": ["x"], "objective": CLASSIFY}}
    return scenario_of(agents, env=env, batch=batch, optimiser={"kind": "sgd", "lr": lr})


def takes_all(**values: Any) -> Scenario:
    return build(**values)


def needs(lr: float) -> Scenario:
    return build(lr)


def walk() -> Scenario:
    return walking(Walk(4))


def test_a_function_is_called_with_values_and_its_result_kept() -> None:
    template = PythonTemplate.of(build)
    scenario = template.resolve(None, {"lr": 0.5})
    assert scenario.training.optimiser.lr == 0.5
    assert template.resolve(None, {"lr": 0.5}) is scenario
    assert template.resolve() is not scenario
    assert (template.name, template.description, template.text) == ("build", "", "")
    assert list(template.parameters) == ["lr", "batch", "env"]
    assert template.resolve_values(None, {"batch": 8}) == {"lr": 0.1, "batch": 8, "env": None}
    assert template.resolve_values(None, {"env": scenario.env}) == {"lr": 0.1, "batch": 4}  # plain data alone
    assert PythonTemplate.of(takes_all).resolve(None, {"batch": 3}).training.batch == 3


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


def test_variants_are_values_of_parameters() -> None:
    template = replace(PythonTemplate.of(build), variants={"wide": {"batch": 16}})
    assert template.resolve("wide", {"lr": 0.2}).training.batch == 16
    assert template.resolve_values("wide", {"lr": 0.2})["batch"] == 16
    with one_line(r":build has no variant 'wid'; did you mean 'wide'\?"):
        template.resolve("wid")
    with one_line(r"has no parameter 'lr'; give a function of its parameters that returns a Scenario"):
        PythonTemplate.of(build()).resolve(None, {"lr": 0.2})


def test_another_process_imports_it_by_its_source() -> None:
    copied = pickle.loads(pickle.dumps(PythonTemplate.of(build)))
    assert copied.source == PythonTemplate.of(build).source
    assert copied.resolve(None, {"batch": 16}).training.batch == 16


def test_a_scenario_or_a_template_is_a_base_too() -> None:
    mine = PythonTemplate.of(build())
    assert mine.resolve() is mine.base
    assert (mine.name, mine.resolve_values(), dict(mine.parameters)) == ("scene", {}, {})
    digits = replace(PythonTemplate.of(load("digits-mlp")), variants={"small": {"width": 4}})
    assert digits.name == "digits-mlp"
    assert digits.resolve("small", {"depth": 2}) == load("digits-mlp").resolve(None, {"width": 4, "depth": 2})
    assert digits.resolve_values("small")["width"] == 4


def test_only_what_another_process_finds_by_its_name_is_importable() -> None:
    assert PythonTemplate.of(build).importable
    assert PythonTemplate.of(build).source == "tests.engine.runs.test_python_template:build"
    for other in (build(), load("digits-mlp"), lambda: build(), functools.partial(build, 0.1)):
        assert not PythonTemplate.of(other).importable
    local = functools.wraps(build)(lambda **values: build(**values))  # says that it is build, and is not
    assert not PythonTemplate.of(local).importable


def test_a_function_of_the_main_program_is_not_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "needs", needs, raising=False)
    monkeypatch.setattr(needs, "__module__", "__main__")
    assert not PythonTemplate.of(needs).importable


@pytest.mark.parametrize("base", [walk, walk()])
def test_every_run_has_an_environment_of_its_own(base: Any) -> None:
    template = PythonTemplate.of(base)
    assert template.resolve().env is not template.resolve().env


@pytest.mark.parametrize(
    ("function", "values", "line"),
    [
        (build, {"lrr": 1}, r"test_python_template:build has no parameter 'lrr'; did you mean 'lr'\?$"),
        (needs, {}, r"test_python_template:needs: parameter 'lr' has no value"),
        (lambda: 3, {}, r"returns int; it must return an antiphon\.Scenario$"),
    ],
)
def test_what_a_function_does_not_take_or_give_is_one_line(
    function: Callable[..., Any], values: dict[str, Any], line: str
) -> None:
    with one_line(line):
        PythonTemplate.of(function).resolve(None, values)


def test_an_exception_of_the_function_is_its_own() -> None:
    with pytest.raises(ZeroDivisionError):
        PythonTemplate.of(lambda: 1 / 0).resolve()


# --- MODULE:FUNCTION --------------------------------------------------------------------------------------

MODULE = """
import antiphon

def build(width: int = 8):
    return antiphon.load("digits-mlp").resolve(None, {"width": width, "steps": 4})

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
    (here / "mine_of_test.py").write_text(MODULE)
    for name, text in {
        "no_import": "import nosuch_module",
        "no_syntax": "def f(:",
        "leaves": "exit(3)",
    }.items():
        (here / f"mine_{name}.py").write_text(text)
    yield "mine_of_test"
    for name in [name for name in sys.modules if name.startswith("mine_")]:
        del sys.modules[name]


def test_a_function_or_scenario_of_a_module_beside_is_loaded(module: str) -> None:
    template = load_python(f"{module}:build")
    assert template.importable
    assert template.source == f"{module}:build"
    assert template.resolve(None, {"width": 4}) == load("digits-mlp").resolve(None, {"width": 4, "steps": 4})
    assert load_python(f"{module}:Inner.make").resolve() == load_python(f"{module}:MADE").resolve()
    with one_line(rf"{module}:build has no parameter 'wdth'; did you mean 'width'\?"):
        template.resolve(None, {"wdth": 4})


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("{}", r"must be MODULE:FUNCTION, for example train:build for build\(\) in train\.py$"),
        ("{}:", "must be MODULE:FUNCTION"),
        (":build", "must be MODULE:FUNCTION"),
        ("{}.py:build", "must be MODULE:FUNCTION"),
        ("sub/{}:build", "must be MODULE:FUNCTION"),
        ("mine_nosuch:build", r"no module 'mine_nosuch' in .*here or among what is installed$"),
        ("mine_nosuch.deep:build", r"no module 'mine_nosuch' in .*here or among what is installed$"),
        (
            "mine_no_import:f",
            r"ModuleNotFoundError: No module named 'nosuch_module' \(mine_no_import\.py:1\)$",
        ),
        ("mine_no_syntax:f", r"SyntaxError: .*\(mine_no_syntax\.py, line 1\)$"),
        ("mine_leaves:f", r"SystemExit: 3"),
        ("{}:biuld", r"module 'mine_of_test' has no 'biuld'; did you mean 'build'\?$"),
        ("{}:NUMBER", r"is of type int; must be an antiphon\.Scenario or a function that returns one$"),
    ],
)
def test_a_place_where_there_is_none_is_one_line(place: str, line: str, module: str) -> None:
    place = place.format(module)
    with one_line(rf"^{place}: {line}"):
        load_python(place)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("broken", r"^mine_of_test:broken: KeyError: 'oops' \(mine_of_test\.py:14\)$"),
        ("refused", r"width.*-1"),
    ],
)
def test_a_function_that_fails_is_one_line(name: str, line: str, module: str) -> None:
    with one_line(line):
        load_python(f"{module}:{name}").resolve()
