"""`antiphon.check` and `antiphon.testing.check`: the lines of the command, and what a kind of a user's is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import antiphon
from antiphon import ScenarioError
from antiphon.base.kinds import kinds_of, own_keys_of
from antiphon.comms import Coupling, CreditedMessage
from antiphon.testing import check
from tests.engine.numbers import one_line
from tests.engine.scenes import CLASSIFY, scenario_of
from tests.kit.commands import Commands
from tests.kit.tiers import sampled

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


@pytest.mark.parametrize("name", ["digits-mlp", "blind.yaml", "wrong.yaml"])
def test_it_finds_what_the_command_prints(name: str, here: Path, cli: Commands) -> None:
    Path("blind.yaml").write_text(BLIND.to_yaml())
    Path("wrong.yaml").write_text(WRONG)
    found = antiphon.check(name)
    assert cli.code("check", name) == (0 if found.ok else 2)
    assert str(found).splitlines() == [*cli.err.splitlines(), *cli.out.splitlines()]
    assert found.ok == (name != "wrong.yaml")


def test_an_environment_of_ones_own_goes_through_gymnasiums_checker() -> None:
    class Outside(gymnasium.Env):  # type: ignore[type-arg]
        observation_space, action_space = gymnasium.spaces.Box(0, 1, (2,)), gymnasium.spaces.Discrete(2)

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            super().reset(seed=seed)
            return np.full(2, 5, np.float32), {}

        def step(self, action: Any) -> Any:
            return np.full(2, 0.5, np.float32), 0.0, False, False, {}

    player = {"observes": ["observation"], "acts": True, "objective": "ppo"}
    found = antiphon.check(antiphon.Scenario(scenario="s", env=Outside, agents={"player": player}))
    assert "not within the observation space" in str(found)


def test_an_object_a_variant_and_values_are_checked() -> None:
    found = antiphon.check(BLIND)
    assert found.ok
    assert "give gradient.context [label]" in next(iter(found.warnings))
    assert repr(antiphon.check("digits-mlp", variant="locked")).endswith(
        "digits-mlp.yaml: ok with variants locked"
    )
    assert "lr: must be greater than 0" in str(antiphon.check("digits-mlp", values={"lr": 0.0}))
    with one_line(r"no scenario 'nothing'; known: "):
        antiphon.check("nothing")


# --- kinds -----------------------------------------------------------------------------------------------


class Small(nn.Sequential):
    """A model of a gradient."""

    def __init__(self, inputs: int, outputs: int, width: int = 4) -> None:
        last = nn.Linear(width, outputs)
        super().__init__(nn.Linear(inputs, width), nn.Tanh(), last)
        nn.init.zeros_(last.weight)


class Misfit(Small):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs + 1, outputs)


def distance(output: Tensor, target: Tensor) -> Tensor:
    return (output - target.flatten(1)).abs().mean(1)


class Remembering(nn.Module):
    """A network that returns its output and its state, one component more."""

    state_size = 5

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        state = self.state_size
        self.read, self.out = nn.Linear(inputs + state, state), nn.Linear(state, outputs)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        state = self.read(torch.cat([x, state], 1)).tanh()
        return self.out(state), state


class Returned(Coupling):
    """The returned gradient, where it is back in time."""

    uses_returned = True

    def credit(self, message: CreditedMessage, step: int) -> Tensor | None:
        return message.returned_gradient


class Flat(Returned):
    def credit(self, message: CreditedMessage, step: int) -> Tensor | None:
        return None if message.returned_gradient is None else message.returned_gradient.sum(1)


class Centred(Coupling):
    """The prediction less its mean over rows, which in a stack are those of several channels."""

    predicts = True

    def credit(self, message: CreditedMessage, step: int) -> Tensor | None:
        prediction = message.applied_prediction
        return None if prediction is None else prediction - prediction.mean(0)


NEEDED = {"target": "label"}
"""Values of the keys that kinds of gradient need."""
GRADIENTS = {
    kind: {
        key: NEEDED[key]
        for key, (default, _) in own_keys_of("gradient", kind).items()
        if default == "required"
    }
    for kind in kinds_of("gradient")
    if kind != "conv"  # of maps
}
GOOD: list[tuple[Any, str, dict[str, Any]]] = [
    *((kind, "gradient", options) for kind, options in GRADIENTS.items()),
    (Small, "gradient", {"width": 3}),
    (Small, "input", {}),
    ("conv", "network", {"hidden": [2]}),
    (distance, "objective", {"target": "image"}),
    (Remembering, "network", {}),
    (Returned, "coupling", {}),
    ("RMSprop", "optimiser", {"alpha": 0.9}),
    ("cosine", "schedule", {"scale": 0.5}),
    ("gumbel", "sample", {"vocabulary": 3}),
]
BAD: list[tuple[Any, str, dict[str, Any], str]] = [
    (Centred, "coupling", {}, "a stack gives other parameters"),
    (Small, "gradient", {"widht": 3}, "unknown key 'widht'; did you mean 'width'"),
    (Misfit, "gradient", {}, "does not take inputs of"),
    (Flat, "coupling", {}, "gives a credit of"),
]


@pytest.mark.long
@pytest.mark.parametrize(("kind", "point", "options"), sampled(GOOD, 2, "nightly"))
def test_a_kind_that_keeps_the_contract_passes(kind: Any, point: str, options: dict[str, Any]) -> None:
    check(kind, point=point, **options)


@pytest.mark.parametrize(("kind", "point", "options", "line"), BAD)
def test_what_one_does_that_does_not_is_raised(
    kind: Any, point: str, options: dict[str, Any], line: str
) -> None:
    with pytest.raises((AssertionError, ScenarioError), match=line):
        check(kind, point=point, **options)
