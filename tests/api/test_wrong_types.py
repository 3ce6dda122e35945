"""Arguments of another type: one line that names the argument and the fix, where Python would end in a traceback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import antiphon
from antiphon import Simulation
from antiphon.errors import ScenarioError

SMALL = {"depth": 2, "width": 4, "batch": 8}
WRONG: dict[str, Callable[[Any], object]] = {
    "compose: agents='n1'; must be a list of names; write ['n1']": lambda run: run.compose("n1"),
    "compose: agents: an iterator is used up as it is checked; write list(...)": lambda run: run.compose(
        iter(["n1"])
    ),
    "export: agents: an iterator is used up as it is checked; write list(...)": lambda run: run.export(
        "x.pt2", iter(["n1"])
    ),
    "compose: agents=3; must be a list of names": lambda run: run.compose(3),
    "compose: agents is empty; name those": lambda run: run.compose([]),
    "export: agents='n1'; must be a list of names": lambda run: run.export("x.pt2", "n1"),
    "value: channels='n0->n1'; must be a list of names; write ['n0->n1']": lambda run: run.value("n0->n1"),
    "record: quantities='message'; must be": lambda run: run.channels["n0->n1"].record("message"),
    "Simulation: threads=0; must be a whole number, at least 1": lambda run: Simulation(
        run.scenario, threads=0
    ),
    "device: no device 'None'": lambda run: Simulation(run.scenario, device=None),  # type: ignore[arg-type]
    "dtype: 'float64'; use torch.float32 or torch.float64": lambda run: Simulation(
        run.scenario,
        dtype="float64",  # type: ignore[arg-type]
    ),
    "load_weights: agents: ['x'] is not a name; write it as a word": lambda run: run.load_weights(
        "nowhere",
        agents=[["x"]],  # type: ignore[list-item]
    ),
    "load_weights: agents: 3 is not a name; write it as a word": lambda run: run.load_weights(
        "nowhere",
        agents={"n1": 3},  # type: ignore[dict-item]
    ),
    "load: must be a name or a path, not 3": lambda run: antiphon.load(3),  # type: ignore[arg-type]
}

OF_TEMPLATES: dict[str, tuple[Any, Any]] = {
    "variant: {'lr': 0.1}; must be a name; values are another argument": ({"lr": 0.1}, {}),
    "variant: ['local']; must be a name": (["local"], {}),
    "variant: 3; must be a name": (3, {}),
    "digits-mlp: values=['lr']; must be a mapping": (None, ["lr"]),
    "digits-mlp: values='lr'; must be a mapping": (None, "lr"),
    "values: 1 is not a name; write it as a word": (None, {1: 2}),
}


@pytest.mark.parametrize("line", OF_TEMPLATES)
def test_a_variant_or_values_of_another_type_are_refused_in_one_line(line: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        antiphon.load("digits-mlp").resolve(*OF_TEMPLATES[line])
    assert str(caught.value).startswith(line)


@pytest.mark.parametrize("line", WRONG)
def test_an_argument_of_another_type_is_refused_in_one_line(line: str) -> None:
    with (
        Simulation(antiphon.load("digits-mlp").resolve(None, SMALL)) as run,
        pytest.raises(ScenarioError) as caught,
    ):
        WRONG[line](run)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_of_the_package_is_told_the_nearest() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'splt'; did you mean 'split'\?$"):
        antiphon.splt  # noqa: B018
